"""``greet-delay``: lets clients wait for the greeting, and refuses who does not.

Knows time, and whether the client has spoken early: RFC 5321 4.3.1 has a client wait for the greeting, and much of what sends spam does not. Must
not know anything else about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from ..model import replies
from .base import Policy, PolicyPlugin

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import SessionInfo
    from ..model.reply import Reply

_LONGEST = 120.0


class GreetDelayPolicy(Policy):
    """Greets after some time. A client on a unix socket does not wait.

    Args:
        seconds: how long; less than `Limits.policyTimeout`, or it is cut short and everybody admitted.
        clock: the reactor.
    """

    onFailure: ClassVar[Reply | None] = None

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._clock = clock

    def connect(self, session: SessionInfo) -> Deferred[Reply | None] | None:
        """See the class."""
        if not session.peerHost:
            return None
        waited: Deferred[Reply | None] = deferLater(self._clock, self._seconds, _early, session)
        return waited


def _early(session: SessionInfo) -> Reply | None:
    return replies.EARLY_TALKER if session.spokeEarly else None


def _make(argument: str, reactor: IReactorCore) -> GreetDelayPolicy:
    try:
        seconds = float(argument.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"it needs a number of seconds up to {_LONGEST:.0f}, as in greet-delay:5")
    return GreetDelayPolicy(seconds, cast(IReactorTime, reactor))


plugin = PolicyPlugin("greet-delay", "greet late, and refuse clients that speak before that", "SECONDS  how long the greeting waits", _make)
