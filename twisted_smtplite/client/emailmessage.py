"""Messages of the email package, written out.

Knows that package. Must not know what becomes of the octets.
"""

from __future__ import annotations

from email.generator import BytesGenerator
from email.message import Message
from email.policy import EmailPolicy
from email.utils import getaddresses
from io import BytesIO
from typing import Any

_ADDRESS_FIELDS = ("From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Bcc")


def flattened(message: Message[Any, Any]) -> bytes:
    """A message as octets, by its own policy; in its header fields is UTF-8 where its addresses need that (RFC 6532)."""
    policy: Any = message.policy.clone(linesep="\r\n")
    if isinstance(policy, EmailPolicy) and not _asciiAddresses(message):
        # Encoded words are no part of an address (RFC 2047 5).
        policy = policy.clone(utf8=True)
    out = BytesIO()
    # A line that begins with "From " stays as it is: that is a matter of mailboxes.
    BytesGenerator(out, mangle_from_=False, policy=policy).flatten(message)
    return out.getvalue()


def _asciiAddresses(message: Message[Any, Any]) -> bool:
    values = [str(value) for name in _ADDRESS_FIELDS for value in message.get_all(name, ())]
    return all(address.isascii() for _, address in getaddresses(values))
