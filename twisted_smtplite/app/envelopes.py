"""The envelope of a message that a command sends: what the user has said of it, and where he said nothing, what its header fields say.

Knows which of both counts. Must not know how header fields are read: that is `client.addressing`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..client.addressing import fromHeaders
from ..client.content import Content
from ..client.envelopes import envelopeFor
from ..model.address import Address
from .sending import Letter


class EnvelopeChoices(NamedTuple):
    """What the user has said.

    Attributes:
        sender: the sender, or None for that of the header fields.
        recipients: the recipients.
        headerToo: True adds those of the header fields.
        domain: what addresses without a domain belong to; empty: there must be none.
        notify: when reports are wanted (RFC 3461 4.1), or None.
        ret: what they return, ``"FULL"`` or ``"HDRS"``, or None.
        envelopeId: what they name, or None.
        requireTLS: see `Envelope`.
        priority: see `Envelope`.
    """

    sender: Address | None = None
    recipients: tuple[Address, ...] = ()
    headerToo: bool = False
    domain: str = ""
    notify: frozenset[str] | None = None
    ret: str | None = None
    envelopeId: str | None = None
    requireTLS: bool = False
    priority: int = 0


def makeLetter(source: bytes | Path, choices: EnvelopeChoices) -> Letter:
    """A message with its envelope, without Bcc fields (RFC 5322 3.6.3).

    Raises:
        ValueError: it names no sender or no recipient, or an address that is none; the text is a sentence.
        OSError: its file cannot be read.
        SMTPClientError: its header section cannot be looked at.
    """
    content = Content.of(source)
    sender, recipients = choices.sender, choices.recipients
    if sender is None or choices.headerToo:
        said = fromHeaders(content.header, choices.domain)
        sender = said.sender if sender is None else sender
        recipients = (*recipients, *said.recipients) if choices.headerToo else recipients
    if sender is None:
        raise ValueError("it does not say who sends it, in From or Sender")
    if not recipients:
        raise ValueError("it does not say who is to get it, in To, Cc or Bcc")
    content = content.without("Bcc", "Resent-Bcc")
    envelope = envelopeFor(
        content,
        sender,
        recipients,
        notify=choices.notify,
        ret=choices.ret,
        envelopeId=choices.envelopeId,
        requireTLS=choices.requireTLS,
        priority=choices.priority,
    )
    return Letter(envelope, content)
