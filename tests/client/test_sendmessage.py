"""One call from a message to an outcome for each recipient, against our own server on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import crypto
from tlsstage import AUTHORITY, Server, reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from zope.interface import implementer

from twisted_smtplite.client import (
    ConnectionFailed,
    Content,
    Credentials,
    Delivery,
    Destination,
    PoolLimits,
    SMTPPool,
    Stage,
    TLSFailed,
    TLSUse,
    Unsendable,
    envelopeFor,
    sendMessage,
)
from twisted_smtplite.client.connector import ownName
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.dialogue.grammar import parseHeloName
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Refused, Reply
from twisted_smtplite.wire.factory import SMTPServerFactory

Serve = Callable[..., Server]

MESSAGE = b"From: Ann <ann@client.test>\nTo: ben@mx.test\nBcc: eve@mx.test\nSubject:  as it  stands\n\nHello\n.\n..\rEnd"
SENT = b"From: Ann <ann@client.test>\r\nTo: ben@mx.test\r\nSubject:  as it  stands\r\n\r\nHello\r\n.\r\n..\r\nEnd\r\n"


class Choosy(MemoryDelivery):
    """Refuses some recipients, and notes what it heard of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = {"nobody@mx.test": Reply(550, "5.1.1", "No such user"), "busy@mx.test": Reply(450, "4.2.1", "Later")}

    def validateTo(self, session: Any, envelope: Any, recipient: Any) -> None:
        reply = self.refused.get(str(recipient.address))
        if reply is not None:
            raise Refused(reply)


def trust(host: str) -> Any:
    root = trustRootFromCertificates([Certificate(crypto.load_certificate(crypto.FILETYPE_PEM, AUTHORITY.cert_pem.bytes()))])
    return optionsForClientTLS(host, trustRoot=root)


def at(server: Server) -> str:
    return f"127.0.0.1:{server.port}"


def send(server: Server, message: Any = MESSAGE, *args: Any, **more: Any) -> Deferred[Delivery]:
    return sendMessage(at(server), message, *args, **{"hostname": "client.test", "tls": TLSUse.NEVER, **more})


async def pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(MESSAGE), 7):
        await deferLater(reactor, 0)
        yield MESSAGE[start : start + 7]


@pytest_twisted.ensureDeferred
async def test_one_call_sends_a_message_to_whom_it_names(serve: Serve) -> None:
    server = serve()
    delivery = await send(server)
    assert delivery.complete
    assert [str(outcome.recipient.address) for outcome in delivery.outcomes] == ["ben@mx.test", "eve@mx.test"]
    assert {(outcome.stage, outcome.code, outcome.enhanced) for outcome in delivery.outcomes} == {(Stage.TEXT, 250, "2.0.0")}
    (received,) = server.delivery.messages
    assert received.content == SENT
    assert str(received.envelope.sender) == "ann@client.test"
    assert (received.envelope.size, received.envelope.body, received.session.heloName) == (len(SENT), "7BIT", "client.test")
    # The session is over before the caller goes on.
    assert server.factory.sessions == 0


