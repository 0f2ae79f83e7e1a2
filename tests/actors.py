"""Who plays in the dialogues: a strict transport, a delivery that does as it is told, an observer that counts.

They hold the server to `twisted_smtplite.interfaces`: what it must not do raises where it does it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tlsclient import TLSClient
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_smtplite.interfaces import IMessage, IMessageDelivery, ISessionObserver
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.model.reply import Reply

# Under TLS at most one read of the socket arrives behind pauseProducing (its records are all handed over).
_LEAK = 65_536


class Breakage(Exception):
    """What a scripted delivery raises when it is told to break: the one failure that may be logged."""


@dataclass
class Wrong:
    """An answer that the contract does not know: logged as an error, once."""

    answer: object


@implementer(ITCPTransport)
class StrictTransport(StringTransport):
    """A TCP transport in memory that forgives less than the real one.

    What the client sends waits here, as in a kernel, while the server has paused. With `leaky`, one read comes through a pause or a close
    all the same, as it does under TLS.

    Attributes:
        client: the client's side of TLS, where it has one.
        written: all that the server said, in the clear or to `client`. What its TLS says to somebody who does not speak it is not in it.
    """

    def __init__(self, peer: str = "192.0.2.1", *, leaky: bool = False) -> None:
        super().__init__(IPv4Address("TCP", "192.0.2.25", 25), IPv4Address("TCP", peer, 49152), lenient=True)
        self.protocol: Protocol | None = None
        self.inbox: deque[bytes] = deque()
        self.halfClosed = False
        self.writes = 0
        self.written = bytearray()
        self.client: TLSClient | None = None
        self._leaky = leaky
        self._leak = 0

    def write(self, data: bytes) -> None:
        if self.encrypted and (self.closed or not self.connected):
            # An alert that comes too late: Twisted's layer does not look whether anybody is left.
            return
        assert self.connected and not self.closed, f"written after the connection was given up: {data!r}"
        assert type(data) is bytes and data, f"not a write: {data!r}"
        self.writes += 1
        if self.client is not None:
            self.written += self.client.hear(data)
        elif not self.encrypted:
            self.written += data

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        # A TLS transport waits for its streaming producer before it closes; a server that leaves one registered hangs.
        # Where TLS fails it is Twisted's layer that closes.
        assert self.producer is None or self.encrypted, "loseConnection with a producer still registered: under TLS this never closes"
        super().loseConnection()

    def loseWriteConnection(self) -> None:
        assert self.producer is None, "loseWriteConnection with a producer still registered: it waits for it"
        self.halfClosed = True

    def abortConnection(self) -> None:
        self.disconnected = self.disconnecting = True

    @property
    def encrypted(self) -> bool:
        """True once the server speaks TLS here."""
        return isinstance(self.protocol, TLSMemoryBIOProtocol)

    @property
    def closed(self) -> bool:
        """True once the server will say nothing more."""
        return self.disconnecting or self.halfClosed

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def getTcpNoDelay(self) -> bool:
        return True

    def getTcpKeepAlive(self) -> bool:
        return False

    def send(self, data: bytes) -> None:
        """The client's octets reach this host; the server gets them when it reads."""
        if data:
            self.inbox.append(data)
        self.deliver()

    def deliver(self) -> bool:
        """Hands over what the server is willing to read. True if that was something."""
        moved = False
        while self.inbox and self.connected and self._reads(len(self.inbox[0])):
            moved = True
            assert self.protocol is not None
            self.protocol.dataReceived(self.inbox.popleft())
        return moved

    def _reads(self, size: int) -> bool:
        if self.producerState == "producing" and not self.disconnecting:
            self._leak = _LEAK if self._leaky else 0
            return True
        self._leak -= size
        return self._leak >= 0 and not self.disconnected

    def hangUp(self, reason: Exception | None = None) -> None:
        """The connection is gone, by either side's doing."""
        if self.connected:
            self.connected = False
            assert self.protocol is not None
            self.protocol.connectionLost(Failure(reason or ConnectionDone()))


@dataclass
class RecordedMessage:
    """One IMessage as the server used it."""

    envelope: Envelope
    chunks: list[bytes] = field(default_factory=list)
    completed: int = 0
    lost: list[Exception] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def over(self) -> int:
        """How many endings it had: exactly one is right."""
        return self.completed + len(self.lost)


Verdict = Callable[[], Any]
"""What happens when a question is asked: returns the answer (or a Deferred or coroutine of it), or raises."""


@implementer(IMessage)
class ScriptedMessage:
    """Records a message; its end is a question to the delivery, and each chunk may be slow."""

    def __init__(self, delivery: ScriptedDelivery, record: RecordedMessage, failure: Exception | None) -> None:
        self._delivery = delivery
        self._record = record
        self._failure = failure

    def dataReceived(self, chunk: bytes) -> Any:
        assert not self._record.over, "dataReceived after the end of the message"
        assert type(chunk) is bytes and 1 <= len(chunk) <= 65_664, f"a chunk of {len(chunk)} octets"
        assert self._delivery.idle, "dataReceived while a question or a chunk is still open"
        if self._failure is not None:
            if isinstance(self._failure, Breakage):
                self._delivery.breakages += 1
            raise self._failure
        self._record.chunks.append(chunk)
        return self._delivery.pace(None, chunk=True)

    def eomReceived(self) -> Any:
        self._record.completed += 1
        return self._delivery.ask("eomReceived")

    def connectionLost(self, reason: Exception) -> None:
        assert isinstance(reason, Exception)
        self._record.lost.append(reason)


