"""TLS on real connections: what begins it, what ends it, what it tells, and what must not slip in beside it."""

from __future__ import annotations

import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from OpenSSL import SSL, crypto
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.model.envelope import Envelope, SessionInfo
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.tls import _endPoint, admitUnverified, failureText, identity, implicitTLS

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

    def __init__(self, tls: Any, *, implicit: bool = False, wrap: bool = False, limits: Limits | None = None, profile: Profile | None = None) -> None:
        self.delivery = MemoryDelivery()
        self.observer = Observer()
        self.factory = SMTPServerFactory(self.delivery, reactor, hostname="mx.test", limits=limits, observer=self.observer, profile=profile, tls=tls)
        listening: Any = implicitTLS(self.factory, tls, reactor) if implicit else self.factory
        if wrap:
            listening = WrappingFactory(self.factory)
            listening.protocol = Wrapper
            listening.noisy = False
        self.listening = reactor.listenTCP(0, listening, interface="127.0.0.1")
        self.port: int = self.listening.getHost().port

    async def talk(self, play: Callable[[int], Any]) -> Any:
        """Lets a client play in a thread, with the port; then waits until its sessions have ended."""

        result = await deferToThread(play, self.port)
        await self.observer.ended(len(self.observer.sessions))
        return result


@pytest.fixture
def serve() -> Generator[Callable[..., Server], None, None]:
    servers: list[Server] = []

    def serve(tls: Any = None, **options: Any) -> Server:
        servers.append(Server(tls or Creator(), **options))
        return servers[-1]

    yield serve
    for server in servers:
        pytest_twisted.blockon(server.listening.stopListening())
        pytest_twisted.blockon(server.factory.drain())


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


# -- The ways in.


@pytest_twisted.ensureDeferred
async def test_after_starttls_the_session_begins_anew_and_mail_goes_through(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> None:
        with Client(port) as client:
            upToTLS(client)
            assert client.say(b"MAIL FROM:<before@client.test>\r\n").startswith(b"250 ")
            assert client.say(b"STARTTLS\r\n").startswith(b"503 ")
            assert client.say(b"RSET\r\n").startswith(b"250 ")
            assert client.say(b"STARTTLS now\r\n").startswith(b"501 ")
            assert client.say(b"starttls \r\n") == b"220 2.0.0 Go ahead with TLS\r\n"
            client.handshake()
            # RFC 3207 4.2: nothing of what was said before is known, and there is no second greeting.
            assert client.say(b"RCPT TO:<ben@mx.test>\r\n").startswith(b"503 ")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"503 ")
            heard = client.say(b"EHLO inside.test\r\n")
            assert b"STARTTLS" not in heard
            assert client.say(b"STARTTLS\r\n").startswith(b"503 5.5.1 ")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"250 ")
            assert client.say(b"RCPT TO:<ben@mx.test>\r\n").startswith(b"250 ")
            assert client.say(b"DATA\r\n").startswith(b"354 ")
            assert client.say(b"Subject: x\r\n\r\n" + b"line\r\n" * 50_000 + b".\r\n").startswith(b"250 ")
            assert client.say(b"QUIT\r\n").startswith(b"221 ")
            # RFC 8314 3.4: the server's alert comes before the end, so this is no error.
            client.socket.unwrap()  # type: ignore[attr-defined]

    await server.talk(play)
    (message,) = server.delivery.messages
    assert (str(message.envelope.sender), message.content.count(b"line\r\n")) == ("ann@client.test", 50_000)
    (session,) = server.observer.known
    assert session.protocol == "ESMTPS"
    assert (session.heloName, session.tls, session.tlsVersion, session.serverName) == ("inside.test", True, "TLSv1.3", "mx.test")
    assert session.tlsCipher.startswith("TLS_")
    assert session.certificate is None
    assert server.observer.causes == ["quit"]


@pytest_twisted.ensureDeferred
async def test_where_tls_comes_first_the_greeting_comes_inside(serve: Serve) -> None:
    server = serve(implicit=True)

    def play(port: int) -> None:
        with smtplib.SMTP_SSL("localhost", port, context=trusting(), timeout=10) as client:
            assert client.ehlo()[0] == 250
            assert not client.has_extn("starttls")
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    (session,) = server.observer.known
    assert (session.protocol, session.serverName) == ("ESMTPS", "localhost")


