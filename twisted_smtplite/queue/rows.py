"""Messages of the queue as rows, and back.

Knows the statements. Must not know who asks, nor when a transaction begins and ends. All of it blocks.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable

from ..model.results import Stage
from .entries import Progress, QueuedMessage, State
from .serial import envelopeFrom, envelopeText, recipientFrom, recipientText, replyFrom, replyText

_INSERT_MESSAGE = """INSERT INTO message (queueId, envelope, user, size, eightBit, queuedAt, priority, nextAttempt, held, report)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_RECIPIENT = """INSERT INTO recipient
    (message, position, domain, recipient, state, attempts, nextAttempt, lastAttempt, reply, stage, host, warned)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# A list of ids is one argument, as JSON: there may be more of them than a statement takes arguments.
_MESSAGES = """SELECT id, queueId, envelope, user, size, queuedAt, held, report FROM message
    WHERE queueId IN (SELECT value FROM json_each(?)) ORDER BY id"""
_RECIPIENTS = """SELECT message, recipient, state, attempts, recipient.nextAttempt, lastAttempt, reply, stage, host, warned
    FROM recipient JOIN message ON message = id WHERE queueId IN (SELECT value FROM json_each(?)) ORDER BY message, position"""
# A recipient that was taken out stays out.
_PROGRESS = """UPDATE recipient SET state = ?, attempts = ?, nextAttempt = ?, lastAttempt = ?, reply = ?, stage = ?, host = ?, warned = ?
    WHERE message = ? AND position = ? AND state = 'waiting'"""
_EARLIEST = """UPDATE message SET nextAttempt = (SELECT min(nextAttempt) FROM recipient WHERE message = id AND state = 'waiting')
    WHERE id = ? AND EXISTS (SELECT 1 FROM recipient WHERE message = id AND state = 'waiting')"""
_WAITING = "SELECT 1 FROM recipient JOIN message ON message = id WHERE queueId = ? AND state = 'waiting' LIMIT 1"
_FILE = "SELECT file FROM content JOIN message ON message = id WHERE queueId = ? AND file IS NOT NULL"
_TEXT = "SELECT octets, file, eightBit FROM content JOIN message ON message = id WHERE queueId = ?"


def insert(connection: sqlite3.Connection, message: QueuedMessage, content: bytes | None, file: str | None, *, eightBit: bool) -> None:
    """Makes the rows of a message: exactly one of `content` and `file` is its text."""
    envelope = message.envelope
    known = (message.id, envelopeText(envelope), _clean(message.user), message.size, eightBit, message.queuedAt, envelope.priority)
    first = min(progress.nextAttempt for progress in message.progress)
    number = connection.execute(_INSERT_MESSAGE, (*known, first, message.held, message.report)).lastrowid
    recipients = enumerate(message.progress)
    connection.executemany(
        _INSERT_RECIPIENT,
        [(number, position, domainOf(one), recipientText(one.recipient), *_state(one)) for position, one in recipients],
    )
    connection.execute("INSERT INTO content (message, octets, file) VALUES (?, ?, ?)", (number, content, file))


def find(connection: sqlite3.Connection, ids: Iterable[str]) -> list[QueuedMessage]:
    """The messages of these queue ids that there are, in the order of their arrival."""
    wanted = json.dumps(list(ids))
    messages = connection.execute(_MESSAGES, (wanted,)).fetchall()
    progress: dict[int, list[Progress]] = {}
    for number, recipient, state, attempts, nextAttempt, lastAttempt, reply, stage, host, warned in connection.execute(_RECIPIENTS, (wanted,)):
        tried = (State(state), attempts, nextAttempt, lastAttempt, replyFrom(reply), Stage(stage) if stage is not None else None)
        progress.setdefault(number, []).append(Progress(recipientFrom(recipient), *tried, host, bool(warned)))
    found = []
    for number, queueId, envelope, user, size, queuedAt, held, report in messages:
        if number not in progress:
            # It left the queue between the two statements.
            continue
        recipients = progress[number]
        whole = envelopeFrom(envelope, [one.recipient for one in recipients])
        found.append(QueuedMessage(queueId, whole, recipients, queuedAt, size, bool(held), user, bool(report)))
    return found


def isThere(connection: sqlite3.Connection, queueId: str) -> bool:
    """True when there is a message of this id."""
    return connection.execute("SELECT 1 FROM message WHERE queueId = ?", (queueId,)).fetchone() is not None


def keep(connection: sqlite3.Connection, message: QueuedMessage) -> bool:
    """Writes how far the message has come. False when it is not there any more."""
    row = connection.execute("SELECT id FROM message WHERE queueId = ?", (message.id,)).fetchone()
    if row is None:
        return False
    (number,) = row
    connection.executemany(_PROGRESS, [(*_state(one), number, position) for position, one in enumerate(message.progress)])
    noteEarliest(connection, number)
    return True


def noteEarliest(connection: sqlite3.Connection, number: int) -> None:
    """When the message of this row is due, as its waiting recipients say it. To be called when one of them has changed."""
    connection.execute(_EARLIEST, (number,))


def isFinished(connection: sqlite3.Connection, queueId: str) -> bool:
    """True when no recipient of the message waits."""
    return connection.execute(_WAITING, (queueId,)).fetchone() is None


def remove(connection: sqlite3.Connection, ids: Iterable[str]) -> list[str]:
    """Takes messages out. Returns the names of their files: these are to go when the transaction is durable."""
    files: list[str] = []
    for queueId in ids:
        files += (file for (file,) in connection.execute(_FILE, (queueId,)))
        connection.execute("DELETE FROM message WHERE queueId = ?", (queueId,))
    return files


def due(connection: sqlite3.Connection, now: float, count: int, taken: Collection[str]) -> list[str]:
    """Up to `count` ids of messages that are due and neither held nor `taken`: by priority, then by how long they have been due."""
    found: list[str] = []
    for priority in _priorities(connection):
        rows = connection.execute(
            "SELECT queueId FROM message WHERE held = 0 AND priority = ? AND nextAttempt <= ? ORDER BY nextAttempt, id LIMIT ?",
            (priority, now, count + len(taken)),
        )
        found += (queueId for (queueId,) in rows if queueId not in taken)
        if len(found) >= count:
            break
    return found[:count]


def nextDue(connection: sqlite3.Connection, taken: Collection[str]) -> float | None:
    """When the next message falls due that is neither held nor `taken`."""
    times = []
    for priority in _priorities(connection):
        rows = connection.execute(
            "SELECT queueId, nextAttempt FROM message WHERE held = 0 AND priority = ? ORDER BY nextAttempt LIMIT ?", (priority, len(taken) + 1)
        )
        times += [time for queueId, time in rows if queueId not in taken][:1]
    return min(times, default=None)


def text(connection: sqlite3.Connection, queueId: str) -> tuple[bytes | None, str | None, bool] | None:
    """The octets of the message's text or the name of its file, and True when it has octets above 127; None when it is not there."""
    row = connection.execute(_TEXT, (queueId,)).fetchone()
    return None if row is None else (row[0], row[1], bool(row[2]))


