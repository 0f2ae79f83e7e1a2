"""The relay by MX, as it is: a queue on the disk, a name server, and mail servers on several addresses of loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from nameserver import NameServer, a, mx
from queueing import anEnvelope, put, until
from twisted.internet import reactor as globalReactor
from twisted.internet.error import CannotListenError
from twisted.logger import capturedLogs, formatEvent

from twisted_smtplite.client.mx import MXSender
from twisted_smtplite.client.route import MailRoutes
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.delivery.registry import makeDelivery
from twisted_smtplite.model.networks import Networks
from twisted_smtplite.queue import plugins
from twisted_smtplite.queue.admin import Administration, Choice
from twisted_smtplite.wire.factory import SMTPServerFactory

reactor: Any = globalReactor
FIRST, SECOND, DEAD = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ZONE = {
    "mx1.test": [a(FIRST)],
    "mx2.test": [a(SECOND)],
    "mx3.test": [a(DEAD)],
    "both.test": [mx(20, "mx2.test"), mx(10, "mx1.test")],
    "dead.test": [mx(10, "mx3.test"), mx(20, "mx2.test")],
    "none.test": [mx(0, "")],
    "plain.test": [a(SECOND)],
    # Its report goes to the first.
    "client.test": [mx(0, "mx1.test")],
}


class Net:
    """The relay, the name server and the mail servers.

    Attributes:
        port: where the mail servers listen.
        first, second: what arrived at each of them; nobody listens at the third.
    """

    def __init__(self, relay: Any, port: int, names: NameServer, first: MemoryDelivery, second: MemoryDelivery) -> None:
        self.port = port
        self.relay = relay
        self.names = names
        self.first = first
        self.second = second

    async def send(self, *recipients: str) -> None:
        assert isinstance(await put(self.relay.store, anEnvelope("E1", *recipients, receivedAt=reactor.seconds())), str)

    @property
    def queue(self) -> list[Any]:
        administration = Administration(self.relay.store.directory)
        try:
            return list(administration.messages(Choice()))
        finally:
            administration.close()


def listen(port: int, host: str, delivery: MemoryDelivery) -> Any:
    factory = SMTPServerFactory(delivery, reactor, hostname="mx.test")
    try:
        return reactor.listenTCP(port, factory, interface=host)
    except CannotListenError:
        if host != FIRST:
            return None
        pytest.skip("loopback has one address here")


@asynccontextmanager
async def network(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Net]:
    first, second, names = MemoryDelivery(), MemoryDelivery(), NameServer(ZONE)
    while True:
        # The same port at both.
        listening = [listen(0, FIRST, first)]
        port = listening[0].getHost().port
        listening.append(listen(port, SECOND, second))
        if listening[1] is not None:
            break
        await listening[0].stopListening()
    # What DNS names is at port 25, and never this host.
    monkeypatch.setattr(plugins, "MXSender", partial(MXSender, port=port))
    monkeypatch.setattr(plugins, "MailRoutes", partial(MailRoutes, resolver=names.resolver, ownAddresses=Networks()))
    relay: Any = makeDelivery(f"mx?queue={directory}&hostname=relay.test", reactor)
    relay.startService()
    try:
        yield Net(relay, port, names, first, second)
    finally:
        await relay.stopService()
        for each in listening:
            await each.stopListening()
        await names.stop()


def arrived(delivery: MemoryDelivery) -> list[str]:
    return [str(recipient.address) for message in delivery.messages for recipient in message.envelope.recipients]


@pytest_twisted.ensureDeferred
async def test_mail_goes_to_the_preferred_host_to_the_next_when_that_is_dead_and_without_mx_to_the_domain_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path / "queue", monkeypatch) as net:
        await net.send("ben@both.test", "cy@dead.test", "dee@plain.test", f"eve@[{FIRST}]")
        await until(lambda: not net.queue)
    assert sorted(arrived(net.first)) == ["ben@both.test", f"eve@[{FIRST}]"]
    assert sorted(arrived(net.second)) == ["cy@dead.test", "dee@plain.test"]


@pytest_twisted.ensureDeferred
async def test_a_domain_that_takes_no_mail_or_does_not_exist_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with network(tmp_path / "queue", monkeypatch) as net:
        await net.send("ben@none.test", "cy@nowhere.test", "dee@both.test")
        await until(lambda: not net.queue)
    assert sorted(arrived(net.first)) == ["ann@client.test", "dee@both.test"] and not net.second.messages
    (report,) = (message for message in net.first.messages if message.envelope.sender.isNull)
    # RFC 7505 4.1 and RFC 3463 3.2: no mail, no domain.
    for line in (b"ben@none.test\r\nAction: failed\r\nStatus: 5.1.10", b"cy@nowhere.test\r\nAction: failed\r\nStatus: 5.1.2"):
        assert b"Final-Recipient: rfc822; " + line in report.content


@pytest_twisted.ensureDeferred
async def test_a_domain_that_cannot_be_looked_up_for_now_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with capturedLogs() as events:
        async with network(tmp_path / "queue", monkeypatch) as net:
            net.names.zone.broken.add("both.test")
            await net.send("ben@both.test", "cy@plain.test")
            await until(lambda: [one.attempts for message in net.queue for one in message.progress] == [1, 1])
            (message,) = net.queue
            ben, cy = message.progress
            assert cy.state.final and not ben.state.final and ben.reply.status == "4.4.3" and ben.nextAttempt > reactor.seconds() + 60
            net.names.zone.broken.clear()
            administration = Administration(str(tmp_path / "queue"))
            assert administration.flush(Choice(), reactor.seconds()).ids == [message.id]
            administration.close()
            await until(lambda: not net.queue)
    assert (arrived(net.first), arrived(net.second)) == (["ben@both.test"], ["cy@plain.test"])
    lines = [formatEvent(event) or "" for event in events if event.get("log_namespace") == "smtplite.queue"]
    assert any(line.startswith("deferred id=E1 ") and "to=<ben@both.test>" in line and "cannot be looked up" in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_when_all_hosts_of_a_domain_are_dead_its_mail_waits_and_flush_has_them_tried_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path / "queue", monkeypatch) as net:
        net.names.zone.records[b"dead.test"] = [mx(10, "mx3.test")]
        await net.send("ben@dead.test")
        await until(lambda: [one.attempts for message in net.queue for one in message.progress] == [1])
        (one,) = net.queue[0].progress
        assert not one.state.final and one.reply.status == "4.4.1"
        third = MemoryDelivery()
        listening = listen(net.port, DEAD, third)
        administration = Administration(str(tmp_path / "queue"))
        assert administration.flush(Choice(), reactor.seconds()).ids == ["E1"]
        administration.close()
        await until(lambda: not net.queue)
        assert arrived(third) == ["ben@dead.test"]
        await listening.stopListening()
