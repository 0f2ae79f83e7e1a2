"""The chain of policies: asked in order before the delivery, and the first refusal counts.

Knows `ISessionPolicy`, who has failed, and how long one may think. Must not know a policy's reasons, nor the protocol: where there are policies the
server talks to a `ConsultedDelivery` in place of the delivery; where there are none, nothing of this is on its way. Policies that answer
plainly cost a call each and no Deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import CoroutineType
from typing import Any, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IContentPolicy, IContentReader, IMessage, IMessageDelivery, ISessionPolicy
from ..model.envelope import Envelope, Recipient, SessionInfo
from ..model.reply import Refused, Reply
from .passing import PassingMessage, later

_log = Logger(namespace="smtplite")

_QUIET = 3600.0
"""Seconds for which a failure that was logged is not logged again."""


class Question(NamedTuple):
    """What one policy is asked: who, and the call that asks."""

    policy: ISessionPolicy
    ask: Callable[..., Any]


class PolicyTimeout(Exception):
    """A policy did not answer in time."""


class _Forgotten(Exception):
    """Nobody wants to know any more."""


class Chain:
    """The policies of a server.

    Args:
        policies: in the order in which they are asked.
        clock: the reactor's.
        patience: seconds that one policy may take for one answer; 0: as long as the server waits for any answer.

    Raises:
        TypeError: one of them does not provide `ISessionPolicy`.
    """

    def __init__(self, policies: Iterable[object], clock: IReactorTime, patience: float) -> None:
        self.policies: tuple[ISessionPolicy, ...] = tuple(_policy(each) for each in policies)
        self._clock = clock
        self._patience = patience
        self._questions = {
            name: tuple(Question(policy, getattr(policy, name)) for policy in self.policies)
            for name in ("connect", "ehlo", "auth", "mail", "rcpt", "data")
        }
        self._failures: dict[tuple[object, ...], list[float]] = {}

    def ask(self, name: str, *arguments: object) -> Any:
        """Asks all policies a question of `ISessionPolicy`.

        Returns:
            None, or the first refusal; or a Deferred of these. It can be cancelled, and then fires with CancelledError.
        """
        return self.walk(name, self._questions[name], arguments)

    def walk(self, name: str, questions: Sequence[Question], arguments: Sequence[object] = ()) -> Any:
        """Asks these questions in order. Returns as `ask` does."""
        for index, (policy, ask) in enumerate(questions, 1):
            try:
                answer = ask(*arguments)
            except Exception:  # noqa: BLE001 - whatever a policy does wrong, the session goes on
                answer = self.failed(policy, name, Failure())  # type: ignore[no-untyped-call]
            if answer is None:
                continue
            if isinstance(answer, (Deferred, CoroutineType)):
                return Deferred.fromCoroutine(self._walkOn(name, policy, answer, questions[index:], arguments))
            verdict = self._verdict(policy, name, answer)
            if verdict is not None:
                return verdict
        return None

    async def _walkOn(
        self, name: str, policy: ISessionPolicy, pending: Any, questions: Sequence[Question], arguments: Sequence[object]
    ) -> Reply | None:
        """Waits for an answer, then asks the others."""
        try:
            answer = await self.bounded(pending)
        except _Forgotten:
            raise CancelledError from None
        except Exception:  # noqa: BLE001 - as above
            answer = self.failed(policy, name, Failure())  # type: ignore[no-untyped-call]
        verdict = self._verdict(policy, name, answer)
        if verdict is None:
            verdict = self.walk(name, questions, arguments)
            if isinstance(verdict, Deferred):
                verdict = await verdict
        return verdict

    def _verdict(self, policy: ISessionPolicy, name: str, answer: object) -> Reply | None:
        """The answer, if it is one: None or a refusal."""
        if answer is None or (isinstance(answer, Reply) and not answer.positive):
            return answer
        return self.failed(policy, name, Failure(TypeError(f"the answer {answer!r}: see ISessionPolicy")))  # type: ignore[no-untyped-call]

    def bounded(self, pending: Any) -> Deferred[Any]:
        """The same answer, but not later than patience lasts: then it fails with PolicyTimeout, whatever becomes of the question."""
        answer: Deferred[Any] = Deferred.fromCoroutine(pending) if isinstance(pending, CoroutineType) else pending

        def forget(_: Deferred[Any]) -> None:
            settle(Failure(_Forgotten()))  # type: ignore[no-untyped-call]
            answer.cancel()

        def runOut() -> None:
            settle(Failure(PolicyTimeout(f"no answer within {self._patience} seconds")))  # type: ignore[no-untyped-call]
            answer.cancel()

        def settle(result: Any) -> None:
            if not bounded.called:
                if timer is not None and timer.active():
                    timer.cancel()
                bounded.callback(result)

        bounded: Deferred[Any] = Deferred(forget)
        timer = self._clock.callLater(self._patience, runOut) if self._patience else None
        answer.addBoth(settle)
        return bounded

    def failed(self, policy: ISessionPolicy, name: str, failure: Failure) -> Reply | None:
        """What follows when a policy raises: its refusal, or, once it is logged, what it wants to be heard in that case."""
        if isinstance(failure.value, Refused):
            return failure.value.reply
        cause = (id(policy), name, failure.type)
        now = self._clock.seconds()
        # When it was logged, and how often it happened since.
        seen = self._failures.setdefault(cause, [now - _QUIET, 0])
        if now - seen[0] < _QUIET:
            seen[1] += 1
        else:
            what: dict[str, Any] = {"policy": type(policy).__name__, "question": name, "repeated": int(seen[1])}
            seen[:] = now, 0
            if isinstance(failure.value, PolicyTimeout):
                _log.warn("Policy {policy} did not answer {question} in time; {repeated} times more since it was last said", **what)
            else:
                _log.failure("Policy {policy} failed at {question}; {repeated} times more since it was last said", failure, **what)
        return policy.onFailure


def _policy(candidate: object) -> ISessionPolicy:
    policy: ISessionPolicy | None = ISessionPolicy(candidate, None)
    if policy is None:
        raise TypeError(f"{candidate!r} does not provide ISessionPolicy")
    return policy


def _then(verdict: Any, go: Callable[..., Any], *arguments: object) -> Any:
    """What `go` says, if the verdict, now or later, is not a refusal."""
    if verdict is None:
        return go(*arguments)
    if isinstance(verdict, Deferred):
        return verdict.addCallback(lambda refusal: later(go(*arguments)) if refusal is None else refusal)
    return verdict


@implementer(IMessageDelivery)
class ConsultedDelivery:
    """A delivery that is asked what the policies let pass."""

    def __init__(self, chain: Chain, delivery: IMessageDelivery) -> None:
        self._chain = chain
        self._delivery = delivery
        self._readers = tuple(policy for policy in chain.policies if IContentPolicy.providedBy(policy))

    def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Any:
        """The policies, then the delivery."""
        return _then(self._chain.ask("mail", session, envelope), self._delivery.validateFrom, session, envelope)

    def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Any:
        """The policies, then the delivery."""
        return _then(self._chain.ask("rcpt", session, envelope, recipient), self._delivery.validateTo, session, envelope, recipient)

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> Any:
        """The policies, then the delivery; and a message that the policies see the end of."""
        return _then(self._chain.ask("data", session, envelope), self._start, session, envelope)

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        """None: the message has it, with the fields that policies added above it."""
        return None

    def _start(self, session: SessionInfo, envelope: Envelope) -> Any:
        message = later(self._delivery.startMessage(session, envelope))
        if isinstance(message, Deferred):
            return message.addCallback(self._started, session, envelope)
        return self._started(message, session, envelope)

    def _started(self, message: Any, session: SessionInfo, envelope: Envelope) -> Any:
        if message is None or isinstance(message, (str, Reply)):
            return message
        consulted = ConsultedMessage(self._chain, message, session, envelope)
        try:
            consulted.begin(self._readers, self._delivery.receivedHeader(session, envelope) or b"")
        except Exception as error:
            consulted.connectionLost(error)
            raise
        return consulted


class _Reading:
    """One policy that reads a message along."""

    __slots__ = ("_reader", "over", "policy")

    def __init__(self, policy: ISessionPolicy, reader: IContentReader) -> None:
        self.policy = policy
        self._reader = reader
        self.over = False

    def dataReceived(self, chunk: bytes) -> Any:
        return None if self.over else self._reader.dataReceived(chunk)

    def endOfData(self) -> Any:
        if self.over:
            return None
        self.over = True
        return self._reader.endOfData()

    def connectionLost(self, reason: Exception) -> None:
        if not self.over:
            self.over = True
            self._reader.connectionLost(reason)


@implementer(IMessage)
class ConsultedMessage(PassingMessage):
    """A message that policies read along, and may refuse at its end, before the delivery hears of the end."""

    __slots__ = ("_chain", "_envelope", "_readings", "_session", "_top")

    def __init__(self, chain: Chain, message: IMessage, session: SessionInfo, envelope: Envelope) -> None:
        super().__init__(message)
        self._chain = chain
        self._session = session
        self._envelope = envelope
        self._readings: list[_Reading] = []
        # Octets that go before the text.
        self._top = b""

    def begin(self, policies: Iterable[IContentPolicy], trace: bytes) -> None:
        """Finds who reads along.

        Args:
            policies: those that may want to.
            trace: the delivery's trace header.

        Raises:
            Refused: a policy refuses, or failed and wants that to be heard.
        """
        self._top = self._envelope.topFields + trace
        for policy in policies:
            reader = self._readerOf(policy)
            if reader is not None:
                self._readings.append(_Reading(policy, reader))

    def _readerOf(self, policy: IContentPolicy) -> IContentReader | None:
        try:
            return policy.startMessage(self._session, self._envelope)
        except Exception:  # noqa: BLE001 - whatever a policy does wrong, the session goes on
            self._readingFailed(policy, "startMessage", Failure())  # type: ignore[no-untyped-call]
            return None

    def dataReceived(self, chunk: bytes) -> Any:
        """Shows the chunk to who reads along, then hands it on."""
        return self._show(chunk, 0)

    def _show(self, chunk: bytes, start: int) -> Any:
        for index in range(start, len(self._readings)):
            reading = self._readings[index]
            try:
                answer = reading.dataReceived(chunk)
            except Exception:  # noqa: BLE001 - as above
                self._drop(reading, Failure())  # type: ignore[no-untyped-call]
            else:
                if isinstance(answer, Deferred):
                    return Deferred.fromCoroutine(self._showOn(chunk, index, answer))
        top, self._top = self._top, b""
        return self.give(top, chunk)

    async def _showOn(self, chunk: bytes, index: int, pending: Deferred[None]) -> Any:
        """Waits for one who reads along, then shows the chunk to the others."""
        try:
            await self._chain.bounded(pending)
        except _Forgotten:
            raise CancelledError from None
        except Exception:  # noqa: BLE001 - as above
            self._drop(self._readings[index], Failure())  # type: ignore[no-untyped-call]
        taken = later(self._show(chunk, index + 1))
        return await taken if isinstance(taken, Deferred) else taken

    def _drop(self, reading: _Reading, failure: Failure) -> None:
        """A reader has failed: it reads no more."""
        try:
            self._readingFailed(reading.policy, "dataReceived", failure)
        finally:
            self._lose(reading, failure.value if isinstance(failure.value, Exception) else ConnectionLost())

    def _readingFailed(self, policy: ISessionPolicy, name: str, failure: Failure) -> None:
        reply = self._chain.failed(policy, name, failure)
        if reply is not None:
            raise Refused(reply)

    def eomReceived(self) -> Any:
        """Asks the policies, then tells the delivery."""
        questions = []
        for policy in self._chain.policies:
            questions += [Question(policy, reading.endOfData) for reading in self._readings if reading.policy is policy]
            questions.append(Question(policy, lambda policy=policy: policy.endOfData(self._session, self._envelope)))
        verdict = self._chain.walk("endOfData", questions)
        if isinstance(verdict, Deferred):
            return verdict.addCallbacks(self._judged, self.lost)
        return self._judged(verdict)

    def _judged(self, refusal: Reply | None) -> Any:
        return self.complete(self._top) if refusal is None else self.refuse(refusal)

    def connectionLost(self, reason: Exception) -> None:
        """Tells all who read along, and the delivery."""
        for reading in self._readings:
            self._lose(reading, reason)
        self._message.connectionLost(reason)

    def _lose(self, reading: _Reading, reason: Exception) -> None:
        try:
            reading.connectionLost(reason)
        except Exception:  # noqa: BLE001 - as above
            self._chain.failed(reading.policy, "connectionLost", Failure())  # type: ignore[no-untyped-call]
