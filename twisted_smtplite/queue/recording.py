"""Records what became of messages, each with the reports that it owes (RFC 5321 6.1): at once, together, and again until the store has it.

Knows the store, and how reports are made. Must not know senders, or what an outcome means.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from . import events
from .entries import NewReport, Progress, QueuedMessage, Store
from .limits import LONGEST_STORE_RETRY, RunnerLimits
from .quote import Quote, quote
from .report import report
from .verdict import Notice
from .work import Work


def queueIds() -> Callable[[], str]:
    """What gives names to reports: letters and digits, not used before on this host."""
    prefix = f"{int(time.time()):x}{os.getpid():x}{os.urandom(3).hex()}".upper()
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers):X}"


class Recorder:
    """Keeps the store up to date.

    Args:
        store: the store.
        clock: the reactor.
        hostname: the name of this server, for reports.
        newId: gives a report its name.
        limits: how long to wait, and how much to quote.
        recorded: called with a work and those of its recipients that the store has let go of.
        done: called with a work when all that was known of it is recorded.
    """

    def __init__(
        self,
        store: Store,
        clock: IReactorTime,
        hostname: str,
        newId: Callable[[], str],
        limits: RunnerLimits,
        recorded: Callable[[Work, Sequence[Progress]], None],
        done: Callable[[Work], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._hostname = hostname
        self._newId = newId
        self._limits = limits
        self._recorded = recorded
        self._done = done
        self._pauses: dict[Work, Deferred[None]] = {}
        self._givesUp = False

    def record(self, work: Work) -> None:
        """Records what `work` has come to. While that goes on, what comes is recorded after it."""
        if not work.recording:
            work.recording = True
            Deferred.fromCoroutine(self._record(work)).addErrback(events.unexpected)

    def giveUp(self) -> None:
        """Tries no more what has failed: the runner must end."""
        self._givesUp = True
        for pause in list(self._pauses.values()):
            pause.cancel()

    async def _record(self, work: Work) -> None:
        wait = self._limits.retryStore
        while work.changed:
            failure = await self._failureOf(work)
            if failure is None:
                wait = self._limits.retryStore
                continue
            events.notRecorded(work.message, wait, failure)
            if not await self._pause(work, wait):
                events.neverRecorded(work.message, work.changed)
                work.changed.clear()
            wait = min(wait * 2, LONGEST_STORE_RETRY)
        work.recording = False
        self._done(work)

    async def _failureOf(self, work: Work) -> Failure | None:
        """Tries to record it. Whatever goes wrong, what is known must not be forgotten."""
        try:
            await self._once(work)
        except Exception:  # noqa: BLE001 - see above
            return Failure()  # type: ignore[no-untyped-call]
        return None

    async def _once(self, work: Work) -> None:
        """Records it, with the reports that it owes."""
        while work.notices:
            # Who is to be told of something while this report is made is told in the next one.
            notices, work.notices = work.notices, []
            work.reports.append(await self._report(work.message, notices))
        reports = list(work.reports)
        those, work.changed = work.changed, []
        try:
            await self._store.record(replace(work.message, progress=those), reports)
        except BaseException:
            work.changed = those + work.changed
            raise
        del work.reports[: len(reports)]
        for made in reports:
            events.reported(work.message, made.envelope.id)
        self._recorded(work, those)

    async def _report(self, message: QueuedMessage, notices: Sequence[Notice]) -> NewReport:
        try:
            quoted = await quote(self._store.content(message), self._limits.quoteSize)
        except Exception:  # noqa: BLE001 - a report without the message is better than none
            events.notQuoted(message, Failure())  # type: ignore[no-untyped-call]
            quoted = Quote()
        return report(message, notices, quoted, hostname=self._hostname, newId=self._newId(), now=self._clock.seconds())

    async def _pause(self, work: Work, seconds: float) -> bool:
        """Waits. False when there is no time left for that."""
        if self._givesUp:
            return False
        pause = self._pauses[work] = deferLater(self._clock, seconds)
        try:
            await pause
        except CancelledError:
            return False
        finally:
            del self._pauses[work]
        return True
