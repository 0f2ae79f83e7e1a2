"""The client on real connections: TLS and whom it trusts, texts that stream, and every way in which a connection ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import crypto
from tlsstage import AUTHORITY, Server, reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import Clock, deferLater

from twisted_smtplite.client.trust import trustIn
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientLimits, ClientProfile, Credentials, TLSUse
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.errors import ConnectionFailed, SMTPClientError, TLSFailed, Unsendable
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.wire.client import SMTPClient, connect
from twisted_smtplite.wire.factory import SMTPServerFactory

Serve = Callable[..., Server]


class _Text:
    """A text whose pieces are given."""

    repeatable = True

    def __init__(self, *pieces: Any, size: int | None = None, end: Exception | None = None) -> None:
        self._pieces = pieces
        self._end = end
        self.size = size if size is not None or end is not None or any(isinstance(piece, Deferred) for piece in pieces) else sum(map(len, pieces))
        self.closed = False

    def pieces(self) -> Iterator[Any]:
        try:
            yield from self._pieces
            if self._end is not None:
                raise self._end
        finally:
            self.closed = True

    def sevenBit(self) -> Any:
        raise AssertionError


def _envelope(**more: Any) -> Envelope:
    return Envelope("X", Address("a", "client.test"), recipients=[Recipient(Address("b", "mx.test"))], **more)


def _trust(host: str) -> Any:
    root = trustRootFromCertificates([Certificate(crypto.load_certificate(crypto.FILETYPE_PEM, AUTHORITY.cert_pem.bytes()))])
    return optionsForClientTLS(host, trustRoot=root)


def _connect(port: int, *, limits: ClientLimits | None = None, host: str = "mx.test", trust: Any = _trust, trace: Any = None, **profile: Any) -> Any:
    chosen: Any = {"hostname": "client.test", "tls": TLSUse.NEVER, **profile}
    return connect(reactor, TCP4ClientEndpoint(reactor, "127.0.0.1", port), ClientProfile(**chosen), limits, host=host, trust=trust, trace=trace)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("use", [TLSUse.OPPORTUNISTIC, TLSUse.ENCRYPTED, TLSUse.REQUIRED, TLSUse.IMPLICIT])
async def test_a_message_goes_over_tls(serve: Serve, use: TLSUse) -> None:
    server = serve(implicit=use is TLSUse.IMPLICIT)
    client = await _connect(server.port, tls=use)
    delivery = await client.send(_envelope(), _Text(b"Subject: x\r\n\r\n.\r\n"))
    assert delivery.complete and delivery.peer == "mx.test" and "CHUNKING" in delivery.extensions
    await client.quit()
    (message,) = server.delivery.messages
    assert message.content.endswith(b"Subject: x\r\n\r\n.\r\n")
    assert server.observer.known[0].tls


@pytest_twisted.ensureDeferred
async def test_tls_to_an_address_verifies_the_address(serve: Serve) -> None:
    client = await _connect(serve().port, tls=TLSUse.REQUIRED, host="127.0.0.1")
    await client.quit()
    client = await _connect(serve().port, tls=TLSUse.ENCRYPTED, host="127.0.0.1")
    await client.quit()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("use", [TLSUse.REQUIRED, TLSUse.IMPLICIT])
@pytest.mark.parametrize(("host", "trust"), [("other.test", _trust), ("mx.test", None)], ids=["another-name", "an-authority-that-nobody-knows"])
async def test_a_certificate_that_does_not_verify_is_refused(serve: Serve, use: TLSUse, host: str, trust: Any) -> None:
    server = serve(implicit=use is TLSUse.IMPLICIT)
    with pytest.raises(TLSFailed) as caught:
        await _connect(server.port, tls=use, host=host, trust=trust)
    assert caught.value.temporary
    assert host in str(caught.value)
    assert not server.delivery.messages


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("use", [TLSUse.REQUIRED, TLSUse.IMPLICIT])
async def test_why_a_certificate_is_refused_is_said_to_both_sides(serve: Serve, use: TLSUse, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    trust = trustIn(str(tmp_path / "ca.pem"))
    server = serve(implicit=use is TLSUse.IMPLICIT)
    client = await _connect(server.port, tls=use, trust=trust)
    assert (await client.send(_envelope(), _Text(b"x\r\n"))).complete
    await client.quit()
    with pytest.raises(TLSFailed) as caught:
        await _connect(server.port, tls=use, host="other.test", trust=trust)
    assert caught.value.reply.text == "TLS failed: the certificate is for mx.test, localhost, 127.0.0.1, not for other.test"
    with pytest.raises(TLSFailed, match=r"the certificate comes from an authority that is not trusted here: .*trustme"):
        await _connect(server.port, tls=use, trust=None)
    await server.observer.ended(3)
    assert all(cause.startswith("TLS failed: ") for cause in server.observer.causes[1:]), server.observer.causes


@pytest_twisted.ensureDeferred
async def test_trust_that_cannot_be_had_is_an_error_and_no_hang(serve: Serve) -> None:
    def trust(host: str) -> Any:
        raise ValueError("no such file")

    with pytest.raises(TLSFailed, match="no such file"):
        await _connect(serve().port, tls=TLSUse.REQUIRED, trust=trust)


class _Scripted(Protocol):
    """Says the next thing whenever it hears something; then what it does, it does for ever."""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)  # type: ignore[attr-defined]
        self._lines = list(self.factory.script)  # type: ignore[attr-defined]
        self.dataReceived(b"")

    def dataReceived(self, data: bytes) -> None:
        if self._lines:
            line = self._lines.pop(0)
            if line is None:
                self.transport.loseConnection()  # type: ignore[union-attr]
            else:
                self.transport.write(line)  # type: ignore[union-attr]


class _Peer:
    def __init__(self, *script: bytes | None) -> None:
        self.factory: Any = Factory.forProtocol(_Scripted)
        self.factory.noisy = False
        self.factory.script = script
        self.factory.connections = []
        self.listening = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.port: int = self.listening.getHost().port

    async def close(self) -> None:
        await self.listening.stopListening()
        for connection in self.factory.connections:
            connection.transport.abortConnection()


def _withPeer(*script: bytes | None) -> Callable[[Callable[[_Peer], Coroutine[Any, Any, None]]], Any]:
    def decorate(test: Callable[[_Peer], Coroutine[Any, Any, None]]) -> Any:
        async def run() -> None:
            peer = _Peer(*script)
            try:
                await test(peer)
            finally:
                await peer.close()

        run.__name__ = test.__name__
        return pytest_twisted.ensureDeferred(run)

    return decorate


@_withPeer(b"220 mx.test\r\n", b"250 mx.test\r\n", None)
async def test_errors_say_what_was_connected_to(peer: _Peer) -> None:
    endpoint, profile = TCP4ClientEndpoint(reactor, "127.0.0.1", peer.port), ClientProfile(hostname="client.test", tls=TLSUse.NEVER)
    client = await connect(reactor, endpoint, profile, host="mx.test", where="mx.test:25")
    with pytest.raises(ConnectionFailed, match=r"^mx\.test:25: 451 4\.4\.2 the server has closed the connection$"):
        await client.send(_envelope(), _Text(b"x\r\n"))
    with pytest.raises(ConnectionFailed, match=r"^mx\.test:25: 451 4\.4\.2 the connection takes no more messages$"):
        await client.send(_envelope(), _Text(b"x\r\n"))
    peer.factory.script = (None,)
    with pytest.raises(ConnectionFailed, match=r"^mx\.test:25: 451 4\.4\.2 the server has closed the connection$"):
        await connect(reactor, endpoint, profile, host="mx.test", where="mx.test:25")


_STARTTLS = (b"220 mx.test\r\n", b"250-mx.test\r\n250 STARTTLS\r\n", b"220 Go\r\n", b"\x15\x03\x01\x00\x02\x02\x28")


@_withPeer(*_STARTTLS)
async def test_a_handshake_that_fails_is_an_error_where_tls_is_wanted(peer: _Peer) -> None:
    with pytest.raises(TLSFailed):
        await _connect(peer.port, tls=TLSUse.ENCRYPTED)


@_withPeer(*_STARTTLS)
async def test_where_tls_is_an_opportunity_a_failed_handshake_leads_back_to_the_clear(peer: _Peer) -> None:
    client = await _connect(peer.port, tls=TLSUse.OPPORTUNISTIC)
    assert len(peer.factory.connections) == 2
    assert client.extensions == {"STARTTLS": ""}
    assert client.usable and not client.pending
    client.abort()


@pytest_twisted.ensureDeferred
async def test_no_connection_is_an_error() -> None:
    listening = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    port = listening.getHost().port
    await listening.stopListening()
    with pytest.raises(ConnectionFailed, match=r"mx.test: 451 4\.4\.1 no connection: Connection refused$"):
        await _connect(port)


class _Silent:
    """An endpoint that never connects."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.attempt: Deferred[Any] = Deferred()

    def connect(self, factory: Any) -> Deferred[Any]:
        return self.attempt


