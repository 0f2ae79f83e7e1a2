"""What stands in the queue: messages, and for each recipient how far it has come; and what the runner asks of whoever keeps them.

Knows values and promises only. Must not know files, databases or the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from ..model.envelope import Envelope, Recipient
from ..model.results import PeerReply, Stage

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..client.content import Content


AT_ONCE = 0.0
"""A `Progress.nextAttempt` that somebody has asked for by hand: for it a destination that is left alone is tried, too."""


class State(Enum):
    """What is known of one recipient."""

    WAITING = "waiting"
    """Still to be tried, first or again."""
    SENT = "sent"
    """The next server has taken responsibility."""
    FAILED = "failed"
    """Refused for good."""
    EXPIRED = "expired"
    """Given up: it could not be sent in time."""
    DROPPED = "dropped"
    """Taken out by hand."""

    @property
    def final(self) -> bool:
        """True when nothing more will be tried."""
        return self is not State.WAITING


@dataclass(slots=True)
class Progress:
    """How far the message has come for one recipient.

    Attributes:
        recipient: who.
        state: what is known.
        attempts: how often it was tried.
        nextAttempt: not to be tried before this time, in seconds since the epoch.
        lastAttempt: when it was tried last, or None.
        reply: what was heard last, or None.
        stage: where that was, or None.
        host: from whom, or empty.
        warned: True when the sender was told of the delay.
    """

    recipient: Recipient
    state: State = State.WAITING
    attempts: int = 0
    nextAttempt: float = 0.0
    lastAttempt: float | None = None
    reply: PeerReply | None = None
    stage: Stage | None = None
    host: str = ""
    warned: bool = False


@dataclass(slots=True)
class QueuedMessage:
    """One message in the queue.

    Attributes:
        id: the queue id, that of the envelope it came in by: letters and digits, unique in the queue.
        envelope: everything the client asked for; `Envelope.recipients` are all it began with, in order.
        progress: one for each of `Envelope.recipients`, in the same order.
        queuedAt: when it was made safe, in seconds since the epoch.
        size: octets of its text, with CRLF and the trace header.
        held: True while it is not to be sent (``smtplite queue hold``).
        user: who submitted it, or None.
        report: True for a report that the queue itself has made (null reverse-path): it is never reported about.
    """

    id: str
    envelope: Envelope
    progress: list[Progress] = field(default_factory=list)
    queuedAt: float = 0.0
    size: int = 0
    held: bool = False
    user: str | None = None
    report: bool = False


@dataclass(slots=True)
class NewReport:
    """A report (RFC 3464) that is to enter the queue together with the states that it tells of.

    Attributes:
        envelope: the null reverse-path, and the sender of the message in question as its only recipient.
        text: the whole message, CRLF line ends.
    """

    envelope: Envelope
    text: bytes


class Store(Protocol):
    """Who keeps the queue. Every Deferred fires in the reactor's thread, and after a change only when that is safe on the disk."""

    def due(self, now: float, count: int) -> Deferred[Sequence[QueuedMessage]]:
        """Up to `count` messages that are not held, not taken yet, and have a waiting recipient with ``nextAttempt <= now``.

        Those of higher priority come first (RFC 6710), then those that waited longest. They are taken: `due` does not return them again until
        `record` or `putBack` names them. What was taken by a process that died is not.
        """

    def nextDue(self) -> Deferred[float | None]:
        """The time at which the next message that is not taken falls due, in seconds since the epoch; None when there is none."""

    def content(self, message: QueuedMessage) -> Content:
        """The text, to send it or to quote it; opens its file only when it is read."""

    def maySend(self, message: QueuedMessage) -> bool:
        """False when the message, which was taken, has been held or dropped since. Answers at once."""

    def record(self, message: QueuedMessage, reports: Sequence[NewReport] = ()) -> Deferred[None]:
        """Keeps what `message.progress` says now, and puts the reports into the queue, both or neither; the message is no longer taken.

        When every recipient's state is final the message leaves the queue. A message that was dropped meanwhile stays dropped.
        """

    def putBack(self, message: QueuedMessage) -> None:
        """The message is no longer taken; nothing about it has changed."""

    def onChange(self, call: Callable[[], None]) -> None:
        """Has `call` called, in the reactor's thread, when something may be due earlier than `nextDue` said.

        That is when messages have come, and when another process has changed something (``flush``, ``release``).
        """
