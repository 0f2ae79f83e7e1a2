"""``smtplite export``: the messages of a ``sqlite:`` database as an mbox or a Maildir, also while a server stores in it.

Knows the two forms. Must not know how messages came in. Reads a few rows at a time and a file in pieces, so that neither memory nor the database's
log grows with the mail. No reactor runs here, and nothing is lost when it is interrupted: what is there is whole, and the database is only read.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..delivery.durable import Draft
from ..delivery.maildirlayout import FileNames, deliveryFields, makeMaildir, newDraft, toLF
from ..delivery.sqliteschema import bodiesOf, openToRead
from .exitstatus import ExitStatus, fail

_USAGE = "smtplite export DATABASE mbox|maildir TARGET"
_HELP = f"""Usage: {_USAGE}
Writes all messages of a database that --delivery sqlite:DATABASE has stored, oldest first.
mbox: a new file TARGET, in the form mboxrd. maildir: into the Maildir TARGET, which may exist.
"""
_ROWS = 50
"""Messages that are asked for at a time."""
_PIECE = 64 * 1024
# mboxrd: whatever a reader could take for the start of a message gets one more mark.
_FROM_LINE = re.compile(rb">*From ")


class _Stored(NamedTuple):
    """A message of the database. `content` is open at its start, line ends CRLF."""

    sender: str
    recipients: list[str]
    storedAt: float
    content: BinaryIO


def export(arguments: Sequence[str]) -> None:
    """Writes the messages of a database in another form.

    Args:
        arguments: the database, ``mbox`` or ``maildir``, and where to.

    Raises:
        SystemExit: it cannot be done; nothing half is left.
    """
    if arguments in (["--help"], ["-h"]):
        print(_HELP, end="")
        return
    if len(arguments) != 3 or arguments[1] not in _FORMS:
        fail(f"export needs a database, a form and a target: {_USAGE}", ExitStatus.USAGE)
    path, form, target = arguments
    try:
        count = _FORMS[form](_messages(path), str(Path(target).resolve()))
    except FileExistsError:
        fail(f"{target} exists already")
    except (OSError, sqlite3.Error) as error:
        fail(f"{path} cannot be exported to {target}: {error}")
    print(f"{count} messages")


def _messages(path: str) -> Iterator[_Stored]:
    """The messages of a database, oldest first. One that is deleted meanwhile is left out."""
    database = openToRead(path)
    try:
        last = 0
        while rows := database.execute(
            "SELECT id, sender, storedAt, octets, file FROM message JOIN content ON message = id WHERE id > ? ORDER BY id LIMIT ?", (last, _ROWS)
        ).fetchall():
            for last, sender, storedAt, octets, file in rows:
                recipients = database.execute("SELECT address FROM recipient WHERE message = ? ORDER BY position", (last,)).fetchall()
                content = _open(octets, Path(bodiesOf(path), file or ""))
                if content is not None:
                    with content:
                        yield _Stored(sender, list(dict.fromkeys(address for (address,) in recipients)), storedAt, content)
    finally:
        database.close()


def _open(octets: bytes | None, file: Path) -> BinaryIO | None:
    if octets is not None:
        return BytesIO(octets)
    try:
        return file.open("rb")
    except FileNotFoundError:
        return None


def _lines(content: BinaryIO, *, quote: bool) -> Iterator[bytes]:
    """The content in lines, or pieces of long ones, with line ends LF. With `quote` as in mboxrd."""
    begins = True
    carried = b""
    while piece := content.readline(_PIECE):
        line = carried + piece
        # A CR at the end of a piece: its LF may be in the next one.
        carried = b"\r" if line.endswith(b"\r") else b""
        line = toLF(line[: len(line) - len(carried)])
        yield b">" + line if quote and begins and _FROM_LINE.match(line) else line
        begins = line.endswith(b"\n")
    yield carried


def _write(draft: Draft, message: _Stored, first: bytes, *, quote: bool) -> bytes:
    """Writes a message, many lines at a time. Returns the last octets of it."""
    held = [first, deliveryFields(message.sender, message.recipients)]
    size, written = 0, b""
    for line in _lines(message.content, quote=quote):
        held.append(line)
        size += len(line)
        if size >= _PIECE:
            written = b"".join(held)
            draft.write(written)
            held.clear()
            size = 0
    rest = b"".join(held)
    draft.write(rest)
    return rest or written


def _toMbox(messages: Iterator[_Stored], target: str) -> int:
    """Writes an mbox. It appears when it is whole."""
    if Path(target).exists():
        raise FileExistsError(target)
    draft = Draft(f"{target}.{os.getpid()}.part", target)
    count = 0
    try:
        for message in messages:
            sender = re.sub(r"[^!-~]", "?", message.sender) or "MAILER-DAEMON"
            first = f"From {sender} {time.asctime(time.gmtime(message.storedAt))}\n".encode()
            last = _write(draft, message, first, quote=True)
            draft.write(b"\n" if last.endswith(b"\n") else b"\n\n")
            count += 1
        draft.commit()
    finally:
        draft.discard()
    return count


def _toMaildir(messages: Iterator[_Stored], target: str) -> int:
    """Adds to a Maildir. Each message appears when it is whole."""
    makeMaildir(target)
    names = FileNames()
    count = 0
    for message in messages:
        draft = newDraft(target, names.new(message.storedAt))
        try:
            _write(draft, message, b"", quote=False)
            draft.commit()
        finally:
            draft.discard()
        count += 1
    return count


_FORMS: dict[str, Callable[[Iterator[_Stored], str], int]] = {"mbox": _toMbox, "maildir": _toMaildir}
