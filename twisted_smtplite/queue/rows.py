"""Messages of the queue as rows, and back.

Knows the statements. Must not know who asks, nor when a transaction begins and ends. All of it blocks.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from ..model.results import Stage
from .entries import Doubt, Progress, QueuedMessage, Room, State
from .serial import envelopeFrom, envelopeText, recipientFrom, recipientText, replyFrom, replyText

_INSERT_MESSAGE = """INSERT INTO message (queueId, envelope, user, size, eightBit, queuedAt, priority, nextAttempt, held, report)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_RECIPIENT = """INSERT INTO recipient
    (message, position, domain, recipient, state, attempts, nextAttempt, lastAttempt, reply, stage, host, warned, doubt)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# A list of ids is one argument, as JSON: there may be more of them than a statement takes arguments.
_MESSAGES = """SELECT id, queueId, envelope, user, size, queuedAt, held, report FROM message
    WHERE queueId IN (SELECT value FROM json_each(?)) ORDER BY id"""
_RECIPIENTS = """SELECT message, position, recipient, state, attempts, recipient.nextAttempt, lastAttempt, reply, stage, host, warned, doubt
    FROM recipient JOIN message ON message = id WHERE queueId IN (SELECT value FROM json_each(?)) ORDER BY message, position"""
_DUE = """SELECT id, queueId, envelope, user, size, queuedAt, held, report FROM message
    WHERE held = 0 AND priority = ? AND nextAttempt <= ? ORDER BY nextAttempt, id LIMIT ?"""
_DUE_OF = """SELECT position, recipient, state, attempts, nextAttempt, lastAttempt, reply, stage, host, warned, doubt FROM recipient
    WHERE message = ? AND state = 'waiting' ORDER BY nextAttempt, position LIMIT ?"""
# A recipient that was taken out stays out.
_PROGRESS = """UPDATE recipient SET state = ?, attempts = ?, nextAttempt = ?, lastAttempt = ?, reply = ?, stage = ?, host = ?, warned = ?, doubt = ?
    WHERE message = ? AND position = ? AND state = 'waiting'"""
_EARLIEST = """UPDATE message
    SET nextAttempt = coalesce((SELECT min(nextAttempt) FROM recipient WHERE message = id AND state = 'waiting'), nextAttempt) WHERE id = ?"""
# By this index, and joined in this order, or SQLite would look at all recipients of the message.
_WAITING = """SELECT 1 FROM recipient INDEXED BY recipientByTime
    WHERE message = (SELECT id FROM message WHERE queueId = ?) AND state = 'waiting' LIMIT 1"""
_MAY_GO = """SELECT count(*) FROM json_each(:positions) CROSS JOIN recipient ON message = :message AND position = value
    WHERE state = 'waiting' AND EXISTS (SELECT 1 FROM message WHERE id = :message AND held = 0)"""
_DOUBT = "UPDATE recipient SET doubt = ? WHERE message = ? AND position = ? AND state = 'waiting' AND doubt IS NULL"
_DOUBT_ALL = "UPDATE recipient SET doubt = ? WHERE state = 'waiting' AND nextAttempt <= ? AND doubt IS NULL"
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


class Due(NamedTuple):
    """What `due` has found of a message.

    Attributes:
        number: that of its row.
        message: the message, with those recipients that are to be taken now; there may be none.
        following: when the first of the others is due; infinity when there is none.
    """

    number: int
    message: QueuedMessage
    following: float


@dataclass(slots=True)
class Taken:
    """A message of which recipients are taken.

    Attributes:
        number: that of its row.
        following: when the first recipient is due that was not taken, as far as is known.
        more: True when that one was due already, and there was no room.
        places: the positions of those that are taken, and for each what its store makes of it.
        returns: how often some of them were let go of.
        seen: how often others had changed the queue when it was taken.
    """

    number: int
    following: float = inf
    more: bool = False
    places: dict[int, int] = field(default_factory=dict)
    returns: int = 0
    seen: int = 0


def find(connection: sqlite3.Connection, ids: Iterable[str]) -> list[QueuedMessage]:
    """The messages of these queue ids that there are, with all recipients, in the order of their arrival."""
    wanted = json.dumps(list(ids))
    messages = connection.execute(_MESSAGES, (wanted,)).fetchall()
    progress: dict[int, list[Progress]] = {}
    for number, *row in connection.execute(_RECIPIENTS, (wanted,)):
        progress.setdefault(number, []).append(_progress(row))
    # One without recipients left the queue between the two statements.
    return [_message(row, progress[row[0]]) for row in messages if row[0] in progress]


def isThere(connection: sqlite3.Connection, queueId: str) -> bool:
    """True when there is a message of this id."""
    return connection.execute("SELECT 1 FROM message WHERE queueId = ?", (queueId,)).fetchone() is not None


def keep(connection: sqlite3.Connection, message: QueuedMessage) -> bool:
    """Writes how far these recipients of a message have come. False when none of them is there, or waits, any more."""
    row = connection.execute("SELECT id FROM message WHERE queueId = ?", (message.id,)).fetchone()
    if row is None:
        return False
    (number,) = row
    changed = connection.executemany(_PROGRESS, [(*_state(one), number, one.position) for one in message.progress]).rowcount
    noteEarliest(connection, number)
    return changed > 0


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


def due(connection: sqlite3.Connection, now: float, room: Room, taken: Mapping[str, Taken]) -> list[Due]:
    """What is due and neither held nor `taken`: messages by priority, then by how long they have been due; see `entries.Store.due`."""
    found: list[Due] = []
    messages, recipients, perMessage = room
    for priority in _priorities(connection):
        for row in connection.execute(_DUE, (priority, now, messages + len(taken))).fetchall():
            known = taken.get(row[1])
            if known is not None and (len(known.places) > perMessage // 2 if known.more else known.following > now):
                continue
            some, following = _dueOf(connection, row[0], now, recipients, perMessage, known.places if known is not None else {})
            found.append(Due(row[0], _message(row, some), following))
            found[-1].message.more = following <= now
            recipients -= len(some)
            messages -= known is None
            if messages <= 0 or recipients <= 0:
                return found
    return found


def _dueOf(
    connection: sqlite3.Connection, number: int, now: float, most: int, perMessage: int, taken: Collection[int]
) -> tuple[list[Progress], float]:
    """Recipients of a message that are due and not taken, and when the next one is."""
    some: list[Progress] = []
    most = min(most, perMessage - len(taken))
    for row in connection.execute(_DUE_OF, (number, len(taken) + max(0, most) + 1)):
        if row[0] in taken:
            continue
        if row[4] > now or len(some) >= most:
            return some, row[4]
        some.append(_progress(row))
    return some, inf


def nextDue(connection: sqlite3.Connection, taken: Collection[str]) -> float:
    """When the next message falls due that is neither held nor `taken`; infinity when there is none."""
    times = [inf]
    for priority in _priorities(connection):
        rows = connection.execute(
            "SELECT queueId, nextAttempt FROM message WHERE held = 0 AND priority = ? ORDER BY nextAttempt LIMIT ?", (priority, len(taken) + 1)
        )
        times += [time for queueId, time in rows if queueId not in taken][:1]
    return min(times)


def text(connection: sqlite3.Connection, queueId: str) -> tuple[bytes | None, str | None, bool] | None:
    """The octets of the message's text or the name of its file, and True when it has octets above 127; None when it is not there."""
    row = connection.execute(_TEXT, (queueId,)).fetchone()
    return None if row is None else (row[0], row[1], bool(row[2]))


