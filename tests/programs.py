"""Servers as processes of their own, in all the ways to start one, for the tests of what they do as programs."""

from __future__ import annotations

import re
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
BIN = Path(sys.executable).parent
WAYS: dict[str, list[str]] = {
    "twistd": [str(BIN / "twistd"), "-n", "smtplite"],
    "twist": [str(BIN / "twist"), "--log-format=text", "smtplite"],
    "smtplite": [str(BIN / "smtplite")],
    "python -m": [sys.executable, "-m", "twisted_smtplite", "serve"],
}
# twistd and twist end by the signal that they got, as a shell expects; smtplite counts a clean stop as success, as a supervisor does.
STATUS = {"twistd": -signal.SIGTERM, "twist": -signal.SIGTERM, "smtplite": 0, "python -m": 0}


class Server:
    """A server as a process, in a directory of its own."""

    def __init__(self, directory: Path, command: list[str], log: str = "output", *inherited: int) -> None:
        self.directory = directory
        self._log = directory / log
        with (directory / "output").open("wb") as output:
            self.process = subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.STDOUT, pass_fds=inherited)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def port(self) -> int:
        return int(self.wait(lambda: re.search(r"Listening on tcp 127\.0\.0\.1:(\d+)", self.log()))[1])

    def wait(self, look: Callable[[], T | None]) -> T:
        for _ in range(1200):
            found = look()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"it did not come: {self.log()}")

    def send(self) -> None:
        with closing(smtplib.SMTP("127.0.0.1", self.port(), local_hostname="client.test", timeout=10)) as client:
            client.sendmail("a@client.test", ["b@mx.test", "c@mx.test"], b"Subject: x\r\n\r\nhello\r\n")
            # What the server did with the message may be to end.
            with suppress(smtplib.SMTPServerDisconnected, ConnectionError):
                client.quit()

    @contextmanager
    def inFlight(self) -> Generator[None, None, None]:
        """A message that is on its way meanwhile, and taken when its text ends behind that."""
        with closing(smtplib.SMTP("127.0.0.1", self.port(), local_hostname="client.test", timeout=10)) as client:
            client.ehlo()
            client.mail("a@client.test")
            client.rcpt("b@mx.test")
            client.putcmd("data")
            assert client.getreply()[0] == 354
            yield
            client.send("hello\r\n.\r\n")
            assert client.getreply()[0] == 250

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def starting(directory: Path, *inherited: int) -> Generator[Callable[..., Server], None, None]:
    """Gives what starts servers in a directory, with file descriptors that they inherit, and kills those that are left in the end."""
    servers: list[Server] = []

    def start(command: list[str], *options: str) -> Server:
        servers.append(Server(directory, [*command, *options], "output", *inherited))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def messages(maildir: Path) -> list[bytes]:
    return [path.read_bytes() for path in (maildir / "new").iterdir()]
