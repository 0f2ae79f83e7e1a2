"""What an attempt means for a recipient: sent, failed, given up, or to be tried again; and whether the sender is told (RFC 3461 5.2, RFC 2852 4.1).

Knows the rules, as functions on values. Must not know clocks, stores, senders, or how a report is written.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

from ..model.envelope import Recipient
from ..model.results import PeerReply, RecipientOutcome, Stage
from .entries import Doubt, Progress, QueuedMessage, State
from .schedule import Schedule, deadline, isLate


class Action(Enum):
    """What a report says of a recipient (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"
    """Passed on to a server that will not report about it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a sender is to be told of one recipient.

    Attributes:
        action: what became of it.
        recipient: of whom.
        status: the enhanced status code (RFC 3463), of the class of `action`.
        reply: what was heard last, or None.
        host: from whom, or empty.
        lastAttempt: when it was tried last, in seconds since the epoch, or None.
        until: how long it will be tried, or None.
        expired: True when it failed because it could not be sent in time.
    """

    action: Action
    recipient: Recipient
    status: str
    reply: PeerReply | None
    host: str
    lastAttempt: float | None
    until: float | None = None
    expired: bool = False


class Judge:
    """Decides by a schedule.

    Args:
        schedule: when to try again and for how long.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def attempted(
        self, message: QueuedMessage, progress: Progress, outcome: RecipientOutcome, host: str, extensions: AbstractSet[str], now: float, draw: float
    ) -> Notice | None:
        """Writes the outcome of an attempt into `progress`.

        Args:
            message: the message.
            progress: one of its recipients', who waits.
            outcome: what became of the attempt.
            host: with whom, or empty.
            extensions: what that server offers.
            now: the time, in seconds since the epoch.
            draw: a random number from 0 to 1, for the time of the next attempt.

        Returns:
            What its sender is to be told, or None.
        """
        progress.attempts += 1
        progress.lastAttempt = now
        progress.reply, progress.stage, progress.host = outcome.reply, outcome.stage, host
        if outcome.uncertain:
            progress.doubt = Doubt.LOST
        if outcome.accepted:
            progress.state = State.SENT
            return _notice(message, progress, Action.RELAYED, "2.0.0") if _passesSilently(message, progress.recipient, extensions) else None
        if outcome.permanent:
            progress.state = State.FAILED
            return _notice(message, progress, Action.FAILED, outcome.reply.status)
        progress.nextAttempt = self._schedule.nextAttempt(message, progress, now, draw)
        return self._notYet(message, progress, now)

    def suspended(self, message: QueuedMessage, progress: Progress, trouble: PeerReply, host: str, until: float, now: float) -> Notice | None:
        """Puts a recipient off, who is due, without an attempt: his destination cannot be reached, and is not asked before `until`.

        Args and result are as in `attempted`; `trouble` is what was heard from there last.
        """
        progress.reply, progress.stage, progress.host = trouble, Stage.CONNECT, host
        progress.nextAttempt = self._schedule.noLater(message, progress, now, until)
        return self._notYet(message, progress, now)

    def tooLate(self, message: QueuedMessage, progress: Progress, now: float) -> Notice | None:
        """Gives a recipient up whose message must not be sent any more (RFC 2852 4.1.1)."""
        progress.state = State.EXPIRED
        return _notice(message, progress, Action.FAILED, "5.4.7", expired=True)

    def putOff(self, message: QueuedMessage, progress: Progress, until: float, now: float) -> None:
        """Puts a recipient off, who is due: too many others wait for the same destination."""
        progress.nextAttempt = self._schedule.noLater(message, progress, now, until)

    def _notYet(self, message: QueuedMessage, progress: Progress, now: float) -> Notice | None:
        """The recipient was not reached: gives up when the time is over, and says what the sender is to be told."""
        schedule = self._schedule
        if now >= schedule.expires(message) or isLate(message, now):
            progress.state = State.EXPIRED
            # RFC 3463 3.5: the reason proper is in the reply, which the report has too.
            return _notice(message, progress, Action.FAILED, "5.4.7", expired=True)
        if progress.warned or now < schedule.warns(message):
            return None
        # Once for each recipient, wanted or not: nothing is to be decided about it again.
        progress.warned = True
        # RFC 2852 4.1.2: who set a deadline is told that it has passed, unless he wants to be told of nothing.
        asked = now >= deadline(message) and "NEVER" not in (progress.recipient.notify or ())
        status = progress.reply.status if progress.reply is not None and progress.reply.temporary else "4.0.0"
        return _notice(message, progress, Action.DELAYED, "4.4.7" if asked else status, until=schedule.expires(message), asked=asked)


def _notice(
    message: QueuedMessage, progress: Progress, action: Action, status: str, *, until: float | None = None, expired: bool = False, asked: bool = False
) -> Notice | None:
    """The notice, unless nobody is to be told of it. `asked`: the sender asked to be told, in another way than by NOTIFY."""
    # RFC 5321 4.5.5, RFC 3461 6.1: nobody is told about what came from nobody.
    if message.report or message.envelope.sender.isNull or not (asked or _wants(progress.recipient, action)):
        return None
    return Notice(action, progress.recipient, status, progress.reply, progress.host, progress.lastAttempt, until, expired)


def _wants(recipient: Recipient, action: Action) -> bool:
    """Whether NOTIFY asks for such a notice (RFC 3461 4.1)."""
    if recipient.notify is None:
        return True
    word = {Action.FAILED: "FAILURE", Action.DELAYED: "DELAY"}.get(action)
    # "Relayed" was found to be wanted by `_passesSilently`.
    return word is None or word in recipient.notify


def _passesSilently(message: QueuedMessage, recipient: Recipient, extensions: AbstractSet[str]) -> bool:
    """Whether the sender is owed a notice that the message went on to a server that will not give the one he asked for."""
    notify = recipient.notify or frozenset()
    # RFC 3461 5.2.2: the next server does not know that success is to be reported.
    if "SUCCESS" in notify and "DSN" not in extensions:
        return True
    by = message.envelope.deliverBy
    # RFC 2852 4.1.4: the next server does not know the deadline, or each passing on is to be told.
    return by is not None and "NEVER" not in notify and (by.trace or "DELIVERBY" not in extensions)
