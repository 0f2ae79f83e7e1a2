"""Reads the text of a message behind DATA (RFC 5321 4.1.1.4, 4.5.2) or BDAT (RFC 3030 2), wherever the network cut it.

Knows where the text ends, which dots are not part of it, and what makes it unfit: bare line ends, NUL, too many octets, too long lines, too
many hops. Must not know where the text goes. Each piece is looked at by a few searches at the speed of C, at most four octets wait for
the next one, and the text is never joined.
"""

from __future__ import annotations

import io

from ..model import replies
from ..model.limits import BareLineEnds, Limits
from ..model.reply import Reply

_TERMINATOR = b"\r\n.\r\n"
# What a piece may end with that the next one can complete to the terminator, longest first.
_BEGINNINGS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_HOP = b"\r\nreceived:"
# The faults of a text, the gravest first.
_GRAVITY = (replies.MAIL_LOOP, replies.BARE_LINE_END, replies.NUL_IN_TEXT, replies.TEXT_LINE_TOO_LONG, replies.TOO_LARGE)


class Text:
    """The text of one message, as it comes: counts it, and says what is wrong with it.

    Attributes:
        size: octets so far: CRLF counts as two, removed dots and the terminator do not count (RFC 1870 5).
        refusal: why the message cannot be accepted, as soon as that is known. The text is then read to its end and given to nobody.
    """

    __slots__ = ("_binary", "_carried", "_headerTail", "_hops", "_limits", "_lineLength", "_newlines", "refusal", "size")

    def __init__(self, limits: Limits, *, binary: bool = False) -> None:
        """Args:
        limits: the bounds, and what is done about bare line ends.
        binary: True for BODY=BINARYMIME, which has no lines (RFC 3030 3).
        """
        self.size = 0
        self.refusal: Reply | None = None
        self._limits = limits
        self._binary = binary
        self._newlines = io.IncrementalNewlineDecoder(None, translate=False)
        self._carried = b""
        self._lineLength = 0
        self._hops = 0
        # The end of what has been read of the header section, as if a line ended before the first; None behind the header section.
        self._headerTail: bytes | None = b"\r\n"

    def take(self, piece: bytes) -> bytes:
        """Looks at the next piece. Returns what is to be delivered of it: nothing once the message is refused."""
        fault = self._fault(piece)
        if self._limits.bareLineEnds is BareLineEnds.NORMALISE and not self._binary:
            piece = self._normalise(piece)
        self.size += len(piece)
        if fault is None and 0 < self._limits.messageSize < self.size:
            fault = replies.TOO_LARGE
        if fault is not None:
            self._refuse(fault)
        return piece if self.refusal is None else b""

    def end(self) -> bytes:
        """The text is complete. Returns what was carried over for a next piece."""
        if self._carried:
            # A CR was the last octet: its line end is made whole.
            return self.take(b"\n")
        self._newlines.decode("", final=True)
        if self._limits.bareLineEnds is BareLineEnds.REFUSE and self._newlines.newlines not in (None, "\r\n"):
            self._refuse(replies.BARE_LINE_END)
        return b""

    def _refuse(self, fault: Reply) -> None:
        """Of several faults the gravest is told, and not the one that was seen first: that would depend on how the network cut the text."""
        if self.refusal is None or _GRAVITY.index(fault) < _GRAVITY.index(self.refusal):
            self.refusal = fault

    def _fault(self, piece: bytes) -> Reply | None:
        """The gravest reason why the text cannot be accepted with this piece in it, or None. Looks at all of them, since each is counted on."""
        limits = self._limits
        fault = None
        if not self._binary:
            if limits.textLine and self._hasLongLine(piece, limits.textLine):
                fault = replies.TEXT_LINE_TOO_LONG
            if limits.bareLineEnds is BareLineEnds.REFUSE:
                if b"\0" in piece:
                    fault = replies.NUL_IN_TEXT
                # RFC 5321 2.3.8: CR and LF only together. The decoder notes each kind of line end that it meets, across pieces; as it is asked
                # not to translate, it makes nothing new.
                self._newlines.decode(piece.decode("latin-1"))
                if self._newlines.newlines not in (None, "\r\n"):
                    fault = replies.BARE_LINE_END
        if self._headerTail is not None and self._countHops(piece, self._headerTail) > limits.receivedFields:
            fault = replies.MAIL_LOOP
        return fault

    def _hasLongLine(self, piece: bytes, longest: int) -> bool:
        """True if a line with its CRLF exceeds `longest` octets. Leaps from line end to the last line end within reach, so long text costs little."""
        if self._lineLength + len(piece) <= longest:
            end = piece.rfind(b"\n")
            self._lineLength = len(piece) - end - 1 if end >= 0 else self._lineLength + len(piece)
            return False
        start = -self._lineLength
        while len(piece) - start > longest:
            end = piece.rfind(b"\n", max(start, 0), start + longest)
            if end < 0:
                return True
            start = end + 1
        self._lineLength = len(piece) - max(start, piece.rfind(b"\n") + 1 or start)
        return False

    def _countHops(self, piece: bytes, tail: bytes) -> int:
        """How many Received fields there have been (RFC 5321 6.3), counted up to the empty line that ends the header section."""
        header = tail + piece
        end = header.find(b"\r\n\r\n")
        self._headerTail = header[1 - len(_HOP) :] if end < 0 else None
        if end >= 0:
            header = header[: end + 2]
        self._hops += header.lower().count(_HOP)
        return self._hops

    def _normalise(self, piece: bytes) -> bytes:
        """The piece with each bare CR or LF made CRLF, and without NUL. A CR at its end waits for what comes next."""
        piece = self._carried + piece
        self._carried = b"\r" if piece.endswith(b"\r") else b""
        piece = piece[: len(piece) - len(self._carried)]
        # NUL last: what it stands between was not together.
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"")


