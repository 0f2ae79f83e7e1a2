"""Sending by MX, as it is: names from a name server, connections from a pool, and servers on several addresses of loopback."""

from __future__ import annotations

from collections.abc import Callable, Generator
from io import BytesIO
from typing import Any

import pytest
import pytest_twisted
from nameserver import NameServer, a, mx
from tlsstage import AUTHORITY, Creator
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.basic import LineReceiver

from twisted_smtplite.client.content import Content
from twisted_smtplite.client.mx import HostPolicy, MXSender
from twisted_smtplite.client.pool import SMTPPool
from twisted_smtplite.client.route import MailRoutes
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import TLSUse
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.networks import Networks
from twisted_smtplite.model.results import Delivery, Stage
from twisted_smtplite.wire.factory import SMTPServerFactory

reactor: Any = globalReactor
TEXT = b"Subject: one\r\n\r\n.\r\n..text\r\n" + b"a longer line of text\r\n" * 5000


class Moody(LineReceiver):
    """A server that does as it is told, and ends the connection when it is asked to say nothing."""

    factory: Any

    def connectionMade(self) -> None:
        self.text = False
        self.say("greeting", "220 moody.test")

    def lineReceived(self, line: bytes) -> None:
        if self.text:
            if line == b".":
                self.text = False
                self.say("text", "250 2.0.0 Ok")
            return
        verb = line.split(b" ")[0].decode().upper()
        self.factory.heard.append(verb)
        self.text = verb == "DATA" and "DATA" not in self.factory.replies
        self.say(verb, "354 Go on" if self.text else "250 Ok")

    def say(self, to: str, usual: str) -> None:
        reply = self.factory.replies.get(to, usual)
        if not reply:
            self.transport.abortConnection()  # type: ignore[union-attr]
        else:
            self.sendLine(reply.encode())
            if to == "QUIT" or reply.startswith("421"):
                self.transport.loseConnection()


class MoodyFactory(Factory):
    protocol = Moody  # type: ignore[assignment]
    noisy = False

    def __init__(self, **replies: str) -> None:
        self.replies = replies
        self.heard: list[str] = []


class Net:
    """Hosts on addresses of loopback that listen on one port, a name server that knows them, and a sender."""

    def __init__(self, hosts: list[Factory | None], zone: dict[str, list[Any]] | None = None, **options: Any) -> None:
        addresses = [f"127.0.0.{number}" for number in range(2, 2 + len(hosts))]
        records: dict[str, list[Any]] = {f"mx{number}.test": [a(address)] for number, address in enumerate(addresses, 1)}
        records["a.test"] = [mx(10 * number, f"mx{number}.test") for number in range(1, 1 + len(hosts))]
        self._listening: list[Any] = []
        self.port = self._listen([(address, host) for address, host in zip(addresses, hosts, strict=True) if host is not None])
        self._names = NameServer({**records, **(zone or {})})
        roots = trustRootFromCertificates([Certificate.loadPEM(AUTHORITY.cert_pem.bytes())])
        self.pool = SMTPPool(reactor, hostname="here.test", trust=lambda host: optionsForClientTLS(host, roots))
        routes = MailRoutes(reactor, self._names.resolver, ownAddresses=Networks())
        self.sender = MXSender(reactor, self.pool, routes, port=self.port, **options)

    def _listen(self, hosts: list[tuple[str, Factory]]) -> int:
        """The same port on each address."""
        while True:
            port = 0
            try:
                for address, factory in hosts:
                    self._listening.append(reactor.listenTCP(port, factory, interface=address))
                    port = self._listening[-1].getHost().port
            except CannotListenError:
                if port == 0:
                    pytest.skip("loopback has one address here")
                for listening in self._listening:
                    listening.stopListening()
                self._listening.clear()
            else:
                return port

    async def send(self, *recipients: str, content: Content | None = None, **facts: Any) -> Delivery:
        envelope = Envelope("1", Address("s", "here.test"), recipients=[Recipient(Address(*to.split("@"))) for to in recipients], **facts)
        return await self.sender.send(envelope, content or Content.of(TEXT))

    async def stop(self) -> None:
        await self.pool.close()
        for listening in self._listening:
            await listening.stopListening()
        await self._names.stop()


Build = Callable[..., Net]


@pytest.fixture
def build() -> Generator[Build, None, None]:
    nets: list[Net] = []

    def build(*hosts: Any, **options: Any) -> Net:
        nets.append(Net(list(hosts), **options))
        return nets[-1]

    yield build
    for net in nets:
        pytest_twisted.blockon(Deferred.fromCoroutine(net.stop()))


def server(delivery: MemoryDelivery, **options: Any) -> SMTPServerFactory:
    return SMTPServerFactory(delivery, reactor, hostname="mx.test", **options)


def received(delivery: MemoryDelivery) -> list[tuple[list[str], bytes]]:
    return [([str(recipient.address) for recipient in each.envelope.recipients], each.content) for each in delivery.messages]


