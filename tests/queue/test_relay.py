"""The relay between a client and the next server, all over loopback."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from queueing import CONTENT, LARGE, anAddress, anEnvelope, settle, until
from tlsstage import AUTHORITY, Creator
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from twisted_smtplite.auth.authenticator import Authenticator
from twisted_smtplite.client.content import Content
from twisted_smtplite.client.destination import Destination
from twisted_smtplite.client.pool import SMTPPool
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.delivery.registry import makeDelivery, whyOneProcess
from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.queue import relay as module
from twisted_smtplite.queue.admin import Administration, Choice
from twisted_smtplite.queue.relay import RelayDelivery
from twisted_smtplite.queue.store import QueueStore
from twisted_smtplite.wire.factory import SMTPServerFactory

reactor: Any = globalReactor


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@asynccontextmanager
async def listening(delivery: object, port: int = 0, **choices: Any) -> AsyncIterator[Any]:
    """A server for `delivery`; gives its port."""
    factory = SMTPServerFactory(delivery, reactor, hostname="mx.test", **choices)
    found = reactor.listenTCP(port, factory, interface="127.0.0.1")
    try:
        yield found.getHost().port
    finally:
        await found.stopListening()
        for session in list(factory._sessions):
            session.transport.abortConnection()


@asynccontextmanager
async def running(delivery: RelayDelivery) -> AsyncIterator[RelayDelivery]:
    delivery.startService()
    try:
        yield delivery
    finally:
        await settle(delivery.stopService())


@asynccontextmanager
async def client(port: int, **choices: Any) -> AsyncIterator[Callable[..., Any]]:
    """Sends to a server on loopback: a function of an envelope and a text that gives what became of it."""
    pool = SMTPPool(reactor, hostname="client.test")

    async def send(envelope: Envelope, content: bytes = CONTENT) -> Any:
        return await pool.send(Destination(host="127.0.0.1", port=port, **choices), envelope, Content.of(content))

    try:
        yield send
    finally:
        await pool.close()


def make(directory: Path, port: int, options: str = "networks=127.0.0.0/8") -> RelayDelivery:
    delivery: Any = makeDelivery(f"relay:127.0.0.1:{port}?queue={directory}&hostname=relay.test&{options}", reactor)
    return delivery


def held(directory: Path) -> list[str]:
    administration = Administration(str(directory))
    try:
        return [message.id for message in administration.messages(Choice())]
    finally:
        administration.close()


# ---- Who may use it.


def answer(delivery: RelayDelivery, session: SessionInfo, recipient: str = "ben@b.test", sender: str = "ann@client.test") -> Reply | None:
    envelope = anEnvelope(sender=sender)
    assert delivery.validateFrom(session, envelope) is None
    return delivery.validateTo(session, envelope, Recipient(anAddress(recipient) if "@" in recipient else anAddress(recipient + "@")))


@pytest.mark.parametrize("sender", ["ann@client.test", ""])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "198.51.100.7", ""])
def test_nobody_may_use_it_unless_somebody_says_so(directory: Path, sender: str, peer: str) -> None:
    refusal = answer(make(directory, 25, ""), SessionInfo("S", "mx.test", peerHost=peer, tls=True, heloName="mx.test"), sender=sender)
    assert refusal is not None and (refusal.code, refusal.enhanced) == (550, "5.7.1")


@pytest.mark.parametrize(
    ("networks", "peer", "welcome"),
    [
        ("10.0.0.0/8,2001:db8::/32", "10.1.2.3", True),
        ("10.0.0.0/8,2001:db8::/32", "2001:db8::1", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "", False),
        ("unix", "", True),
    ],
)
def test_named_networks_may(directory: Path, networks: str, peer: str, welcome: bool) -> None:
    assert (answer(make(directory, 25, f"networks={networks}"), SessionInfo("S", "mx.test", peerHost=peer)) is None) is welcome


def test_users_may(directory: Path) -> None:
    assert answer(make(directory, 25, ""), SessionInfo("S", "mx.test", peerHost="198.51.100.7", user="ann")) is None


def test_a_server_that_cannot_be_one_is_refused_before_there_is_mail_for_it(directory: Path) -> None:
    with pytest.raises(ValueError, match=r"'mx\.test:smtp' names no server"):
        makeDelivery(f"relay:mx.test:smtp?queue={directory}", reactor)  # type: ignore[arg-type]


def test_the_log_can_tell_where_the_queue_is(directory: Path) -> None:
    assert make(directory, 25).path == str(directory)


def test_recipients_without_a_domain_are_for_a_server_that_gets_all_mail(directory: Path) -> None:
    session = SessionInfo("S", "mx.test", user="ann")
    assert answer(make(directory, 25), session, "postmaster") is None
    refusal = answer(makeDelivery(f"mx?queue={directory}", reactor), session, "postmaster")  # type: ignore[arg-type]
    assert refusal is not None and refusal.code == 554


@pytest_twisted.ensureDeferred
async def test_a_stranger_hears_it_at_rcpt_and_nothing_is_kept(directory: Path) -> None:
    relay = make(directory, 25, "")
    async with running(relay), listening(relay) as port, client(port) as send:
        (outcome,) = (await send(anEnvelope())).outcomes
        assert str(outcome.reply).startswith("550 5.7.1 ") and outcome.stage.value == "rcpt"
    assert held(directory) == []


# ---- Through it.


@pytest_twisted.ensureDeferred
async def test_a_message_goes_through_as_it_is(directory: Path) -> None:
    memory = MemoryDelivery()
    async with listening(memory) as following:
        relay = make(directory, following)
        async with running(relay), listening(relay) as port, client(port) as send:
            for number, content in enumerate((CONTENT, LARGE)):
                sent = await send(anEnvelope("E", "ben@b.test", "cy@c.test"), content)
                assert sent.complete
                assert {"DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE"} - {"REQUIRETLS"} <= sent.extensions
                await until(lambda number=number: len(memory.messages) == number + 1 and not held(directory))
    for received, content in zip(memory.messages, (CONTENT, LARGE), strict=True):
        trace, _, text = received.content.partition(b"Received: from client.test\r\n")
        assert trace.startswith(b"Received: from client.test ([127.0.0.1])\r\n") and b"Received: from client.test\r\n" + text == content
        assert [str(recipient.address) for recipient in received.envelope.recipients] == ["ben@b.test", "cy@c.test"]
        assert received.session.heloName == "relay.test"


@pytest_twisted.ensureDeferred
async def test_what_was_taken_while_the_next_server_was_away_waits_and_flush_hurries_it(directory: Path) -> None:
    memory = MemoryDelivery()
    async with listening(memory) as following:
        pass
    relay = make(directory, following)
    async with running(relay), listening(relay) as port, client(port) as send:
        assert (await send(anEnvelope())).complete
        administration = Administration(str(directory))
        await until(lambda: next(administration.messages(Choice())).progress[0].attempts)
    # The next process.
    async with listening(memory, following), running(make(directory, following)):
        assert administration.flush(Choice(), 1e9).ids
        administration.close()
        await until(lambda: memory.messages and not held(directory))


@pytest_twisted.ensureDeferred
async def test_it_logs_in_at_the_next_server_over_verified_tls(directory: Path, tmp_path: Path) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "password").write_text("s\u00e9cret\nmore\n")
    authenticator = Authenticator([InMemoryUsernamePasswordDatabaseDontUse(ann="s\u00e9cret".encode())], reactor)
    memory = MemoryDelivery()
    secure = {"tls": Creator(), "authenticate": authenticator, "profile": Profile(mechanisms=authenticator.mechanisms)}
    async with listening(memory, **secure) as following:
        relay = make(directory, following, f"networks=127.0.0.1&user=ann&password-file={tmp_path}/password&ca={tmp_path}/ca.pem")
        async with running(relay), listening(relay) as port, client(port) as send:
            assert (await send(anEnvelope())).complete
            await until(lambda: memory.messages)
    assert memory.messages[0].session.user == "ann" and memory.messages[0].session.tls


# ---- Changed by hand while it sends.


@implementer(IMessage)
class _SlowMessage:
    """Is stored when it is told to be."""

    def __init__(self, message: Any, texts: list[Deferred[None]]) -> None:
        self.dataReceived = message.dataReceived
        self.connectionLost = message.connectionLost
        self._message = message
        self._texts = texts

    async def eomReceived(self) -> Any:
        self._texts.append(Deferred())
        await self._texts[-1]
        return await settle(self._message.eomReceived())


class Slow(MemoryDelivery):
    """Says nothing of a sender, or of a text, until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[None]] = []
        self.texts: list[Deferred[None]] = []
        self.slow = True

    def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Any:
        if not self.slow:
            return None
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> Any:
        message: Any = super().startMessage(session, envelope)
        return _SlowMessage(message, self.texts) if envelope.sender.localPart == "text" else message

    def goOn(self) -> None:
        self.slow = False
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)


