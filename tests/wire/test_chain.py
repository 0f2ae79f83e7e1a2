"""The chain of policies, where a dialogue does not show it: what is shared, what is read along, what is logged, and what it costs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors import ScriptedDelivery, StrictTransport
from stage import Stage
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer, verify

from twisted_smtplite.dialogue.trace import receivedField
from twisted_smtplite.interfaces import IContentPolicy, IContentReader, ISessionPolicy
from twisted_smtplite.model import replies
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, SessionInfo
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.reply import Refused, Reply
from twisted_smtplite.policy.base import Policy
from twisted_smtplite.wire.chain import Chain
from twisted_smtplite.wire.factory import SMTPServerFactory

SESSION = SessionInfo("S1", "mx.test", "192.0.2.1")
NO = Reply(550, "5.7.1", "No")


def policy(**answers: Any) -> Policy:
    """A policy that answers so: a value, or what a function does."""
    made = Policy()
    for question, answer in answers.items():
        setattr(made, question, answer if callable(answer) else lambda *arguments, answer=answer: answer)
    return made


def chain(*policies: object, clock: Clock | None = None, patience: float = 10) -> Chain:
    return Chain(policies, clock or Clock(), patience)


def fails(*arguments: object) -> Any:
    raise ValueError("broken")


def stage(*policies: object, slow: bool = False, limits: Limits | None = None) -> Stage:
    made = Stage(limits, slow=slow, policies=lambda _: policies)
    made.connect()
    return made


def send(where: Stage, *lines: str, text: bytes = b"text\r\n") -> list[str]:
    """A whole message; the codes that were heard."""
    transport: StrictTransport = where.transport
    transport.send(b"EHLO c\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n")
    where.settle()
    transport.send(text + b".\r\n")
    where.settle()
    return [line[:3] for line in bytes(transport.written).decode().splitlines() if line[3] == " "]


class TracingDelivery(ScriptedDelivery):
    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        return receivedField(session, envelope)


def test_what_is_no_policy_is_said_at_once() -> None:
    with pytest.raises(TypeError, match="does not provide ISessionPolicy"):
        SMTPServerFactory(ScriptedDelivery(Clock()), Clock(), policies=[object()])


def test_the_base_passes_every_question_on() -> None:
    verify.verifyObject(ISessionPolicy, Policy())
    envelope = Envelope("E1", Address("a", "b"))
    asked = chain(Policy(), Policy())
    assert [asked.ask(name, SESSION, *rest) for name, *rest in (
        ("connect",), ("ehlo", "c"), ("auth", "u"), ("mail", envelope), ("rcpt", envelope, None), ("data", envelope),
    )] == [None] * 6  # fmt: skip
    assert Policy().endOfData(SESSION, envelope) is None


def test_plain_answers_make_no_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    original = Deferred.__init__
    monkeypatch.setattr(Deferred, "__init__", lambda self, *arguments: (made.append(self), original(self, *arguments))[1])
    assert send(stage(Policy(), policy(rcpt=lambda *_: None)))[-2:] == ["354", "250"]
    assert made == []


def test_without_policies_the_server_asks_the_delivery_itself() -> None:
    where = Stage()
    assert where.factory.chain is None
    assert where.factory.backendFor(where.delivery).delivery is where.delivery


def test_policies_are_asked_in_order_up_to_the_first_refusal() -> None:
    asked: list[str] = []

    def note(name: str, answer: Any = None) -> Callable[..., Any]:
        return lambda *_: (asked.append(name), answer)[1]

    refusing = chain(policy(connect=note("one")), policy(connect=note("two", NO)), policy(connect=note("three")))
    assert refusing.ask("connect", SESSION) is NO
    assert asked == ["one", "two"]


def test_an_answer_may_come_later_in_any_form() -> None:
    first: Deferred[Any] = Deferred()
    second: Deferred[Any] = Deferred()

    async def waits(session: SessionInfo) -> Any:
        return await second

    answers: list[Any] = []
    chain(policy(connect=lambda _: first), policy(connect=waits), policy(connect=NO)).ask("connect", SESSION).addCallback(answers.append)
    first.callback(None)
    assert answers == []
    second.callback(None)
    assert answers == [NO]


def test_a_late_refusal_may_be_raised() -> None:
    pending: Deferred[Any] = Deferred()
    answers: list[Any] = []
    chain(policy(connect=lambda _: pending), policy(connect=fails)).ask("connect", SESSION).addCallback(answers.append)
    pending.errback(Refused(NO))
    assert answers == [NO]


def test_a_question_that_is_forgotten_is_cancelled_and_asks_nobody_else() -> None:
    clock = Clock()
    cancelled: list[object] = []
    pending: Deferred[Any] = Deferred(cancelled.append)
    first: Deferred[Any] = Deferred()
    asking = chain(policy(connect=lambda _: first), policy(connect=lambda _: pending), policy(connect=fails), clock=clock).ask("connect", SESSION)
    first.callback(None)
    failures: list[Any] = []
    asking.addErrback(failures.append)
    with capturedLogs() as events:
        asking.cancel()
    assert cancelled == [pending]
    assert failures[0].check(CancelledError)
    assert not clock.getDelayedCalls()
    assert not events


def test_a_policy_may_have_its_failures_passed_on() -> None:
    lenient = policy(connect=fails)
    lenient.onFailure = None  # type: ignore[misc]
    with capturedLogs() as events:
        assert chain(lenient, policy(connect=NO)).ask("connect", SESSION) is NO
    assert len(events) == 1


@pytest.mark.parametrize("answer", [replies.OK, 5, "no", True])
def test_what_is_no_answer_is_a_failure(answer: object) -> None:
    with capturedLogs() as events:
        assert chain(policy(connect=answer)).ask("connect", SESSION) is replies.LOCAL_ERROR
    assert len(events) == 1
    lenient = policy(connect=answer)
    lenient.onFailure = None  # type: ignore[misc]
    assert chain(lenient, policy(connect=NO)).ask("connect", SESSION) is NO


def test_a_cause_is_logged_once_an_hour() -> None:
    clock = Clock()
    asked = chain(policy(connect=fails, ehlo=fails), clock=clock)
    with capturedLogs() as events:
        for _ in range(5):
            asked.ask("connect", SESSION)
        asked.ask("ehlo", SESSION, "c")
        clock.advance(3599)
        asked.ask("connect", SESSION)
        clock.advance(1)
        asked.ask("connect", SESSION)
    assert [(event["question"], event["repeated"]) for event in events] == [("connect", 0), ("ehlo", 0), ("connect", 5)]


def test_a_policy_that_takes_too_long_has_failed() -> None:
    clock = Clock()
    answers: list[Any] = []
    with capturedLogs() as events:
        chain(policy(connect=lambda _: Deferred()), clock=clock, patience=7).ask("connect", SESSION).addCallback(answers.append)
        clock.advance(7)
    assert answers == [replies.LOCAL_ERROR]
    assert [event["log_level"].name for event in events] == ["warn"]


def test_findings_reach_the_policies_behind_and_the_delivery() -> None:
    def finds(session: SessionInfo, envelope: Envelope) -> None:
        session.results["finder"] = "session"
        envelope.results["finder"] = envelope.id

    def uses(session: SessionInfo, envelope: Envelope) -> Reply | None:
        return None if (session.results["finder"], envelope.results["finder"]) == ("session", envelope.id) else NO

    where = stage(policy(mail=finds), policy(mail=uses, endOfData=uses))
    assert send(where)[-1] == "250"
    assert where.delivery.envelopes[0].results == {"finder": where.delivery.envelopes[0].id}


@implementer(IContentReader)
class Reader:
    def __init__(self, verdict: Any = None, chunk: Any = None) -> None:
        self.text = b""
        self.ended = 0
        self.lost: list[Exception] = []
        self._verdict = verdict
        self._chunk = chunk

    def dataReceived(self, chunk: bytes) -> Any:
        self.text += chunk
        return self._chunk() if self._chunk else None

    def endOfData(self) -> Any:
        self.ended += 1
        return self._verdict() if callable(self._verdict) else self._verdict

    def connectionLost(self, reason: Exception) -> None:
        self.lost.append(reason)


@implementer(IContentPolicy)
class Reading(Policy):
    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> Any:
        return self.reader() if callable(self.reader) else self.reader


@pytest.fixture(params=[False, True], ids=["prompt", "slow"])
def slow(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param
    # A coroutine that nobody waits for, or a failure that nobody sees, shows here.
    gc.collect()


def test_a_reader_sees_what_the_client_sent_and_the_delivery_more(slow: bool) -> None:
    def marks(session: SessionInfo, envelope: Envelope) -> None:
        envelope.addField("X-First", "1")
        envelope.addField("X-Second", "2")

    reader = Reader()
    where = Stage(slow=slow, policies=lambda _: [Reading(reader), Reading(None), policy(data=marks)])
    where.delivery.__class__ = TracingDelivery
    where.connect()
    assert send(where, text=b"Subject: x\r\n\r\ntext\r\n")[-1] == "250"
    assert reader.text == b"Subject: x\r\n\r\ntext\r\n"
    assert (reader.ended, reader.lost) == (1, [])
    (message,) = where.delivery.messages
    assert message.body.startswith(b"X-Second: 2\r\nX-First: 1\r\nReceived: from c")
    assert message.body.endswith(b"\r\nSubject: x\r\n\r\ntext\r\n")


def test_an_empty_message_has_its_fields_too(slow: bool) -> None:
    where = stage(policy(data=lambda session, envelope: envelope.addField("X-Mark", "1")), slow=slow)
    assert send(where, text=b"")[-1] == "250"
    assert where.delivery.messages[0].body == b"X-Mark: 1\r\n"


def test_a_reader_may_take_its_time(slow: bool) -> None:
    pending: list[Deferred[None]] = []

    def waits() -> Deferred[None]:
        pending.append(Deferred())
        return pending[-1]

    reader, other = Reader(chunk=waits), Reader()
    where = stage(Reading(reader), Reading(other), slow=slow)
    assert send(where)[-1] == "354"
    assert (reader.text, other.text) == (b"text\r\n", b"")
    pending.pop().callback(None)
    where.settle()
    assert bytes(where.transport.written).endswith(b"\r\n250 2.0.0 Message accepted\r\n")
    assert (other.text, where.delivery.messages[0].body) == (b"text\r\n", b"text\r\n")


def test_a_reader_refuses_at_the_end_and_later_ones_hear_that_it_is_lost(slow: bool) -> None:
    first, second = Reader(NO), Reader()
    where = stage(Reading(first), Reading(second), slow=slow)
    assert send(where)[-1] == "550"
    assert (first.ended, first.lost, second.ended) == (1, [], 0)
    assert isinstance(second.lost[0], Refused)
    assert isinstance(where.delivery.messages[0].lost[0], Refused)


def test_a_reader_refuses_in_the_middle(slow: bool) -> None:
    def refuses() -> None:
        raise Refused(NO)

    first, second = Reader(chunk=refuses), Reader()
    where = stage(Reading(first), Reading(second), slow=slow)
    assert send(where)[-1] == "550"
    assert (first.ended, len(first.lost), second.ended, len(second.lost)) == (0, 1, 0, 1)
    where.leave()
    where.assertInvariants()


@pytest.mark.parametrize("how", ["raises", "fails later", "raises at the start"])
@pytest.mark.parametrize("lenient", [False, True])
def test_a_reader_that_fails_is_dropped_or_refuses(how: str, lenient: bool) -> None:
    later: Deferred[Any] = Deferred()
    reader = Reader(chunk=fails if how == "raises" else lambda: later)
    reading = Reading(fails if how == "raises at the start" else reader)
    if lenient:
        reading.onFailure = None  # type: ignore[misc]
    where = stage(reading, Reading(Reader()))
    with capturedLogs() as events:
        send(where)
        if how == "fails later":
            later.errback(ValueError("broken"))
            where.settle()
    assert bytes(where.transport.written).splitlines()[-1][:3] == (b"250" if lenient else b"451" if how != "raises at the start" else b"500")
    assert len(events) == 1
    assert (reader.ended, len(reader.lost)) == (0, 0 if how == "raises at the start" else 1)
    where.leave()
    where.assertInvariants()


def test_the_client_leaves_while_a_reader_takes_its_time() -> None:
    cancelled: list[object] = []
    reader = Reader(chunk=lambda: Deferred(cancelled.append))
    where = stage(Reading(reader))
    send(where)
    with capturedLogs() as events:
        where.leave()
    assert (len(cancelled), reader.ended, len(reader.lost)) == (1, 0, 1)
    assert not events
    where.assertInvariants()


def test_a_reader_that_fails_to_let_go_is_logged_and_no_more() -> None:
    reader = Reader()
    reader.connectionLost = fails  # type: ignore[method-assign]
    where = stage(Reading(reader), policy(endOfData=NO))
    # Its end was asked for: it is over. The other never was.
    other = Reader()
    other.connectionLost = fails  # type: ignore[method-assign]
    where = stage(policy(endOfData=NO), Reading(other))
    with capturedLogs() as events:
        assert send(where)[-1] == "550"
    assert [event["question"] for event in events] == ["connectionLost"]


def test_a_delivery_that_breaks_behind_the_policies_is_answered_as_ever(slow: bool) -> None:
    def breaks(*arguments: object) -> Any:
        raise ValueError("broken delivery")

    where = stage(Policy(), slow=slow)
    where.delivery.receivedHeader = breaks  # type: ignore[method-assign]
    with capturedLogs() as events:
        assert "451" in send(where)
    assert len(events) == 1
    where.leave()
    where.assertInvariants()


def test_a_delivery_that_fails_to_let_go_changes_no_answer() -> None:
    where = stage(policy(endOfData=NO))
    started = where.delivery.startMessage

    def starts(session: SessionInfo, envelope: Envelope) -> Any:
        message = started(session, envelope)
        message.connectionLost = fails
        return message

    where.factory.backendFor(where.delivery)
    where.delivery.startMessage = starts  # type: ignore[method-assign]
    with capturedLogs() as events:
        assert send(where)[-1] == "550"
    assert len(events) == 1
