from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, anEnvelope, aSession, begin, deliver, settle
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from zope.interface import alsoProvides, implementer

from twisted_smtplite.delivery.base import AcceptingDelivery
from twisted_smtplite.delivery.fanout import FanoutDelivery, _FanoutMessage
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.dialogue.extensions import Extension
from twisted_smtplite.dialogue.outcome import perRecipient
from twisted_smtplite.interfaces import (
    IExpandList,
    IExtendDialogue,
    IHonourExtensions,
    IMessage,
    IMessageDelivery,
    IMessageDeliveryFactory,
    IVerifyAddress,
)
from twisted_smtplite.model.reply import Refused, Reply

OK = Reply(250, "2.0.0", "Message accepted")
FULL = Reply(452, "4.3.1", "Full")
NO = Reply(550, "5.7.1", "No")


class Broken(Exception):
    pass


def given(answer: Any, pace: str) -> Any:
    """An answer as a backend may give it: at once, by a Deferred, or by a coroutine; exceptions are raised."""
    if pace == "prompt":
        if isinstance(answer, Exception):
            raise answer
        return answer
    later: Deferred[Any] = Deferred()
    reactor.callLater(0, later.errback if isinstance(answer, Exception) else later.callback, answer)
    if pace == "deferred":
        return later

    async def coroutine() -> Any:
        return await later

    return coroutine()


@implementer(IMessage)
class Member(AcceptingDelivery):
    """A backend and its one message in one: it does what the test says and keeps a record."""

    def __init__(self, name: str = "", record: list[str] | None = None, *, pace: str = "prompt", header: bytes | None = None, **answers: Any) -> None:
        self.name = name
        self.record = record if record is not None else []
        self.pace = pace
        self.header = header
        self.answers = answers
        self.chunks: list[bytes] = []
        self.reasons: list[Exception] = []

    def _answer(self, event: str, default: Any = None) -> Any:
        self.record.append(f"{self.name}.{event}")
        return given(self.answers.get(event, default), self.pace)

    def validateFrom(self, session: Any, envelope: Any) -> Any:
        return self._answer("from")

    def validateTo(self, session: Any, envelope: Any, recipient: Any) -> Any:
        return self._answer("to")

    def startMessage(self, session: Any, envelope: Any) -> Any:
        return self._answer("start", self)

    def receivedHeader(self, session: Any, envelope: Any) -> bytes | None:
        return self.header

    def dataReceived(self, chunk: bytes) -> Any:
        self.chunks.append(chunk)
        answer = self.answers.get("data")
        return given(answer, "prompt" if self.pace == "prompt" else "deferred")

    def eomReceived(self) -> Any:
        return self._answer("eom")

    def connectionLost(self, reason: Exception) -> None:
        self.record.append(f"{self.name}.lost")
        self.reasons.append(reason)
        if "lost" in self.answers:
            raise self.answers["lost"]


def several(record: list[str], *answers: dict[str, Any], pace: str = "prompt") -> list[Member]:
    return [Member(name, record, **{"pace": pace, **given}) for name, given in zip("abc", answers, strict=False)]


