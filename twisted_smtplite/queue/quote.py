"""What a report returns of a message: its header section, and its text where that is not too long (RFC 3461 4.3, 6.2).

Knows where a header section ends, and how much is enough. Must not know what a report looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..model.headers import findEmptyLine

if TYPE_CHECKING:
    from ..client.content import Content

_MOST_HEADER = 65_536
"""Octets of a header section that are returned; a longer one is cut at the end of a line."""


@dataclass(frozen=True, slots=True)
class Quote:
    """What is known of a message that is reported about.

    Attributes:
        header: its header section, each line with CRLF, without the empty line.
        whole: the whole message, or None when it is too long, or cannot be read.
    """

    header: bytes = b""
    whole: bytes | None = None


async def quote(content: Content, most: int) -> Quote:
    """Reads the beginning of a message, no more than it needs.

    Args:
        content: the text.
        most: octets of the longest message that is returned as a whole.

    Raises:
        Exception: whatever reading it raises.
    """
    read = bytearray()
    pieces = content.pieces()
    try:
        for piece in pieces:
            read += piece if isinstance(piece, bytes) else await piece
            if len(read) > max(most, _MOST_HEADER):
                break
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    whole = bytes(read) if len(read) <= most else None
    return Quote(_headerOf(read), whole)


def _headerOf(text: bytearray) -> bytes:
    if text.startswith(b"\r\n"):
        return b""
    empty = findEmptyLine(text, 0, len(text))
    header = bytes(text[: empty[0] if empty else len(text)])
    if len(header) > _MOST_HEADER:
        header = header[:_MOST_HEADER]
    # What was cut off, here or where reading ended, goes with its line.
    return header[: header.rfind(b"\r\n") + 2]
