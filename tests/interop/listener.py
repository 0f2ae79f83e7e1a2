"""A server in this process for other people's clients: with a certificate, a user, and a record of what it read.

Knows the public contract of the server. Must not know any of the clients.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.dialogue.sasl import Check, Digest, Keys, Password, StoredKeys
from twisted_smtplite.model.envelope import SessionInfo
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.tls import implicitTLS

reactor: Any = globalReactor
AUTHORITY = trustme.CA()
STRANGERS = trustme.CA()
_SERVER = AUTHORITY.issue_cert("mx.test", "localhost", "127.0.0.1")
USER, PASSWORD = "ann", "secret is = the, word"
_SALT = b"salt and no pepper"
# Nothing here takes this long; it only keeps a broken test from waiting for ever.
PATIENCE = 30.0

MESSAGE = (
    "From: Ann <ann@client.test>\r\nTo: Ben <ben@mx.test>\r\nSubject: every kind of line\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    "Message-ID: <1@client.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ".\r\n..\r\n.one\r\n...\r\n\r\nFrom the start\r\nspaces and a tab \t \r\nGrüße, ключ, 鍵\r\n"
    + "x" * 998
    + "\r\n"
    + "".join(f"{number} of many lines\r\n..{number}\r\n" for number in range(5000))
    + "QUIT\r\n\r\n\r\n"
).encode()
"""Lines that begin with dots, 8-bit text, a line as long as they may be, more than one read, and empty lines at the end."""


def assertExact(content: bytes, expected: bytes = MESSAGE) -> None:
    """Fails with the first octets that differ; the whole would be too much to read."""
    at = next((at for at, (left, right) in enumerate(zip(content, expected, strict=False)) if left != right), min(len(content), len(expected)))
    assert content == expected, f"octet {at}: {content[max(0, at - 40) : at + 40]!r} for {expected[max(0, at - 40) : at + 40]!r}"


def program(name: str) -> str | None:
    """Where a program is, or None; those of mail servers are not in every user's path."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


@implementer(IOpenSSLServerConnectionCreator)
class _Creator:
    def __init__(self) -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        _SERVER.configure_cert(self._context)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


@implementer(IHandshakeListener)
class _Recorder(ProtocolWrapper):
    """Stands between a session and its connection, inside TLS."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.reads.append(data)  # type: ignore[attr-defined]
        super().dataReceived(data)

    def handshakeCompleted(self) -> None:
        self.wrappedProtocol.handshakeCompleted()  # type: ignore[attr-defined]


class _RecordingFactory(WrappingFactory):
    noisy = False
    protocol = _Recorder

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)
        self.reads: list[bytes] = []


def authenticate(session: SessionInfo, check: Check) -> object:
    """Knows one user."""
    secret = PASSWORD.encode()
    if check.user != USER:  # type: ignore[union-attr]
        return None
    if isinstance(check, Password):
        return USER if check.password == PASSWORD else None
    if isinstance(check, Digest):
        return USER if hmac.new(secret, check.challenge, "md5").hexdigest() == check.digest else None
    assert isinstance(check, Keys), check
    # RFC 5802 3.
    salted = hashlib.pbkdf2_hmac("sha256", secret, _SALT, 4096)
    clientKey = hmac.digest(salted, b"Client Key", "sha256")
    return StoredKeys(_SALT, hashlib.sha256(clientKey).digest(), hmac.digest(salted, b"Server Key", "sha256"), 4096)


class Listener:
    """A server on a free port of this host, or on a unix socket.

    Attributes:
        delivery: what has been received.
        port: the TCP port.
    """

    def __init__(
        self,
        *,
        implicit: bool = False,
        secure: bool = True,
        profile: Profile | None = None,
        offer: tuple[str, ...] = (),
        limits: Limits | None = None,
        path: Path | None = None,
        delivery: Any = None,
    ) -> None:
        self.delivery: MemoryDelivery = delivery or MemoryDelivery()
        creator = _Creator()
        tls = creator if secure else None
        self._factory = SMTPServerFactory(
            self.delivery, reactor, hostname="mx.test", profile=profile, limits=limits, tls=tls, authenticate=authenticate, offer=offer
        )
        self._recorder = _RecordingFactory(self._factory)
        listening: Any = implicitTLS(self._recorder, creator, reactor) if implicit else self._recorder
        if path is None:
            self._listening = reactor.listenTCP(0, listening, interface="127.0.0.1")
            self.port: int = self._listening.getHost().port
        else:
            self._listening = reactor.listenUNIX(str(path), listening)

    @property
    def reads(self) -> list[bytes]:
        """All that was read, in the pieces that it came in; with TLS what was inside."""
        return self._recorder.reads

    @property
    def contents(self) -> list[bytes]:
        """The messages that were received."""
        return [message.content for message in self.delivery.messages]

    async def stop(self) -> None:
        """Ends listening and all sessions."""
        await self._listening.stopListening()
        await self._factory.drain()

    async def received(self, count: int, log: Path) -> None:
        """Waits for so many messages, with `log` as the explanation when they do not come."""
        end = time.monotonic() + PATIENCE
        while len(self.delivery.messages) < count:
            assert time.monotonic() < end, log.read_text() if log.exists() else "no message"
            await pause()


def pause() -> Deferred[None]:
    """A moment, in which the server goes on."""
    return deferLater(reactor, 0.02)


async def run(*command: str | Path, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end while the server goes on, with `content` as its standard input."""
    found = program(str(command[0]))
    assert found, f"{command[0]} is not installed"
    result: subprocess.CompletedProcess[bytes] = await deferToThread(
        subprocess.run, [found, *map(str, command[1:])], input=content, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE
    )
    return result
