"""When a message is tried, how long, and when its sender is told that it takes long (RFC 5321 4.5.4.1; RFC 2852, RFC 4865).

Knows waits and times, as values; every time is in seconds since the epoch and comes in as an argument. Must not know clocks, stores or senders.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf

from ..model.envelope import Envelope, Recipient
from .entries import Progress, QueuedMessage

# Beyond this the wait has long reached its maximum, and a float its own.
_MOST_DOUBLINGS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Waits in seconds. By default a message is tried at once, then after 5, 10, 20, 40, 80, 160 minutes and each 4 hours, for 4 days.

    RFC 5321 4.5.4.1 has the first wait be 30 minutes, and 4 to 5 days until giving up. The first wait is shorter here, as it is with most servers of
    today: the commonest temporary refusal is that of a greylist, which wants to see the message again after some minutes.

    Raises:
        ValueError: a wait is zero, negative or not finite, or the jitter is no part of one; the text names the field.
    """

    firstRetry: float = 300
    """From the first attempt to the second."""
    factor: float = 2
    """By this each further wait is longer than the one before."""
    longestRetry: float = 14_400
    """The longest wait, before jitter."""
    jitter: float = 0.2
    """By up to this part of itself a wait is made longer or shorter at random, so that what failed together does not come again together."""
    lifetime: float = 345_600
    """How long a message is tried, from its arrival or the end of its hold. The last attempt comes at its end."""
    delayWarning: float = 14_400
    """After this time the sender is told that the message is still waiting; 0: never."""

    def __post_init__(self) -> None:
        for name in ("firstRetry", "longestRetry", "lifetime"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be more than 0, and finite")
        if not 0 <= self.delayWarning < inf:
            raise ValueError(f"delayWarning is {self.delayWarning}: it must be at least 0, and finite")
        if not 1 <= self.factor < inf:
            raise ValueError(f"factor is {self.factor}: it must be at least 1, and finite")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter}: it must be at least 0 and less than 1")

    def wait(self, attempts: int, draw: float) -> float:
        """Seconds until the next attempt.

        Args:
            attempts: how many there have been, at least one.
            draw: a random number from 0 to 1.
        """
        longer = self.factor ** min(attempts - 1, _MOST_DOUBLINGS)
        return min(self.firstRetry * longer, self.longestRetry) * (1 + self.jitter * (2 * draw - 1))

    def expires(self, message: QueuedMessage) -> float:
        """When the message is tried for the last time."""
        return began(message) + self.lifetime

    def warns(self, message: QueuedMessage) -> float:
        """When its sender is told of the delay; infinity for never. A deadline after which the sender wants to know is such a time, too."""
        after = began(message) + self.delayWarning if self.delayWarning else inf
        by = message.envelope.deliverBy
        return min(after, deadline(message)) if by is not None and by.mode == "N" else after

    def nextAttempt(self, message: QueuedMessage, progress: Progress, now: float, draw: float) -> float:
        """When the recipient is tried again, after a failure: by the wait, and no later than the next time at which something is to be decided."""
        return self.noLater(message, progress, now, now + self.wait(progress.attempts, draw))

    def noLater(self, message: QueuedMessage, progress: Progress, now: float, time: float) -> float:
        """`time`, or what comes before it: the end of the lifetime, the warning, the deadline. Each is met by one more attempt."""
        decisions = [self.expires(message), deadline(message)]
        if not progress.warned:
            decisions.append(self.warns(message))
        return min([time, *(decision for decision in decisions if decision > now)])


def began(message: QueuedMessage) -> float:
    """When the message could first be sent: at its arrival, or at the end of its hold (RFC 4865)."""
    return max(message.envelope.receivedAt or message.queuedAt, message.envelope.holdUntil or 0.0)


def dueAt(envelope: Envelope, now: float) -> float:
    """When a new message falls due: now, or at the end of its hold (RFC 4865)."""
    return max(now, envelope.holdUntil or 0.0)


def deadline(message: QueuedMessage) -> float:
    """By when the message is to be delivered (RFC 2852 4); infinity when nobody said."""
    by = message.envelope.deliverBy
    return inf if by is None else began(message) + by.seconds


def isLate(message: QueuedMessage, now: float) -> bool:
    """True when the message must not be sent any more: it was to be returned when it is late, and it is (RFC 2852 4.1.1)."""
    by = message.envelope.deliverBy
    return by is not None and by.mode == "R" and now >= deadline(message)


def passedOn(message: QueuedMessage, recipients: Iterable[Recipient], now: float) -> Envelope:
    """The envelope as the next server is to get it: for some of the recipients, and with the time that is left (RFC 2852 4.1.4)."""
    envelope = message.envelope
    by = envelope.deliverBy
    if by is not None:
        # RFC 2852 4.1.4: what is late already goes on as 0 or less, which only mode N may be.
        by = by._replace(seconds=int(deadline(message) - now))
    return replace(envelope, recipients=list(recipients), deliverBy=by, holdUntil=None)
