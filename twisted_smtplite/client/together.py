"""Several coroutines at once.

Knows Deferreds only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

_T = TypeVar("_T")


async def together(coroutines: Iterable[Coroutine[Deferred[Any], Any, _T]], most: int | None = None) -> list[_T]:
    """Runs them side by side, and waits until all have ended. Cancelling this cancels each.

    Args:
        coroutines: what is to be run.
        most: how many run at a time; None: all.

    Returns:
        Their results, in their order.

    Raises:
        Exception: what the first that failed had raised.
    """
    everyone = list(coroutines)
    gate = DeferredSemaphore(most or max(1, len(everyone)))
    running = [gate.run(Deferred.fromCoroutine, each) for each in everyone]
    # The last first, for that is the order in which they are cancelled: none may take the place of one that is.
    ended: list[tuple[bool, Any]] = await DeferredList(running[::-1], consumeErrors=True)
    ended.reverse()
    for each in everyone:
        # One whose turn never came is not to be missed.
        each.close()
    for success, result in ended:
        if not success:
            result.raiseException()
    return [result for _, result in ended]
