"""What people do to a queue, beside whoever runs it: look, hurry, hold, take out.

Knows the statements. Must not know how people say it, nor how they are told. All of it blocks; each change is one transaction, and the process that
sends notices it within a second.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from ..delivery.database import Database, openToRead
from ..delivery.durable import absolute
from . import rows
from .entries import AT_ONCE, QueuedMessage
from .marks import onTheirWay
from .schema import MIGRATIONS, bodiesOf, databaseOf, lockOf

T = TypeVar("T")

_ROWS = 100
"""Messages that are looked up at a time: a long transaction of a reader lets the database's log grow."""

# Which messages: ids as JSON or None for all; a domain, one of whose recipients waits, or None for any.
_CHOSEN = """SELECT id, queueId FROM message
    WHERE (:ids IS NULL OR queueId IN (SELECT value FROM json_each(:ids)))
    AND (:domain IS NULL OR EXISTS (SELECT 1 FROM recipient WHERE message = id AND domain = :domain AND state = 'waiting'))"""
_IN_ORDER = f"{_CHOSEN} ORDER BY id"
# A recipient of whom nothing was heard waits for its turn, or for a time that its sender wants (RFC 4865). One that was put off because its
# destination could not be reached was not tried, and yet there is a reply.
_FLUSH = """UPDATE recipient SET nextAttempt = :soon WHERE message = :message AND state = 'waiting' AND reply IS NOT NULL AND nextAttempt > :now
    AND (:domain IS NULL OR domain = :domain)"""
_DROP = "UPDATE recipient SET state = 'dropped' WHERE message = ? AND state = 'waiting' AND domain = ?"
_IN_DOMAIN = "SELECT message, position FROM recipient WHERE message = ? AND state = 'waiting' AND domain = ?"
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
    def arguments(self) -> dict[str, str | None]:
        """For the statements."""
        return {"ids": None if self.ids is None else json.dumps(list(self.ids)), "domain": self.domain and self.domain.lower()}


class Done(NamedTuple):
    """What a change has done.

    Attributes:
        ids: the messages that it has changed.
        underWay: those that a server has got, or gets, the text of at this moment: the change came too late for so many of their recipients.
    """

    ids: Sequence[str]
    underWay: Mapping[str, int] = MappingProxyType({})


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
            f"{_CHOSEN} AND id > :last AND (:held IS NULL OR held = :held) ORDER BY id LIMIT {_ROWS}",
            {**choice.arguments, "last": last, "held": held},
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

    def flush(self, choice: Choice, now: float) -> Done:
        """Makes recipients due now that were tried before, or put off because nobody could be reached."""

        def write(connection: sqlite3.Connection) -> list[str]:
            arguments = {"domain": choice.arguments["domain"], "now": now, "soon": AT_ONCE}
            found = []
            for number, queueId in connection.execute(_IN_ORDER, choice.arguments).fetchall():
                if connection.execute(_FLUSH, {**arguments, "message": number}).rowcount:
                    rows.noteEarliest(connection, number)
                    found.append(queueId)
            return found

        return Done(self._write(write))

    def hold(self, choice: Choice, *, held: bool) -> Done:
        """Holds messages, or releases them; done are those for which that is new. What is being sent goes on for this time."""
        found: dict[int, str] = {}

        def write(connection: sqlite3.Connection) -> None:
            found.update(connection.execute(f"{_CHOSEN} AND held <> :held ORDER BY id", {**choice.arguments, "held": held}))
            connection.executemany("UPDATE message SET held = ? WHERE id = ?", [(held, number) for number in found])

        self._write(write)
        return Done(list(found.values()), self._underWay(found) if held else {})

    def drop(self, choice: Choice) -> Done:
        """Takes messages out, or those of their recipients that wait in a domain. Nobody is told."""
        files: list[str] = []
        those: set[tuple[int, int]] = set()
        domain = choice.arguments["domain"]

        def write(connection: sqlite3.Connection) -> dict[int, str]:
            found = connection.execute(_IN_ORDER, choice.arguments).fetchall()
            gone = [queueId for _, queueId in found]
            if domain is not None:
                for number, _ in found:
                    those.update(connection.execute(_IN_DOMAIN, (number, domain)))
                connection.executemany(_DROP, [(number, domain) for number, _ in found])
                for number, _ in found:
                    rows.noteEarliest(connection, number)
                gone = [queueId for queueId in gone if rows.isFinished(connection, queueId)]
            files.extend(rows.remove(connection, gone))
            return dict(found)

        found = self._write(write, files)
        return Done(list(found.values()), self._underWay(found, those if domain is not None else None))

    def _underWay(self, found: Mapping[int, str], those: Container[tuple[int, int]] | None = None) -> dict[str, int]:
        """How many recipients of these messages, or of `those`, are on their way. Asked after a change: whoever is not there by now finds it."""
        if not self.isRunning:
            return {}
        noted = onTheirWay(Path(lockOf(self.directory)).read_bytes())
        counts: dict[str, int] = {}
        for number, position in noted.recipients if noted is not None else ():
            if number in found and (those is None or (number, position) in those):
                counts[found[number]] = counts.get(found[number], 0) + 1
        return counts

    def _write(self, statements: Callable[[sqlite3.Connection], T], files: Iterable[str] = ()) -> T:
        """Does the statements, then takes away the files that they have put into `files`."""
        database = Database(self._path, bodiesOf(self.directory), MIGRATIONS)
        try:
            result = database.write(statements)
            for file in files:
                database.removeBody(file)
            return result
        finally:
            database.close()