def mayGo(connection: sqlite3.Connection, number: int, those: Sequence[Progress]) -> bool:
    """True when the message of this row is there, nobody holds it, and these recipients wait."""
    (count,) = connection.execute(_MAY_GO, {"message": number, "positions": json.dumps([one.position for one in those])}).fetchone()
    return bool(count == len(those))


def doubt(connection: sqlite3.Connection, reason: Doubt, recipients: Iterable[tuple[int, int]]) -> int:
    """Notes of recipients, by the numbers of their messages and their positions, why they may have the message. Returns how many wait."""
    return connection.executemany(_DOUBT, [(reason.value, number, position) for number, position in recipients]).rowcount


def doubtAll(connection: sqlite3.Connection, reason: Doubt, now: float) -> int:
    """The same of all that are due."""
    return connection.execute(_DOUBT_ALL, (reason.value, now)).rowcount


def domainOf(progress: Progress) -> str:
    """The domain of a recipient as the rows have it."""
    return _clean(progress.recipient.address.domain.lower()) or ""


def _priorities(connection: sqlite3.Connection) -> Iterable[int]:
    """The priorities of messages that are not held, the highest first. There are few, and each is one step in the index."""
    (priority,) = connection.execute("SELECT max(priority) FROM message WHERE held = 0").fetchone()
    while priority is not None:
        yield priority
        (priority,) = connection.execute("SELECT max(priority) FROM message WHERE held = 0 AND priority < ?", (priority,)).fetchone()


def _message(row: Sequence[Any], progress: list[Progress]) -> QueuedMessage:
    """The message of a row of `_MESSAGES` or `_DUE`."""
    _, queueId, envelope, user, size, queuedAt, held, report = row
    whole = envelopeFrom(envelope, [one.recipient for one in progress])
    return QueuedMessage(queueId, whole, progress, queuedAt, size, bool(held), user, bool(report))


def _progress(row: Sequence[Any]) -> Progress:
    """The recipient of a row of `_RECIPIENTS`, from its position on, or of `_DUE_OF`."""
    position, recipient, state, attempts, nextAttempt, lastAttempt, reply, stage, host, warned, doubtful = row
    tried = (State(state), attempts, nextAttempt, lastAttempt, replyFrom(reply), Stage(stage) if stage is not None else None)
    return Progress(recipientFrom(recipient), *tried, host, bool(warned), Doubt(doubtful) if doubtful is not None else None, position)


def _state(progress: Progress) -> tuple[object, ...]:
    """What `_PROGRESS` changes."""
    stage = progress.stage.value if progress.stage is not None else None
    told = (replyText(progress.reply), stage, _clean(progress.host), progress.warned, progress.doubt.value if progress.doubt is not None else None)
    return (progress.state.value, progress.attempts, progress.nextAttempt, progress.lastAttempt, *told)


def _clean(value: str | None) -> str | None:
    """Text that can be stored."""
    return value and value.encode("utf-8", "replace").decode("utf-8")
