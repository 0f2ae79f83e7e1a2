"""aiosmtpd on a loopback port of the system's choice: ``discard`` with its Sink handler, ``keep`` with its Mailbox handler (./Maildir)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiosmtpd.handlers import Mailbox, Sink
from aiosmtpd.smtp import SMTP


async def main(storage: str) -> None:
    """Serves until the process is ended."""
    handler = Mailbox(Path("Maildir")) if storage == "keep" else Sink()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(handler, hostname="mx.test"), "127.0.0.1", 0, backlog=1024)
    await server.serve_forever()


asyncio.run(main(sys.argv[1]))
