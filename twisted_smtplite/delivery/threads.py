"""A few threads that work is handed to.

Knows a queue, threads and the way back to the reactor. Must not know what the work is. To hand over a piece of work, and its result back, costs a
fifth of what it costs with Twisted's pool, which also takes the logging context along and grows and shrinks: a message alone on its way to the disk
waits for that.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

T = TypeVar("T")


class Threads:
    """Threads that are started as they are needed, and end with `stop`. All methods are called in the reactor's thread.

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

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Has `work` done in a thread, after what was handed over before. Do not cancel this Deferred: what it stands for cannot be stopped."""
        answer: Deferred[T] = Deferred()
        self._unanswered += 1
        if len(self._threads) < min(self._unanswered, self._most):
            thread = Thread(target=self._loop, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put((work, answer))
        return answer

    def stop(self) -> None:
        """Waits until all work is done. Its results still go to the reactor."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _loop(self) -> None:
        while (job := self._queue.get()) is not None:
            work, answer = job
            result: Any
            try:
                result = work()
            except BaseException:  # noqa: BLE001 - it belongs to who waits for the answer
                result = Failure()  # type: ignore[no-untyped-call]
            self._reactor.callFromThread(self._answer, answer, result)

    def _answer(self, answer: Deferred[Any], result: Any) -> None:
        self._unanswered -= 1
        # A Failure calls the errbacks.
        answer.callback(result)