@implementer(IMessageDelivery)
class ScriptedDelivery:
    """Answers each question with the next verdict of `script`, and yes when there is none.

    Attributes:
        script: verdicts to come; a message that fails while it is read is the verdict on startMessage.
        messages: every message that was begun, in order.
        breakages: how often it broke or gave a wrong answer on demand, which is how many failures must have been logged.
    """

    def __init__(self, clock: Clock, *, slow: bool = False, rng: Random | None = None) -> None:
        self.script: deque[Verdict] = deque()
        self.messages: list[RecordedMessage] = []
        self.envelopes: list[Envelope] = []
        self.session: SessionInfo | None = None
        self.questions: list[str] = []
        self.breakages = 0
        self.pending: list[Deferred[Any]] = []
        self._clock = clock
        self._slow = slow
        self._rng = rng or Random(0)
        self._turn = 0

    @property
    def idle(self) -> bool:
        """True while no question is open."""
        return not any(not waiting.called for waiting in self.pending)

    def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Any:
        assert envelope.recipients == []
        return self.ask("validateFrom")

    def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Any:
        return self.ask("validateTo")

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> Any:
        assert envelope.recipients, "startMessage without a recipient"
        self.session = session
        self.envelopes.append(envelope)

        def started(verdict: Any) -> Any:
            failure = verdict if isinstance(verdict, Exception) else None
            if verdict is not None and failure is None:
                # Only a refusal is an answer to DATA.
                self.breakages += isinstance(verdict, Reply) and verdict.positive
                return verdict
            record = RecordedMessage(envelope)
            self.messages.append(record)
            return ScriptedMessage(self, record, failure)

        def begin() -> Any:
            verdict = self._next()
            return verdict.addCallback(started) if isinstance(verdict, Deferred) else started(verdict)

        return self._ask("startMessage", begin)

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        return None

    def verify(self, session: SessionInfo, text: str) -> Any:
        return self.ask("verify")

    def expand(self, session: SessionInfo, text: str) -> Any:
        return self.ask("expand")

    def ask(self, question: str) -> Any:
        return self._ask(question, self._next)

    def _ask(self, question: str, answer: Verdict) -> Any:
        assert self.idle, f"{question} asked while another question is open"
        self.questions.append(question)
        return self.pace(answer)

    def _next(self) -> Any:
        if not self.script:
            return None
        try:
            answer = self.script.popleft()()
        except Breakage:
            self.breakages += 1
            raise
        if isinstance(answer, Wrong):
            self.breakages += 1
            return answer.answer
        return answer

    def pace(self, answer: Verdict | None, *, chunk: bool = False) -> Any:
        """The answer at once, or when slow by a Deferred and by a coroutine in turn, after a few turns of the reactor."""
        if not self._slow:
            return answer() if answer else None
        self._turn += 1
        later = self._turns(self._rng.randrange(3))
        if self._turn % 2 or chunk:
            return later.addCallback(lambda _: answer() if answer else None)
        return self._await(later, answer)

    async def _await(self, later: Deferred[None], answer: Verdict | None) -> Any:
        await later
        given = answer() if answer else None
        return await given if hasattr(given, "__await__") else given

    def _turns(self, count: int) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self.pending = [each for each in self.pending if not each.called]
        self.pending.append(waiting)

        def turn(left: int) -> None:
            if waiting.called:
                return
            if left:
                self._clock.callLater(0, turn, left - 1)
            else:
                waiting.callback(None)

        self._clock.callLater(0, turn, count)
        return waiting

    def waits(self, seconds: float | None) -> Deferred[None]:
        """A Deferred that fires after so many seconds, or never; the server must cancel it when it gives up."""
        waiting: Deferred[None] = Deferred()
        self.pending.append(waiting)
        if seconds is not None:
            self._clock.callLater(seconds, lambda: waiting.called or waiting.callback(None))
        return waiting


@implementer(ISessionObserver)
class StrictObserver:
    """Holds the server to the order of its own reports: one start, one end, and the messages between."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.ended: list[tuple[str, str, int]] = []
        self.refused: list[Reply] = []
        self.finished: list[tuple[Reply, int]] = []
        self.taken: list[str] = []
        self.commandsRefused: list[tuple[str, Reply]] = []

    def sessionStarted(self, session: SessionInfo) -> None:
        assert session.id not in self.open, "two sessions of one name"
        self.open[session.id] = 0

    def sessionRefused(self, peer: str, reply: Reply) -> None:
        assert not reply.positive
        self.refused.append(reply)

    def messageFinished(self, session: SessionInfo, envelope: Envelope, size: int, reply: Reply, outcomes: Sequence[Reply]) -> None:
        assert len(outcomes) == len(envelope.recipients)
        self.open[session.id] += reply.positive
        self.finished.append((reply, size))
        if reply.positive:
            self.taken.append(envelope.id)

    def commandRefused(self, session: SessionInfo, verb: str, argument: object, reply: Reply) -> None:
        assert session.id in self.open and not reply.positive
        self.commandsRefused.append((verb, reply))

    def sessionEnded(self, session: SessionInfo, cause: str, messages: int) -> None:
        assert self.open.pop(session.id) == messages, "messages miscounted"
        assert cause, "a session ended without a cause"
        self.ended.append((session.id, cause, messages))


def refusal(text: str) -> Reply:
    """``550 5.1.1 No such user`` as a Reply."""
    code, enhanced, words = (*text.split(" ", 2), "")[:3]
    return Reply(int(code), enhanced, words)


def raises(error: Callable[[], Exception]) -> Verdict:
    """A verdict that raises a new one of these."""

    def verdict() -> Any:
        raise error()

    return verdict