def arrived(memory: MemoryDelivery) -> list[str]:
    return sorted(str(recipient.address) for message in memory.messages for recipient in message.envelope.recipients)


@pytest.mark.parametrize("how", ["drop", "hold"])
@pytest_twisted.ensureDeferred
async def test_what_is_taken_out_or_held_while_it_waits_in_the_memory_of_a_running_server_is_not_sent(directory: Path, how: str) -> None:
    slow = Slow()
    async with listening(slow) as following:
        relay = make(directory, following, "networks=127.0.0.0/8&connections=1")
        async with running(relay), listening(relay) as port, client(port) as send:
            for number in range(20):
                assert (await send(anEnvelope("E", f"u{number}@b.test", f"u{number}@c.test", f"u{number}@d.test"))).complete
            # One is at the server, and the texts of some behind it in the same connection, too. Others wait for their turn.
            await until(lambda: slow.waiting)
            administration = Administration(str(directory))
            done = administration.drop(Choice(domain="b.test")) if how == "drop" else administration.hold(Choice(), held=True)
            tooLate = len(done.underWay)
            assert len(done.ids) == 20 and 0 < tooLate <= 8
            slow.goOn()
            if how == "hold":
                await until(lambda: not relay.store._taken)
                assert len(slow.messages) == tooLate
                assert len(administration.hold(Choice(), held=False).ids) == 20 - tooLate
            await until(lambda: not held(directory))
            administration.close()
    dropped = 20 - tooLate if how == "drop" else 0
    count = Counter(address.partition("@")[2] for address in arrived(slow))
    assert count == {"b.test": 20 - dropped, "c.test": 20, "d.test": 20}