class Waste(Text):
    """Text that is read and thrown away, whatever it is."""

    __slots__ = ()

    def take(self, piece: bytes) -> bytes:
        return b""

    def end(self) -> bytes:
        return b""


class DotReader:
    """Reads text that ends with a line of one dot, behind DATA."""

    __slots__ = ("_atStart", "_held", "text")

    def __init__(self, text: Text) -> None:
        self.text = text
        # The text begins at the start of a line, as if a CRLF stood before it; that one is taken off again.
        self._held = b"\r\n"
        self._atStart = True

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Reads the next octets from the client.

        Returns:
            What is to be delivered, perhaps nothing; and None, or once the terminator is there what stands behind it.
        """
        data = self._held + data
        rest = None
        dot = data.find(b"\r\n.")
        stop = data.find(_TERMINATOR, dot) if dot >= 0 else -1
        if stop >= 0:
            # RFC 5321 4.1.1.4: the first CRLF of the terminator ends the last line of the text.
            piece = data[: stop + 2]
            rest = data[stop + 5 :]
        else:
            self._held = next((beginning for beginning in _BEGINNINGS if data.endswith(beginning)), b"")
            piece = data[: len(data) - len(self._held)]
        if not piece:
            return b"", rest
        # RFC 5321 4.5.2: of a line that begins with a dot, and is not the terminator, the first octet is deleted.
        if 0 <= dot < (stop if stop >= 0 else len(piece)):
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._atStart:
            self._atStart = False
            piece = piece[2:]
        return self.text.take(piece), rest


class ChunkReader:
    """Reads a chunk of so many octets, behind BDAT. Dots mean nothing in it. The text is complete at the end of the `last` one."""

    __slots__ = ("_last", "_left", "text")

    def __init__(self, text: Text, size: int, *, last: bool) -> None:
        self.text = text
        self._left = size
        self._last = last

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Reads the next octets from the client; returns what `DotReader.feed` does."""
        chunk = data[: self._left]
        self._left -= len(chunk)
        piece = self.text.take(chunk)
        if self._left:
            return piece, None
        return piece + self.text.end() if self._last else piece, data[len(chunk) :]