def test_a_connection_that_does_not_come_about_times_out() -> None:
    clock = Clock()
    failures: list[Any] = []
    connect(clock, _Silent(), ClientProfile(hostname="c"), ClientLimits(connectTimeout=5), host="mx.test").addErrback(failures.append)  # type: ignore[arg-type]
    clock.advance(4.9)
    assert not failures
    clock.advance(0.1)
    failures[0].trap(ConnectionFailed)
    assert str(failures[0].value) == "mx.test: 451 4.4.1 no connection: timed out"


def test_who_does_not_want_to_wait_for_a_connection_any_more_cancels() -> None:
    clock = Clock()
    failures: list[Any] = []
    attempt = connect(clock, _Silent(), ClientProfile(hostname="c"))  # type: ignore[arg-type]
    attempt.addErrback(failures.append)
    attempt.cancel()
    failures[0].trap(CancelledError)
    assert not clock.getDelayedCalls()


@_withPeer(b"220 mx.test\r\n")
async def test_who_does_not_want_to_wait_for_the_dialogue_cancels(peer: _Peer) -> None:
    attempt = _connect(peer.port)
    while not peer.factory.connections:
        await deferLater(reactor, 0, lambda: None)
    await deferLater(reactor, 0, lambda: None)
    attempt.cancel()
    with pytest.raises(CancelledError):
        await attempt