def mayGo(connection: sqlite3.Connection, queueId: str) -> bool:
    """True when there is a message of this id, and nobody holds it."""
    return connection.execute("SELECT 1 FROM message WHERE queueId = ? AND held = 0", (queueId,)).fetchone() is not None


def domainOf(progress: Progress) -> str:
    """The domain of a recipient as the rows have it."""
    return _clean(progress.recipient.address.domain.lower()) or ""


def _priorities(connection: sqlite3.Connection) -> Iterable[int]:
    """The priorities of messages that are not held, the highest first. There are few, and each is one step in the index."""
    (priority,) = connection.execute("SELECT max(priority) FROM message WHERE held = 0").fetchone()
    while priority is not None:
        yield priority
        (priority,) = connection.execute("SELECT max(priority) FROM message WHERE held = 0 AND priority < ?", (priority,)).fetchone()


def _state(progress: Progress) -> tuple[object, ...]:
    """The columns of `_PROGRESS`."""
    stage = progress.stage.value if progress.stage is not None else None
    told = (replyText(progress.reply), stage, _clean(progress.host), progress.warned)
    return (progress.state.value, progress.attempts, progress.nextAttempt, progress.lastAttempt, *told)


def _clean(value: str | None) -> str | None:
    """Text that can be stored."""
    return value and value.encode("utf-8", "replace").decode("utf-8")
