"""What a client's session is made of besides the session: transactions, and what its driver is told to do.

Knows values, and what a transaction remembers. Must not know which reply leads to what: that is `opening` and `transfer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from ..model.envelope import Envelope, Recipient
from ..model.errors import SMTPClientError
from ..model.results import PeerReply, RecipientOutcome, Stage


class Command(Enum):
    """What a reply can be awaited to. What becomes of it is a row of `clientsession.ROWS`."""

    # There is one of each, so it need not be found by its name.
    __hash__ = object.__hash__

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    STARTTLS = auto()
    AUTH = auto()
    CANCEL = auto()
    """The end of an AUTH exchange that the client breaks off."""
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CHUNK = auto()
    """A chunk that is not the last."""
    TEXT = auto()
    """The end of the text, by the dot or the last chunk."""
    EACH = auto()
    """A recipient's own reply behind the text (LMTP, PRDR)."""
    QUIT = auto()


class Awaited(NamedTuple):
    """A reply that has to come."""

    command: Command
    transaction: Transaction | None = None
    which: int = -1
    """Index of the recipient whose reply it is."""


class Transaction:
    """One message on its way to some recipients.

    Attributes:
        envelope: what is sent.
        recipients: to whom, of those of the envelope.
        size: octets of its text, or None.
        outcomes: what became of each; None while that is open.
        script: the commands that are still to be sent: what they are, their octets, whose they are.
        chunked: True if the text goes by BDAT.
        eager: True if the text is sent before it is known who takes it.
        begun: True once a command was sent.
        answered: True once a reply came.
        asked: True once DATA, or the text, was sent.
        taken: how many chunks of its text the server has taken.
        sent: True once the text was sent whole.
        closed: True when nothing more is sent for it.
        open: how many replies have to come.
        left: for how many recipients it is open what became of them.
        prdr: the replies to the text for each recipient alone, until the one for all; None where there are none.
    """

    __slots__ = (
        "answered", "asked", "begun", "chunked", "closed", "eager", "envelope", "left", "open", "outcomes", "prdr", "recipients", "script", "sent",
        "size", "taken",
    )  # fmt: skip

    def __init__(self, envelope: Envelope, recipients: Sequence[Recipient], size: int | None) -> None:
        self.envelope = envelope
        self.recipients = recipients
        self.size = size
        self.outcomes: list[RecipientOutcome | None] = [None] * len(recipients)
        self.script: deque[tuple[Command, bytes, int]] = deque()
        self.chunked = self.eager = self.begun = self.answered = self.asked = self.sent = self.closed = False
        self.open = self.taken = 0
        self.left = len(recipients)
        self.prdr: dict[int, PeerReply] | None = None

    def decide(self, index: int, stage: Stage, reply: PeerReply) -> None:
        """What became of one recipient, unless that was decided before."""
        if self.outcomes[index] is None:
            self.outcomes[index] = RecipientOutcome(self.recipients[index], stage, reply)
            self.left -= 1

    def decideAll(self, stage: Stage, reply: PeerReply) -> None:
        """What became of all for whom that is still open."""
        for index in self.undecided:
            self.decide(index, stage, reply)

    @property
    def undecided(self) -> list[int]:
        """For whom that is still open; behind the last RCPT's reply these are the accepted ones."""
        return [index for index, outcome in enumerate(self.outcomes) if outcome is None]


class Ready(NamedTuple):
    """The dialogue stands: transactions may begin."""


class BeginTLS(NamedTuple):
    """The handshake is due; `ClientSession.tlsStarted` goes on. What the peer has sent already does not count (RFC 3207 6)."""


class SendText(NamedTuple):
    """The text is due: by BDAT where the transaction is `chunked`, else as DATA has it. `ClientSession.textSent` goes on."""

    transaction: Transaction


class StopText(NamedTuple):
    """A chunk was refused: nothing more of this text is to be sent (RFC 3030 2)."""

    transaction: Transaction


class Finished(NamedTuple):
    """All is known about a transaction."""

    transaction: Transaction


class Failed(NamedTuple):
    """The session cannot go on. What is in the output is to be written, then the connection is to be closed."""

    error: SMTPClientError


class Ended(NamedTuple):
    """QUIT was answered: the connection is to be closed."""


Event: TypeAlias = Ready | BeginTLS | SendText | StopText | Finished | Failed | Ended
