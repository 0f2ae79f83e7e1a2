"""aiosmtpd on a loopback port of the system's choice: ``discard`` with its Sink handler, ``keep`` with its Mailbox handler (./Maildir).

A PEM file behind that: TLS from the beginning.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

from aiosmtpd.handlers import Mailbox, Sink
from aiosmtpd.smtp import SMTP


async def main(storage: str, *pems: str) -> None:
    """Serves until the process is ended."""
    handler = Mailbox(Path("Maildir")) if storage == "keep" else Sink()
    context = None
    for pem in pems:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, hostname="mx.test"), "127.0.0.1", 0, backlog=1024, ssl=context)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
