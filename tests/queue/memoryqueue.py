"""A queue in memory, a sender that does as it is told, and a runner between them on a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from queueing import anEnvelope
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_smtplite.client.content import Content, OctetsContent
from twisted_smtplite.model.envelope import Envelope
from twisted_smtplite.model.errors import SMTPClientError
from twisted_smtplite.model.results import Delivery, PeerReply, RecipientOutcome, Stage
from twisted_smtplite.queue.entries import NewReport, Progress, QueuedMessage, Room, State, Way
from twisted_smtplite.queue.runner import Runner

START = 1_000_000_000.0
TEXT = b"From: ann@client.test\r\nSubject: Hello\r\nMessage-ID: <1@client.test>\r\n\r\nhello\r\n"

OK = PeerReply(250, "2.0.0", ("Taken",))
BUSY = PeerReply(451, "4.3.2", ("Come again",))
NOBODY = PeerReply(550, "5.1.1", ("Nobody of this name",))
GONE = PeerReply(421, "4.4.1", ("No connection",), local=True)
LOST = PeerReply(451, "4.4.2", ("Connection lost",), local=True)


@dataclass
class Row:
    message: QueuedMessage
    text: bytes


class MemoryStore:
    """Keeps `entries.Store`'s promises. What it gives out and takes back are copies, as with any store on a disk.

    Attributes:
        rows: what is in the queue.
        finished: what has left it.
        failing: how many of the next changes fail.
        later: True lets changes wait for `flush`.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.finished: dict[str, QueuedMessage] = {}
        self.taken: set[tuple[str, int]] = set()
        # Whom a server may have the message for, as far as is not recorded.
        self.handed: set[tuple[str, int]] = set()
        self.offered: set[tuple[str, int]] = set()
        self.reports: list[NewReport] = []
        self.records: list[QueuedMessage] = []
        self.perMessage = 1000
        # The most that were taken at a time.
        self.most = 0
        self.failing = 0
        self.unreadable = False
        self.later = False
        self._waiting: list[Deferred[None]] = []
        self._calls: list[Callable[[], None]] = []
        self._number = 0

    def put(self, *recipients: str, text: bytes = TEXT, held: bool = False, **changes: Any) -> QueuedMessage:
        """A message comes."""
        self._number += 1
        envelope = anEnvelope(f"M{self._number}", *recipients, **{"receivedAt": self.clock.seconds(), **changes})
        return self.add(envelope, text, held=held)

    def add(self, envelope: Envelope, text: bytes, **changes: Any) -> QueuedMessage:
        now = self.clock.seconds()
        due = max(now, envelope.holdUntil or 0)
        progress = [Progress(recipient, nextAttempt=due, position=position) for position, recipient in enumerate(envelope.recipients)]
        message = QueuedMessage(envelope.id, envelope, progress, now, len(text), **changes)
        self.rows[message.id] = Row(message, text)
        self.changed()
        return _copy(message)

    def changed(self) -> None:
        for call in self._calls:
            call()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    # ---- The promises.

    def due(self, now: float, room: Room) -> Deferred[Sequence[QueuedMessage]]:
        if self._fails():
            return fail(OSError("the disk is gone"))
        found = []
        messages, left, self.perMessage = room
        for message in sorted((row.message for row in self.rows.values()), key=lambda message: (-message.envelope.priority, self._next(message))):
            most = min(self._roomOf(message), left)
            those = [] if message.held else [one for one in self._free(message) if one.nextAttempt <= now]
            if those[: max(0, most)] and messages:
                messages -= 1
                left -= len(those[:most])
                found.append(replace(_copy(message), progress=[replace(one) for one in those[:most]], more=len(those) > most))
        self.taken |= {(message.id, one.position) for message in found for one in message.progress}
        self.most = max(self.most, len(self.taken))
        return succeed(found)

    def nextDue(self) -> Deferred[float | None]:
        least = min((self._next(row.message) for row in self.rows.values()), default=inf)
        return succeed(None if least == inf else least)

    def _roomOf(self, message: QueuedMessage) -> int:
        return self.perMessage - sum(name == message.id for name, _ in self.taken)

    def _next(self, message: QueuedMessage) -> float:
        return inf if message.held or self._roomOf(message) <= 0 else min((one.nextAttempt for one in self._free(message)), default=inf)

    def _free(self, message: QueuedMessage) -> list[Progress]:
        return [one for one in message.progress if not one.state.final and (message.id, one.position) not in self.taken]

    def content(self, message: QueuedMessage, way: Way | None = None) -> Content:
        if self.unreadable:
            raise OSError("the disk is gone")
        row = self.rows.get(message.id)
        text = row.text if row else b""

        return _Text(text, way or Way())

    def maySend(self, message: QueuedMessage, those: Sequence[Progress]) -> bool:
        row = self.rows.get(message.id)
        assert self._names(message, those) <= self.taken
        return row is not None and not row.message.held and not any(row.message.progress[one.position].state.final for one in those)

    def handOver(self, message: QueuedMessage, those: Sequence[Progress]) -> bool:
        may = self.maySend(message, those)
        if may:
            self.offered |= self._names(message, those)
        return may

    def textGoes(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        assert self._names(message, those) <= self.offered
        self.handed |= self._names(message, those)

    def notTaken(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        self.handed -= self._names(message, those)
        self.offered -= self._names(message, those)

    def record(self, message: QueuedMessage, reports: Sequence[NewReport] = ()) -> Deferred[None]:
        if self._fails():
            return fail(OSError(28, "No space left on device"))
        if self.later:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            return waiting.addCallback(lambda _: self._record(message, reports))
        self._record(message, reports)
        return succeed(None)

    def _record(self, message: QueuedMessage, reports: Sequence[NewReport]) -> None:
        self.putBack(message, message.progress)
        self.records.append(_copy(message))
        row = self.rows.get(message.id)
        if row is None:
            return
        for one in message.progress:
            if not row.message.progress[one.position].state.final:
                row.message.progress[one.position] = replace(one)
        if all(progress.state.final for progress in row.message.progress):
            self.finished[message.id] = self.rows.pop(message.id).message
        for report in reports:
            self.reports.append(report)
            self.add(report.envelope, report.text, report=True)

    def putBack(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        assert self._names(message, those) <= self.taken
        self.taken -= self._names(message, those)
        self.handed -= self._names(message, those)
        self.offered -= self._names(message, those)

    @staticmethod
    def _names(message: QueuedMessage, those: Sequence[Progress]) -> set[tuple[str, int]]:
        return {(message.id, one.position) for one in those}

    def onChange(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def _fails(self) -> bool:
        self.failing -= 1
        return self.failing >= 0

    # ---- For the tests.

    def states(self, message: QueuedMessage) -> list[State]:
        """What is kept of each recipient, as the disk would have it."""
        found = self.rows[message.id].message if message.id in self.rows else self.finished[message.id]
        return [progress.state for progress in found.progress]

    def progress(self, message: QueuedMessage) -> Progress:
        return self.rows[message.id].message.progress[0]


class _Text(OctetsContent):
    """A text that says how far it has come."""

    def __init__(self, octets: bytes, way: Way) -> None:
        super().__init__(octets)
        self._way = way

    @property
    def size(self) -> int:
        self._way.offered()
        return super().size

    def pieces(self) -> Iterator[bytes]:
        self._way.begun()
        return super().pieces()


def _copy(message: QueuedMessage) -> QueuedMessage:
    return replace(message, progress=[replace(progress) for progress in message.progress])


@dataclass
class Call:
    """One transaction that was asked for."""

    time: float
    envelope: Envelope
    answer: Deferred[Delivery]
    content: Content

    @property
    def recipients(self) -> list[str]:
        return [str(recipient.address) for recipient in self.envelope.recipients]

    def reply(self, *replies: PeerReply, stage: Stage = Stage.TEXT, peer: str = "mx.test", extensions: frozenset[str] = frozenset({"DSN"})) -> None:
        """The server answers, alike for all or one by one; where it says something of the text that was sent before."""
        if stage is Stage.TEXT:
            try:
                read(self.content)
            except SMTPClientError as error:
                self.answer.errback(error)
                return
        each = replies * len(self.envelope.recipients) if len(replies) == 1 else replies
        outcomes = tuple(RecipientOutcome(recipient, stage, reply) for recipient, reply in zip(self.envelope.recipients, each, strict=True))
        self.answer.callback(Delivery(outcomes, peer, extensions))

    def fail(self, error: Exception) -> None:
        self.answer.errback(error)


def read(content: Content) -> bytes:
    """As who sends it does."""
    assert content.size is not None
    return b"".join(piece for piece in content.pieces() if isinstance(piece, bytes))


class ScriptedSender:
    """Notes what is to be sent.

    Attributes:
        calls: all that was asked for.
        script: what it does with a call; by default nothing, the test answers.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: list[Call] = []
        self.cancelled: list[Call] = []
        self.script: Callable[[Call], object] = lambda call: None

    def send(self, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        call = Call(self.clock.seconds(), envelope, Deferred(lambda _: self.cancelled.append(call)), content)
        self.calls.append(call)
        self.script(call)
        return call.answer

    @property
    def open(self) -> list[Call]:
        return [call for call in self.calls if not call.answer.called]

    def take(self) -> list[Call]:
        """The calls since it was last asked."""
        calls, self.calls = self.calls, []
        return calls


class World:
    """A clock, a store, a sender and a runner that has been started."""

    def __init__(self, *, started: bool = True, draw: Callable[[], float] = lambda: 0.5, **options: Any) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.store = MemoryStore(self.clock)
        self.sender = ScriptedSender(self.clock)
        numbers = iter(range(1, 1_000_000))
        self.runner = Runner(self.store, self.sender, self.clock, hostname="relay.test", draw=draw, newId=lambda: f"R{next(numbers)}", **options)
        if started:
            self.runner.start()

    def wait(self, seconds: float) -> None:
        """Time passes: timers go off one by one, in their order, each at its time."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and (next_ := min(call.getTime() for call in calls)) <= end:
            self.clock.advance(max(0.0, next_ - self.clock.seconds()))
        self.clock.advance(end - self.clock.seconds())

    def waitUntil(self, condition: Callable[[], object], most: float = 30 * 86_400) -> None:
        """Time passes until something is so."""
        end = self.clock.seconds() + most
        while not condition():
            calls = self.clock.getDelayedCalls()
            assert calls and self.clock.seconds() < end, "it never came to be so"
            self.clock.advance(max(0.0, min(call.getTime() for call in calls) - self.clock.seconds()))

    @property
    def now(self) -> float:
        return self.clock.seconds() - START


def refusing(*replies: PeerReply) -> Callable[[Call], object]:
    return lambda call: call.reply(*replies, stage=Stage.RCPT)


def accepting(call: Call) -> None:
    call.reply(OK)


def unreachable(error: type[SMTPClientError], reply: PeerReply = GONE) -> Callable[[Call], object]:
    return lambda call: call.fail(error(reply, Stage.CONNECT, "mx.test"))


def addressesOf(calls: Sequence[Call]) -> Iterator[str]:
    return (address for call in calls for address in call.recipients)