@pytest.fixture(params=["prompt", "deferred", "coroutine"])
def pace(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- Who is asked.


@pytest.mark.parametrize(
    ("answers", "asked", "expected"),
    [
        ([{}, {}, {}], "abc", None),
        ([{}, {"from": NO, "to": NO}, {}], "ab", NO),
        ([{"from": FULL, "to": FULL}, {"from": NO}], "a", FULL),
        ([{}, {"from": OK, "to": OK}, {}], "abc", OK),
        ([{"from": Refused(NO), "to": Refused(NO)}, {}], "a", Refused),
    ],
    ids=["all accept", "second refuses", "first refuses", "a reply of its own", "raises"],
)
@pytest_twisted.ensureDeferred
async def test_senders_and_recipients_are_welcome_when_all_say_so(answers: Any, asked: str, expected: Any, pace: str) -> None:
    record: list[str] = []
    fanout = IMessageDelivery(FanoutDelivery(several(record, *answers, pace=pace)))
    envelope = anEnvelope()
    for event, ask in [
        ("from", lambda: fanout.validateFrom(aSession(), envelope)),
        ("to", lambda: fanout.validateTo(aSession(), envelope, envelope.recipients[0])),
    ]:
        record.clear()
        if expected is Refused:
            with pytest.raises(Refused):
                await settle(ask())
        else:
            assert await settle(ask()) is expected
        assert record == [f"{name}.{event}" for name in asked]


# ---- A message.


@pytest_twisted.ensureDeferred
async def test_every_member_gets_the_message_with_its_own_header(pace: str) -> None:
    members = [Member(pace=pace, header=b"X-A: 1\r\n"), Member(pace=pace), Member(pace=pace, header=b"X-C: 1\r\n")]
    outcome = await deliver(FanoutDelivery(members), [CONTENT[:9], CONTENT[9:]])
    assert perRecipient(outcome, 1) == (OK,)
    assert [b"".join(member.chunks) for member in members] == [b"X-A: 1\r\n" + CONTENT, CONTENT, b"X-C: 1\r\n" + CONTENT]
    assert [member.reasons for member in members] == [[], [], []]


@pytest.mark.parametrize(
    ("third", "raised"), [({"start": NO}, None), ({"start": Refused(NO)}, Refused), ({"start": Broken()}, Broken), ({"data": Broken()}, Broken)]
)
@pytest_twisted.ensureDeferred
async def test_when_one_does_not_start_the_begun_ones_are_told_once(third: Any, raised: Any, pace: str) -> None:
    record: list[str] = []
    members = several(record, {}, {"lost": Broken()}, {**third, "header": b"X: 1\r\n"}, pace=pace)
    start = IMessageDelivery(FanoutDelivery(members)).startMessage
    with capturedLogs() as events:
        if raised:
            with pytest.raises(raised):
                await settle(start(aSession(), anEnvelope()))
        else:
            assert await settle(start(aSession(), anEnvelope())) is NO
    assert record == ["a.start", "b.start", "c.start", "a.lost", "b.lost", *(["c.lost"] if "data" in third else [])]
    assert [type(event["log_failure"].value) for event in events if "log_failure" in event] == [Broken]


@pytest_twisted.ensureDeferred
async def test_when_the_client_leaves_during_the_start_the_begun_ones_are_told() -> None:
    record: list[str] = []
    members = several(record, {}, {"start": Deferred()})
    starting = Deferred.fromCoroutine(IMessageDelivery(FanoutDelivery(members)).startMessage(aSession(), anEnvelope()))  # type: ignore[arg-type]
    starting.addErrback(lambda failure: failure.trap(CancelledError) and None)
    starting.cancel()
    assert record == ["a.start", "b.start", "a.lost"]


@pytest_twisted.ensureDeferred
async def test_a_chunk_is_taken_when_all_have_taken_it() -> None:
    slow, slower = Deferred[None](), Deferred[None]()
    members = several([], {}, {"data": slow}, {"data": slower})
    message = await begin(FanoutDelivery(members))
    answer = message.dataReceived(b"x\r\n")
    assert answer is not None
    slow.callback(None)
    assert not answer.called
    slower.callback(None)
    assert await answer is None


@pytest_twisted.ensureDeferred
async def test_one_slow_member_is_waited_for_as_it_is_and_none_at_all_not() -> None:
    slow = Deferred[None]()
    assert (await begin(FanoutDelivery(several([], {}, {"data": slow})))).dataReceived(b"x") is slow
    assert (await begin(FanoutDelivery(several([], {}, {})))).dataReceived(b"x") is None


@pytest.mark.parametrize("error", [Refused(FULL), Broken()])
@pytest_twisted.ensureDeferred
async def test_a_member_that_fails_to_take_a_chunk_fails_the_message(error: Exception, pace: str) -> None:
    members = [Member(pace="deferred"), Member(pace=pace, data=error), Member(pace="deferred", data=Broken())]
    message = await begin(FanoutDelivery(members))
    with capturedLogs() as events, pytest.raises(type(error)):
        await settle(message.dataReceived(b"x\r\n"))
    message.connectionLost(error)
    assert [member.reasons for member in members] == [[error], [error], [error]]
    assert [event for event in events if "log_failure" in event] == []


@pytest_twisted.ensureDeferred
async def test_cancelling_a_chunk_cancels_it_at_all() -> None:
    cancelled: list[object] = []
    members = several([], {"data": Deferred(cancelled.append)}, {"data": Deferred(cancelled.append)})
    answer = (await begin(FanoutDelivery(members))).dataReceived(b"x")
    assert answer is not None
    answer.cancel()
    with pytest.raises(CancelledError):
        await answer
    assert len(cancelled) == 2


# ---- The end of a message.


@pytest.mark.parametrize(
    ("first", "second", "expected", "told"),
    [
        (None, None, [OK, OK], "ab"),
        ("ID1", None, [Reply(250, "2.0.0", "Message accepted as ID1")] * 2, "ab"),
        (None, "ID2", [OK, OK], "ab"),
        ([FULL, None], None, [FULL, OK], "ab"),
        ([FULL, None], [None, NO], [FULL, NO], "ab"),
        ([FULL, None], [NO, None], [NO, OK], "ab"),
        ([NO, None], [FULL, None], [NO, OK], "ab"),
        ([FULL, NO], None, [FULL, NO], "a"),
        (NO, None, [NO, NO], "a"),
        (Refused(FULL), None, [FULL, FULL], "a"),
        (None, NO, [NO, NO], "ab"),
        (None, Refused(FULL), [FULL, FULL], "ab"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_worst_outcome_of_a_recipient_counts(first: Any, second: Any, expected: Any, told: str, pace: str) -> None:
    record: list[str] = []
    members = several(record, {"eom": first}, {"eom": second}, {}, pace=pace)
    message = await begin(FanoutDelivery(members), anEnvelope("ben@mx.test", "cy@mx.test"))
    record.clear()
    assert perRecipient(await settle(message.eomReceived()), 2) == tuple(expected)
    alive = any(reply.positive for reply in expected)
    told += "c" if alive else ""
    assert record == [f"{name}.{'eom' if name in told else 'lost'}" for name in "abc"]


@pytest.mark.parametrize("wrong", [Broken(), [None], 5])
@pytest_twisted.ensureDeferred
async def test_a_member_that_breaks_at_the_end_is_a_451_and_logged(wrong: Any, pace: str) -> None:
    record: list[str] = []
    members = several(record, {}, {"eom": wrong}, {}, pace=pace)
    message = await begin(FanoutDelivery(members), anEnvelope("ben@mx.test", "cy@mx.test"))
    with capturedLogs() as events:
        outcome = perRecipient(await settle(message.eomReceived()), 2)
    assert [reply.code for reply in outcome] == [451, 451]
    assert record[-3:] == ["a.eom", "b.eom", "c.lost"]
    assert len([event for event in events if "log_failure" in event]) == 1


@pytest_twisted.ensureDeferred
async def test_when_the_client_leaves_during_the_end_the_rest_is_told() -> None:
    record: list[str] = []
    members = several(record, {}, {"eom": Deferred()}, {})
    message = await begin(FanoutDelivery(members))
    ending = Deferred.fromCoroutine(message.eomReceived())  # type: ignore[arg-type]
    ending.addErrback(lambda failure: failure.trap(CancelledError) and None)
    ending.cancel()
    assert record[-3:] == ["a.eom", "b.eom", "c.lost"]


# ---- What members are.


@implementer(IMessageDeliveryFactory)
class OnePerSession:
    def __init__(self) -> None:
        self.made: list[tuple[str, Member]] = []

    def getMessageDelivery(self, session: Any) -> IMessageDelivery:
        self.made.append((session.id, Member()))
        return self.made[-1][1]


@pytest_twisted.ensureDeferred
async def test_a_member_may_want_one_delivery_for_each_session() -> None:
    factory, shared = OnePerSession(), MemoryDelivery()
    fanout = FanoutDelivery([factory, shared])
    assert IMessageDelivery(fanout, None) is None
    for name in ("S1", "S2"):
        session = aSession(id=name)
        await deliver(IMessageDeliveryFactory(fanout).getMessageDelivery(session), session=session)
    assert [name for name, _ in factory.made] == ["S1", "S2"]
    assert [member.chunks for _, member in factory.made] == [[CONTENT], [CONTENT]]
    assert [kept.content for kept in shared.messages] == [CONTENT, CONTENT]


def test_without_such_members_all_sessions_share_one_delivery() -> None:
    fanout = FanoutDelivery([MemoryDelivery()])
    assert IMessageDelivery(fanout) is IMessageDelivery(fanout)
    assert IMessageDeliveryFactory(fanout, None) is None


@pytest_twisted.ensureDeferred
async def test_a_fan_out_may_be_a_member() -> None:
    inner, outer = MemoryDelivery(), MemoryDelivery()
    await deliver(FanoutDelivery([FanoutDelivery([inner]), outer]))
    assert [kept.content for kept in inner.messages + outer.messages] == [CONTENT, CONTENT]


def test_what_is_no_delivery_is_not_taken() -> None:
    with pytest.raises(TypeError):
        FanoutDelivery([MemoryDelivery(), object()])


class Talkative(MemoryDelivery):
    def __init__(self, answer: Reply | None, *extensions: Extension) -> None:
        super().__init__()
        self.answer = answer
        self.extensions = extensions

    def verify(self, session: Any, text: str) -> Any:
        return self.answer

    expand = verify


@pytest.mark.parametrize(("interface", "method"), [(IVerifyAddress, "verify"), (IExpandList, "expand")])
@pytest_twisted.ensureDeferred
async def test_the_first_member_that_knows_answers_vrfy_and_expn(interface: Any, method: str) -> None:
    silent, first, second = Talkative(None), Talkative(OK), Talkative(NO)
    for member in (silent, first, second):
        alsoProvides(member, interface)
    assert interface(FanoutDelivery([MemoryDelivery()]), None) is None

    async def asked(*members: object) -> Any:
        fanout: Callable[..., Any] = getattr(interface(FanoutDelivery(members)), method)
        return await fanout(aSession(), "ben")

    assert await asked(MemoryDelivery(), silent, first, second) is OK
    assert await asked(silent) is None


def test_the_extensions_of_all_members_are_offered() -> None:
    rows = [Extension("XONE", ""), Extension("XTWO", "")]
    one, other = Talkative(None, rows[0]), Talkative(None, rows[1])
    alsoProvides(one, IExtendDialogue)
    alsoProvides(other, IExtendDialogue)
    assert list(IExtendDialogue(FanoutDelivery([one, MemoryDelivery(), other])).extensions) == rows
    assert IExtendDialogue(FanoutDelivery([MemoryDelivery()]), None) is None


def test_an_extension_is_offered_when_every_member_acts_on_it() -> None:
    one, other = Talkative(None), Talkative(None)
    one.honours, other.honours = ("DSN", "RRVS"), ("RRVS", "DELIVERBY")  # type: ignore[attr-defined]
    alsoProvides(one, IHonourExtensions)
    alsoProvides(other, IHonourExtensions)
    assert IHonourExtensions(FanoutDelivery([one, other])).honours == {"RRVS"}
    assert IHonourExtensions(FanoutDelivery([one, MemoryDelivery()])).honours == set()


@pytest_twisted.ensureDeferred
async def test_members_may_take_chunks_in_coroutines() -> None:
    class Slow:
        def __init__(self) -> None:
            self.chunks: list[bytes] = []

        async def dataReceived(self, chunk: bytes) -> None:
            self.chunks.append(chunk)

    one, other = Slow(), Slow()
    await _FanoutMessage([one, other], 1).dataReceived(b"abc")  # type: ignore[list-item, misc]
    assert one.chunks == other.chunks == [b"abc"]
