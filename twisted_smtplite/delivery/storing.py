"""What backends share that keep mail on a disk: threads to wait in, one commit for many, and what a client hears when the disk fails.

Knows how a message gets from the reactor to a thread and back, and how much of it is held in memory. Must not know how it is stored.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..interfaces import IMessage
from ..model import replies
from ..model.reply import Refused, Reply
from .base import AcceptingDelivery
from .durable import absolute
from .groupcommit import GroupCommit
from .threads import Threads

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import Outcome
    from ..model.envelope import Envelope

T = TypeVar("T")
M = TypeVar("M")
R = TypeVar("R")

_THREADS = 8
"""Threads that wait for the disk: more of them were slower."""
_HELD = 256 * 1024
"""Octets of a message that are held in memory before they go to its file."""
_REPORT_AGAIN = 3600.0
"""Seconds in which a cause of failure is logged once."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL = Reply(452, "4.3.1", "Insufficient system storage, try again later")

log = Logger(namespace="smtplite")


class Storage(Service, ABC, Generic[M, R]):
    """Stores messages in threads, all that end meanwhile in one lot.

    As a service it prepares its place when it starts, and ends its threads when it stops. In an application that does not start it these happen with
    the first message and when the reactor stops.

    Args:
        path: where mail is stored.
        reactor: the reactor.

    Attributes:
        path: the same, absolute.
        commits: the messages that have ended and wait to be stored.
        syncers: threads for the work of one lot, for `commit` to use.
    """

    syncers: Executor
    failures: tuple[type[Exception], ...] = (OSError,)
    """What storage raises when it fails. Anything else is a fault of the program."""

    def __init__(self, path: str, reactor: IReactorCore) -> None:
        self.path = absolute(path)
        self.clock = IReactorTime(reactor)
        self.commits: GroupCommit[M, R] = GroupCommit(self.clock, self.inThread, self.commit)
        self._reactor = reactor
        self._pool: Threads | None = None
        self._trigger: object = None
        self._reported: dict[object, float] = {}

    @abstractmethod
    def prepare(self) -> int:
        """In a thread: makes the place ready, and clears away what a crash has left. Returns how many files that was. May raise."""

    @abstractmethod
    def commit(self, messages: Sequence[M]) -> Sequence[R]:
        """In a thread, one at a time: makes these messages durable. A result for each."""

    def startService(self) -> None:
        """Starts to prepare the place. Failures are logged; messages are then refused for now, until it can be done."""
        super().startService()  # type: ignore[no-untyped-call]
        self._threads()

    def stopService(self) -> None:
        """Waits for what is being written, and ends the threads."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._pool is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._endThreads()

    def inThread(self, work: Callable[[], T]) -> Deferred[T]:
        """Runs `work` in the pool. Do not cancel this Deferred: what it stands for cannot be stopped."""
        return self._threads().run(work)

    def refusal(self, error: Exception) -> Reply:
        """What the client hears of `error`. The log hears of each cause once in a while, and not for each message."""
        cause = str(error)
        path = self.path
        if isinstance(error, OSError):
            cause, path = error.strerror or cause, error.filename or path
        now = self.clock.seconds()
        last = self._reported.get(cause)
        if last is None or now - last >= _REPORT_AGAIN:
            self._reported[cause] = now
            log.error("Mail cannot be stored in {path}: {cause}", path=path, cause=cause)
        return _FULL if self.isFull(error) else replies.LOCAL_ERROR

    def isFull(self, error: Exception) -> bool:
        """True when `error` says that there is no room."""
        return isinstance(error, OSError) and error.errno in _NO_ROOM

    def _threads(self) -> Threads:
        """The pool, started when it is needed first."""
        if self._pool is None:
            self._pool = Threads(IReactorFromThreads(self._reactor), _THREADS, "storing")
            self.syncers = ThreadPoolExecutor(_THREADS, "syncing")
            # After everything else: connections that are lost while the reactor stops still have files to take away.
            self._trigger = self._reactor.addSystemEventTrigger("after", "shutdown", self._endThreads)
            ensureDeferred(self._prepare())
        return self._pool

    def _endThreads(self) -> None:
        if self._pool is not None:
            # What follows from its last answers may still need it.
            self._pool.stop()
            self.commits.finish()
            self._pool = None
            self.syncers.shutdown()
            self.close()

    def close(self) -> None:
        """All threads have ended: lets go of what was open."""

    async def _prepare(self) -> None:
        try:
            stale = await self.inThread(self.prepare)
        except self.failures as error:
            # Each message will meet it again.
            self.refusal(error)
        else:
            if stale:
                log.info("Removed {count} stale files from {path}", count=stale, path=self.path)


class StoringDelivery(AcceptingDelivery, Storage[M, R]):
    """A delivery that stores messages, and does nothing else with them."""


@implementer(IMessage)
class StoredMessage(Generic[M, R]):
    """One message on its way to the disk. It holds 256 KiB of memory or a little more, whatever its size.

    At most one piece of work is in the threads at a time, and what it writes to belongs to it while it runs.

    Attributes:
        delivery: where it goes.
        envelope: its envelope.
        left: True when the client went away: it will send the message again.
    """

    def __init__(self, delivery: Storage[M, R], envelope: Envelope) -> None:
        self.delivery = delivery
        self.envelope = envelope
        self.left = False
        self._chunks: list[bytes] = []
        self._held = 0
        self._spilled = False
        self._working: Deferred[Any] | None = None

    # ---- For subclasses. These run in a thread.

    def spill(self, data: bytes) -> None:
        """Writes a part of a large message. A CRLF is never cut."""
        raise NotImplementedError

    def finishLarge(self, data: bytes) -> None:
        """Writes the last part of a message of which parts were spilled, and lets the disk have it: small messages are not to wait for that."""
        raise NotImplementedError

    def discard(self) -> None:
        """Takes away what was written and does not count. May be called again."""
        raise NotImplementedError

    # ---- And these in the reactor's.

    def keepSmall(self, data: bytes) -> None:
        """The whole message, of which nothing was spilled, for the commit to write."""
        raise NotImplementedError

    def outcome(self, result: R) -> Outcome:
        """What the result of the commit means for the client."""
        raise NotImplementedError

    # ----

    def dataReceived(self, chunk: bytes) -> Deferred[None] | None:
        """Holds the chunk. When much is held it goes to the disk, and the Deferred fires when it is there."""
        self._chunks.append(chunk)
        self._held += len(chunk)
        if self._held < _HELD:
            return None
        self._spilled = True
        data = self._take()
        return Deferred.fromCoroutine(self._write(lambda: self.spill(data)))

    async def eomReceived(self) -> Outcome:
        """Stores the message, together with others that end now."""
        data = self._take() + b"".join(self._chunks)
        self._chunks.clear()
        if self._spilled:
            await self._write(lambda: self.finishLarge(data))
        else:
            self.keepSmall(data)
        try:
            result = await self.delivery.commits.add(self)  # type: ignore[arg-type] # M is the class of self
        except CancelledError:
            # The commit has it now, and discards it if it has not begun.
            self.left = True
            raise
        except Exception:
            # A fault of the program. It may have written something.
            self.delivery.inThread(self.discard)
            raise
        return self.outcome(result)

    def connectionLost(self, reason: Exception) -> None:
        """Takes away what has been written, after what is being written."""
        self._chunks.clear()
        self._leave()

    def _take(self) -> bytes:
        """What is held, except for a CR at the end: its LF may be in the next chunk."""
        data = b"".join(self._chunks)
        self._chunks = [b"\r"] if data.endswith(b"\r") else []
        self._held = len(self._chunks)
        return data[: len(data) - self._held]

    async def _write(self, work: Callable[[], None]) -> None:
        """Runs `work` in a thread. After a failure or when the client has left nothing stays behind."""

        def finished(result: Any) -> Any:
            self._working = None
            return result

        # Cancelling must not reach the work's own Deferred: it tells when the thread has really finished.
        answer: Deferred[None] = Deferred()
        self._working = self.delivery.inThread(work).addBoth(finished)
        self._working.chainDeferred(answer)
        try:
            await answer
        except Exception as error:
            self._leave()
            if isinstance(error, self.delivery.failures):
                raise Refused(self.delivery.refusal(error)) from error
            raise

    def _leave(self) -> None:
        """Nobody waits for this message any more."""
        if self.left:
            return
        self.left = True
        if self._working is not None:
            self._working.addBoth(lambda result: self.delivery.inThread(self.discard))
        elif self._spilled:
            self.delivery.inThread(self.discard)