@pytest_twisted.ensureDeferred
async def test_a_client_that_asks_for_no_name_is_served_and_tls_1_2_will_do(serve: Serve) -> None:
    server = serve(implicit=True)
    context = trusting()
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def play(port: int) -> None:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=10) as client:
            # An address is no server name.
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    (session,) = server.observer.known
    assert (session.serverName, session.tlsVersion) == (None, "TLSv1.2")


@pytest_twisted.ensureDeferred
async def test_where_tls_is_required_only_the_way_to_it_is_open(serve: Serve) -> None:
    server = serve(profile=Profile(requireTLS=True))

    def play(port: int) -> None:
        with Client(port) as client:
            upToTLS(client)
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"530 5.7.0 ")
            assert client.say(b"STARTTLS\r\n").startswith(b"220 ")
            client.handshake()
            client.say(b"EHLO inside.test\r\n")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"250 ")
            assert client.say(b"QUIT\r\n").startswith(b"221 ")

    await server.talk(play)


@implementer(IHandshakeListener)
class Wrapper(ProtocolWrapper):
    """Stands between the server and its connection, as a trace of the wire does."""

    heard = b""

    def dataReceived(self, data: bytes) -> None:
        Wrapper.heard += data
        super().dataReceived(data)

    def handshakeCompleted(self) -> None:
        self.wrappedProtocol.handshakeCompleted()  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_what_wraps_a_session_goes_on_to_see_what_is_said(serve: Serve) -> None:
    server = serve(wrap=True)

    def play(port: int) -> None:
        with smtplib.SMTP("localhost", port, timeout=10) as client:
            client.starttls(context=trusting())
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    assert [session.tlsVersion for session in server.observer.known] == ["TLSv1.3"]
    assert b"hello\r\n.\r\nQUIT\r\n" in Wrapper.heard
    assert server.observer.causes == ["quit"]


@pytest_twisted.ensureDeferred
async def test_a_wrapper_that_does_not_know_of_tls_ends_the_session_instead_of_going_on_as_before(serve: Serve) -> None:
    server = serve(wrap=True)
    server.listening.factory.protocol = ProtocolWrapper

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToTLS(client)
            client.socket.sendall(b"STARTTLS\r\n")
            return client.rest()

    with capturedLogs() as events:
        await server.talk(play)
    (failure,) = [event.get("log_failure") or event["failure"] for event in events if event.get("isError") or "log_failure" in event]
    assert failure.check(TypeError)


# -- What must not slip in (RFC 3207 6).

INJECTED = b"EHLO injected.test\r\nMAIL FROM:<injected@evil.test>\r\nRCPT TO:<ben@mx.test>\r\nDATA\r\nSubject: injected\r\n\r\n.\r\n"


