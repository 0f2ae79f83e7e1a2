"""A few threads that work is handed to.

Knows a queue, threads and the way back to the reactor. Must not know what the work is. To hand over a piece of work, and its result back, costs a
fifth of what it costs with Twisted's pool, which also takes the logging context along and grows and shrinks: a message alone on its way to the disk
waits for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")


class Threads:
    """Threads that are started as they are needed, and end with `stop`. All methods are called in the reactor's thread, which hears all answers.

    Args:
        reactor: what their results go to.
        most: how many there may be.
        name: what they are called.
    """

    def __init__(self, reactor: IReactorFromThreads, most: int, name: str) -> None:
        self._reactor = reactor
        self._most = most
        self._name = name
        self._threads: list[Thread] = []
        self._unanswered = 0
        self._queue: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._answers: deque[tuple[Deferred[Any], Any]] = deque()
        self._stopped = False

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Has `work` done in a thread, after what was handed over before; after `stop`, or for want of threads, here.

        Do not cancel this Deferred: work cannot be stopped.
        """
        answer: Deferred[T] = Deferred()
        self._unanswered += 1
        if not self._stopped and len(self._threads) < min(self._unanswered, self._most):
            self._startThread()
        if self._threads:
            self._queue.put((work, answer))
        else:
            self._answers.append((answer, _done(work)))
            self._answer()
        return answer

    def _startThread(self) -> None:
        thread = Thread(target=self._loop, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system has no room for it: those that are there must do, and where there are none this one.
            return
        self._threads.append(thread)

    def stop(self) -> None:
        """Waits until all work is done and answered, and what follows from the answers too: the reactor may not turn again."""
        self._stopped = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        while self._answers:
            self._answer()

    def _loop(self) -> None:
        while (job := self._queue.get()) is not None:
            work, answer = job
            self._answers.append((answer, _done(work)))
            self._reactor.callFromThread(self._answer)

    def _answer(self) -> None:
        if not self._answers:
            # `stop` has given it.
            return
        self._unanswered -= 1
        answer, result = self._answers.popleft()
        # A Failure calls the errbacks.
        answer.callback(result)


def _done(work: Callable[[], Any]) -> Any:
    """Does it. What it raises is returned as a Failure."""
    try:
        return work()
    except BaseException:  # noqa: BLE001 - it belongs to who waits for the answer
        return Failure()  # type: ignore[no-untyped-call]