@pytest_twisted.ensureDeferred
async def test_a_large_text_streams_through_a_unix_socket(tmp_path: Path) -> None:
    delivery = MemoryDelivery()
    factory = SMTPServerFactory(delivery, reactor, hostname="mx.test", profile=Profile(lmtp=True))
    listening = reactor.listenUNIX(str(tmp_path / "s"), factory)
    endpoint = UNIXClientEndpoint(reactor, str(tmp_path / "s"))
    for chunking in (True, False):
        client = await connect(reactor, endpoint, ClientProfile(hostname="client.test", tls=TLSUse.NEVER, lmtp=True, chunking=chunking))
        piece = b".234567890" * 6500 + b"\r\n"
        result = await client.send(_envelope(), _Text(*[piece] * 100))
        assert result.complete
        await client.quit()
        digest = hashlib.sha256(piece * 100).digest()
        assert hashlib.sha256(delivery.messages[-1].content[-100 * len(piece) :]).digest() == digest
    await listening.stopListening()
    await factory.drain()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("chunking", [True, False])
async def test_a_text_may_come_in_time(serve: Serve, chunking: bool) -> None:
    server = serve()
    client = await _connect(server.port, chunking=chunking)
    late: Deferred[bytes] = deferLater(reactor, 0.01, lambda: b"one\r\n")
    delivery = await client.send(_envelope(), _Text(late, succeed(b"two\r\n"), b"three\r\n"))
    assert delivery.complete
    await client.quit()
    assert server.delivery.messages[0].content.endswith(b"one\r\ntwo\r\nthree\r\n")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("chunking", [True, False])
@pytest.mark.parametrize("late", [True, False])
async def test_of_a_text_that_breaks_off_nothing_is_delivered(serve: Serve, chunking: bool, late: bool) -> None:
    server = serve()
    client: SMTPClient = await _connect(server.port, chunking=chunking)
    if late:
        broken: Deferred[bytes] = Deferred()
        reactor.callLater(0.01, broken.errback, OSError("disk"))
        text = _Text(b"one\r\n", broken)
    else:
        text = _Text(b"one\r\n", end=OSError("disk"))
    first = client.send(_envelope(), text)
    second = client.send(_envelope(), _Text(b"two\r\n"))
    with pytest.raises(OSError, match="disk"):
        await first
    with pytest.raises(ConnectionFailed):
        await second
    await client.whenEnded()
    await server.observer.ended(1)
    assert not server.delivery.messages


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pieces", [(b"too", b"many\r\n"), (b"few",), (succeed(b"too"), succeed(b"many\r\n"))], ids=["more", "less", "late"])
async def test_a_text_that_is_not_as_long_as_it_said_is_not_delivered(serve: Serve, pieces: Any) -> None:
    server = serve()
    client: SMTPClient = await _connect(server.port)
    with pytest.raises(Unsendable, match="changed its size"):
        await client.send(_envelope(), _Text(*pieces, size=5))
    await client.whenEnded()
    await server.observer.ended(1)
    assert not server.delivery.messages


