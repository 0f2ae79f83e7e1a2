"""What people do to a queue, beside whoever runs it: look, hurry, hold, take out.

Knows the statements. Must not know how people say it, nor how they are told. All of it blocks; each change is one transaction, and the process that
sends notices it within a second.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..delivery.database import Database, openToRead
from ..delivery.storing import absolute
from . import rows
from .entries import AT_ONCE, QueuedMessage
from .schema import MIGRATIONS, bodiesOf, databaseOf, lockOf

_ROWS = 100
"""Messages that are looked up at a time: a long transaction of a reader lets the database's log grow."""

# Which messages, as three arguments: ids as JSON or None for all; a domain, one of whose recipients waits, or None for any; likewise.
_CHOSEN = """SELECT id, queueId FROM message
    WHERE (?1 IS NULL OR queueId IN (SELECT value FROM json_each(?1)))
    AND (?2 IS NULL OR EXISTS (SELECT 1 FROM recipient WHERE message = id AND domain = ?2 AND state = 'waiting'))"""
_IN_ORDER = f"{_CHOSEN} ORDER BY id"
# A recipient of whom nothing was heard waits for its turn, or for a time that its sender wants (RFC 4865). One that was put off because its
# destination could not be reached was not tried, and yet there is a reply.
_FLUSH = """UPDATE recipient SET nextAttempt = ?4 WHERE message = ?1 AND state = 'waiting' AND reply IS NOT NULL AND nextAttempt > ?3
    AND (?2 IS NULL OR domain = ?2)"""
_DROP = "UPDATE recipient SET state = 'dropped' WHERE message = ? AND state = 'waiting' AND domain = ?"
_TOTALS = """SELECT count(*), coalesce(sum(held), 0), coalesce(sum(report), 0), coalesce(sum(size), 0), min(queuedAt),
    coalesce(sum(held = 0 AND nextAttempt <= ?), 0), min(CASE WHEN held = 0 THEN nextAttempt END) FROM message"""
_DOMAINS = """SELECT domain, count(*), sum(attempts > 0), min(recipient.nextAttempt) FROM recipient WHERE state = 'waiting'
    GROUP BY domain ORDER BY count(*) DESC, domain"""


class Choice(NamedTuple):
    """Which messages are meant.

    Attributes:
        ids: these, or None for all.
        domain: of them those with a recipient that waits in this domain, and of such a message these recipients; or None for any.
    """

    ids: Sequence[str] | None = None
    domain: str | None = None

    @property
    def arguments(self) -> tuple[str | None, str | None]:
        """For the statements."""
        return None if self.ids is None else json.dumps(list(self.ids)), self.domain and self.domain.lower()


@dataclass(frozen=True)
class DomainTotals:
    """What waits for one domain.

    Attributes:
        domain: its name; empty where there is none.
        recipients: how many wait.
        tried: how many of them have been tried before.
        next: when the next of them is due, in seconds since the epoch.
    """

    domain: str
    recipients: int
    tried: int
    next: float


@dataclass(frozen=True)
class Totals:
    """What stands in the queue.

    Attributes:
        messages: how many.
        held: how many of them are held.
        reports: how many of them are reports that the queue itself has made.
        octets: the size of all.
        oldest: when the oldest came, in seconds since the epoch, or None.
        due: how many are due now.
        next: when the next is due, or None.
        domains: what waits where, most first.
    """

    messages: int
    held: int
    reports: int
    octets: int
    oldest: float | None
    due: int
    next: float | None
    domains: Sequence[DomainTotals] = field(default=())


class NoQueue(Exception):
    """There is no queue in that directory; the text is the end of a sentence."""