@pytest_twisted.ensureDeferred
async def test_a_message_goes_out_from_whatever_holds_it(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    path = tmp_path / "message.eml"
    path.write_bytes(MESSAGE)
    with path.open("rb") as file:
        for source in (MESSAGE, path, file, [MESSAGE[:9], MESSAGE[9:]]):
            await send(server, source)
    named = ("ann@client.test", ["ben@mx.test", "eve@mx.test"])
    for source in (iter([MESSAGE[:50], MESSAGE[50:]]), pieces()):
        await send(server, source, *named)
    assert [received.content for received in server.delivery.messages] == [SENT] * 6
    assert {len(received.envelope.recipients) for received in server.delivery.messages} == {2}


@pytest_twisted.ensureDeferred
async def test_a_message_of_the_email_package(serve: Serve) -> None:
    server = serve()
    message = EmailMessage()
    message["From"] = "Änn <ann@client.test>"
    message["To"] = "bän@mx.test"
    message["Bcc"] = "eve@mx.test"
    message.set_content("Grüße\n")
    delivery = await send(server, message)
    assert len(delivery.accepted) == 2
    (received,) = server.delivery.messages
    assert received.envelope.smtputf8
    assert received.envelope.body == "8BITMIME"
    assert received.message.headers["to"] == "bän@mx.test"
    assert "bcc" not in received.message.headers
    assert received.message.parts[0].text == "Grüße\r\n"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("chunking", [True, False])
async def test_a_large_file_arrives_as_it_is(serve: Serve, tmp_path: Path, chunking: bool) -> None:
    server = serve()
    path = tmp_path / "large"
    path.write_bytes(MESSAGE + b"\n" + b"".join(b".%d\r\xff\n" % number for number in range(200_000)))
    destination = Destination(host="127.0.0.1", port=server.port, tls=TLSUse.NEVER, chunking=chunking)
    assert (await sendMessage(destination, path)).complete
    assert server.delivery.messages[0].content == SENT + b"".join(b".%d\r\n\xff\r\n" % number for number in range(200_000))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("chunking", [True, False])
async def test_whatever_the_octets_they_arrive_in_lines(serve: Serve, chunking: bool) -> None:
    server = serve()
    pool = SMTPPool(reactor, hostname="client.test", poolLimits=PoolLimits(connectionsPerDestination=1, messagesPerConnection=1000))
    destination = Destination(host="127.0.0.1", port=server.port, tls=TLSUse.NEVER, chunking=chunking)
    rng = Random(5)
    texts = [b"".join(rng.choices([b"\r", b"\n", b"\r\n", b".", b"a", b"\xff", b".\r\n"], k=rng.randrange(12))) for _ in range(150)]
    cut = [[text[:at], text[at:]] for text in texts for at in [rng.randrange(len(text) + 1)]]
    contents = [Content.of(iter(pieces)) for pieces in cut] + [Content.of(text) for text in texts]
    sent = [pool.send(destination, envelopeFor(content, "a@b.test", "c@d.test"), content) for content in contents]
    assert all([(await each).complete for each in sent])
    # The server refuses bare line ends, and so says that there are none.
    expected = [b"".join(Content.of(text).pieces()) for text in texts]  # type: ignore[arg-type]
    assert [received.content for received in server.delivery.messages] == expected * 2
    await pool.close()


@pytest_twisted.ensureDeferred
async def test_refused_recipients_are_outcomes_also_when_there_are_no_others(serve: Serve) -> None:
    server = serve()
    server.factory._backend = server.factory.backendFor(Choosy())
    delivery = await send(server, MESSAGE, None, ["ben@mx.test", "nobody@mx.test", "busy@mx.test"])
    assert [(outcome.code, outcome.enhanced, outcome.stage) for outcome in delivery.outcomes] == [
        (250, "2.0.0", Stage.TEXT),
        (550, "5.1.1", Stage.RCPT),
        (450, "4.2.1", Stage.RCPT),
    ]
    assert [outcome.temporary for outcome in delivery.refused] == [False, True]
    delivery = await send(server, MESSAGE, None, ["nobody@mx.test", "busy@mx.test"])
    assert delivery.accepted == []
    assert [outcome.text for outcome in delivery.refused] == ["No such user", "Later"]


@pytest_twisted.ensureDeferred
async def test_lmtp_over_a_unix_socket(tmp_path: Path) -> None:
    delivery = Choosy()
    factory = SMTPServerFactory(delivery, reactor, hostname="mx.test", profile=Profile(lmtp=True))
    listening = reactor.listenUNIX(str(tmp_path / "lmtp.sock"), factory)
    try:
        sent = await sendMessage(f"unix:{tmp_path}/lmtp.sock", MESSAGE, lmtp=True)
        assert [outcome.code for outcome in sent.outcomes] == [250, 250]
        sent = await sendMessage(UNIXClientEndpoint(reactor, str(tmp_path / "lmtp.sock")), MESSAGE, lmtp=True, reactor=reactor)
        assert sent.complete
        assert [received.content for received in delivery.messages] == [SENT, SENT]
        assert delivery.messages[0].session.protocol == "LMTP"
    finally:
        await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_an_endpoint_of_ones_own_and_a_destination(serve: Serve) -> None:
    server = serve()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.port)
    assert (await sendMessage(endpoint, MESSAGE, host="mx.test", tls=TLSUse.REQUIRED, trust=trust)).peer == "mx.test"
    assert (await sendMessage(Destination(host="mx.test", address="127.0.0.1", port=server.port), MESSAGE)).complete
    assert (await sendMessage(Destination(host="mx.test", endpoint=f"tcp:127.0.0.1:{server.port}"), MESSAGE)).complete
    assert [known.tls for known in server.observer.known] == [True] * 3