@pytest_twisted.ensureDeferred
async def test_a_text_that_is_on_its_way_cannot_be_stopped_and_the_command_says_so(directory: Path) -> None:
    slow = Slow()
    slow.goOn()
    async with listening(slow) as following:
        relay = make(directory, following)
        async with running(relay), listening(relay) as port, client(port) as send:
            await send(anEnvelope("E", "ben@b.test", "cy@c.test", sender="text@client.test"))
            await until(lambda: slow.texts)
            (name,) = held(directory)
            administration = Administration(str(directory))
            assert administration.drop(Choice(domain="b.test")).underWay == {name: 1}
            assert administration.hold(Choice(), held=True).underWay == {name: 2}
            assert administration.drop(Choice()).underWay == {name: 2}
            administration.close()
            slow.texts[0].callback(None)
            await until(lambda: slow.messages and not relay.store._taken)
            assert relay.store._marks is not None and relay.store._marks.empty
    assert arrived(slow) == ["ben@b.test", "cy@c.test"] and not held(directory)


# ---- One process sends.


@pytest_twisted.ensureDeferred
async def test_another_process_takes_over_when_the_one_that_sends_ends(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLAIM_AGAIN", 0.01)
    monkeypatch.setattr("twisted_smtplite.queue.store.POLL", 0.01)
    memory = MemoryDelivery()
    async with listening(memory) as following, running(make(directory, following)) as second:
        async with running(make(directory, following)) as first:
            await until(lambda: first._emptying or second._emptying)
            (sends, waits) = (first, second) if first._emptying else (second, first)
            # What the others take in is sent, too.
            async with listening(waits) as port, client(port) as send:
                await send(anEnvelope())
                await until(lambda: memory.messages)
            assert waits._emptying is None and sends._emptying is not None
        await until(lambda: second._emptying)
    assert whyOneProcess(f"relay:h?queue={directory}") == whyOneProcess("mx?queue=a:b") == ""


@pytest_twisted.ensureDeferred
async def test_a_killed_process_is_mentioned(directory: Path) -> None:
    store = QueueStore(str(directory), reactor)
    assert store.claim()
    os.close(store._claim)
    relay = make(directory, 25)
    with capturedLogs() as events:
        async with running(relay):
            await until(lambda: relay._emptying)
    assert any("did not end as it should" in (formatEvent(event) or "") for event in events)
    assert (directory / "sending").read_bytes() == b""


@pytest_twisted.ensureDeferred
async def test_a_place_that_cannot_be_used_is_tried_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLAIM_AGAIN", 0.01)
    relay = make(directory, 25)
    (directory / "sending").mkdir()
    with capturedLogs() as events:
        async with running(relay):
            await until(lambda: any("cannot be stored" in str(event.get("log_format")) for event in events))
            (directory / "sending").rmdir()
            await until(lambda: relay._emptying)


# ---- On the command line.


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("relay", "delivery 'relay': the server to send to is missing: relay:HOST:PORT"),
        ("relay:?queue=q", "the server to send to is missing"),
        ("relay:h:99999", "a port is a number from 1 to 65535"),
        ("relay:h?colour=red", "unknown option 'colour': the known ones are tls, user, "),
        ("relay:h?queue", "option queue needs a value: queue=DIR"),
        ("relay:h?queue=a&queue=b", "option queue is given twice"),
        ("relay:h?tls=perhaps", "option tls=perhaps: it must be one of never, opportunistic, encrypted, required, implicit"),
        ("relay:h?user=ann", "option user goes with option password-file"),
        ("relay:h?user=ann&password-file=/nowhere", "option password-file=/nowhere: it cannot be read: No such file or directory"),
        ("relay:h?user=ann&password-file=/dev/null", "option password-file=/dev/null: there is no password in its first line"),
        ("relay:h?plaintext-auth=1", "option plaintext-auth goes with option user"),
        ("relay:h?lmtp=yes", "option lmtp=yes: it must be 0 or 1"),
        ("relay:h?ca=/dev/null", "option ca=/dev/null: there are no PEM certificates in it"),
        ("relay:h?ca=/nowhere", "option ca=/nowhere: it cannot be read: No such file or directory"),
        ("relay:h?networks=10.0.0.1/8", "option networks=10.0.0.1/8: 10.0.0.1/8 has host bits set"),
        ("relay:h?hostname=a%20b", "option hostname=a b: it must be a domain name or an address literal"),
        ("relay:h?lifetime=soon", "option lifetime=soon: it must be a whole number above 0 with s, m, h or d behind it, such as 4d"),
        ("relay:h?warn-after=0", "option warn-after=0: it must be a whole number above 0"),
        ("relay:h?connections=0", "option connections=0: it must be a whole number above 0"),
        ("relay:h?queue=/dev/null/q", "option queue=/dev/null/q: no mail can be kept in /dev/null/q: "),
        ("mx:mail.test", "it takes no server, only options: mx?name=value&name=value"),
        ("mx?tls=never", "unknown option 'tls': the known ones are queue, networks, hostname, lifetime, warn-after, connections"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, sentence: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is compared
        makeDelivery(spec, reactor)
    assert sentence in str(caught.value)


def test_certificates_are_of_no_use_where_nobody_looks_at_them(tmp_path: Path) -> None:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    with pytest.raises(ValueError, match="option ca goes with tls=required or tls=implicit: with tls=opportunistic no certificate is verified"):
        makeDelivery(f"relay:h?queue={tmp_path}/q&ca={tmp_path}/ca.pem", reactor)


@pytest.mark.parametrize(
    "spec", ["relay:mail.test:587", "relay:[::1]:25?connections=200&lifetime=2d&warn-after=90m", "mx", "mx?lifetime=7d", "mx:?connections=2"]
)
def test_the_queue_is_in_the_current_directory_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.chdir(tmp_path)
    delivery: Any = makeDelivery(spec, reactor)
    assert delivery.store.directory == str(tmp_path / "queue")
    assert delivery.honours


def test_a_value_may_have_any_octet(tmp_path: Path) -> None:
    delivery: Any = makeDelivery(f"mx?queue={tmp_path}/a%26b%3fc", reactor)
    assert delivery.store.directory == str(tmp_path / "a&b?c")
