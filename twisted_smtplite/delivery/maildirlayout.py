"""The Maildir convention: which directories there are, how a file is called, what is stale.

Knows the convention (tmp, new, cur) and the fields of final delivery. Must not know who delivers, nor when. All of it may block, but for the names.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import Iterable

from ..model.address import Address
from .durable import Draft, makeDirectory

DIRECTORIES = ("new", "cur", "tmp")
"""What a Maildir is made of, in the order in which it is made: where a file can be made in tmp it can be renamed to new."""
_STALE = 36 * 3600.0
"""Seconds after which the convention gives up a file in tmp."""
_sequence = itertools.count(1)


class FileNames:
    """Gives each message a file name that no other one on this host has: time, microseconds, process, sequence, host."""

    def __init__(self) -> None:
        # The convention wants slash and colon of the host in octal; here also everything else that is not plain.
        self._host = re.sub(r"[^A-Za-z0-9._-]", lambda match: f"\\{ord(match[0]):03o}", socket.gethostname()) or "localhost"

    def new(self, now: float) -> str:
        """A new name. `now` is in seconds since the epoch."""
        seconds, micros = divmod(int(now * 1_000_000), 1_000_000)
        return f"{seconds}.M{micros:06d}P{os.getpid()}Q{next(_sequence)}.{self._host}"


def newDraft(maildir: str, name: str) -> Draft:
    """A file in tmp that is to become one in new. The Maildir is made when it is missing."""
    tmp, new = os.path.join(maildir, "tmp", name), os.path.join(maildir, "new", name)
    try:
        return Draft(tmp, new)
    except FileNotFoundError:
        makeMaildir(maildir)
        return Draft(tmp, new)


def makeMaildir(path: str) -> None:
    """Makes a Maildir, so that it survives a crash. No matter if it exists."""
    for name in DIRECTORIES:
        makeDirectory(os.path.join(path, name))


def clearStale(maildir: str, now: float) -> int:
    """Removes what has been in tmp for too long. Returns how many files that was."""
    try:
        with os.scandir(os.path.join(maildir, "tmp")) as entries:
            files = [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return 0
    return sum(_removeStale(path, now) for path in files)


def _removeStale(path: str, now: float) -> bool:
    try:
        if now - os.lstat(path).st_mtime <= _STALE:
            return False
        os.unlink(path)
    except FileNotFoundError:
        # Other processes deliver here, and clear too.
        return False
    return True


def deliveryFields(sender: str, recipients: Iterable[str]) -> bytes:
    """The fields of final delivery (RFC 5321 4.4), lines ending in LF."""
    fields = [f"Return-Path: <{_onOneLine(sender)}>\n"]
    fields += [f"X-Original-To: {name}\nDelivered-To: {name}\n" for name in map(_onOneLine, recipients)]
    return "".join(fields).encode("utf-8", "replace")


def asText(addresses: Iterable[Address]) -> list[str]:
    """The addresses as text, each once."""
    return [str(address) for address in dict.fromkeys(addresses)]


def toLF(data: bytes) -> bytes:
    """With the line ends of files."""
    return data.replace(b"\r\n", b"\n")


def _onOneLine(address: str) -> str:
    """The grammar lets no control character into an address; a header field must not depend on that."""
    return re.sub(r"[\x00-\x1f\x7f]", "?", address)
