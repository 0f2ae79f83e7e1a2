"""The text of a message that is to be sent: octets, a file, a message of the email package, or an iterator of pieces.

Knows what messages are kept in, and the few facts that decide how a text can travel; keeps what `wire.outgoing.Text` promises. Must not know
envelopes, recipients or connections.
"""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import closing
from email.message import Message as PackageMessage
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, cast

from .flow import LONGEST_HEADER, PIECE, Flow, coming, cut, fieldsOf, flowing, headerEnd, normalised, unsendable, withoutFields

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    Octets: TypeAlias = bytes | bytearray | memoryview
    Source: TypeAlias = "Content | Octets | os.PathLike[str] | BinaryIO | PackageMessage[Any, Any] | Iterable[Octets] | AsyncIterable[Octets]"

# What could be taken for octets, or a path, or pieces.
_TEXT: tuple[type, ...] = (str, io.TextIOBase)


class _Facts(NamedTuple):
    """What is known, or claimed, of a text: see `Content.of`."""

    size: int | None
    eightBit: bool | None
    utf8: bool | None


class Content(ABC):
    """A text, and what has to be known of it before it is sent. Made by `of`.

    Line ends are made CRLF as the text is read: CRLF, a bare CR and a bare LF each end a line, and a last line without an end gets one. In a binary
    text nothing is changed.

    Attributes:
        binary: True when the text is to be declared BINARYMIME (RFC 3030), in whose body nothing is a line.
        repeatable: True when the text can be read more than once.
    """

    binary: bool
    repeatable: bool

    @staticmethod
    def of(source: Source, *, binary: bool = False, size: int | None = None, eightBit: bool | None = None, utf8: bool | None = None) -> Content:
        """Makes a content of whatever holds a message.

        Facts that are left out are found out when they are asked for, if need be by reading the text once. Facts that are given are believed, and
        spare that; but of a text that turns out to have another size no end is sent.

        Args:
            source: octets; a path, of a file that is closed when it is not being read; a file opened in binary mode, read from where it stands (one
                that cannot seek is read once, like an iterator); a message of the email package, taken as it is now; an iterable or asynchronous
                iterable of octets in pieces of any length; or a Content, which is returned as it is.
            binary: see the class.
            size: octets of the text as it is sent.
            eightBit: True when some are above 127. Of what is read only once, or asynchronously, it is assumed unless this denies it.
            utf8: True when some in the header section are. Of what is read only once, or asynchronously, it is denied unless this says so.

        Raises:
            TypeError: that holds no message. Neither does a `str`: a path and a message would look the same in it.
            OSError: the file cannot be read.
        """
        if isinstance(source, (bytes, bytearray, memoryview)):
            return OctetsContent(bytes(source), binary)
        if isinstance(source, Content):
            return source
        if isinstance(source, PackageMessage):
            from .emailmessage import flattened

            return OctetsContent(flattened(source), binary)
        facts = _Facts(size, eightBit, utf8)
        if isinstance(source, os.PathLike):
            return _ofPath(Path(source), binary, facts)
        if isinstance(source, _TEXT):
            raise TypeError("a message is octets, not text: encode it, or name a file with a Path, or open one in binary mode")
        if hasattr(source, "read"):
            return _ofFile(cast("BinaryIO", source), binary, facts)
        if isinstance(source, Iterable):
            # An iterator gives itself.
            once = iter(source) is source
            return StreamContent(_Once(source), binary, facts, repeatable=False) if once else FileContent(source.__iter__, binary, facts)
        if isinstance(source, AsyncIterable):
            once = isinstance(source, AsyncIterator)
            return StreamContent(_Once(source) if once else source.__aiter__, binary, facts, repeatable=not once)
        raise TypeError(f"{type(source).__name__} is no message: octets, a Path, a binary file, a message of the email package and an iterable are")

    @property
    def readable(self) -> bool:
        """True while the text can be read (again)."""
        return True

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Octets of the text as it is sent; None when nobody knows before its end."""

    @property
    @abstractmethod
    def eightBit(self) -> bool:
        """True when octets above 127 are in it, or may be: it is to be declared 8BITMIME (RFC 6152)."""

    @property
    @abstractmethod
    def utf8(self) -> bool:
        """True when octets above 127 are in its header section: it needs SMTPUTF8 (RFC 6531, RFC 6532)."""

    @property
    @abstractmethod
    def header(self) -> bytes:
        """The header section as it is sent, without the empty line that ends it.

        Raises:
            Unsendable: it is too long to look at, or cannot be looked at without using up the text.
        """

    @abstractmethod
    def pieces(self) -> Iterator[bytes | Deferred[bytes]]:
        """See `wire.outgoing.Text`. An asynchronous iterable that holds no octets at all gives one Deferred, which fires with none."""

    @abstractmethod
    def without(self, *names: str) -> Content:
        """The same text without the header fields of these names, in any case, and nothing else changed. What can be read once is shared by both."""

    def sevenBit(self) -> Content:
        """The same message without octets above 127; see `client.downgrade`.

        Raises:
            Unsendable: there is no such form.
        """
        if self.binary:
            # RFC 3030 3: who cannot convert it returns it.
            raise unsendable("5.6.3", "The message is binary, which this server does not take")
        if not self.eightBit:
            return self
        from .downgrade import sevenBit

        return OctetsContent(sevenBit(self._whole()))

    @abstractmethod
    def _whole(self) -> bytes:
        """All of the text, to convert it; or raises Unsendable where that would not fit into memory."""


class OctetsContent(Content):
    """A text in memory.

    Args:
        octets: the text, with line ends of any kind.
        binary: see `Content`.
    """

    repeatable = True

    def __init__(self, octets: bytes, binary: bool = False) -> None:
        self.binary = binary
        self._octets = octets if binary else normalised(octets)

    @property
    def size(self) -> int:
        """See `Content`."""
        return len(self._octets)

    @property
    def eightBit(self) -> bool:
        """See `Content`."""
        return not self._octets.isascii()

    @property
    def utf8(self) -> bool:
        """See `Content`."""
        return not self._octets.isascii() and not fieldsOf(self.header).isascii()

    @property
    def header(self) -> bytes:
        """See `Content`."""
        end = headerEnd(self._octets)
        return self._octets if end < 0 else self._octets[:end]

    def pieces(self) -> Iterator[bytes]:
        """See `Content`."""
        return iter((self._octets,)) if 0 < len(self._octets) <= PIECE else cut(self._octets)

    def without(self, *names: str) -> OctetsContent:
        """See `Content`."""
        header = self.header
        kept = withoutFields(header, _lower(names))
        return self if kept is header else OctetsContent(kept + self._octets[len(header) :], self.binary)

    def _whole(self) -> bytes:
        return self._octets


class _ReadContent(Content):
    """A text that is read from elsewhere, piece by piece.

    Args:
        read: begins to read it: gives the pieces, whose iterator is closed when the reading ends before its end.
        binary: see `Content`.
        facts: what is known.
        repeatable: see `Content`. What is not fails in `read` at the second time.
        removed: the header fields to leave out, in lower case.
    """

    def __init__(
        self, read: Callable[[], Any], binary: bool, facts: _Facts, *, repeatable: bool = True, removed: frozenset[str] = frozenset()
    ) -> None:
        self.binary = binary
        self.repeatable = repeatable
        self._read = read
        self._facts = facts
        self._removed = removed

    def without(self, *names: str) -> Content:
        """See `Content`."""
        # Nobody knows how much smaller it becomes.
        facts = self._facts._replace(size=None)
        return type(self)(self._read, self.binary, facts, repeatable=self.repeatable, removed=self._removed | _lower(names))

    def _flow(self) -> Flow:
        return Flow(self.binary, self._removed, self._facts.size)


class FileContent(_ReadContent):
    """A text that can be read again and again, as a file can."""

    @property
    def size(self) -> int:
        """See `Content`."""
        return self._found[0] if self._facts.size is None else self._facts.size

    @property
    def eightBit(self) -> bool:
        """See `Content`."""
        return self._found[1] if self._facts.eightBit is None else self._facts.eightBit

    @property
    def utf8(self) -> bool:
        """See `Content`."""
        return self.eightBit and not fieldsOf(self._head[0]).isascii() if self._facts.utf8 is None else self._facts.utf8

    @property
    def header(self) -> bytes:
        """See `Content`."""
        header, complete = self._head
        if not complete:
            raise unsendable("5.6.0", f"The header section is longer than {LONGEST_HEADER} octets")
        return header

    @cached_property
    def _found(self) -> tuple[int, bool]:
        """The size, and whether octets above 127 are in it: what reading all of it tells."""
        size, ascii7 = 0, True
        for piece in self.pieces():
            size += len(piece)
            ascii7 = ascii7 and piece.isascii()
        return size, not ascii7

    @cached_property
    def _head(self) -> tuple[bytes, bool]:
        """The header section, or as much of it as is looked at; and whether that is all of it."""
        top = bytearray()
        with closing(self.pieces()) as pieces:
            for piece in pieces:
                start = max(0, len(top) - 3)
                top += piece
                end = headerEnd(top, start)
                if end >= 0:
                    return bytes(top[:end]), True
                if len(top) > LONGEST_HEADER:
                    return bytes(top), False
        return bytes(top), True

    def pieces(self) -> Generator[bytes, None, None]:
        """See `Content`."""
        return flowing(self._read(), self._flow())

    def _whole(self) -> bytes:
        from .downgrade import LARGEST

        if self.size > LARGEST:
            raise unsendable("5.6.3", "The message holds octets above 127, which this server does not take, and is too large to be converted")
        return b"".join(self.pieces())


class StreamContent(_ReadContent):
    """A text that is read once, or whose pieces come in their own time: nothing is known of it but what is said."""

    @property
    def readable(self) -> bool:
        """See `Content`."""
        return not isinstance(self._read, _Once) or not self._read.given

    @property
    def size(self) -> int | None:
        """See `Content`."""
        return self._facts.size

    @property
    def eightBit(self) -> bool:
        """See `Content`."""
        return self._facts.eightBit is not False

    @property
    def utf8(self) -> bool:
        """See `Content`."""
        return self._facts.utf8 is True

    @property
    def header(self) -> bytes:
        """See `Content`."""
        raise unsendable("5.6.0", "The header section of a text that is read while it is sent is not known before")

    def pieces(self) -> Iterator[bytes | Deferred[bytes]]:
        """See `Content`."""
        source = self._read()
        return coming(source, self._flow()) if isinstance(source, AsyncIterator) else flowing(source, self._flow())

    def _whole(self) -> bytes:
        raise unsendable("5.6.3", "The message may hold octets above 127, which this server does not take, and cannot be converted while it is read")


class _Once:
    """Gives an iterator to the first who asks.

    Attributes:
        given: True when somebody has.
    """

    def __init__(self, source: object) -> None:
        self.given = False
        self._source = source

    def __call__(self) -> object:
        if self.given:
            raise unsendable("5.6.0", "The text has been read already, and can be read only once")
        self.given = True
        source, self._source = self._source, None
        return source


def _ofPath(path: Path, binary: bool, facts: _Facts) -> Content:
    read = partial(_pathPieces, path)
    if None not in facts:
        return FileContent(read, binary, facts)
    file = path.open("rb")
    octets = file.read(PIECE + 1)
    if len(octets) > PIECE and not file.seekable():
        # A pipe that has a name.
        return StreamContent(_Once(chain((octets,), _rest(file, closes=True))), binary, facts, repeatable=False)
    file.close()
    return OctetsContent(octets, binary) if len(octets) <= PIECE else FileContent(read, binary, facts)


def _ofFile(file: BinaryIO, binary: bool, facts: _Facts) -> Content:
    if not file.seekable():
        return StreamContent(_Once(_rest(file)), binary, facts, repeatable=False)
    return FileContent(partial(_filePieces, file, file.tell()), binary, facts)


def _pathPieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while octets := file.read(PIECE):
            yield octets


def _filePieces(file: BinaryIO, at: int) -> Iterator[bytes]:
    # Others may read it meanwhile, for the next connection say.
    while file.seek(at) >= 0 and (octets := file.read(PIECE)):
        at += len(octets)
        yield octets


def _rest(file: BinaryIO, *, closes: bool = False) -> Iterator[bytes]:
    # What is there counts: `read` would wait for a whole piece.
    read = getattr(file, "read1", file.read)
    while octets := read(PIECE):
        yield octets
    if closes:
        file.close()


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)
