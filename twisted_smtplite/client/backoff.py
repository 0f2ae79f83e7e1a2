"""Who is left alone for a while, having failed: longer after each failure, up to a bound, and forgotten after a success.

Knows keys and a clock. Must not know what failed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

# It was never told to wait.
_NEVER = (0.0, -inf)


class Backoff:
    """How long each key is still to be left alone. Memory is bounded: those that failed last are remembered.

    Args:
        clock: the reactor's.
        first: how long after the first failure, in seconds.
        most: how long at most, in seconds.
        keys: how many are remembered.
    """

    def __init__(self, clock: IReactorTime, first: float, most: float, keys: int) -> None:
        self._clock = clock
        self._first = first
        self._most = most
        self._keys = keys
        # How long each was told to wait, and until when; the one that failed longest ago first.
        self._waits: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waits)

    def remaining(self, key: Hashable) -> float:
        """Seconds for which the key is to be left alone; 0 when it may be tried."""
        _, until = self._waits.get(key, _NEVER)
        return max(0.0, until - self._clock.seconds())

    def failed(self, key: Hashable) -> None:
        """The key was tried, and failed. Of attempts that were under way together the first alone counts."""
        now = self._clock.seconds()
        wait, until = self._waits.pop(key, _NEVER)
        if now >= until:
            # One that then was left alone for long is not the worse for it.
            wait = self._first if now >= until + self._most else min(self._most, 2 * wait)
            until = now + wait
        self._waits[key] = (wait, until)
        if len(self._waits) > self._keys:
            self._waits.popitem(last=False)

    def clear(self) -> None:
        """Nobody is to be left alone any more."""
        self._waits.clear()

    def succeeded(self, key: Hashable) -> None:
        """The key was tried, and all is well."""
        self._waits.pop(key, None)
