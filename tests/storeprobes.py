"""What the tests of durability look at: every message that a store shows, and what it should not have kept."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted_smtplite.delivery.sqliteschema import bodiesOf, openToRead


@dataclass(frozen=True)
class Store:
    """A store in a directory.

    Attributes:
        delivery: what it is called on the command line.
        place: its path below the directory.
        visible: all messages that somebody who reads it can see.
        leftovers: files that belong to no message.
    """

    delivery: str
    place: str
    visible: Callable[[Path], Iterator[bytes]]
    leftovers: Callable[[Path], list[Path]]

    def spec(self, directory: Path) -> str:
        return f"{self.delivery}:{directory / self.place}"


def _maildirVisible(directory: Path) -> Iterator[bytes]:
    for path in (directory / "mail" / "new").glob("*"):
        yield path.read_bytes()


def _maildirLeftovers(directory: Path) -> list[Path]:
    return list((directory / "mail" / "tmp").glob("*"))


def _rows(directory: Path, query: str) -> list[tuple[int, bytes | None, str | None]]:
    try:
        connection = openToRead(str(directory / "mail.db"))
    except sqlite3.OperationalError:
        # Killed before it was made.
        return []
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _sqliteVisible(directory: Path) -> Iterator[bytes]:
    for size, octets, file in _rows(directory, "SELECT size, octets, file FROM message LEFT JOIN content ON message = id"):
        content = octets if file is None else Path(bodiesOf(str(directory / "mail.db")), file).read_bytes()
        assert content is not None and len(content) == size
        yield content.replace(b"\r\n", b"\n")


def _sqliteLeftovers(directory: Path) -> list[Path]:
    named = {file for _, _, file in _rows(directory, "SELECT message, octets, file FROM content")}
    return [path for path in Path(bodiesOf(str(directory / "mail.db"))).glob("*") if path.name not in named]


STORES = {
    "maildir": Store("maildir", "mail", _maildirVisible, _maildirLeftovers),
    "sqlite": Store("sqlite", "mail.db", _sqliteVisible, _sqliteLeftovers),
}


def signed(name: str, size: int) -> bytes:
    """A message that says what it is called and what it is, so that `nameOf` can tell whether it is whole."""
    text = b"".join(b"%d of %s\r\n" % (line, name.encode()) for line in range(size // 20))
    return b"X-Name: %s\r\nX-Digest: %s\r\n\r\n%s" % (name.encode(), hashlib.sha256(text.replace(b"\r\n", b"\n")).hexdigest().encode(), text)


def nameOf(stored: bytes) -> str:
    """The name of a signed message as a store shows it. It must be whole."""
    header, _, text = stored.partition(b"\n\n")
    name, digest = (re.search(rb"^%s: (\S+)$" % field, header, re.MULTILINE) for field in (b"X-Name", b"X-Digest"))
    assert name and digest, "half a message is visible"
    assert hashlib.sha256(text).hexdigest().encode() == digest[1], f"{name[1]!r} is not whole"
    return name[1].decode()


def visibleNames(store: Store, directory: Path) -> set[str]:
    """What is called what, of all that can be seen. All of it must be whole, and nothing there twice."""
    names = [nameOf(stored) for stored in store.visible(directory)]
    assert len(names) == len(set(names)), "a message is there twice"
    return set(names)
