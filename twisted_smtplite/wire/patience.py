"""How long a server waits: for the next command, for the text of a message, for the backend (RFC 5321 4.5.3.2).

Knows one timer and what it stands for at the moment. Must not know what is said when it runs out, beyond the reply. The timer is not moved
when the client makes progress; only the time is noted, and the timer looks at it when it fires.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ..model import replies
from ..model.limits import Limits
from ..model.reply import Reply


class Patience:
    """The clock of one session.

    Attributes:
        since: when the client last made progress, in seconds of the reactor's clock; whoever sees progress sets it to `seconds()`.
        seconds: the reactor's clock.
    """

    __slots__ = (
        "_began",
        "_call",
        "_due",
        "_limits",
        "_octets",
        "_reactor",
        "_reply",
        "_runOut",
        "_textBegun",
        "_timeout",
        "_windowFrom",
        "seconds",
        "since",
    )

    def __init__(self, reactor: IReactorTime, limits: Limits, runOut: Callable[[Reply], None]) -> None:
        """Args:
        reactor: the clock.
        limits: how long.
        runOut: called with the reply for the client when patience has run out.
        """
        self._reactor = reactor
        self.seconds = reactor.seconds
        self._limits = limits
        self._runOut = runOut
        self._began = self.since = reactor.seconds()
        self._timeout = 0.0
        self._reply = replies.TIMEOUT
        self._windowFrom: float | None = None
        self._textBegun = False
        self._octets = 0
        self._call: IDelayedCall | None = None
        # When the timer fires; with no timer, at the end of time.
        self._due = inf

    def expectCommand(self) -> None:
        """From now on the client is to send commands."""
        self._windowFrom = None
        self._expect(self._limits.commandTimeout, replies.TIMEOUT)

    def expectHandshake(self) -> None:
        """From now on the client is to do its TLS handshake."""
        self._windowFrom = None
        self._expect(self._limits.handshakeTimeout, replies.HANDSHAKE_TIMEOUT)

    def expectText(self) -> None:
        """From now on the client is to send text, and has not begun."""
        self._textBegun = False
        self._windowFrom = None
        self._expect(self._limits.dataStartTimeout, replies.TIMEOUT)

    def expectMoreText(self) -> None:
        """From now on the client is to send the rest of its text. Its rate is measured anew."""
        self._textBegun = True
        self._octets = 0
        self._windowFrom = self.seconds() if self._limits.minimumRate else None
        self._expect(self._limits.dataTimeout, replies.TIMEOUT)

    def textCame(self, octets: int) -> None:
        """The client has sent some text, and more is to come."""
        if not self._textBegun:
            self.expectMoreText()
        self._octets += octets
        self.since = self.seconds()

    def expectAnswer(self) -> None:
        """From now on it is the backend that is waited for: the client's time stands still."""
        self._windowFrom = None
        self._expect(self._limits.backendTimeout, replies.BACKEND_TIMEOUT)

    def expectClose(self) -> None:
        """The last reply is on its way: the client is to take it."""
        self._windowFrom = None
        self._expect(self._limits.closeTimeout, replies.TIMEOUT)

    def stop(self) -> None:
        """The session is over."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        self._due = inf

    def _expect(self, timeout: float, reply: Reply) -> None:
        self._timeout = timeout
        self._reply = reply
        self.since = now = self.seconds()
        # Mostly the timer fires before anything of this can be due, and then finds the right time itself.
        span = min(timeout, self._limits.rateWindow) if self._windowFrom is not None else timeout
        if self._call is None or 0 < span < self._due - now:
            self._schedule()

    def _deadlines(self) -> list[tuple[float, Reply | None]]:
        """When patience runs out, and with which reply; None where it is time to look at the rate."""
        limits = self._limits
        deadlines: list[tuple[float, Reply | None]] = []
        if self._timeout:
            deadlines.append((self.since + self._timeout, self._reply))
        if self._windowFrom is not None:
            deadlines.append((self._windowFrom + limits.rateWindow, None))
        # A session that is too old ends when the backend has answered, not before.
        if limits.sessionTime and self._reply is not replies.BACKEND_TIMEOUT:
            deadlines.append((self._began + limits.sessionTime, replies.SESSION_TOO_LONG))
        return deadlines

    def _schedule(self) -> None:
        """Sets the timer to the earliest deadline."""
        deadlines = self._deadlines()
        if not deadlines:
            return
        # No later than a window of the rate from now: a message that begins meanwhile then finds the timer early enough.
        earliest = min(*(when for when, _ in deadlines), self.seconds() + self._limits.rateWindow)
        if self._call is not None:
            self._call.cancel()
        self._call = self._reactor.callLater(max(0.0, earliest - self.seconds()), self._look)
        self._due = self._call.getTime()

    def _look(self) -> None:
        """The timer fired: has a deadline passed, or was there progress meanwhile?"""
        self._call = None
        self._due = inf
        now = self.seconds()
        for when, reply in self._deadlines():
            if when <= now:
                due = reply or self._tooSlow(now)
                if due is not None:
                    self._runOut(due)
                    return
        self._schedule()

    def _tooSlow(self, now: float) -> Reply | None:
        """Looks at the rate of the window that has passed, and begins the next one."""
        assert self._windowFrom is not None, "there is a deadline for the window only while there is one"
        octets, self._octets = self._octets, 0
        span, self._windowFrom = now - self._windowFrom, now
        return replies.TOO_SLOW if octets < self._limits.minimumRate * span else None