@pytest_twisted.ensureDeferred
async def test_a_password_goes_only_where_the_certificate_is_right(serve: Serve) -> None:
    server = serve()
    # By default, that is: this one is not trusted by the machine.
    with pytest.raises(TLSFailed):
        await sendMessage(at(server), MESSAGE, user="ann", password="secret")
    with pytest.raises(TLSFailed):
        await sendMessage(TCP4ClientEndpoint(reactor, "127.0.0.1", server.port), MESSAGE, host="mx.test", credentials=Credentials(user="ann"))
    assert server.delivery.messages == []


@pytest_twisted.ensureDeferred
async def test_a_message_that_requires_tls_does_not_go_without(serve: Serve) -> None:
    server = serve()
    with pytest.raises(TLSFailed):
        await sendMessage(at(server), MESSAGE, requireTLS=True)
    # This server does not know REQUIRETLS, so the message is not for it.
    with pytest.raises(Unsendable):
        await sendMessage(at(server), MESSAGE, requireTLS=True, trust=trust, host="mx.test")
    assert server.delivery.messages == []


@pytest_twisted.ensureDeferred
async def test_the_dialogue_can_be_heard(serve: Serve) -> None:
    heard: list[tuple[str, bytes]] = []
    await send(serve(), trace=lambda who, octets: heard.append((who, octets)))
    assert ("C", b"EHLO client.test\r\n") in heard
    assert heard[0] == ("S", b"220 mx.test ESMTP twisted-smtplite\r\n")
    assert ("T", SENT) in heard


