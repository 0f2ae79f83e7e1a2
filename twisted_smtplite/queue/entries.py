"""What stands in the queue: messages, and for each recipient how far it has come; and what the runner asks of whoever keeps them.

Knows values and promises only. Must not know files, databases or the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

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


class Doubt(Enum):
    """Why a recipient may have the message, although nobody said so."""

    LOST = "lost"
    """It was sent whole, and the reply was lost."""
    STOPPED = "stopped"
    """The runner stopped while it was on its way."""
    KILLED = "killed"
    """The process died while it was on its way, or before it had recorded what became of it."""
    POWER = "power"
    """So may have the machine, and nobody knows what was on its way then."""


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
        doubt: why he may have the message already, or None.
        position: his place among the recipients of the message, the first has 0.
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
    doubt: Doubt | None = None
    position: int = 0


@dataclass(slots=True)
class QueuedMessage:
    """One message in the queue, with all of its recipients or, where it was taken or is recorded, some.

    Attributes:
        id: the queue id, that of the envelope it came in by: letters and digits, unique in the queue.
        envelope: everything the client asked for; of `Envelope.recipients` those of `progress`, in the same order.
        progress: one for each recipient.
        queuedAt: when it was made safe, in seconds since the epoch.
        size: octets of its text, with CRLF and the trace header.
        held: True while it is not to be sent (``smtplite queue hold``).
        user: who submitted it, or None.
        report: True for a report that the queue itself has made (null reverse-path): it is never reported about.
        more: True where more of its recipients were due than were taken at a time.
    """

    id: str
    envelope: Envelope
    progress: list[Progress] = field(default_factory=list)
    queuedAt: float = 0.0
    size: int = 0
    held: bool = False
    user: str | None = None
    report: bool = False
    more: bool = False


@dataclass(slots=True)
class NewReport:
    """A report (RFC 3464) that is to enter the queue together with the states that it tells of.

    Attributes:
        envelope: the null reverse-path, and the sender of the message in question as its only recipient.
        text: the whole message, CRLF line ends.
    """

    envelope: Envelope
    text: bytes


class Room(NamedTuple):
    """How much may be taken.

    Attributes:
        messages: messages.
        recipients: recipients, of all of them together.
        perMessage: recipients of one message, those that were taken before included.
    """

    messages: int
    recipients: int
    perMessage: int


class Way:
    """Is told how far the text of a message has come. Does nothing with that."""

    def offered(self) -> None:
        """There is a connection for it. May raise an `Unsendable`, and then it is not sent."""

    def begun(self) -> None:
        """It goes out from now on. May be called again."""


class Store(Protocol):
    """Who keeps the queue. Every Deferred fires in the reactor's thread, and after a change only when that is safe on the disk."""

    def due(self, now: float, room: Room) -> Deferred[Sequence[QueuedMessage]]:
        """Messages that are not held, with those of their recipients that are due, wait with ``nextAttempt <= now``, and are not taken yet.

        Those of higher priority come first (RFC 6710), then those that waited longest. The recipients are taken: `due` does not return them again
        until `record` or `putBack` names them. What was taken by a process that died is not. Of a message of which much is taken no more is given
        before half of that is done.
        """

    def nextDue(self) -> Deferred[float | None]:
        """The time at which the next recipient that is not taken falls due, in seconds since the epoch; None when there is none."""

    def content(self, message: QueuedMessage, way: Way | None = None) -> Content:
        """The text, to send it or to quote it; opens its file only when it is read."""

    def maySend(self, message: QueuedMessage, those: Sequence[Progress]) -> bool:
        """False when the message, or one of these recipients, who were taken, has been held or dropped since.

        Answers at once, and so of what another process has done in the last second it may not know.
        """

    def handOver(self, message: QueuedMessage, those: Sequence[Progress]) -> bool:
        """Notes that the message is on its way to these recipients, until `record`, `notTaken` or `putBack` names them.

        The note outlives the process. Answers at once. Returns False where `maySend` would say so, who knows for certain here; then nothing is noted.
        """

    def textGoes(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        """Notes also that a server may have the message from now on. Answers at once."""

    def notTaken(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        """No server has the message for these recipients: they are noted no longer."""

    def record(self, message: QueuedMessage, reports: Sequence[NewReport] = ()) -> Deferred[None]:
        """Keeps what `message.progress` says of these recipients, who are no longer taken, and puts the reports into the queue, both or neither.

        When the state of every recipient is final the message leaves the queue. Who was dropped meanwhile stays dropped, and where nobody else is
        named there are no reports.
        """

    def putBack(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        """These recipients are no longer taken; nothing about them has changed."""

    def onChange(self, call: Callable[[], None]) -> None:
        """Has `call` called, in the reactor's thread, when something may be due earlier than `nextDue` said.

        That is when messages have come, and when another process has changed something (``flush``, ``release``).
        """
