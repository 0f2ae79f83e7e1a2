"""A message as it travels: a header section, an empty line, a body (RFC 5322 2.1). Read on demand, kept exactly.

Knows how the two are told apart, in memory or in an opened file. Nothing in here raises on any octets. Must not know where a message comes from or
what becomes of it.
"""

from __future__ import annotations

from functools import cached_property
from io import BytesIO
from typing import BinaryIO

from .headers import Defect, Headers, findEmptyLine
from .parts import Part, walkParts

_CHUNK = 65_536


class Message:
    r"""A message, e.g. ``Message(b"Subject: Hello\r\n\r\nHello, Ben.\r\n")``; `fromFile` reads one that is too large to hold.

    Nothing is parsed until it is asked for, and what was parsed is kept. CRLF and LF line ends are read alike. For a mutable message, or one to be
    written anew, give `content` to ``email.message_from_bytes`` of the standard library, but not if a stranger wrote it: deep nesting makes that
    raise.
    """

    def __init__(self, content: bytes) -> None:
        self._file: BinaryIO = BytesIO(content)

    @classmethod
    def fromFile(cls, file: BinaryIO) -> Message:
        """Reads a message from an opened, seekable binary file, from its first octet.

        `headers` reads no further than the empty line; `body` and `parts` hold the whole body in memory. The file stays the caller's: keep it open
        until what is needed has been asked for, and close it.
        """
        message = cls(b"")
        message._file = file
        return message

    @property
    def content(self) -> bytes:
        """The whole message, exactly."""
        self._file.seek(0)
        return self._file.read()

    @cached_property
    def _top(self) -> tuple[bytes, bytes]:
        """The header section and the empty line behind it, which is missing in a message that has no body."""
        self._file.seek(0)
        # As if a line ended there before the first one.
        top = bytearray(b"\n")
        while chunk := self._file.read(_CHUNK):
            # All of an empty line but its last octet may have been there before.
            resume = max(0, len(top) - 2)
            top += chunk
            if emptyLine := findEmptyLine(top, resume, len(top)):
                start, end = emptyLine
                return bytes(top[1:start]), bytes(top[start:end])
        return bytes(top[1:]), b""

    @cached_property
    def headers(self) -> Headers:
        """The header section: ``message.headers["Subject"]``."""
        return Headers(self._top[0])

    @property
    def separator(self) -> bytes:
        """The empty line that ends the header section: CRLF, LF, or nothing. Between `headers.raw` and `body` it makes up `content`."""
        return self._top[1]

    @cached_property
    def body(self) -> bytes:
        """All octets after the first empty line, exactly; empty when there is no such line."""
        self._file.seek(sum(map(len, self._top)))
        return self._file.read()

    @cached_property
    def _walked(self) -> tuple[tuple[Part, ...], tuple[Defect, ...]]:
        return walkParts(self.headers, self.body)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The MIME parts that hold something, in order, those of nested multiparts too (RFC 2046); a plain message is one part."""
        return self._walked[0]

    @property
    def defects(self) -> tuple[Defect, ...]:
        """What is wrong with the message: its header fields, then its MIME structure. Each part's `headers` has its own."""
        return self.headers.defects + self._walked[1]
