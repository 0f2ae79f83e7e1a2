"""What all mail servers that we send to have in common: ports, a certificate, users, boxes, and a life that is as long as the tests'.

Knows how a private instance is started, asked and ended. Must not know how any of them is configured, nor who sends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar, NamedTuple

import trustme
from listener import AUTHORITY, PATIENCE, assertExact, pause, program

CERTIFICATE = AUTHORITY.issue_cert("mx.test", "localhost", "127.0.0.1")
BOXES = ("ann", "ben", "cleo")
"""Who has a box at mx.test. Nobody else has."""
_TRACE = frozenset({b"return-path", b"delivered-to", b"x-original-to", b"envelope-to", b"received"})


class Ports(NamedTuple):
    """Where a server listens on 127.0.0.1.

    Attributes:
        starttls: with STARTTLS, AUTH and every extension that it has.
        implicit: with TLS from the first octet.
        bare: without TLS, and with few extensions.
    """

    starttls: int
    implicit: int
    bare: int


def freePorts() -> Ports:
    """Ports that were free just now: these programs cannot be handed a socket."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in Ports._fields]
    ports = Ports(*(each.getsockname()[1] for each in sockets))
    for each in sockets:
        each.close()
    return ports


class MailServer:
    """A private instance: its files are in a directory of its own, and it ends with the tests, or by itself should these not come to that.

    Attributes:
        directory: its files.
        ports: where it listens.
        log: what it writes of what it does.
        mechanisms: by which mechanisms of AUTH it knows `listener.USER`.
    """

    name: ClassVar[str]
    ports: Ports
    mechanisms: tuple[str, ...] = ()

    def __init__(self) -> None:
        # Its users must be able to go there, and a socket's path is short.
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        # There will be many messages, and they are looked at often.
        self._beginnings: dict[Path, bytes] = {}

    @classmethod
    def whyNot(cls) -> str | None:
        """Why it cannot be run here, or None."""
        raise NotImplementedError

    def configure(self) -> list[str]:
        """Writes its files; returns the command that runs it in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts it; it answers at all its ports when this returns."""
        self.ports = freePorts()
        command = self.configure()
        with (self.directory / "output").open("wb") as output:
            # timeout hands its signals on to all that the server started.
            self._process = subprocess.Popen(
                ["timeout", "-k", "5", "900", *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        for port in self.ports:
            self._awaitPort(port)

    def _awaitPort(self, port: int) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            assert self._process is not None
            try:
                return socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None and time.monotonic() < end, self.said()
                time.sleep(0.02)

    def stop(self) -> None:
        """Ends it, and removes its files."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
        shutil.rmtree(self.directory, ignore_errors=True)

    def said(self) -> str:
        """The end of its output and of its log, to explain a failure."""
        return "".join(path.read_text(errors="replace")[-4000:] for path in (self.directory / "output", self.log) if path.is_file())

    def box(self, name: str) -> Path:
        """The Maildir of a user."""
        return self.directory / "mail" / name

    def stored(self, name: str, token: bytes) -> list[bytes]:
        """The messages of a user that hold a token near their beginning, as they are in his box."""
        box = self.box(name) / "new"
        for path in box.glob("*"):
            if path not in self._beginnings:
                with path.open("rb") as message:
                    self._beginnings[path] = message.read(8192)
        return [path.read_bytes() for path, beginning in self._beginnings.items() if token in beginning and path.parent == box]

    async def message(self, name: str, token: bytes) -> bytes:
        """Waits for the message that holds a token; returns it with CRLF as line ends, as it is in the user's box."""
        end = time.monotonic() + PATIENCE
        while not (stored := self.stored(name, token)):
            assert time.monotonic() < end, self.said()
            await pause()
        (content,) = stored
        return content.replace(b"\n", b"\r\n")

    def certify(self, certificate: trustme.LeafCert = CERTIFICATE) -> tuple[Path, Path]:
        """Writes the certificate with its chain, and the key, which only its owner can read."""
        chain, key = self.directory / "certificate.pem", self.directory / "key.pem"
        chain.write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
        key.touch(0o600)
        key.write_bytes(certificate.private_key_pem.bytes())
        return chain, key


def assertArrived(stored: bytes, sent: bytes) -> None:
    """Fails unless a message is what was sent under nothing but trace fields; lines end in CRLF."""
    at = max(0, len(stored) - len(sent))
    if stored[at:] != sent:
        assertExact(stored[stored.find(sent.partition(b"\r\n")[0]) :], sent)
    fields = stored[:at].replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ").splitlines()
    assert {field.partition(b":")[0].lower() for field in fields} <= _TRACE, fields


def missing(*programs: str) -> str | None:
    """Which program is not installed, as a reason, or None."""
    return next((f"{name} is not installed" for name in programs if program(name) is None), None)


def notRoot() -> str | None:
    """Why only root will do, or None."""
    return "only root can run it" if os.geteuid() else None
