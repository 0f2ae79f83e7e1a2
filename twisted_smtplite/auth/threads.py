"""Work that would hold the reactor up, done in threads, so many at a time.

Knows Twisted's thread pool. Must not know what the work is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

_P = ParamSpec("_P")
_T = TypeVar("_T")


class FewThreads:
    """Calls functions in the reactor's threads.

    Args:
        reactor: the reactor.
        most: how many at a time; the others wait for their turn.
    """

    def __init__(self, reactor: IReactorThreads, most: int) -> None:
        self._reactor = reactor
        self._turns = DeferredSemaphore(most)

    async def call(self, function: Callable[_P, _T], *arguments: _P.args, **keywords: _P.kwargs) -> _T:
        """Calls it when it is its turn. Who is cancelled while he waits loses his turn."""
        await self._turns.acquire()
        # It fails at once where the system has no room for a thread.
        pool = self._reactor.getThreadPool()
        work = maybeDeferred(lambda: deferToThreadPool(self._reactor, pool, function, *arguments, **keywords))
        answer: Deferred[_T] = Deferred()
        work.addBoth(self._done, answer)
        return await answer

    def _done(self, result: Any, answer: Deferred[_T]) -> None:
        """A thread is free. That is not when nobody waits for its answer any more: a client that hangs up must not start another."""
        self._turns.release()
        answer.callback(result)