@pytest_twisted.ensureDeferred
async def test_what_travels_with_starttls_is_refused_and_never_run(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToTLS(client)
            client.socket.sendall(b"STARTTLS\r\n" + INJECTED)
            return client.rest()

    assert await server.talk(play) == b"554 5.5.0 Nothing may follow STARTTLS before the handshake\r\n"
    assert server.delivery.messages == []


@pytest_twisted.ensureDeferred
async def test_what_comes_in_clear_instead_of_the_handshake_ends_the_session_and_is_never_run(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToTLS(client)
            assert client.say(b"STARTTLS\r\n").startswith(b"220 ")
            client.socket.sendall(INJECTED)
            return client.rest()

    heard = await server.talk(play)
    assert b"250" not in heard and b"354" not in heard
    assert server.delivery.messages == []
    (cause,) = server.observer.causes
    assert cause.startswith("TLS failed: ")


@pytest_twisted.ensureDeferred
async def test_a_half_command_before_starttls_cannot_be_completed_inside(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToTLS(client)
            client.socket.sendall(b"STARTTLS\r\nMAIL FROM:<inj")
            return client.rest()

    assert (await server.talk(play)).startswith(b"554 ")
    assert server.delivery.messages == []


@pytest_twisted.ensureDeferred
async def test_commands_that_share_the_record_with_the_last_handshake_flight_are_the_clients_own(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> None:
        with Client(port) as client:
            upToTLS(client)
            assert client.say(b"STARTTLS\r\n").startswith(b"220 ")
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            inside = trusting().wrap_bio(incoming, outgoing, server_hostname="mx.test")
            while True:
                try:
                    inside.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    client.socket.sendall(outgoing.read())
                    incoming.write(client.socket.recv(65536))
            # The client's Finished is still here: it travels with its first commands.
            inside.write(b"EHLO inside.test\r\nNOOP\r\nQUIT\r\n")
            client.socket.sendall(outgoing.read())
            heard = b""
            while b"221 " not in heard:
                incoming.write(client.socket.recv(65536))
                try:
                    heard += inside.read(65536)
                except ssl.SSLWantReadError:
                    pass
            assert [line[:4] for line in heard.splitlines() if line[3:4] == b" "] == [b"250 ", b"250 ", b"221 "]

    await server.talk(play)
    assert server.observer.causes == ["quit"]


# -- How it ends.


@pytest.mark.parametrize("implicit", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_failed_handshake_is_one_cause_and_nothing_else(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit)

    def play(port: int) -> None:
        with Client(port) as client:
            if not implicit:
                upToTLS(client)
                client.say(b"STARTTLS\r\n")
            with pytest.raises(ssl.SSLCertVerificationError):
                # This one trusts somebody else.
                client.handshake(ssl.create_default_context())

    await server.talk(play)
    assert server.observer.causes == ["TLS failed: tlsv1 alert unknown ca"]


@pytest_twisted.ensureDeferred
async def test_a_client_that_speaks_in_clear_where_tls_comes_first_is_told_nothing(serve: Serve) -> None:
    server = serve(implicit=True)

    def play(port: int) -> bytes:
        with Client(port) as client:
            client.socket.sendall(INJECTED)
            return client.rest()

    assert b"220" not in await server.talk(play)
    assert server.delivery.messages == []
    (cause,) = server.observer.causes
    assert cause.startswith("TLS failed: ")


@pytest.mark.parametrize("implicit", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_in_the_handshake_has_left_and_no_more(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit)

    def play(port: int) -> None:
        with Client(port) as client:
            if not implicit:
                upToTLS(client)
                client.say(b"STARTTLS\r\n")
            client.socket.sendall(b"\x16\x03\x01")

    await server.talk(play)
    assert server.observer.causes == ["connection lost"]


@pytest.mark.parametrize("implicit", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_does_not_end_is_ended(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit, limits=Limits(handshakeTimeout=1))

    def play(port: int) -> bytes:
        with Client(port) as client:
            if not implicit:
                upToTLS(client)
                client.say(b"STARTTLS\r\n")
            return client.rest()

    assert await server.talk(play) == b""
    assert server.observer.causes == ["Timeout in the TLS handshake"]


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_ends_its_side_is_cut_off(serve: Serve) -> None:
    server = serve(implicit=True, limits=Limits(closeTimeout=1))

    def play(port: int) -> Client:
        client = Client(port)
        client.handshake()
        client.hear()
        assert client.say(b"QUIT\r\n").startswith(b"221 ")
        return client

    (await server.talk(play)).socket.close()
    assert server.observer.causes == ["quit"]


@pytest_twisted.ensureDeferred
async def test_an_error_that_ends_the_session_is_heard_inside_tls(serve: Serve) -> None:
    server = serve(implicit=True, limits=Limits(errors=1))

    def play(port: int) -> None:
        with Client(port) as client:
            client.handshake()
            client.hear()
            assert client.say(b"NONSENSE\r\n" + b"x" * 100_000).startswith(b"421 ")
            # Not cut off: the alert is there.
            assert client.socket.recv(10) == b""

    await server.talk(play)


@pytest_twisted.ensureDeferred
async def test_who_is_one_too_many_where_tls_comes_first_is_turned_away_without_a_handshake(serve: Serve) -> None:
    server = serve(implicit=True, limits=Limits(connections=1))

    def play(port: int) -> None:
        with Client(port) as first:
            first.handshake()
            first.hear()
            assert connectAndHear(port) == b""
            assert first.say(b"QUIT\r\n").startswith(b"221 ")

    await server.talk(play)
    assert [reply.code for reply in server.observer.refused] == [421]


@pytest.mark.parametrize("implicit", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_during_a_handshake_says_so_inside(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit)

    def play(port: int) -> bytes:
        with Client(port) as client:
            if not implicit:
                upToTLS(client)
                client.say(b"STARTTLS\r\n")
            while not server.observer.sessions:
                time.sleep(0.01)
            reactor.callFromThread(server.factory.drain)
            client.handshake()
            return client.rest()

    assert (await server.talk(play)).startswith(b"421 4.3.2 ")
    assert server.factory.sessions == 0


# -- What it tells.


async def present(serve: Serve, certificate: trustme.LeafCert | None, mode: int, callback: Any = None) -> Server:
    server = serve(Creator(mode, callback), implicit=True)

    def play(port: int) -> None:
        with smtplib.SMTP_SSL("localhost", port, context=trusting(certificate), timeout=10) as client:
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    return server


@pytest.mark.parametrize("mode", [SSL.VERIFY_PEER, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT])
@pytest_twisted.ensureDeferred
async def test_who_a_verified_certificate_names_is_known(mode: int, serve: Serve) -> None:
    server = await present(serve, AUTHORITY.issue_cert("ann@client.test"), mode)
    assert [session.certificate for session in server.observer.known] == ["ann@client.test"]


@pytest.mark.parametrize("certificate", [None, STRANGERS.issue_cert("ann@client.test")], ids=["none", "a stranger's"])
@pytest_twisted.ensureDeferred
async def test_without_a_verified_certificate_a_client_is_anybody(certificate: trustme.LeafCert | None, serve: Serve) -> None:
    server = await present(serve, certificate, SSL.VERIFY_PEER, admitUnverified)
    assert [session.certificate for session in server.observer.known] == [None]


@pytest.mark.parametrize("certificate", [None, STRANGERS.issue_cert("ann@client.test")], ids=["none", "a stranger's"])
@pytest_twisted.ensureDeferred
async def test_where_a_verified_certificate_is_required_there_is_no_session_without(certificate: trustme.LeafCert | None, serve: Serve) -> None:
    server = serve(Creator(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT), implicit=True)

    def play(port: int) -> bytes:
        with Client(port) as client:
            client.handshake(trusting(certificate))
            return client.rest()

    assert await server.talk(play) == b""
    (cause,) = server.observer.causes
    assert cause in ("TLS failed: peer did not return a certificate", "TLS failed: certificate verify failed")


@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed_so_what_was_not_verified_stays_so(serve: Serve) -> None:
    server = serve(Creator(SSL.VERIFY_PEER, admitUnverified), implicit=True)
    context = trusting(STRANGERS.issue_cert("ann@client.test"))

    def play(port: int) -> list[bool | None]:
        reused = []
        session = None
        for _ in range(2):
            plain = socket.create_connection(("127.0.0.1", port), 10)
            with context.wrap_socket(plain, server_hostname="mx.test", session=session) as inside:
                inside.recv(1000)
                inside.sendall(b"QUIT\r\n")
                inside.recv(1000)
                reused.append(inside.session_reused)
                session = inside.session
        return reused

    assert await server.talk(play) == [False, False]


# -- Certificates.

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(*extensions: x509.ExtensionType, name: str | None = None, key: Any = KEY, algorithm: Any = hashes.SHA256()) -> x509.Certificate:  # noqa: B008
    subject = x509.Name([] if name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, algorithm)


MAIL, HOST = x509.RFC822Name("ann@client.test"), x509.DNSName("client.test")


@pytest.mark.parametrize(
    ("names", "common", "expected"),
    [
        ([HOST, MAIL], "Ann", "ann@client.test"),
        ([HOST], "Ann", "client.test"),
        ([], "Ann", "Ann"),
        ([], None, None),
        ([x509.UniformResourceIdentifier("x:y")], "Ann", "Ann"),
    ],
)
def test_a_certificate_names_a_mail_address_or_a_host_or_whatever_it_calls_itself(
    names: list[x509.GeneralName], common: str | None, expected: str | None
) -> None:
    assert identity(certificate(*([x509.SubjectAlternativeName(names)] if names else []), name=common)) == expected


def test_a_certificate_that_is_none_by_the_letter_names_nobody() -> None:
    broken = certificate(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x02\x05\x00"), name="Ann")
    assert identity(broken) is None


@pytest.mark.parametrize(
    ("key", "algorithm", "length"), [(KEY, hashes.SHA384(), 48), (KEY, hashes.SHA256(), 32), (ed25519.Ed25519PrivateKey.generate(), None, 32)]
)
def test_what_scram_binds_to_is_hashed_as_the_certificate_is_signed(key: Any, algorithm: Any, length: int) -> None:
    assert len(_endPoint(certificate(name="x", key=key, algorithm=algorithm))) == length


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (SSL.Error([("SSL routines", "", "no shared cipher")]), "TLS failed: no shared cipher"),
        (SSL.Error([("SSL routines", "", "")]), "TLS failed: unknown"),
        (SSL.Error(), "TLS failed"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "TLS failed"),
        (ConnectionDone(), None),
    ],
)
def test_why_tls_failed_is_told_in_the_words_of_openssl(reason: Exception, text: str | None) -> None:
    assert failureText(reason) == text
