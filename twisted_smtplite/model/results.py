"""What became of a message that was sent: replies as a peer gave them, and an outcome for each recipient.

Knows values only: a peer's reply can be anything, so it is not a `Reply`, which is always well formed. Must not know how mail is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from .envelope import Recipient


class Stage(Enum):
    """How far a recipient's message had come when its outcome was decided."""

    CONNECT = "connect"
    """No connection came about."""
    GREETING = "greeting"
    """A connection, and nothing good said on it."""
    HELLO = "hello"
    """EHLO, HELO or LHLO."""
    TLS = "tls"
    """STARTTLS, or the handshake."""
    AUTH = "auth"
    """The login."""
    MAIL = "mail"
    """The sender, and what is declared of the message."""
    RCPT = "rcpt"
    """The recipient."""
    DATA = "data"
    """DATA, or the text on its way: it has not been sent whole."""
    TEXT = "text"
    """The text was sent whole, by DATA or BDAT."""


class PeerReply(NamedTuple):
    """A reply as a peer gave it (RFC 5321 4.2), or what stands for one that never came.

    Attributes:
        code: the basic code, 200 to 599.
        enhanced: the enhanced status code (RFC 2034), e.g. ``"5.1.1"``, where the first line begins with one that fits `code`; else None.
        lines: what people read, a line each, without codes; control characters are gone, and octets that are no UTF-8 show as U+FFFD.
        local: True when no peer said this, but we: no connection, a timeout, a message that this peer cannot take.
    """

    code: int
    enhanced: str | None = None
    lines: tuple[str, ...] = ("",)
    local: bool = False

    @property
    def text(self) -> str:
        """The lines as one."""
        return " ".join(line for line in self.lines if line)

    @property
    def positive(self) -> bool:
        """True for 2yz, and for 3yz, which asks for more."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """True for 4yz: the same may be tried again."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """True for 5yz: the same is not to be tried again."""
        return self.code >= 500

    @property
    def status(self) -> str:
        """The enhanced status code; where the peer gave none, that of its class: ``"2.0.0"``, ``"4.0.0"`` or ``"5.0.0"`` (RFC 3463 3.1)."""
        return self.enhanced or f"{2 if self.positive else self.code // 100}.0.0"

    def __str__(self) -> str:
        return " ".join(filter(None, (str(self.code), self.enhanced, self.text)))


@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    """What became of the message for one recipient.

    Attributes:
        recipient: whose outcome it is, as in the envelope.
        stage: where it was decided.
        reply: the reply that decided it; a local one where no peer did.
    """

    recipient: Recipient
    stage: Stage
    reply: PeerReply

    @property
    def accepted(self) -> bool:
        """True when the peer has taken responsibility for the message (RFC 5321 4.2.5)."""
        return self.stage is Stage.TEXT and self.reply.positive

    @property
    def temporary(self) -> bool:
        """True when it may be tried again."""
        return self.reply.temporary

    @property
    def permanent(self) -> bool:
        """True when it must not be tried again unchanged."""
        return self.reply.permanent

    @property
    def uncertain(self) -> bool:
        """True when the peer got the whole message and its answer never came: it may have taken it, and a later try may double it."""
        return self.stage is Stage.TEXT and self.reply.local

    @property
    def code(self) -> int:
        """The reply's basic code."""
        return self.reply.code

    @property
    def enhanced(self) -> str:
        """The reply's enhanced status code, made up from its class where the peer gave none."""
        return self.reply.status

    @property
    def text(self) -> str:
        """The reply's text, on one line."""
        return self.reply.text


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message: an outcome for each recipient, in the envelope's order.

    Attributes:
        outcomes: one for each recipient.
        peer: the host that decided, as it was connected to; empty where nobody was reached. Where several hosts did, the last.
        extensions: the EHLO keywords of that host, in upper case: what it could do with the message (RFC 3461 5.2.2 turns on ``"DSN"``).
    """

    outcomes: tuple[RecipientOutcome, ...]
    peer: str = ""
    extensions: frozenset[str] = frozenset()

    @property
    def accepted(self) -> Sequence[RecipientOutcome]:
        """Those that the peer took."""
        return [outcome for outcome in self.outcomes if outcome.accepted]

    @property
    def refused(self) -> Sequence[RecipientOutcome]:
        """Those that did not get the message, for now or for good."""
        return [outcome for outcome in self.outcomes if not outcome.accepted]

    @property
    def complete(self) -> bool:
        """True when every recipient's was accepted."""
        return not self.refused
