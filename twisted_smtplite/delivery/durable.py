"""Files that survive a crash, and safe names for them. What backends that store mail share.

Knows the file system. Must not know mail. Everything here may block: call it in a thread. `OSError` passes through.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from threading import RLock

_PIECE = 256 * 1024
_NAME_MAX = 255
_makingDirectory = RLock()


class Draft:
    """One file, from its creation under a temporary name until it counts under its final one. Both are in one file system.

    Args:
        temporary: where it is while it is written. Nothing may be there, not even a link. It is made for its owner alone.
        final: what it becomes. A file that is there is replaced.
    """

    def __init__(self, temporary: str, final: str) -> None:
        self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self._path: str | None = temporary
        self._final = final

    def write(self, data: bytes) -> None:
        """Adds `data`."""
        writeAll(self._fd, data)

    def commit(self) -> None:
        """Makes the file durable and gives it its final name. When this raises the file does not count: `discard` it."""
        assert self._path is not None, "a draft is committed once, and not after it was discarded"
        os.fsync(self._fd)
        self._close()
        os.rename(self._path, self._final)
        # Visible, but a crash may still undo it.
        self._path = self._final
        syncDirectory(os.path.dirname(self._final))
        self._path = None

    def discard(self) -> None:
        """Takes the file away, unless it counts. May be called again. What cannot be taken away stays under its temporary name."""
        path, self._path = self._path, None
        try:
            self._close()
        except OSError:
            pass
        try:
            if path is not None:
                os.unlink(path)
        except OSError:
            pass

    def _close(self) -> None:
        # A descriptor is closed even when closing it fails.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def writeAll(fd: int, data: bytes) -> None:
    """Writes all of `data`, in as many steps as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def readPieces(fd: int) -> Iterator[bytes]:
    """The content of a file from its start, in pieces of at most 256 KiB; where the descriptor stands does not matter and is not changed."""
    offset = 0
    while piece := os.pread(fd, _PIECE, offset):
        offset += len(piece)
        yield piece


def makeDirectory(path: str) -> None:
    """Makes a directory for its owner alone, and those above it, so that they survive a crash. No matter if it exists."""
    # One thread at a time: when another one finds the directory, it is durable.
    with _makingDirectory:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            makeDirectory(os.path.dirname(path))
            # Once more and not again: where nothing can be made (in /proc, say) the answer stays the same, with all directories above in place.
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                return
        syncDirectory(os.path.dirname(path))


def syncDirectory(path: str) -> None:
    """Makes durable what was created, renamed and removed in a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def safeName(text: str) -> str:
    """A file name for `text`, a different one for each text: plain characters as they are, others as ``%XX``, long ones cut with a hash behind.

    Never empty, no dot in front, no slash, no control character, ASCII, at most 255 octets.
    """
    octets = text.encode("utf-8", "surrogatepass")
    name = re.sub(rb"^\.|[^A-Za-z0-9._+=@-]", lambda match: b"%%%02X" % match[0][0], octets).decode("ascii")
    if len(name) > _NAME_MAX:
        # A tilde is never plain, so no other text has a name like this one.
        mark = "~" + hashlib.sha256(octets).hexdigest()[:32]
        name = name[: _NAME_MAX - len(mark)] + mark
    # Nor like this one.
    return name or "%"