@pytest_twisted.ensureDeferred
async def test_cancelling_a_message_on_its_way_closes_cleanly(serve: Serve) -> None:
    server = serve()
    client: SMTPClient = await _connect(server.port)
    never: Deferred[bytes] = Deferred()
    text = _Text(b"one\r\n", never)
    sending = client.send(_envelope(), text)
    while client._feed is None:
        await deferLater(reactor, 0, lambda: None)
    assert client.pending == 1
    sending.cancel()
    with pytest.raises(CancelledError):
        await sending
    await client.whenEnded()
    assert text.closed, "the text is let go of"
    await server.observer.ended(1)
    assert not server.delivery.messages


@pytest_twisted.ensureDeferred
async def test_a_client_that_has_ended_takes_no_messages_and_ends_again_at_once(serve: Serve) -> None:
    client: SMTPClient = await _connect(serve().port)
    await client.quit()
    await client.quit()
    with pytest.raises(ConnectionFailed, match="takes no more"):
        await client.send(_envelope(), _Text(b"x\r\n"))
    client.abort()


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_take_the_text_is_given_up() -> None:
    peer = _Peer(b"220 mx.test\r\n", b"250 mx.test\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 Go\r\n")
    client: SMTPClient = await _connect(peer.port, limits=ClientLimits(blockTimeout=0.1))
    sending = client.send(_envelope(), _Text(*[b"x" * 65_534 + b"\r\n"] * 1000))
    while client._feed is None:
        await deferLater(reactor, 0, lambda: None)
    peer.factory.connections[0].transport.pauseProducing()
    delivery = await sending
    assert [str(outcome.reply) for outcome in delivery.outcomes] == ["451 4.4.2 timed out waiting for the server to take the text"]
    assert not delivery.outcomes[0].uncertain
    await peer.close()


@pytest_twisted.ensureDeferred
async def test_the_trace_hears_all_but_secrets(serve: Serve) -> None:
    said: list[tuple[str, bytes]] = []
    server = serve()
    with pytest.raises(SMTPClientError):
        # This server has no users: it offers no AUTH.
        await _connect(server.port, credentials=Credentials(user="ann", password="secret"), trace=lambda who, octets: said.append((who, octets)))
    client = await _connect(server.port, trace=lambda who, octets: said.append((who, octets)))
    await client.send(_envelope(), _Text(b"text\r\n"))
    await client.quit()
    assert ("C", b"EHLO client.test\r\n") in said
    assert ("T", b"text\r\n") in said
    assert ("C", b"QUIT\r\n") in said
    assert any(octets.startswith(b"221 2.0.0 ") for who, octets in said if who == "S")


_CHUNKS = (b"220 mx.test\r\n", b"250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n", b"250 OK\r\n250 OK\r\n", b"452 4.3.1 Full\r\n", b"221 Bye\r\n")


@_withPeer(*_CHUNKS)
async def test_a_refused_chunk_stops_its_text_and_not_the_session(peer: _Peer) -> None:
    client: SMTPClient = await _connect(peer.port)
    stubborn: Deferred[bytes] = Deferred(lambda deferred: deferred.callback(b"all the same"))
    text = _Text(b"one\r\n", b"two\r\n", stubborn)
    delivery = await client.send(_envelope(), text)
    assert [str(outcome.reply) for outcome in delivery.outcomes] == ["452 4.3.1 Full"]
    assert text.closed
    assert client.usable
    await client.quit()


@pytest_twisted.ensureDeferred
async def test_a_pause_without_a_text_stops_nothing(serve: Serve) -> None:
    client: SMTPClient = await _connect(serve().port)
    client.pauseProducing()
    client.resumeProducing()
    assert (await client.send(_envelope(), _Text(b"x\r\n"))).complete
    await client.quit()
