"""What is on its way: a table of the recipients whom a server may have the message for, in the file that the sending process holds locked.

Knows the file. Must not know who sends, nor when something is noted. The table is written and not synced: it outlives the process, however that
dies, and not the machine. Whoever reads it knows which of the two it was, for the file also names the time since which the machine runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple

_HEADER = 64
"""Octets before the table: a word, and what the machine calls the time since it was started."""
_SENDING = "sending"
_UNSURE = b"unsure\n"
# The number of a message, never 0 where something is noted, and the position of a recipient; with `_BEGUN` once a server may have the text.
_ENTRY = Struct("<QQ")
_BEGUN = 1 << 63
_FREE = bytes(_ENTRY.size)
_GROWTH = 1024
"""Entries that are added at a time."""
_MACHINE = Path("/proc/sys/kernel/random/boot_id")


class OnTheirWay(NamedTuple):
    """What a process that sends has noted.

    Attributes:
        complete: False when there may be others: nobody knows since when the machine runs, or the table could not be written.
        recipients: the numbers of their messages, and their positions there.
        begun: those of them who may have the message.
    """

    complete: bool
    recipients: Sequence[tuple[int, int]]
    begun: Sequence[tuple[int, int]]


class Marks:
    """The table of the process that sends.

    Args:
        descriptor: the file, empty or with what has been read from it before and counts no more. It is closed by somebody else.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._free: list[int] = []
        self._size = 0
        self._used = 0
        os.ftruncate(descriptor, 0)
        self._grow()
        os.pwrite(descriptor, f"{_SENDING} {_machine()}\n".encode(), 0)
        os.fsync(descriptor)

    @property
    def empty(self) -> bool:
        """True when nothing is on its way."""
        return not self._used

    def put(self, number: int, position: int) -> int:
        """Notes a recipient. Returns where."""
        try:
            if not self._free:
                self._grow()
            place = self._free.pop()
            os.pwrite(self._descriptor, _ENTRY.pack(number, position), place)
        except OSError:
            self._doubt()
            return 0
        self._used += 1
        return place

    def begin(self, place: int, number: int, position: int) -> None:
        """Notes of a recipient who was noted there that the text goes out."""
        if not place:
            return
        try:
            os.pwrite(self._descriptor, _ENTRY.pack(number, position | _BEGUN), place)
        except OSError:
            self._doubt()

    def clear(self, place: int) -> None:
        """Forgets what was noted there."""
        if not place:
            return
        try:
            os.pwrite(self._descriptor, _FREE, place)
        except OSError:
            self._doubt()
        self._used -= 1
        self._free.append(place)

    def _grow(self) -> None:
        # Written, so that the room is there when it is needed.
        start = _HEADER + self._size * _ENTRY.size
        os.pwrite(self._descriptor, _FREE * _GROWTH, start)
        self._size += _GROWTH
        self._free += range(start + (_GROWTH - 1) * _ENTRY.size, start - 1, -_ENTRY.size)

    def _doubt(self) -> None:
        """The table is not to be trusted."""
        try:
            os.pwrite(self._descriptor, _UNSURE, 0)
        except OSError:
            # Nor is the disk, and that is said by all others who write to it.
            pass


def onTheirWay(octets: bytes) -> OnTheirWay | None:
    """What the file says; None when its process ended as it should."""
    if not octets:
        return None
    word, _, machine = octets[:_HEADER].partition(b"\n")[0].decode("ascii", "replace").partition(" ")
    table = octets[_HEADER:]
    table = table[: len(table) - len(table) % _ENTRY.size]
    found = [(number, position) for number, position in _ENTRY.iter_unpack(table) if number]
    begun = [(number, position ^ _BEGUN) for number, position in found if position & _BEGUN]
    complete = word == _SENDING and bool(machine) and machine == _machine()
    return OnTheirWay(complete, [(number, position & ~_BEGUN) for number, position in found], begun)


def _machine() -> str:
    """What the machine calls the time since it was started; empty where it has no name for it."""
    try:
        return _MACHINE.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
