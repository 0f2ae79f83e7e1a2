"""What a text goes through between where it is kept and the wire: line ends are made, header fields left out, octets counted, long pieces cut.

Knows octets and where a header section ends. All of it works on whole pieces, never on lines. Must not know what the pieces are read from.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Collection, Generator, Iterable, Iterator

from twisted.internet.defer import Deferred, ensureDeferred

from ..model.errors import Unsendable
from ..model.results import PeerReply, Stage

PIECE = 65_536
"""Octets of the largest piece."""
LONGEST_HEADER = 1_048_576
"""Octets of a header section that is looked at, or changed, in a text that is not in memory."""

# RFC 5322 2.2: lines of a name, a colon and anything, and lines that continue them.
_SECTION = re.compile(rb"(?:(?:[!-9;-~]+[ \t]*:|(?<=\n)[ \t])[^\n]*(?:\n|\Z))*")
_END = object()


def unsendable(enhanced: str, text: str, code: int = 554) -> Unsendable:
    """Why a text cannot be sent, before anybody was asked to take it."""
    return Unsendable(PeerReply(code, enhanced, (text,), local=True), Stage.MAIL)


def withLineEnds(octets: bytes) -> bytes:
    """The octets with each end of a line made CRLF: each CRLF, bare CR and bare LF is one (RFC 5321 2.3.8)."""
    if b"\r" not in octets:
        # As files have them.
        return octets.replace(b"\n", b"\r\n")
    pairs = octets.count(b"\r\n")
    if pairs == octets.count(b"\n") == octets.count(b"\r"):
        return octets
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def normalised(octets: bytes) -> bytes:
    """A whole text with each end of a line made CRLF, and one at the end of a last line that has none."""
    octets = withLineEnds(octets)
    return octets if not octets or octets.endswith(b"\n") else octets + b"\r\n"


def cut(octets: bytes) -> Iterator[bytes]:
    """The octets in pieces of 1 to `PIECE` octets."""
    return (octets[start : start + PIECE] for start in range(0, len(octets), PIECE))


def headerEnd(octets: bytes | bytearray, start: int = 0) -> int:
    """Where the header section of a text with CRLF line ends is over and its empty line begins, looked for from `start` on; -1 if nowhere."""
    if octets.startswith(b"\r\n"):
        return 0
    at = octets.find(b"\r\n\r\n", start)
    return at + 2 if at >= 0 else -1


def fieldsOf(section: bytes) -> bytes:
    """As much of a header section as looks like one: in a text that has none, what is taken for it is its body."""
    found = _SECTION.match(section)
    assert found is not None, "the expression matches nothing too"
    return found[0]


def withoutFields(section: bytes, names: Collection[str]) -> bytes:
    """The header section without the fields of these names, which are in lower case."""
    lower = section.lower()
    if not any(name.encode() in lower for name in names):
        return section
    from ..model.headers import Headers

    return b"".join(field.raw for field in Headers(section).fields if field.name.lower() not in names)


class LineEnds:
    """Does what `normalised` does, with a text that comes in pieces, wherever they are cut."""

    __slots__ = ("_open", "_pending")

    def __init__(self) -> None:
        # A CR at the end of a piece waits for what follows it.
        self._pending = False
        self._open = False

    def take(self, piece: bytes) -> bytes:
        """The next piece; what of it is sure."""
        if not piece:
            return b""
        if self._pending:
            piece = b"\r" + piece
        self._pending = piece.endswith(b"\r")
        if self._pending:
            piece = piece[:-1]
        piece = withLineEnds(piece)
        if piece:
            self._open = not piece.endswith(b"\n")
        return piece

    def end(self) -> bytes:
        """What is left at the end of the text."""
        return b"\r\n" if self._pending or self._open else b""


class FieldCut:
    """Does what `withoutFields` does, with a text that comes in pieces.

    Args:
        names: of the fields to leave out, in lower case.
    """

    __slots__ = ("_held", "_names", "_over", "_searched")

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._held = bytearray()
        self._searched = 0
        self._over = False

    def take(self, piece: bytes) -> bytes:
        """The next piece; what of it can go on: none while the header section lasts.

        Raises:
            Unsendable: that lasts too long.
        """
        if self._over:
            return piece
        self._held += piece
        end = headerEnd(self._held, self._searched)
        # All of an empty line but its last octet may have been there before.
        self._searched = max(0, len(self._held) - 3)
        if end >= 0:
            return self._rest(end)
        if len(self._held) > LONGEST_HEADER:
            raise unsendable("5.6.0", f"The header section is longer than {LONGEST_HEADER} octets")
        return b""

    def end(self) -> bytes:
        """What is left at the end of the text."""
        return b"" if self._over else self._rest(len(self._held))

    def _rest(self, end: int) -> bytes:
        self._over = True
        octets = bytes(self._held)
        self._held.clear()
        return withoutFields(octets[:end], self._names) + octets[end:]


class Flow:
    """One text from its beginning to its end, in pieces.

    Args:
        binary: True leaves line ends as they are.
        removed: the names of header fields to leave out, in lower case.
        size: octets that come out, or None when that is not known.
    """

    __slots__ = ("_cut", "_lines", "_sent", "_size")

    def __init__(self, binary: bool, removed: Collection[str], size: int | None) -> None:
        self._lines = None if binary else LineEnds()
        self._cut = FieldCut(removed) if removed else None
        self._size = size
        self._sent = 0

    def take(self, piece: object) -> Iterator[bytes]:
        """The next piece of any length; what comes out, in pieces of 1 to `PIECE` octets.

        Raises:
            TypeError: it is not octets.
            Unsendable: more comes out than was promised, or the header section is too long.
        """
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"the pieces of a message are octets, not {type(piece).__name__}")
        octets = bytes(piece)
        if self._lines is not None:
            octets = self._lines.take(octets)
        if self._cut is not None:
            octets = self._cut.take(octets)
        return self._counted(octets)

    def end(self) -> Iterator[bytes]:
        """The text is complete; what still comes out.

        Raises:
            Unsendable: in all it is not as much as was promised.
        """
        octets = self._lines.end() if self._lines is not None else b""
        if self._cut is not None:
            octets = self._cut.take(octets) + self._cut.end()
        pieces = self._counted(octets)
        if self._size is not None and self._sent != self._size:
            raise _changed(self._size)
        return pieces

    def _counted(self, octets: bytes) -> Iterator[bytes]:
        self._sent += len(octets)
        if self._size is not None and self._sent > self._size:
            raise _changed(self._size)
        return iter((octets,)) if 0 < len(octets) <= PIECE else cut(octets)


def flowing(source: Iterable[object], flow: Flow) -> Generator[bytes, None, None]:
    """What comes out of `flow`. The source is closed at the end, or when this is."""
    try:
        for piece in source:
            yield from flow.take(piece)
        yield from flow.end()
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def coming(source: AsyncIterator[object], flow: Flow) -> Generator[bytes | Deferred[bytes], None, None]:
    """Likewise, where each piece has to be waited for.

    What comes out stays one piece behind, since who takes it must know after each whether there is another.
    """
    ready: deque[bytes] = deque()
    ended = False

    async def following() -> bytes:
        nonlocal ended
        while len(ready) < 2 and not ended:
            piece = await anext(source, _END)
            ended = piece is _END
            ready.extend(flow.end() if ended else flow.take(piece))
        return ready.popleft() if ready else b""

    try:
        while ready or not ended:
            yield ready.popleft() if ended or len(ready) > 1 else ensureDeferred(following())
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            # What it does when it is told to end is its own business.
            ensureDeferred(close()).addErrback(lambda failure: None)


def _changed(size: int) -> Unsendable:
    """A text that is not what it was said to be: whoever tries again may find it whole."""
    return unsendable("4.3.0", f"The text has changed: it is no longer of {size} octets", 451)
