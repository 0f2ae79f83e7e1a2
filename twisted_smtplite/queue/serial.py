"""Envelopes, recipients and replies as JSON text, and back: all of each, but for what policies found out.

Knows the values. Must not know where the text is kept. A value that has its default is left out, so that most are short.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from ..model.address import Address
from ..model.envelope import DeliverBy, Envelope, Parameter, Recipient, ValidSince
from ..model.results import PeerReply

_APART = frozenset({"recipients", "_results"})
"""What is not in the text of an envelope: the recipients have texts of their own, and the findings of policies may be anything."""


def envelopeText(envelope: Envelope) -> str:
    """The envelope without its recipients."""
    return _text(_values(envelope))


def envelopeFrom(text: str, recipients: Sequence[Recipient]) -> Envelope:
    """The envelope of such a text, with these recipients."""
    return Envelope(**_decoded(json.loads(text)), recipients=list(recipients))


def recipientText(recipient: Recipient) -> str:
    """The recipient."""
    return _text(_values(recipient))


def recipientFrom(text: str) -> Recipient:
    """The recipient of such a text."""
    return Recipient(**_decoded(json.loads(text)))


def replyText(reply: PeerReply | None) -> str | None:
    """The reply, or None."""
    return None if reply is None else _text(reply)


def replyFrom(text: str | None) -> PeerReply | None:
    """The reply of such a text, or None."""
    if text is None:
        return None
    code, enhanced, lines, local = json.loads(text)
    return PeerReply(code, enhanced, tuple(lines), local)


def _values(of: Envelope | Recipient) -> dict[str, object]:
    """The fields that do not have their defaults."""
    values = {}
    for row in fields(of):
        value = getattr(of, row.name)
        if row.name not in _APART and (row.default is MISSING or value != row.default):
            values[row.name] = value
    return values


def _text(value: object) -> str:
    # Only ASCII: a half of a character, which may come from anywhere, is no text that a database takes.
    return json.dumps(value, separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    """What JSON has no word for."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no text")


_DECODERS: dict[str, Callable[[Any], object]] = {
    "sender": lambda value: Address(*value),
    "address": lambda value: Address(*value),
    "parameters": lambda value: tuple(Parameter(*parameter) for parameter in value),
    "deliverBy": lambda value: value and DeliverBy(*value),
    "validSince": lambda value: value and ValidSince(*value),
    "notify": lambda value: value if value is None else frozenset(value),
    "originalRecipient": lambda value: value and tuple(value),
    "topFields": lambda value: value.encode("latin-1"),
}
"""What makes a field of what JSON made of it, where that is something else."""


def _decoded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _DECODERS[name](value) if name in _DECODERS else value for name, value in values.items()}
