"""A server in a process of its own, and a client that says what it likes: what the tests of whole servers share.

Memory is the peak of the server's resident set as the kernel counts it (VmHWM), so nothing that was let go of again is missed.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# Nothing here takes this long; it only keeps a broken test from waiting for ever.
PATIENCE = 60.0


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def peak(self) -> int:
        """The most memory that it ever held, in octets."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert match
        return int(match[1]) * 1024

    def connect(self, source: str = "127.0.0.1") -> Client:
        return Client(socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0)))


class Client:
    """A client that says what it likes."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._lines = connection.makefile("rb")

    def __enter__(self) -> Client:  # noqa: PYI034 - Self is newer than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self.socket.close()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> bytes:
        """The last line of the next reply; empty when the server has closed."""
        while (line := self._lines.readline())[3:4] == b"-":
            pass
        return line

    def ask(self, data: bytes) -> bytes:
        self.say(data)
        return self.reply()

    def begin(self, recipients: int = 1) -> None:
        """Up to the 354 of a message."""
        assert self.reply().startswith(b"220 ")
        assert self.ask(b"EHLO client.test\r\n").startswith(b"250 ")
        assert self.ask(b"MAIL FROM:<a@client.test>\r\n").startswith(b"250 ")
        for _ in range(recipients):
            assert self.ask(b"RCPT TO:<b@mx.test>\r\n").startswith(b"250 ")
        assert self.ask(b"DATA\r\n").startswith(b"354 ")

    def isServed(self) -> bool:
        return self.ask(b"NOOP\r\n").startswith(b"250 ")


@contextmanager
def running(folder: Path, *options: str, under: Sequence[str] = ()) -> Generator[Server, None, None]:
    """A server on a free port, with its log in `folder`; `under` is the command of a program that runs it."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*under, sys.executable, "-m", "twisted_smtplite", "--port", "0", "--hostname", "mx.test", *options],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not (match := re.search(rb"127\.0\.0\.1:(\d+)", log.read_bytes())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield Server(process, int(match[1]))
        assert process.poll() in (None, 0, -signal.SIGKILL), log.read_text()
    finally:
        # With what runs it, which would leave it running.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert b"Traceback" not in log.read_bytes(), log.read_text()
