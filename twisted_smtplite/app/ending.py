"""The end of a server: the signals that ask for it, SIGHUP where it means nothing else, and the reactor that stops.

Knows that the end comes once, however often and from wherever it is asked for. Must not know what is to be done before it: services do.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_log = Logger(namespace="smtplite")


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, and until the reactor runs, SIGINT ends the process like SIGTERM does: an exception may get lost in a callback.

    What follows may raise: then everything is as before.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise


def endOnce(reactor: Any) -> None:
    """From when the reactor runs, the first of the signals stops it, in the way of Twisted, and nothing comes of further ones."""

    def end(number: int, frame: FrameType | None) -> None:
        # SIGHUP may mean something else until then. From now on it would end the process, as soon as nobody hears it any more.
        for each in (*caught, signal.SIGHUP):
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, unheard)
        caught[number](number, frame)

    def hangUp(number: int, frame: FrameType | None) -> None:
        _log.info("Received SIGHUP, shutting down.")
        reactor.callFromThread(reactor.stop)

    caught: dict[int, Any] = {}
    # Where it does not handle signals, somebody else does.
    if signal.getsignal(signal.SIGTERM) == reactor.sigTerm:
        caught[signal.SIGTERM] = reactor.sigTerm
        if signal.getsignal(signal.SIGINT) in (reactor.sigInt, signal.SIG_DFL):
            caught[signal.SIGINT] = reactor.sigInt
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            # It would end the process without another word, and leave its files behind.
            caught[signal.SIGHUP] = hangUp
    for each in caught:
        signal.signal(each, end)


def unheard(number: int, frame: FrameType | None) -> None:
    """What takes a signal that changes nothing any more. Not SIG_IGN: of one that is there already Python would tell, with a traceback."""


def stopReactor(reactor: Any) -> None:
    """Stops it, as soon as it runs, unless it is stopping already."""
    reactor.callWhenRunning(_stop, reactor)


def _stop(reactor: Any) -> None:
    try:
        reactor.stop()
    except ReactorNotRunning:
        pass
