"""A relay whose next server, or whose disk, does not do what it should: each message arrives, or its sender is told."""

from __future__ import annotations

import email
import errno
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from relayprocess import Collector, makeRelay
from twisted.internet import reactor as globalReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent

from twisted_smtplite.client.content import Content
from twisted_smtplite.client.destination import Destination
from twisted_smtplite.client.pool import SMTPPool
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientLimits
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.queue.limits import RunnerLimits
from twisted_smtplite.queue.relay import RelayDelivery
from twisted_smtplite.queue.schedule import Schedule
from twisted_smtplite.wire.factory import SMTPServerFactory

reactor: Any = globalReactor

QUICK = Schedule(firstRetry=0.05, longestRetry=0.2)
LIMITS = RunnerLimits(firstProbe=0.05, longestProbe=0.2, drainTime=1, gatherTime=0.2, retryStore=0.02)
TEXT = b"Subject: Hello\r\n\r\nhello\r\n"


async def until(condition: Callable[[], object]) -> None:
    """Turns of the reactor until the condition holds; the test's own time limit is the end of patience."""
    while not condition():
        await deferLater(reactor, 0.02)


# ---- Servers that misbehave.


class Silent(Protocol):
    """Never says a word."""


class Refusing(Protocol):
    """Has no time."""

    def connectionMade(self) -> None:
        self.transport.write(b"421 4.3.2 mx.test Busy\r\n")
        self.transport.loseConnection()


