"""The tables of a queue, and where they are.

Knows SQL and names of files. Must not know what the rows mean to whom.
"""

from __future__ import annotations

from ..delivery.database import Migrations

DEFAULT_QUEUE = "queue"
"""The directory of the queue when nobody names one."""

MIGRATIONS: Migrations = (
    (
        # id: in the order of arrival, never used again. queueId: what everybody calls it. envelope: JSON, without the recipients (see
        # `serial`). size: octets of the text. eightBit: 1 when some of them are above 127. Times are in seconds since the epoch. held,
        # report: 0 or 1. nextAttempt: the earliest one of those of its recipients that wait.
        """CREATE TABLE message (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            queueId TEXT NOT NULL UNIQUE,
            envelope TEXT NOT NULL,
            user TEXT,
            size INTEGER NOT NULL,
            eightBit INTEGER NOT NULL,
            queuedAt REAL NOT NULL,
            priority INTEGER NOT NULL,
            nextAttempt REAL NOT NULL,
            held INTEGER NOT NULL DEFAULT 0,
            report INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX messageByTime ON message (held, priority, nextAttempt)",
        # In the order of the client, doubles kept. domain: in lower case, empty where there is none. recipient, reply: JSON. state, stage: values of
        # `State` and `Stage`. warned: 0 or 1.
        """CREATE TABLE recipient (
            message INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            domain TEXT NOT NULL,
            recipient TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            nextAttempt REAL NOT NULL,
            lastAttempt REAL,
            reply TEXT,
            stage TEXT,
            host TEXT NOT NULL,
            warned INTEGER NOT NULL,
            PRIMARY KEY (message, position)
        ) WITHOUT ROWID""",
        "CREATE INDEX recipientByDomain ON recipient (domain)",
        # Exactly one of both: the octets, line ends CRLF, or the name of the file in the directory of bodies.
        """CREATE TABLE content (
            message INTEGER PRIMARY KEY REFERENCES message (id) ON DELETE CASCADE,
            octets BLOB,
            file TEXT UNIQUE,
            CHECK ((octets IS NULL) <> (file IS NULL))
        )""",
    ),
    (
        # A value of `Doubt`.
        "ALTER TABLE recipient ADD COLUMN doubt TEXT",
        "DROP INDEX recipientByDomain",
        # Of a message with many recipients those that matter now are found without a look at the others.
        "CREATE INDEX recipientByTime ON recipient (message, nextAttempt) WHERE state = 'waiting'",
    ),
)


def databaseOf(directory: str) -> str:
    """The database of a queue."""
    return f"{directory}/queue.sqlite"


def bodiesOf(directory: str) -> str:
    """The directory of its large messages."""
    return f"{directory}/bodies"


def lockOf(directory: str) -> str:
    """The file that the one process holds locked which sends."""
    return f"{directory}/sending"
