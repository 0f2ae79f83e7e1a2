"""The text of a message as DATA carries it (RFC 5321 4.5.2): dots doubled, and a dot at the end.

Knows dots. The text comes with its line ends made CRLF; must not know where from.
"""

from __future__ import annotations


class Stuffer:
    """Doubles the dots at the beginning of lines, wherever the text is cut into pieces."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        # The last two octets of the text so far; it begins as a line does.
        self._tail = b"\r\n"

    def take(self, piece: bytes) -> bytes:
        """The next piece of the text, of at least one octet, as it is sent."""
        begins = self._tail.endswith(b"\n") and piece.startswith(b".")
        self._tail = piece[-2:] if len(piece) > 1 else self._tail[-1:] + piece
        # Looking for LF alone also finds a dot behind a CR and LF that were cut apart. And no line end that some server might take for one has a
        # single dot behind it.
        if b"\n." in piece:
            # As `replace` does it, which takes twice the time.
            piece = b"\n..".join(piece.split(b"\n."))
        return b"." + piece if begins else piece

    def end(self) -> bytes:
        """What ends the text (RFC 5321 4.1.1.4): the dot, and the end of the last line if it had none."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