@pytest_twisted.ensureDeferred
async def test_a_message_to_several_domains_arrives_at_the_hosts_of_each(build: Build) -> None:
    first, second = MemoryDelivery(), MemoryDelivery()
    net = build(server(first), server(second), zone={"a.test": [mx(10, "mx1.test")], "b.test": [mx(10, "mx2.test")], "c.test": [mx(5, "mx1.test")]})
    delivery = await net.send("x@a.test", "y@b.test", "z@A.test", "w@c.test", content=Content.of(BytesIO(TEXT)))
    assert delivery.complete
    assert sorted(received(first)) == [(["w@c.test"], TEXT), (["x@a.test", "z@A.test"], TEXT)]
    assert received(second) == [(["y@b.test"], TEXT)]
    # An address literal, and connections that are there already.
    assert (await net.send("x@[127.0.0.3]")).complete
    assert received(second)[1:] == [(["x@[127.0.0.3]"], TEXT)]


@pytest.mark.parametrize(
    "first",
    [
        None,
        {"greeting": ""},
        {"greeting": "421 4.3.2 Busy"},
        {"greeting": "554 No service"},
        {"greeting": "hello"},
        {"MAIL": "451 4.3.0 Later"},
        {"RCPT": "450 4.2.0 Later"},
        {"DATA": "451 4.3.0 Later"},
        {"RCPT": ""},
        {"DATA": ""},
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_the_next_host_takes_over(build: Build, first: dict[str, str] | None) -> None:
    second = MemoryDelivery()
    net = build(None if first is None else MoodyFactory(**first), server(second))
    delivery = await net.send("x@a.test")
    assert (delivery.complete, delivery.peer) == (True, "mx2.test")
    assert received(second) == [(["x@a.test"], TEXT)]


@pytest.mark.parametrize("reply", ["", "451 4.3.0 Later", "554 5.6.0 Never"])
@pytest_twisted.ensureDeferred
async def test_a_text_that_was_sent_whole_goes_to_no_second_host(build: Build, reply: str) -> None:
    first, second = MoodyFactory(text=reply), MemoryDelivery()
    net = build(first, server(second))
    delivery = await net.send("x@a.test")
    (only,) = delivery.outcomes
    assert (only.stage, only.permanent, only.reply.local) == (Stage.TEXT, reply.startswith("5"), not reply)
    assert first.heard.count("MAIL") == 1
    assert received(second) == []


@pytest_twisted.ensureDeferred
async def test_nobody_at_home_is_temporary(build: Build) -> None:
    (only,) = (await build(MoodyFactory(greeting=""), None).send("x@a.test")).outcomes
    assert (only.temporary, only.stage, only.reply.local) == (True, Stage.CONNECT, True)
    assert "mx2.test [127.0.0.3]" in only.text


@pytest_twisted.ensureDeferred
async def test_where_a_verified_name_is_demanded_others_are_passed_by(build: Build) -> None:
    first, second = MemoryDelivery(), MemoryDelivery()
    # The certificate names mx.test: it is of no use to mx1.test.
    zone = {"a.test": [mx(10, "mx1.test"), mx(20, "mx.test")], "mx.test": [a("127.0.0.3")]}
    tls = Creator()
    net = build(
        server(first, tls=tls),
        server(second, tls=tls, offer=("REQUIRETLS",)),
        zone=zone,
        policy=lambda domain, host: HostPolicy(TLSUse.REQUIRED, authentic=True),
    )
    delivery = await net.send("x@a.test")
    assert (delivery.complete, delivery.peer) == (True, "mx.test")
    assert (first.messages, second.messages[0].session.tls) == ([], True)
    # A message that demands it too, on the way.
    assert (await net.send("x@a.test", requireTLS=True)).complete
    assert second.messages[1].envelope.requireTLS


@pytest_twisted.ensureDeferred
async def test_a_message_with_requiretls_comes_back_where_nobody_has_it(build: Build) -> None:
    first = MemoryDelivery()
    # Verified, but without REQUIRETLS; and without TLS at all.
    zone = {"a.test": [mx(10, "mx.test"), mx(20, "mx2.test")], "mx.test": [a("127.0.0.2")]}
    net = build(
        server(first, tls=Creator()),
        server(MemoryDelivery()),
        zone=zone,
        policy=lambda domain, host: HostPolicy(TLSUse.OPPORTUNISTIC, authentic=True),
    )
    (only,) = (await net.send("x@a.test", requireTLS=True)).outcomes
    assert (only.code, only.enhanced) == (550, "5.7.10")
    assert only.text.startswith("mx2.test [127.0.0.3]: ")
    assert first.messages == []


@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another_name_is_good_enough_where_nothing_is_demanded(build: Build) -> None:
    first = MemoryDelivery()
    assert (await build(server(first, tls=Creator())).send("x@a.test")).complete
    assert first.messages[0].session.tls
