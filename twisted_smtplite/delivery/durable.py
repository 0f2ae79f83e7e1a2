"""Files that survive a crash, and safe names for them. What backends that store mail share.

Knows the file system. Must not know mail. Everything here may block: call it in a thread. `OSError` passes through.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from threading import RLock
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_PIECE = 256 * 1024
_NAME_MAX = 255
_SHARES = 8
"""Files that are synced at the same time."""
_makingDirectory = RLock()


def absolute(path: str) -> str:
    """The path as it counts from now on: twistd changes its directory when it goes to the background."""
    return os.path.abspath(os.path.expanduser(path))


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
        self.sync()
        syncDirectory(self.rename())
        self.keep()

    def sync(self) -> None:
        """Makes the content durable. The name is not yet."""
        os.fsync(self._fd)

    def startWriting(self) -> None:
        """Begins what `sync` waits for, where the system can do that. It counts for nothing by itself."""
        _startWriting(self._fd)

    def rename(self) -> str:
        """Gives the synced file its final name, which a crash may still undo. Returns the directory that has to be synced."""
        assert self._path is not None, "a draft is renamed once, and not after it was discarded"
        self._close()
        os.rename(self._path, self._final)
        self._path = self._final
        return os.path.dirname(self._final)

    def keep(self) -> None:
        """The directory has been synced: the file counts, and cannot be discarded any more."""
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

    def remove(self) -> None:
        """Takes away a file that counts. What cannot be taken away stays."""
        try:
            os.unlink(self._final)
        except OSError:
            pass

    def _close(self) -> None:
        # A descriptor is closed even when closing it fails.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def commitTogether(drafts: Sequence[Draft], threads: Executor) -> dict[Draft, OSError]:
    """Makes many files durable and gives them their final names: they share the disk's waiting.

    First the content of all, then the names, then each directory once. Returns those that failed, with the cause; they have been discarded.
    """
    failed: dict[Draft, OSError] = {}
    if len(drafts) == 1:
        failed.update(_try(Draft.sync, drafts))
    else:
        # The disk gets all of it before anybody waits. Files are synced one by one and not the file system as a whole, although that is faster
        # while nobody else writes to it: then a large copy of somebody else would hold up all mail.
        _try(Draft.startWriting, drafts)
        shares = [drafts[first::_SHARES] for first in range(min(_SHARES, len(drafts)))]
        for errors in _together(threads, lambda share: _try(Draft.sync, share), shares):
            failed.update(errors)
    inside: dict[str, list[Draft]] = {}
    failed.update(_try(lambda draft: inside.setdefault(draft.rename(), []).append(draft), [draft for draft in drafts if draft not in failed]))
    for renamed, error in zip(inside.values(), _syncDirectories(list(inside), threads), strict=True):
        for draft in renamed:
            if error is None:
                draft.keep()
            else:
                failed[draft] = error
    for draft in failed:
        draft.discard()
    return failed


def _try(step: Callable[[Draft], None], drafts: Iterable[Draft]) -> dict[Draft, OSError]:
    """Does a step for each. Returns those that failed."""
    failed = {}
    for draft in drafts:
        try:
            step(draft)
        except OSError as error:  # noqa: PERF203 - each on its own
            failed[draft] = error
    return failed


def _together(threads: Executor, step: Callable[[T], R], each: Sequence[T]) -> Iterable[R]:
    """Does a step for each, which may be done twice, at the same time."""
    try:
        return list(threads.map(step, each))
    except RuntimeError:
        # The system has no room for another thread.
        return list(map(step, each))


def _syncDirectories(paths: Sequence[str], threads: Executor) -> Iterable[OSError | None]:
    return _together(threads, _syncOne, paths) if len(paths) > 1 else map(_syncOne, paths)


def _syncOne(path: str) -> OSError | None:
    try:
        syncDirectory(path)
    except OSError as error:
        return error
    return None


if sys.platform == "linux":
    _c = ctypes.CDLL(None)
    _START = 2

    def _startWriting(fd: int) -> None:
        # sync_file_range(2), which Python does not have. Whether it worked is nobody's concern: fsync does all of it, only later.
        _c.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _START)

else:

    def _startWriting(fd: int) -> None:
        """Only Linux can."""


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