@pytest_twisted.ensureDeferred
async def test_what_cannot_even_begin_fails(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    port = server.port
    await server.listening.stopListening()
    with pytest.raises(ConnectionFailed) as caught:
        await sendMessage(f"127.0.0.1:{port}", MESSAGE)
    assert caught.value.temporary
    assert (caught.value.host, caught.value.where) == ("127.0.0.1", f"127.0.0.1:{port}")
    assert str(caught.value) == f"127.0.0.1:{port}: 451 4.4.1 no connection: Connection refused"
    with pytest.raises(ConnectionFailed, match=rf"^{tmp_path}/none: 451 4\.4\.1 no connection: No such file or directory$"):
        await sendMessage(f"unix:{tmp_path}/none", MESSAGE)
    with pytest.raises(ConnectionFailed, match=r"^mx\.test: 451 4\.4\.1 no connection: Connection refused$"):
        await sendMessage(TCP4ClientEndpoint(reactor, "127.0.0.1", port), MESSAGE, host="mx.test")
    for message, args, error, complaint in [
        (b"To: ben\n\n", (), ValueError, "To: 'ben' is no address"),
        (b"To: ben@mx.test\n\n", (), ValueError, "does not say who sends it"),
        (b"From: ann@client.test\n\n", (), ValueError, "there is no recipient"),
        ("text", (), TypeError, "a message is octets, not text"),
        (b"x", (["ann@client.test"], "ben@mx.test"), TypeError, r"an address is text or an Address, not \['ann@client.test'\]"),
        (tmp_path / "missing", (), FileNotFoundError, "missing"),
        (iter([b""]), (), Unsendable, "is not known before"),
    ]:
        with pytest.raises(error, match=complaint):
            await sendMessage(f"127.0.0.1:{port}", message, *args)
    with pytest.raises(ValueError, match="names no server"):
        await sendMessage("a b", MESSAGE)
    with pytest.raises(ValueError, match=r"^'\u2603' is no domain name: "):
        await sendMessage(f"127.0.0.1:{port}", MESSAGE, host="\u2603")
    with pytest.raises(TypeError, match="a server is text, a Destination or a client endpoint, not 25"):
        await sendMessage(25, MESSAGE)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_a_source_that_breaks_off_is_not_taken_for_a_message(serve: Serve) -> None:
    server = serve()

    async def broken() -> AsyncIterator[bytes]:
        yield MESSAGE
        yield MESSAGE
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await send(server, broken(), "a@b.test", "c@d.test")
    await server.observer.ended(1)
    assert server.delivery.messages == []


class Slow(Protocol):
    """A server that answers a few times, and then no more."""

    def __init__(self, replies: int) -> None:
        self.replies = [b"220 mx.test\r\n", b"250 mx.test\r\n", b"250 Fine\r\n", b"250 Fine\r\n"][:replies]
        self.asked: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.dataReceived(b"")

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self.replies:
            self.transport.write(self.replies.pop(0))
        elif not self.asked.called:
            self.asked.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


@implementer(IHostnameResolver)
class Nobody:
    """Whoever is asked for an address is asked in vain."""

    def resolveHostName(self, *arguments: Any, **more: Any) -> Any:
        raise AssertionError("nobody is to be asked")


@pytest_twisted.ensureDeferred
async def test_nobody_is_asked_for_the_address_of_an_address(serve: Serve) -> None:
    server = serve()
    before = reactor.installNameResolver(Nobody())
    try:
        assert (await send(server)).complete
    finally:
        reactor.installNameResolver(before)
    assert len(server.delivery.messages) == 1


@pytest_twisted.ensureDeferred
async def test_an_ipv6_address_is_connected_to() -> None:
    factory = SMTPServerFactory(MemoryDelivery(), reactor, hostname="mx.test")
    try:
        listening = reactor.listenTCP(0, factory, interface="::1")
    except CannotListenError:
        pytest.skip("no IPv6 here")
    delivery = await sendMessage(f"[::1]:{listening.getHost().port}", MESSAGE, reactor=reactor, hostname="client.test")
    assert delivery.complete
    await listening.stopListening()
    await factory.drain()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("replies", [0, 1, 2, 4])
async def test_cancelling_closes_the_connection_wherever_it_is(replies: int) -> None:
    server = Slow(replies)
    listening = reactor.listenTCP(0, Factory.forProtocol(lambda: server), interface="127.0.0.1")
    sending = sendMessage(f"127.0.0.1:{listening.getHost().port}", MESSAGE)
    await server.asked
    sending.cancel()
    with pytest.raises(CancelledError):
        await sending
    await server.lost
    await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_who_cannot_wait_for_the_farewell_still_hears_what_became_of_the_message(serve: Serve) -> None:
    server = serve()
    heard: Deferred[None] = Deferred()

    def trace(who: str, octets: bytes) -> None:
        if octets == b"QUIT\r\n":
            reactor.callLater(0, heard.callback, None)

    sending = send(server, trace=trace)
    await heard
    sending.cancel()
    # What became of the message is known.
    assert (await sending).complete


# -- a pool, for real


@pytest_twisted.ensureDeferred
async def test_a_pool_sends_many_messages_over_few_connections(serve: Serve) -> None:
    server = serve(limits=Limits(transactions=7))
    pool = SMTPPool(reactor, hostname="client.test", poolLimits=PoolLimits(connectionsPerDestination=2, messagesPerConnection=10))
    destination = Destination.of(at(server), tls=TLSUse.NEVER)
    contents = [Content.of(b"From: a@b.test\r\nTo: c@d.test\r\nX: %d\r\n\r\n" % number) for number in range(50)]
    sent = [pool.send(destination, envelopeFor(content), content) for content in contents]
    assert all([(await each).complete for each in sent])
    assert sorted(received.content for received in server.delivery.messages) == sorted(b"".join(content.pieces()) for content in contents)  # type: ignore[arg-type]
    assert 2 <= len(server.observer.sessions) <= 10
    assert 0 < pool.connections <= 2
    await pool.close()
    assert (pool.connections, server.factory.sessions) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_a_pool_finds_out_that_a_server_has_gone_and_come_back(serve: Serve) -> None:
    server = serve()
    pool = SMTPPool(reactor, hostname="client.test")
    destination = Destination.of(at(server), tls=TLSUse.NEVER)
    content = Content.of(MESSAGE)
    assert (await pool.send(destination, envelopeFor(content), content)).complete
    # The server ends its sessions; nobody tells the sender.
    await server.factory.drain()
    server.factory.doStart()
    assert (await pool.send(destination, envelopeFor(content), content)).complete
    assert len(server.observer.sessions) == 2
    await pool.close()


# -- names


def test_a_host_with_a_complete_name_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "client.test")
    assert ownName() == "client.test"


@pytest.mark.parametrize("name", ["localhost", "a b.test", ""])
def test_another_calls_itself_by_its_address(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert ownName().startswith("[")
    assert parseHeloName(ownName(), Limits()) == ownName()


def test_a_host_without_a_network_has_an_address_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unconnected:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *what: object) -> None: ...

        def connect(self, address: object) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.gethostname", lambda: "client")
    monkeypatch.setattr("socket.socket", lambda *kind: Unconnected())
    assert ownName() == "[127.0.0.1]"
