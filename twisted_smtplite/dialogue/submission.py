"""What a submission server asks of an envelope and of a header section, and adds to a message (RFC 6409 4.2, 8).

Knows domains that are complete, and header fields that a message should have. Must not know where the message comes from or goes to. The text is
only looked at up to the end of its header section, is never changed, and its rest passes untouched.

Sender is not added (8.1, MAY): it would have to be a valid address, and who has authenticated is known by a name, which is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate

from ..model import replies
from ..model.address import Address
from ..model.addressfields import addressFields, domains
from ..model.envelope import Envelope, SessionInfo
from ..model.reply import Reply

LONGEST_HEADER = 65_536
"""Octets of a message that are looked at. A longer header section passes as it is: whether it lacks something is not known."""

# RFC 5322 2.2: lines of a name, a colon and anything, and lines that continue them.
_SECTION = re.compile(rb"(?:(?:[!-9;-~]+[ \t]*:|(?<=\n)[ \t])[^\n]*(?:\n|\Z))*")
_KNOWN = re.compile(rb"^(date|message-id)[ \t]*:", re.MULTILINE | re.IGNORECASE)


def senderRefusal(address: Address) -> Reply | None:
    """Why a reverse-path is not fit for submission, or None (RFC 6409 4.2). The null reverse-path is (3.2)."""
    return None if address.isNull or _qualified(address.domain) else replies.SENDER_UNQUALIFIED


def recipientRefusal(address: Address) -> Reply | None:
    """Why a forward-path is not fit for submission, or None (RFC 6409 4.2). Bare postmaster names no domain."""
    return None if not address.domain or _qualified(address.domain) else replies.RECIPIENT_UNQUALIFIED


def headerRefusal(section: bytes) -> Reply | None:
    """Why a header section is not fit for submission, or None: who changes a message must know that its domains are complete (RFC 6409 4.2)."""
    for name, value in addressFields(section):
        if not all(map(_qualified, domains(value))):
            return replies.unqualifiedIn(name)
    return None


def _qualified(domain: str) -> bool:
    return domain.startswith("[") or "." in domain.strip(".")


def missingFields(session: SessionInfo, envelope: Envelope) -> dict[bytes, bytes]:
    """The fields that are added where they are missing, by their names in lower case (RFC 6409 8.2, 8.3)."""
    return {
        b"date": f"Date: {formatdate(envelope.receivedAt, localtime=True)}\r\n".encode(),
        b"message-id": f"Message-ID: <{envelope.id}@{session.hostname}>\r\n".encode(),
    }


class Completion:
    """Looks at the header section of a message on its way, and adds the missing fields.

    Args:
        fields: makes the fields when they are needed, by their names in lower case.

    Attributes:
        refusal: why the message must not go on, once its header section is known, or None.
    """

    __slots__ = ("_fields", "_over", "_read", "_searched", "refusal")

    def __init__(self, fields: Callable[[], dict[bytes, bytes]]) -> None:
        self._fields = fields
        self._read = bytearray()
        self._searched = 0
        self._over = False
        self.refusal: Reply | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Takes the next octets of the message. Returns those that can go on: none while the header section lasts."""
        if self._over:
            return chunk
        self._read += chunk
        # The empty line, which may have begun before this chunk.
        if self._read.startswith(b"\r\n") or self._read.find(b"\r\n\r\n", self._searched) >= 0:
            return self.end()
        self._searched = max(0, len(self._read) - 3)
        return self.end() if len(self._read) > LONGEST_HEADER else b""

    def end(self) -> bytes:
        """The message is complete, or as much of it as matters here. Returns what has been held back of it, completed."""
        if self._over:
            return b""
        self._over = True
        text = bytes(self._read)
        self._read.clear()
        # The same octets are looked at however the text was cut.
        head = text[:LONGEST_HEADER]
        section = _SECTION.match(head)
        assert section is not None, "the expression matches nothing too"
        end = section.end()
        if len(text) > len(head) and b"\n" not in head[end:]:
            return text
        self.refusal = headerRefusal(text[:end])
        known = {found.lower() for found in _KNOWN.findall(text[:end])}
        added = b"".join(field for name, field in self._fields().items() if name not in known)
        if not added or (end == len(text) and text and not text.endswith(b"\n")):
            # Behind a line without an end nothing can be added, only before all of them.
            return added + text
        # A text that begins without a header section gets one, and the empty line that belongs to it.
        gap = b"" if end == len(text) or text.startswith(b"\r\n", end) else b"\r\n"
        return text[:end] + added + gap + text[end:]
