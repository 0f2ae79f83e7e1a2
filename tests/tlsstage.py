"""A server with TLS on a real port, an observer that waits, and a client that sends what it likes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import trustme
from OpenSSL import SSL, crypto
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.model.envelope import Envelope, SessionInfo
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.tls import implicitTLS

reactor: Any = globalReactor
AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("mx.test", "localhost", "127.0.0.1")
STRANGERS = trustme.CA()


@implementer(IOpenSSLServerConnectionCreator)
class Creator:
    """The server's certificate, and what it asks of clients."""

    def __init__(self, mode: int = SSL.VERIFY_NONE, callback: Any = None) -> None:
        self.context = CertificateOptions(
            crypto.load_privatekey(crypto.FILETYPE_PEM, SERVER.private_key_pem.bytes()),
            crypto.load_certificate(crypto.FILETYPE_PEM, SERVER.cert_chain_pems[0].bytes()),
        ).getContext()
        store = self.context.get_cert_store()
        assert store is not None
        store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, AUTHORITY.cert_pem.bytes()))
        self.context.set_verify(mode, callback)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self.context, None)


class Observer:
    """Keeps what is reported, and calls back when a session has ended."""

    def __init__(self) -> None:
        self.sessions: list[SessionInfo] = []
        self.known: list[SessionInfo] = []
        self.causes: list[str] = []
        self.refused: list[Reply] = []
        self.waiting: list[tuple[int, Deferred[None]]] = []

    def sessionStarted(self, session: SessionInfo) -> None:
        self.sessions.append(session)

    def sessionRefused(self, peer: str, reply: Reply) -> None:
        self.refused.append(reply)

    def messageFinished(self, session: SessionInfo, envelope: Envelope, size: int, reply: Reply, outcomes: Sequence[Reply]) -> None:
        self.known.append(replace(session))

    def commandRefused(self, session: SessionInfo, verb: str, argument: object, reply: Reply) -> None: ...

    def sessionEnded(self, session: SessionInfo, cause: str, messages: int) -> None:
        self.causes.append(cause)
        for count, waiting in self.waiting:
            if count == len(self.causes):
                waiting.callback(None)

    def ended(self, count: int) -> Deferred[None]:
        """Fires when so many sessions have ended."""
        waiting: Deferred[None] = Deferred()
        self.waiting.append((count, waiting))
        if len(self.causes) >= count:
            waiting.callback(None)
        return waiting


class Server:
    """A server on a free port of this host."""

    def __init__(
        self,
        tls: Any,
        *,
        implicit: bool = False,
        wrap: type[ProtocolWrapper] | None = None,
        limits: Limits | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.delivery = MemoryDelivery()
        self.observer = Observer()
        self.factory = SMTPServerFactory(self.delivery, reactor, hostname="mx.test", limits=limits, observer=self.observer, profile=profile, tls=tls)
        listening: Any = implicitTLS(self.factory, tls, reactor) if implicit else self.factory
        if wrap is not None:
            listening = WrappingFactory(self.factory)
            listening.protocol = wrap
            listening.noisy = False
        self.listening = reactor.listenTCP(0, listening, interface="127.0.0.1")
        self.port: int = self.listening.getHost().port

    async def talk(self, play: Callable[[int], Any]) -> Any:
        """Lets a client play in a thread, with the port; then waits until its sessions have ended."""

        result = await deferToThread(play, self.port)
        await self.observer.ended(len(self.observer.sessions))
        return result


Serve = Callable[..., Server]


def trusting(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


class Client:
    """A client that sends what it likes, when it likes."""

    def __init__(self, port: int) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), 10)

    def __enter__(self) -> Client:  # noqa: PYI034 - Self is too new for Python 3.10
        return self

    def __exit__(self, *what: object) -> None:
        self.socket.close()

    def hear(self) -> bytes:
        """One whole reply, or nothing at the end."""
        heard = b""
        while not heard.endswith(b"\n") or heard.splitlines()[-1][3:4] == b"-":
            piece = self.socket.recv(1)
            if not piece:
                break
            heard += piece
        return heard

    def say(self, data: bytes) -> bytes:
        self.socket.sendall(data)
        return self.hear()

    def rest(self) -> bytes:
        """All that comes until the end, however that looks."""
        heard = b""
        try:
            while piece := self.socket.recv(4096):
                heard += piece
        except (ConnectionError, ssl.SSLError):
            pass
        return heard

    def handshake(self, context: ssl.SSLContext | None = None, name: str = "mx.test") -> None:
        self.socket = (context or trusting()).wrap_socket(self.socket, server_hostname=name)


def connectAndHear(port: int) -> bytes:
    try:
        with Client(port) as client:
            return client.rest()
    except ConnectionError:
        return b""


def upToTLS(client: Client) -> None:
    assert client.hear().startswith(b"220 ")
    assert b"250-STARTTLS\r\n" in client.say(b"EHLO before.test\r\n")


def upToHandshake(client: Client, *, implicit: bool = False) -> None:
    """Says all that comes before the handshake: nothing where TLS comes first."""
    if not implicit:
        upToTLS(client)
        assert client.say(b"STARTTLS\r\n").startswith(b"220 ")
