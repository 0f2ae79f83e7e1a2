"""Messages that a user names on the command line: files, Maildirs, mboxes, standard input.

Knows these forms, and reads no more than one message ahead of what is asked for. Must not know what becomes of the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader, BytesIO
from itertools import chain
from os import fstat
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, NamedTuple

_LARGE = 1_048_576
"""Octets above which a file is left where it is, and read in pieces when it is sent."""
_STDIN = "-"

# RFC 4155 Appendix A: "From ", who sent it, and a time. There are many ways to write the time, but each has a clock in it.
_FROM_LINE = re.compile(rb"From [^\n]*[0-9]:[0-9][0-9]")
# mboxrd: a line of a message that could be taken for such a line has one mark more than it had.
_QUOTED = re.compile(rb">+From ")


class Found(NamedTuple):
    """A message that was found.

    Attributes:
        name: for people: the file's, as the user would write it; with a number for one of an mbox.
        source: its octets, or the file that has nothing else in it.
        size: octets that it takes up where it was found.
    """

    name: str
    source: bytes | Path
    size: int


class Gone(NamedTuple):
    """A message, or the rest of a file, that cannot be read.

    Attributes:
        name: as that of `Found`.
        reason: why.
    """

    name: str
    reason: str


class Sources:
    """The messages in what the user names. Iterate it once.

    Args:
        names: of files with one message, of mboxes, of Maildirs; ``-`` for standard input, which has a message or an mbox.
        stdin: standard input.

    Raises:
        OSError: something is not there, or not to be read; nothing was sent yet.
        ValueError: it is a directory and no Maildir, or standard input is named twice; the text is a sentence.
    """

    def __init__(self, names: Sequence[str], stdin: BinaryIO) -> None:
        if names.count(_STDIN) > 1:
            raise ValueError("standard input can be read only once")
        self._stdin = stdin
        self._parts: list[tuple[str, Sequence[Path]]] = [(name, () if name == _STDIN else _files(Path(name))) for name in names]

    def octets(self) -> int | None:
        """Octets of all that there is to read; None when nobody knows, because some of it comes through a pipe."""
        found = 0
        for name, paths in self._parts:
            for path in paths:
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                if not S_ISREG(status.st_mode):
                    return None
                found += status.st_size
            if name == _STDIN:
                return None
        return found

    def __iter__(self) -> Iterator[Found | Gone]:
        for name, paths in self._parts:
            if name == _STDIN:
                yield from _inStream("standard input", self._stdin)
            for path in paths:
                yield from _inFile(path)


def _files(path: Path) -> Sequence[Path]:
    """The files that a name means: a Maildir's messages, in the order of their arrival, or the file itself."""
    if not path.is_dir():
        # A pipe can be opened only once, and not here.
        if path.stat() and path.is_file():
            path.open("rb").close()
        return (path,)
    folders = [path / "cur", path / "new"]
    if not all(folder.is_dir() for folder in folders):
        raise ValueError(f"{path} is a directory, but no Maildir: it has no new and cur in it")
    files = (each for folder in folders for each in folder.iterdir() if not each.name.startswith("."))
    # Names begin with the time of arrival in seconds, as every program writes them.
    return sorted(files, key=lambda each: (int(found[0]) if (found := re.match("[0-9]+", each.name)) else 0, each.name))


def _inFile(path: Path) -> Iterator[Found | Gone]:
    try:
        with path.open("rb", buffering=0) as file:
            status = fstat(file.fileno())
            if S_ISREG(status.st_mode) and status.st_size <= _LARGE:
                # One read: of a Maildir's many messages each is a file.
                content = file.readall()
                if content.startswith(b"From "):
                    yield from _inMbox(str(path), BytesIO(content))
                else:
                    yield Found(str(path), content, len(content))
                return
            with BufferedReader(file) as stream:
                if not S_ISREG(status.st_mode):
                    yield from _inStream(str(path), stream)
                elif stream.peek(5).startswith(b"From "):
                    yield from _inMbox(str(path), stream)
                else:
                    yield Found(str(path), path, status.st_size)
    except OSError as error:
        # In a Maildir that somebody reads, messages are moved and deleted at any time.
        yield Gone(str(path), error.strerror or str(error))


def _inStream(name: str, stream: BinaryIO) -> Iterator[Found | Gone]:
    try:
        first = stream.readline()
        if first.startswith(b"From "):
            yield from _inMbox(name, chain((first,), stream))
        else:
            content = first + stream.read()
            yield Found(name, content, len(content))
    except OSError as error:
        yield Gone(name, error.strerror or str(error))


def _inMbox(name: str, lines: Iterable[bytes]) -> Iterator[Found]:
    """The messages of an mbox: another one begins at a "From " line behind an empty line, which belongs to neither (RFC 4155 Appendix A)."""
    number, size = 0, 0
    held: list[bytes] = []
    for line in lines:
        if line.startswith(b"From ") and (not size or (_isEmpty(held) and _FROM_LINE.match(line))):
            if size:
                number += 1
                yield Found(f"{name}:{number}", b"".join(held[:-1]), size)
            size, held = 0, []
        else:
            held.append(line[1:] if line[:1] == b">" and _QUOTED.match(line) else line)
        size += len(line)
    if size:
        yield Found(f"{name}:{number + 1}", b"".join(held[:-1] if _isEmpty(held) else held), size)


def _isEmpty(lines: Sequence[bytes]) -> bool:
    """True where the last of the lines is an empty one."""
    return bool(lines) and lines[-1] in (b"\n", b"\r\n")