class Administration:
    """One queue, opened by somebody who does not run it. To be closed.

    Args:
        directory: the queue.

    Raises:
        NoQueue: nothing is there that could be one.
        sqlite3.Error: it cannot be opened.
    """

    def __init__(self, directory: str) -> None:
        self.directory = absolute(directory)
        self._path = databaseOf(self.directory)
        if not Path(self._path).exists():
            raise NoQueue(f"there is no queue in {self.directory}")
        self._connection = openToRead(self._path, MIGRATIONS)

    def close(self) -> None:
        """Lets go of it."""
        self._connection.close()

    @property
    def isRunning(self) -> bool:
        """True while a process sends from it."""
        try:
            with Path(lockOf(self.directory)).open("rb") as file:
                # For this moment nobody can begin to send; who wants to tries again.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    # ---- Look.

    def messages(self, choice: Choice, *, held: bool | None = None) -> Iterator[QueuedMessage]:
        """The messages in the order of their arrival; with `held` those that are, or are not. What comes meanwhile may be among them."""
        last = 0
        while some := self._connection.execute(
            f"{_CHOSEN} AND id > ?3 AND (?4 IS NULL OR held = ?4) ORDER BY id LIMIT ?5", (*choice.arguments, last, held, _ROWS)
        ).fetchall():
            last = some[-1][0]
            yield from rows.find(self._connection, [queueId for _, queueId in some])

    def text(self, queueId: str) -> bytes | None:
        """The text of a message as it is sent; None when it is not there (any more)."""
        found = rows.text(self._connection, queueId)
        if found is None:
            return None
        octets, file, _ = found
        try:
            return octets if octets is not None else Path(bodiesOf(self.directory), file or "").read_bytes()
        except FileNotFoundError:
            return None

    def totals(self, now: float) -> Totals:
        """What stands in the queue at this time."""
        domains = tuple(DomainTotals(*row) for row in self._connection.execute(_DOMAINS))
        messages, held, reports, octets, oldest, due, following = self._connection.execute(_TOTALS, (now,)).fetchone()
        return Totals(messages, held, reports, octets, oldest, due, following, domains)

    # ---- Change.

    def flush(self, choice: Choice, now: float) -> list[str]:
        """Makes recipients due now that were tried before, or put off because nobody could be reached. Returns the ids of their messages."""

        def write(connection: sqlite3.Connection) -> list[str]:
            _, domain = choice.arguments
            found = []
            for number, queueId in connection.execute(_IN_ORDER, choice.arguments).fetchall():
                if connection.execute(_FLUSH, (number, domain, now, AT_ONCE)).rowcount:
                    rows.noteEarliest(connection, number)
                    found.append(queueId)
            return found

        return self._write(write)

    def hold(self, choice: Choice, *, held: bool) -> list[str]:
        """Holds messages, or releases them. Returns the ids of those for which that is new. What is being sent goes on for this time."""

        def write(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute(f"{_CHOSEN} AND held <> ?3 ORDER BY id", (*choice.arguments, held)).fetchall()
            connection.executemany("UPDATE message SET held = ? WHERE id = ?", [(held, number) for number, _ in found])
            return [queueId for _, queueId in found]

        return self._write(write)

    def drop(self, choice: Choice) -> list[str]:
        """Takes messages out, or those of their recipients that wait in a domain. Nobody is told. Returns the ids."""
        files: list[str] = []

        def write(connection: sqlite3.Connection) -> list[str]:
            _, domain = choice.arguments
            found = connection.execute(_IN_ORDER, choice.arguments).fetchall()
            gone = [queueId for _, queueId in found]
            if domain is not None:
                connection.executemany(_DROP, [(number, domain) for number, _ in found])
                for number, _ in found:
                    rows.noteEarliest(connection, number)
                gone = [queueId for queueId in gone if rows.isFinished(connection, queueId)]
            files.extend(rows.remove(connection, gone))
            return [queueId for _, queueId in found]

        return self._write(write, files)

    def _write(self, statements: Callable[[sqlite3.Connection], list[str]], files: list[str] | None = None) -> list[str]:
        """Does the statements, then takes away the files that they have put into `files`."""
        database = Database(self._path, bodiesOf(self.directory), MIGRATIONS)
        try:
            result = database.write(statements)
            for file in files or ():
                database.removeBody(file)
            return result
        finally:
            database.close()
