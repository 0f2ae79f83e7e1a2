"""Sends what stands in the queue: takes what is due, lets it go out, and has recorded what became of it.

Knows turns, outcomes and their order in time. Must not know where messages are kept (`entries.Store`), how they are sent (`Sender`), or what a
report looks like.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from ..model.envelope import Envelope, Recipient
from ..model.results import Delivery
from . import events
from .destinations import Destinations
from .entries import AT_ONCE, Doubt, Progress, QueuedMessage, Room, Store
from .hearing import byDoubt, hear
from .limits import RunnerLimits
from .recording import Recorder, queueIds
from .schedule import Schedule, isLate, passedOn
from .verdict import Judge
from .way import TransactionWay
from .work import Attempt, Transaction, Work

if TYPE_CHECKING:
    from ..client.content import Content

_SOONEST = 0.1
"""Seconds until the store is asked again that has said of something that it is due, and did not give it."""
_ROOM_AGAIN = 1.0
"""Seconds after which it is looked again what takes so long, while the memory is full."""


class Sender(Protocol):
    """Who sends a message: `client`'s pool to one server, or its sender to the servers of each domain."""

    def send(self, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        """Sends a message to the recipients of `envelope`, all of one destination.

        Fires with an outcome for each, in their order; fails with an `SMTPClientError` that holds for all. To cancel it is to break off.
        """


def byDomain(recipient: Recipient) -> str:
    """The destination where each domain has servers of its own."""
    return recipient.address.domain.lower()


class Runner:
    """Empties a queue.

    Args:
        store: the queue.
        sender: sends.
        clock: the reactor; its seconds are those since the epoch.
        hostname: the name of this server, for reports.
        destination: where a recipient's mail goes; for a server that gets all mail, always the same.
        schedule: when to try again.
        limits: how much at a time.
        hurried: called when somebody wants what is left alone to be tried at once.
        draw: gives random numbers from 0 to 1.
        newId: gives names to reports, not used before on this host.
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        clock: IReactorTime,
        *,
        hostname: str,
        destination: Callable[[Recipient], str] = byDomain,
        schedule: Schedule | None = None,
        limits: RunnerLimits | None = None,
        hurried: Callable[[], None] = lambda: None,
        draw: Callable[[], float] = random.random,
        newId: Callable[[], str] | None = None,
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        self._destination = destination
        self._judge = Judge(schedule or Schedule())
        self._limits = limits = limits or RunnerLimits()
        self._hurried = hurried
        self._draw = draw
        self._destinations = Destinations(limits, draw)
        self._recorder = Recorder(store, clock, hostname, newId or queueIds(), limits, self._recorded, self._settle)
        self._active: dict[str, Work] = {}
        # Recipients that were taken.
        self._taken = 0
        self._sending: dict[Transaction, Deferred[Delivery]] = {}
        self._running = self._stopping = self._asking = self._askAgain = self._more = self._dispatching = False
        self._timer: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._stopped: list[Deferred[None]] = []
        self._putBack = 0
        # When there was nothing that could make room.
        self._noRoom = 0.0

    # ---- Start and stop.

    def start(self) -> None:
        """Begins to send. Called once."""
        self._running = True
        self._store.onChange(self._look)
        self._look()

    def stop(self) -> Deferred[None]:
        """Begins nothing new, and waits for what is in flight, `RunnerLimits.drainTime` at most. Fires when all that is known is recorded."""
        if not self._running:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        if not self._stopping:
            self._stopping = True
            self._sleep(None)
            self._deadline = self._clock.callLater(self._limits.drainTime, self._cutOff)
            for transaction in self._destinations.clear():
                self._release(transaction)
            for work in list(self._active.values()):
                self._settle(work)
            self._lookForEnd()
        return stopped

    def _cutOff(self) -> None:
        self._deadline = None
        for sending in list(self._sending.values()):
            sending.cancel()
        self._recorder.giveUp()

    def _lookForEnd(self) -> None:
        if not self._stopping or self._active or self._asking or not self._running:
            return
        self._running = False
        if self._deadline is not None:
            self._deadline.cancel()
        events.stopped(self._putBack)
        for stopped in self._stopped:
            stopped.callback(None)

    # ---- What is due.

    def _look(self) -> None:
        """Something may be due, or there may be room."""
        if self._stopping or not self._running:
            return
        if self._asking:
            self._askAgain = True
            return
        if self._more and self._half:
            self._makeRoom()
            self._wakeBy(self._clock.seconds() + _ROOM_AGAIN)
            return
        self._asking = True
        Deferred.fromCoroutine(self._ask()).addErrback(events.unexpected)

    async def _ask(self) -> None:
        wait: float | None = None
        try:
            wait = await self._fetch()
        except Exception:  # noqa: BLE001 - the store fails as it likes, and is asked again
            wait = self._limits.retryStore
            # Whatever there is to ask for, not before that.
            self._askAgain = self._more = False
            events.storeFailed(wait, Failure())  # type: ignore[no-untyped-call]
        self._asking = False
        if self._stopping:
            self._lookForEnd()
            return
        self._sleep(wait)
        if self._askAgain or self._more:
            self._askAgain = False
            self._look()

    async def _fetch(self) -> float | None:
        """Takes what is due, as far as there is room. Returns the seconds until more is, or None when that will be told."""
        limits = self._limits
        room = Room(limits.window - len(self._active), limits.windowRecipients - self._taken, limits.perMessage)
        self._askAgain = False
        hasRoom = room.messages > 0 and room.recipients > 0
        taken = await self._store.due(self._clock.seconds(), room) if hasRoom else []
        self._more = len(taken) >= room.messages or sum(len(message.progress) for message in taken) >= room.recipients
        for message in taken:
            self._admit(message)
        self._dispatch()
        if self._more or self._stopping:
            return None
        following = await self._store.nextDue()
        return None if following is None else max(_SOONEST, following - self._clock.seconds())

    def _sleep(self, seconds: float | None) -> None:
        """Sets the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None or self._stopping else self._clock.callLater(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._look()

    @property
    def _half(self) -> bool:
        """True while half of the memory is in use, or more."""
        return len(self._active) > self._limits.window // 2 or self._taken > self._limits.windowRecipients // 2

    def _makeRoom(self) -> None:
        """The memory is full, and more is due: what waits behind many others goes back, so that it does not hold up who has none before him."""
        now = self._clock.seconds()
        if self._destinations.inFlight >= self._limits.inFlight or abs(now - self._noRoom) < _ROOM_AGAIN:
            return
        messages, recipients = len(self._active) - self._limits.window // 2, self._taken - self._limits.windowRecipients // 2
        crowd = self._destinations.crowd(messages, recipients, now)
        if not crowd:
            # To look costs time, too.
            self._noRoom = now
        for transaction in crowd:
            until = self._destinations[transaction.destination].place(now)
            for progress in transaction.progress:
                self._judge.putOff(transaction.work.message, progress, until, now)
            self._changed(transaction)

    # ---- From a message to transactions.

    def _admit(self, message: QueuedMessage) -> None:
        """Divides a message into transactions."""
        if self._stopping:
            self._store.putBack(message, message.progress)
            return
        # Others of its recipients may be under way.
        work = self._active.get(message.id)
        if work is None:
            work = self._active[message.id] = Work(message)
        work.more = message.more
        work.taken += len(message.progress)
        self._taken += len(message.progress)
        now = self._clock.seconds()
        groups: dict[str, list[Progress]] = {}
        for progress in message.progress:
            groups.setdefault(self._destination(progress.recipient), []).append(progress)
        most = self._limits.recipients
        transactions = [Transaction(work, name, those[at : at + most]) for name, those in groups.items() for at in range(0, len(those), most)]
        work.open += len(transactions)
        for transaction in transactions:
            destination = self._destinations[transaction.destination]
            if any(progress.nextAttempt <= AT_ONCE for progress in transaction.progress):
                destination.reopen(now)
                self._hurried()
            if isLate(message, now):
                self._tooLate(transaction)
            elif destination.closed(now):
                self._suspend(transaction)
            else:
                self._destinations.add(transaction)
        self._settle(work)

    def _suspend(self, transaction: Transaction) -> None:
        """The destination of a transaction that waits is closed: its recipients are put off."""
        destination = self._destinations[transaction.destination]
        assert destination.trouble is not None, "a closed destination has a reason"
        message, now = transaction.work.message, self._clock.seconds()
        for progress in transaction.progress:
            until = destination.suspendedUntil(self._draw())
            notice = self._judge.suspended(message, progress, destination.trouble, destination.host, until, now)
            transaction.work.notices += [notice] if notice else []
        events.attempted(message, transaction.progress, now)
        self._changed(transaction)

    def _changed(self, transaction: Transaction) -> None:
        """A transaction is over, and something is known of all its recipients."""
        transaction.work.changed += transaction.progress
        self._close(transaction)

    def _release(self, transaction: Transaction) -> None:
        """A transaction has come to nothing: its recipients are as they were."""
        self._putBackFrom(transaction)
        self._close(transaction)

    def _putBackFrom(self, transaction: Transaction, but: Sequence[Progress] = ()) -> None:
        """Lets go of recipients of a transaction of whom nothing is known: of all, but for those in `but`."""
        those = [progress for progress in transaction.progress if all(progress is not known for known in but)]
        work = transaction.work
        work.putBack = True
        self._store.putBack(work.message, those)
        self._letGo(work, len(those))
        self._wakeBy(0.0)

    def _close(self, transaction: Transaction) -> None:
        """A transaction is over, one way or another."""
        transaction.work.open -= 1
        self._settle(transaction.work)

    def _settle(self, work: Work) -> None:
        """Something has happened to a message: judges, records, and lets go of it, as far as it is time for that."""
        if work.failures and (not work.open or self._stopping):
            self._judgeFailures(work)
        if work.changed and not work.recording:
            self._recorder.record(work)
        # What was recorded at once has come by here already.
        if work.idle and self._active.get(work.message.id) is work:
            del self._active[work.message.id]
            self._putBack += work.putBack
            if self._more:
                self._look()
            self._lookForEnd()

    def _recorded(self, work: Work, those: Sequence[Progress]) -> None:
        """The store has let go of some recipients."""
        waiting = [progress.nextAttempt for progress in those if not progress.state.final]
        if waiting:
            self._wakeBy(min(waiting))
        self._letGo(work, len(those))

    def _letGo(self, work: Work, count: int) -> None:
        """So many recipients of a message are no longer taken."""
        half = self._limits.perMessage // 2
        # Others may have fallen due while there was no room for them.
        more = work.more or work.taken > half
        work.taken -= count
        self._taken -= count
        if more and work.taken <= half:
            work.more = False
            self._look()

    def _wakeBy(self, time: float) -> None:
        """Sees to it that the timer goes off at `time`, or before."""
        if self._asking:
            # Then it is set by what the store says, who may not know of this yet.
            self._askAgain = True
            return
        now = self._clock.seconds()
        wait = max(_SOONEST, time - now)
        if self._timer is None or now + wait < self._timer.getTime():
            self._sleep(wait)

    # ---- From a transaction to outcomes.

    def _dispatch(self) -> None:
        """Begins what may begin. A sender may answer at once: what that makes room for is begun here too."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while not self._stopping and (transaction := self._destinations.next(self._clock.seconds())) is not None:
                self._begin(transaction)
        finally:
            self._dispatching = False

    def _begin(self, transaction: Transaction) -> None:
        if isLate(transaction.work.message, transaction.began):
            self._destinations.released(transaction)
            self._tooLate(transaction)
        elif not self._store.maySend(transaction.work.message, transaction.progress):
            # Somebody has held it, or taken somebody out, while it waited for its turn.
            self._destinations.released(transaction)
            self._release(transaction)
        else:
            self._sending[transaction] = sending = maybeDeferred(self._send, transaction, transaction.began)
            sending.addBoth(self._answered, transaction).addErrback(events.unexpected)

    def _send(self, transaction: Transaction, now: float) -> Deferred[Delivery]:
        message = transaction.work.message
        envelope = passedOn(message, [progress.recipient for progress in transaction.progress], now)
        return self._sender.send(envelope, self._store.content(message, TransactionWay(self._store, transaction)))

    def _tooLate(self, transaction: Transaction) -> None:
        """The time of a message has run out."""
        message, now = transaction.work.message, self._clock.seconds()
        for progress in transaction.progress:
            notice = self._judge.tooLate(message, progress, now)
            transaction.work.notices += [notice] if notice else []
        events.attempted(message, transaction.progress, now)
        self._changed(transaction)

    def _answered(self, result: Delivery | Failure, transaction: Transaction) -> None:
        self._sending.pop(transaction, None)
        work = transaction.work
        if self._stopping and isinstance(result, Failure) and isinstance(result.value, CancelledError):
            self._destinations.released(transaction)
            self._interrupted(transaction)
            return
        now = self._clock.seconds()
        attempts, trouble, host = hear(result, transaction, now)
        if transaction.offered:
            self._store.notTaken(work.message, [attempt.progress for attempt in attempts if not attempt.mayHave])
        if transaction.withdrawn:
            # But for those who had it before: a message may go out in parts.
            attempts = [attempt for attempt in attempts if attempt.mayHave]
            self._putBackFrom(transaction, [attempt.progress for attempt in attempts])
        suspended = self._destinations.ended(transaction, now, trouble, host)
        # What was sent is judged at once: each moment in which it is not recorded is one in which it could be sent twice. The rest can wait.
        sent = [attempt for attempt in attempts if attempt.outcome.accepted]
        self._judgeAll(work, sent)
        work.failures += [attempt for attempt in attempts if not attempt.outcome.accepted]
        if work.failures and work.open > 1 and work.gathering is None:
            work.gathering = self._clock.callLater(self._limits.gatherTime, self._gathered, work)
        self._close(transaction)
        for waiting in suspended:
            self._suspend(waiting)
        self._dispatch()

    def _interrupted(self, transaction: Transaction) -> None:
        """A transaction was broken off, because the runner has to end."""
        if not transaction.begun:
            self._release(transaction)
            return
        events.interrupted(transaction.work.message, transaction.progress)
        for progress in transaction.progress:
            progress.doubt = progress.doubt or Doubt.STOPPED
        self._changed(transaction)

    def _gathered(self, work: Work) -> None:
        work.gathering = None
        self._judgeFailures(work)
        self._settle(work)

    def _judgeFailures(self, work: Work) -> None:
        if work.gathering is not None:
            work.gathering.cancel()
            work.gathering = None
        failures, work.failures = work.failures, []
        self._judgeAll(work, failures)

    def _judgeAll(self, work: Work, attempts: Sequence[Attempt]) -> None:
        for again, those in byDoubt(attempts).items():
            for progress, outcome, host, extensions, time in those:
                notice = self._judge.attempted(work.message, progress, outcome, host, extensions, time, self._draw())
                work.notices += [notice] if notice else []
            events.attempted(work.message, [attempt.progress for attempt in those], self._clock.seconds(), again)
        work.changed += [attempt.progress for attempt in attempts]
