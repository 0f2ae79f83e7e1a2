"""Group commit: many wait for the disk together.

Knows a thread that is busy or not. Must not know what is committed. What comes while one lot is on its way makes up the next lot: who is alone
waits for nobody, and the more wait, the more share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")
R = TypeVar("R")

_LARGEST = 128
"""Items in one lot. Each may hold a file open, and the first one waits for the last."""


class GroupCommit(Generic[T, R]):
    """Commits items in lots, one lot at a time.

    Args:
        clock: the reactor.
        inThread: runs a function in a thread; the Deferred fires with what it returned.
        commit: called in a thread with a lot, in the order in which they came; returns a result for each. When it raises, each of them fails.
    """

    def __init__(
        self, clock: IReactorTime, inThread: Callable[[Callable[[], Any]], Deferred[Any]], commit: Callable[[Sequence[T]], Sequence[R]]
    ) -> None:
        self._clock = clock
        self._inThread = inThread
        self._commit = commit
        self._waiting: deque[tuple[T, Deferred[R]]] = deque()
        self._busy = False
        # True while they come one by one.
        self._alone = False

    def add(self, item: T) -> Deferred[R]:
        """Commits `item` soon. To cancel the Deferred is to stop waiting: the item is committed all the same."""
        answer: Deferred[R] = Deferred()
        self._waiting.append((item, answer))
        if not self._busy:
            self._busy = True
            if self._alone:
                self._next()
            else:
                # Not now: what ends in the same turn of the reactor belongs into the same lot.
                self._clock.callLater(0, self._next)
        return answer

    def finish(self) -> None:
        """Commits what waits, here and now. For the end, when no thread is left."""
        while self._waiting:
            items, answers = self._lot()
            try:
                results: Sequence[R] | Failure = self._commit(items)
            except Exception:  # noqa: BLE001 - it belongs to those who wait
                results = Failure()  # type: ignore[no-untyped-call]
            _answer(answers, results)

    def _next(self) -> None:
        items, answers = self._lot()
        self._busy = bool(items)
        if items:
            self._alone = len(items) == 1
            self._inThread(lambda: self._commit(items)).addBoth(self._done, answers)

    def _lot(self) -> tuple[list[T], list[Deferred[R]]]:
        """Takes the next items, and who waits for them."""
        lot = [self._waiting.popleft() for _ in range(min(len(self._waiting), _LARGEST))]
        return [item for item, _ in lot], [answer for _, answer in lot]

    def _done(self, results: Sequence[R] | Failure, answers: Sequence[Deferred[R]]) -> None:
        # The next lot first: the disk works while the answers go out.
        self._next()
        _answer(answers, results)


def _answer(answers: Sequence[Deferred[R]], results: Sequence[R] | Failure) -> None:
    if isinstance(results, Failure):
        for answer in answers:
            answer.errback(results)
    else:
        for answer, result in zip(answers, results, strict=True):
            answer.callback(result)
