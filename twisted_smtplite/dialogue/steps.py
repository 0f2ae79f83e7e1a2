"""What a command can lead to besides a reply: the questions that the rules leave open, and the phases of a session.

Knows values only. `session` makes them; whoever drives a session answers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from ..model.address import Address
from ..model.envelope import Envelope, Recipient
from ..model.reply import Reply
from .sasl import Check


class Phase(IntEnum):
    """How far a session is. Integers, so that a row finds its refusal for a phase by index: flags cost as much as a whole command."""

    START = 0
    READY = 1
    MAIL = 2
    RCPT = 3
    TEXT = 4
    """Behind 354: nothing is a command before the end of the text."""
    CHUNKS = 5
    """Between the chunks of a message."""


class AskSender(NamedTuple):
    """Is this reverse-path welcome? Answered by None or a Reply."""

    envelope: Envelope

    @property
    def subject(self) -> Address:
        """The address in question."""
        return self.envelope.sender


class AskRecipient(NamedTuple):
    """Is this forward-path welcome? Answered by None or a Reply."""

    envelope: Envelope
    recipient: Recipient

    @property
    def subject(self) -> Address:
        """The address in question."""
        return self.recipient.address


class AskData(NamedTuple):
    """Who takes the message? Answered by None when somebody does, or a refusing Reply."""

    envelope: Envelope


class AskVerify(NamedTuple):
    """VRFY. Answered by a Reply, or None when nobody knows."""

    text: str


class AskExpand(NamedTuple):
    """EXPN. Answered by a Reply, or None when nobody knows."""

    text: str


class AskCredentials(NamedTuple):
    """Are these credentials good? Answered by what the mechanism wants to know, see `sasl.Check`; or a refusing Reply."""

    check: Check


class ChangeClient(NamedTuple):
    """The session is to be that of another client, at this address (XCLIENT). Answered by None, or by the Reply that refuses this client."""

    host: str
    told: Mapping[str, str]


class AskHello(NamedTuple):
    """Is this client welcome, by its own name? Only where policies are asked. Answered by None or a Reply."""

    name: str
    extended: bool


class AskLogin(NamedTuple):
    """May this session act for a user whose credentials are good? Only where policies are asked. Answered by None or a Reply."""

    user: str


class TakeChunk(NamedTuple):
    """A chunk of `size` octets follows (RFC 3030 2).

    With a `refusal` it is to be read and thrown away, and the refusal said. Else it is part of the message: the first one asks who takes it, as
    `AskData` does.
    """

    envelope: Envelope | None
    size: int
    last: bool
    refusal: Reply | None


class StartTLS(NamedTuple):
    """The session is to be encrypted once `reply` is said (RFC 3207 4). `Session.tlsStarted` goes on."""

    reply: Reply


Step: TypeAlias = (
    AskSender | AskRecipient | AskData | AskVerify | AskExpand | AskHello | AskLogin | AskCredentials | ChangeClient | TakeChunk | StartTLS
)
