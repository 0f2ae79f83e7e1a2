"""The supervisor of several worker processes: it holds the listening sockets and accepts nothing.

Knows when workers start, are replaced and end. Must not know what a worker does with a connection.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.logger import Logger

from .ending import endOnce
from .logged import LoggedService
from .service import addressText
from .workers import Worker

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .log import EventLines
    from .order import Order
    from .sockets import HeldSocket

STEADY = 60.0
"""Seconds after which a worker that ends has not ended early."""

LONGEST_PAUSE = 60.0
"""Seconds, at most, until a worker that ended is started again."""

_log = Logger(namespace="smtplite")


class _Place:
    """The place of one worker, whichever process fills it.

    Attributes:
        number: of the worker.
        worker: who fills it, or None.
        failures: workers that ended early, one after the other.
        restart: the start of the next one, if it waits.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker | None = None
        self.failures = 0
        self.restart: IDelayedCall | None = None

    def rest(self) -> None:
        """No restart waits any more."""
        if self.restart is not None and self.restart.active():
            self.restart.cancel()
        self.restart = None

    def pause(self, lived: float) -> float:
        """Seconds until a worker that ended after `lived` seconds is replaced: none at first, then more each time, so that a fault that
        stays does not keep the machine busy.
        """
        self.failures = 0 if lived >= STEADY else self.failures + 1
        return 0.0 if self.failures < 2 else min(LONGEST_PAUSE, 2.0 ** (self.failures - 2))


class Supervisor(LoggedService):
    """Runs workers, and replaces those that end. SIGHUP replaces all of them, one after the other, by new ones that read everything anew.

    Args:
        sockets: what workers accept from; `privilegedStartService` expects them to be open.
        order: what each worker shall be, but for its number.
        workers: how many.
        drainTime: seconds, see `Limits.drainTime`.
        timeout: see `Worker`.
        lines: where the log of all goes.
        reactor: the reactor.
    """

    def __init__(
        self,
        sockets: Sequence[HeldSocket],
        order: Order,
        workers: int,
        drainTime: float,
        timeout: float,
        lines: EventLines,
        reactor: IReactorCore,
    ) -> None:
        self.lines = lines
        self._sockets = sockets
        self._order = order
        self._drainTime = drainTime
        self._timeout = timeout
        self._reactor = reactor
        self._clock = cast(IReactorTime, reactor)
        self._places = [_Place(number) for number in range(1, workers + 1)]
        self._workers: set[Worker] = set()
        self._reloading = self._reloadAgain = self._stopping = False
        self._formerHangup: Any = None

    def startService(self) -> None:
        """Starts the workers as soon as the reactor runs."""
        super().startService()
        self._stopping = False
        self._formerHangup = signal.signal(signal.SIGHUP, self._hangup)
        for held in self._sockets:
            _log.info("Listening on {address} for {count} workers", address=addressText(held.address), count=len(self._places))
        # Not earlier: the end of a process is noticed only then.
        self._reactor.callWhenRunning(self._startAll)
        self._reactor.callWhenRunning(endOnce, self._reactor)

    def _startAll(self) -> None:
        for place in self._places:
            self._fill(place)

    def _fill(self, place: _Place) -> None:
        if not self._stopping:
            place.rest()
            place.worker = self._spawn(place)
            if place.worker is None:
                self._fillAgain(place, 0.0)

    def _fillAgain(self, place: _Place, lived: float) -> None:
        pause = place.pause(lived)
        _log.info("Worker {number} is started again in {pause:g} seconds", number=place.number, pause=pause)
        place.restart = self._clock.callLater(pause, self._fill, place)

    def _spawn(self, place: _Place) -> Worker | None:
        """Starts a worker; None if the system has no room for another process."""
        order = replace(self._order, number=place.number)
        descriptors = [held.descriptor for held in self._sockets]
        try:
            worker = Worker(order, descriptors, self._clock, self._timeout, self.lines.relay, self._ended)
        except OSError as error:
            _log.error("Worker {number} cannot be started: {cause}", number=place.number, cause=error.strerror)
            return None
        self._workers.add(worker)
        return worker

    def _ended(self, worker: Worker) -> None:
        self._workers.discard(worker)
        place = self._places[worker.number - 1]
        if worker is not place.worker:
            return
        place.worker = None
        if not self._stopping:
            self._fillAgain(place, self._clock.seconds() - worker.startedAt)

    def _hangup(self, number: int, frame: FrameType | None) -> None:
        cast(IReactorFromThreads, self._reactor).callFromThread(self.reload)

    def reload(self) -> Deferred[None]:
        """Replaces every worker by a new one. One that cannot be replaced goes on, and so do those behind it.

        Returns:
            Fires when the new ones have taken over; the old ones may not have ended yet. If it is going on already, it is done once more after
            that, and this fires at once.
        """
        return ensureDeferred(self._reload())

    async def _reload(self) -> None:
        if self._reloading:
            self._reloadAgain = True
        if self._reloading or self._stopping:
            return
        self._reloading = True
        try:
            while await self._replaceAll() and self._reloadAgain:
                pass
        finally:
            self._reloading = self._reloadAgain = False

    async def _replaceAll(self) -> bool:
        """Returns False when it was broken off."""
        self._reloadAgain = False
        _log.info("Reloading: each worker is replaced by a new one")
        for place in self._places:
            if self._isStopping():
                return False
            new = self._spawn(place)
            ready = new is not None and await new.started()
            if self._isStopping():
                return False
            if new is None or not ready:
                complaint = (new and new.complaint) or "the new one does not start"
                _log.critical("Not reloaded, the former workers go on: {complaint}", complaint=complaint)
                return self._reloadAgain
            place.rest()
            old, place.worker = place.worker, new
            if old is not None:
                old.retire(self._drainTime)
        _log.info("Reloaded")
        return True

    def _isStopping(self) -> bool:
        return self._stopping

    def stopService(self) -> Deferred[None]:
        """Closes the sockets and drains all workers; the Deferred fires when none is left."""
        super().stopService()
        self._stopping = True
        _log.info("Stopping: waiting for messages in flight")
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await DeferredList([held.close() for held in self._sockets])
        for place in self._places:
            place.rest()
        workers = list(self._workers)
        for worker in workers:
            worker.drain(self._drainTime)
        await DeferredList([worker.gone() for worker in workers])
        # Not earlier: it would end this process, and with it the workers.
        signal.signal(signal.SIGHUP, self._formerHangup or signal.SIG_DFL)
        self.flushLog()
