"""Runs a command that needs the reactor, to its end or until the user breaks it off.

Knows the global reactor and its signals. Must not know the commands.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from .loading import loading

T = TypeVar("T")


class BrokenOff(Exception):
    """SIGINT, SIGTERM or SIGHUP came.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def runToEnd(main: Callable[[Any], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Runs the reactor until a coroutine has ended.

    A signal that asks the process to end cancels it; a second one ends the process at once.

    Args:
        main: makes the coroutine; it is given the reactor.

    Returns:
        What the coroutine returned.

    Raises:
        BrokenOff: a signal came, and the coroutine ended by being cancelled.
        Exception: what the coroutine raised.
    """
    with loading():
        from twisted.internet import reactor as imported

    reactor = cast(Any, imported)
    results: list[Any] = []
    signals: list[int] = []

    def begin() -> None:
        running = Deferred.fromCoroutine(main(reactor))

        def breakOff(number: int, _: object) -> None:
            signals.append(number)
            for each in caught:
                signal.signal(each, signal.SIG_DFL)
            # From here the reactor may sleep on, unless it is woken.
            reactor.callFromThread(running.cancel)

        caught = [each for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
        for each in caught:
            signal.signal(each, breakOff)
        running.addBoth(results.append)
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if isinstance(results[0], Failure):
        if signals and isinstance(results[0].value, CancelledError):
            raise BrokenOff(signals[0])
        results[0].raiseException()
    return cast(T, results[0])