class Dropping(Protocol):
    """Takes the text, and hangs up where its reply should be."""

    def __init__(self) -> None:
        self._text = b""

    def connectionMade(self) -> None:
        self.transport.write(b"220 mx.test ESMTP\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._text += data
        while self._text:
            if self._text.startswith(b"Received:"):
                if self._text.endswith(b"\r\n.\r\n"):
                    self.transport.abortConnection()
                return
            line, end, rest = self._text.partition(b"\r\n")
            if not end:
                return
            self._text = rest
            self.transport.write(b"354 Go on\r\n" if line == b"DATA" else b"250 2.0.0 Well\r\n")


class Gone(Protocol):
    """Cuts the connection before the greeting."""

    def connectionMade(self) -> None:
        self.transport.abortConnection()


class NextServer(Factory):
    """Misbehaves on the first connections, and then takes mail."""

    def __init__(self, first: Sequence[type[Protocol]], delivery: object) -> None:
        self.left = list(first)
        self.connections = 0
        self.server = SMTPServerFactory(delivery, reactor, hostname="mx.test")

    def buildProtocol(self, addr: Any) -> Any:
        self.connections += 1
        protocol: Any = self.left.pop(0)() if self.left else self.server.buildProtocol(addr)
        return protocol


@asynccontextmanager
async def listening(factory: Factory | SMTPServerFactory, port: int = 0) -> AsyncIterator[int]:
    opened = reactor.listenTCP(port, factory, interface="127.0.0.1")
    try:
        yield opened.getHost().port
    finally:
        await opened.stopListening()


@asynccontextmanager
async def relaying(directory: Path, following: int, **choices: Any) -> AsyncIterator[tuple[RelayDelivery, Callable[..., Any]]]:
    """A relay that sends to the port `following`; gives it, and what hands a message in."""
    relay = makeRelay(str(directory), following, QUICK, LIMITS, ClientLimits(**choices))
    relay.startService()
    factory = SMTPServerFactory(relay, reactor, hostname="relay.test")
    pool = SMTPPool(reactor, hostname="client.test")
    try:
        async with listening(factory) as port:

            async def send(*recipients: str, sender: str = "ann@client.test", text: bytes = TEXT) -> None:
                envelope = Envelope("E", address(sender), recipients=[Recipient(address(each)) for each in recipients])
                sent = await pool.send(Destination(host="127.0.0.1", port=port), envelope, Content.of(text))
                assert sent.complete, sent

            yield relay, send
            await pool.close()
    finally:
        await relay.stopService()


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


def isEmpty(relay: RelayDelivery) -> bool:
    return bool(relay.store.database.read(lambda connection: connection.execute("SELECT count(*) FROM message").fetchone()[0] == 0))


def recipientsOf(memory: MemoryDelivery) -> Counter[str]:
    return Counter(str(recipient.address) for message in memory.messages for recipient in message.envelope.recipients)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("fault", [Silent, Refusing, Gone], ids=["times out", "refuses", "hangs up"])
async def test_a_server_that_is_not_ready_gets_the_message_when_it_is(tmp_path: Path, fault: type[Protocol]) -> None:
    memory = MemoryDelivery()
    following = NextServer([fault] * 3, memory)
    async with listening(following) as port, relaying(tmp_path, port, greetingTimeout=0.1) as (relay, send):
        await send("ben@mx.test")
        await until(lambda: memory.messages and isEmpty(relay))
        assert following.connections >= 4
    assert recipientsOf(memory) == {"ben@mx.test": 1}


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_gets_the_message_when_it_comes_back(tmp_path: Path) -> None:
    memory = MemoryDelivery()
    async with listening(NextServer([], memory)) as port:
        pass
    async with relaying(tmp_path, port) as (relay, send):
        with capturedLogs() as events:
            await send("ben@mx.test")
            await until(lambda: any("deferred id=" in (formatEvent(event) or "") for event in events))
        async with listening(NextServer([], memory), port):
            await until(lambda: memory.messages and isEmpty(relay))
    assert recipientsOf(memory) == {"ben@mx.test": 1}


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs_up_after_the_dot_gets_the_message_again_and_the_log_says_so(tmp_path: Path) -> None:
    memory = MemoryDelivery()
    async with listening(NextServer([Dropping, Dropping], memory)) as port, relaying(tmp_path, port) as (relay, send):
        with capturedLogs() as events:
            await send("ben@mx.test")
            await until(lambda: memory.messages and isEmpty(relay))
    lines = [formatEvent(event) or "" for event in events if event.get("log_namespace") == "smtplite.queue"]
    assert [line.split()[0] for line in lines] == ["deferred"] * (len(lines) - 1) + ["sent"]
    assert sum('again="The server\'s reply was lost: it may have the message"' in line for line in lines) == 2
    assert 'again="The server\'s reply to an earlier attempt was lost"' in lines[-1]


@pytest_twisted.ensureDeferred
async def test_of_many_recipients_each_gets_the_message_once_and_those_who_cannot_are_told(tmp_path: Path) -> None:
    arrived = (tmp_path / "arrived").open("a+")
    recipients = [f"{kind}{number}@mx.test" for number in range(20) for kind in ("ben", "later-")] + ["nobody@mx.test"]
    async with listening(NextServer([], Collector(arrived))) as port, relaying(tmp_path / "queue", port) as (relay, send):
        await send(*recipients)
        await until(lambda: isEmpty(relay))
    arrived.seek(0)
    messages = [json.loads(line) for line in arrived]
    arrived.close()
    (report,) = (message for message in messages if message["recipients"] == ["ann@client.test"])
    assert Counter(each for message in messages if message is not report for each in message["recipients"]) == dict.fromkeys(recipients[:-1], 1)
    told = email.message_from_string(report["text"]).get_payload()[1].get_payload()  # type: ignore[index, union-attr]
    assert [block["Final-Recipient"] for block in told[1:]] == ["rfc822; nobody@mx.test"]  # type: ignore[index]


@pytest_twisted.ensureDeferred
async def test_while_the_disk_is_full_nothing_is_sent_twice_and_nothing_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryDelivery()
    async with listening(NextServer([], memory)) as port, relaying(tmp_path, port) as (relay, send):
        works = relay.store.transaction
        failures = iter(range(5))

        def full(changes: Sequence[Any]) -> None:
            """The disk is full for progress: what comes in was written before."""
            if any(type(change).__name__ == "_Record" for change in changes) and next(failures, None) is not None:
                raise OSError(errno.ENOSPC, "No space left on device")
            works(changes)

        monkeypatch.setattr(relay.store, "transaction", full)
        with capturedLogs() as events:
            await send("ben@mx.test", "cy@mx.test")
            await until(lambda: memory.messages and isEmpty(relay))
    assert next(failures, None) is None
    assert recipientsOf(memory) == {"ben@mx.test": 1, "cy@mx.test": 1}
    assert any("cannot be recorded" in (formatEvent(event) or "") for event in events)


@pytest_twisted.ensureDeferred
async def test_a_relay_that_stops_while_it_sends_leaves_a_queue_that_the_next_one_empties(tmp_path: Path) -> None:
    memory = MemoryDelivery()
    following = NextServer([Silent] * 50, memory)
    async with listening(following) as port:
        async with relaying(tmp_path, port) as (relay, send):
            for _ in range(5):
                await send("ben@mx.test")
            await until(lambda: following.connections)
        following.left.clear()
        async with relaying(tmp_path, port) as (relay, _):
            assert not relay.store.unclean
            await until(lambda: isEmpty(relay))
    assert recipientsOf(memory) == {"ben@mx.test": 5}


@pytest_twisted.ensureDeferred
async def test_mail_that_runs_in_circles_between_two_relays_comes_to_an_end(tmp_path: Path) -> None:
    # RFC 5321 6.3: the hundredth Received field ends it; its report runs as long, and is not reported about.
    opened = reactor.listenTCP(0, Factory.forProtocol(Silent), interface="127.0.0.1")
    port = opened.getHost().port
    await opened.stopListening()
    second = makeRelay(str(tmp_path / "second"), port, QUICK, LIMITS)
    second.startService()
    try:
        async with listening(SMTPServerFactory(second, reactor, hostname="second.test")) as secondPort:
            relay = makeRelay(str(tmp_path / "first"), secondPort, QUICK, LIMITS)
            relay.startService()
            try:
                async with listening(SMTPServerFactory(relay, reactor, hostname="first.test"), port):
                    pool = SMTPPool(reactor, hostname="client.test")
                    with capturedLogs() as events:
                        envelope = Envelope("E", address("ann@client.test"), recipients=[Recipient(address("ben@mx.test"))])
                        await pool.send(Destination(host="127.0.0.1", port=port), envelope, Content.of(TEXT))
                        await until(lambda: sum("failed id=" in (formatEvent(event) or "") for event in events) == 2)
                        await until(lambda: isEmpty(relay) and isEmpty(second))
                    await pool.close()
            finally:
                await relay.stopService()
    finally:
        await second.stopService()
    lines = [formatEvent(event) or "" for event in events if event.get("log_namespace") == "smtplite.queue"]
    assert 2 * 99 <= sum(line.startswith("sent ") for line in lines) <= 2 * 101
    assert sum(line.startswith("reported ") for line in lines) == 1
    assert all("5.4.6" in line for line in lines if line.startswith("failed "))
