"""The envelope for a message that somebody wants to send.

Knows what senders may ask for, and what the text and the addresses ask for by themselves. Must not know servers: what one of them cannot do is found
out when it is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from ..model.address import Address
from ..model.envelope import DeliverBy, Envelope, Recipient
from .addressing import FromHeaders, fromHeaders, parseAddress

if TYPE_CHECKING:
    from .content import Content

Sender: TypeAlias = "str | Address | None"
Recipients: TypeAlias = "str | Address | Recipient | Iterable[str | Address | Recipient] | None"

_NOTIFICATIONS = frozenset(("SUCCESS", "FAILURE", "DELAY"))
# RFC 3461 4.4: the longest ENVID, in xtext.
_ENVELOPE_ID_MAX = 100


def envelopeFor(
    content: Content,
    sender: Sender = None,
    recipients: Recipients = None,
    *,
    notify: str | Iterable[str] | None = None,
    ret: str | None = None,
    envelopeId: str | None = None,
    requireTLS: bool = False,
    priority: int = 0,
    deliverBy: DeliverBy | None = None,
    holdUntil: float | None = None,
) -> Envelope:
    """Makes an envelope.

    Args:
        content: the text; how it is to be declared follows from it.
        sender: the reverse-path, ``Ann <ann@client.test>`` too; the empty string for the null one; None: as the header section says.
        recipients: one or several, likewise; a `Recipient` has its own wishes. Each goes into the envelope once.
        notify: when the sender wants a report (RFC 3461 4.1): ``"NEVER"``, or of ``"SUCCESS"``, ``"FAILURE"`` and ``"DELAY"``.
        ret: what a report is to return, ``"FULL"`` or ``"HDRS"``.
        envelopeId: what a report is to name (RFC 3461 4.4): printable ASCII.
        requireTLS: True when the message may travel only over verified TLS (RFC 8689).
        priority: -9 to 9 (RFC 6710).
        deliverBy: by when it is to be delivered (RFC 2852).
        holdUntil: not to be sent on before this time, in seconds since the epoch (RFC 4865).

    Raises:
        ValueError: an address, or one of the wishes, is none, or there is no sender or no recipient; its text names it.
        TypeError: something stands where an address should.
        Unsendable: the header section has to say, and cannot be looked at (`Content.header`).
    """
    origin, several = named(content, sender, recipients)
    wanted = _notify(notify)
    targets = [each if isinstance(each, Recipient) else Recipient(_address(each), notify=wanted) for each in several]
    _check(targets, ret, envelopeId, priority)
    return Envelope(
        os.urandom(8).hex().upper(),
        origin,
        recipients=targets if len(targets) == 1 else list({target.address: target for target in reversed(targets)}.values())[::-1],
        size=content.size,
        body="BINARYMIME" if content.binary else "8BITMIME" if content.eightBit else "7BIT",
        smtputf8=content.utf8 or not "".join(chain(origin, *(target.address for target in targets))).isascii(),
        ret=ret,
        envelopeId=envelopeId,
        requireTLS=requireTLS,
        priority=priority,
        deliverBy=deliverBy,
        holdUntil=holdUntil,
    )


def named(content: Content, sender: Sender, recipients: Recipients) -> tuple[Address, Sequence[str | Address | Recipient]]:
    """The sender and the recipients, as given, or else as the header section says.

    Raises:
        ValueError: an address is none, or the sender is not said.
        Unsendable: the header section cannot be looked at.
    """
    said = fromHeaders(content.header) if sender is None or recipients is None else FromHeaders(None, ())
    origin = said.sender if sender is None else _address(sender)
    if origin is None:
        raise ValueError("the message does not say who sends it: there is no address in Sender or From")
    if recipients is None:
        return origin, said.recipients
    return origin, (recipients,) if isinstance(recipients, (str, Address, Recipient)) else tuple(recipients)


def _address(given: str | Address) -> Address:
    if isinstance(given, Address):
        return given
    if not isinstance(given, str):
        raise TypeError(f"an address is text or an Address, not {given!r}")
    return parseAddress(given)


def _notify(given: str | Iterable[str] | None) -> frozenset[str] | None:
    if given is None:
        return None
    words = frozenset((given,) if isinstance(given, str) else given)
    if words != {"NEVER"} and not (words and words <= _NOTIFICATIONS):
        raise ValueError(f"notify is {sorted(words)}: it must be NEVER, or some of SUCCESS, FAILURE and DELAY")
    return words


def _check(targets: Sequence[Recipient], ret: str | None, envelopeId: str | None, priority: int) -> None:
    if not targets:
        raise ValueError("there is no recipient")
    if any(target.address.isNull for target in targets):
        raise ValueError("the null path cannot be a recipient")
    if ret not in (None, "FULL", "HDRS"):
        raise ValueError(f"ret is {ret!r}: it must be FULL or HDRS")
    if envelopeId is not None and not (envelopeId.isascii() and envelopeId.isprintable() and 0 < len(envelopeId) <= _ENVELOPE_ID_MAX):
        raise ValueError(f"envelopeId is {envelopeId!r}: it must be of 1 to {_ENVELOPE_ID_MAX} printable ASCII characters")
    if not -9 <= priority <= 9:
        raise ValueError(f"priority is {priority}: it must be -9 to 9")
