"""The tables of ``sqlite:PATH``.

Knows SQL. Must not know how messages come in. All of it blocks.

Who reads such a database beside a running server opens it read-only (`openToRead`) and takes a few rows at a time: a long transaction of a reader
lets the write-ahead log grow.
"""

from __future__ import annotations

import sqlite3

from . import database
from .database import Migrations

INBOX = 1
"""The mailbox that exists from the beginning, and that everything goes to."""

MIGRATIONS: Migrations = (
    (
        "CREATE TABLE mailbox (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "INSERT INTO mailbox (id, name) VALUES (1, 'INBOX')",
        # id: in the order of arrival, never used again. receivedAt: of MAIL, storedAt: of the end, in seconds since the epoch. parameters: of MAIL,
        # a JSON array of [keyword, value or null]. size: octets as stored, with the trace header. seen, flagged, answered, deleted: 0 or 1.
        # The last five are those header fields, decoded and cut.
        """CREATE TABLE message (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            mailbox INTEGER NOT NULL REFERENCES mailbox (id),
            queueId TEXT NOT NULL,
            sender TEXT NOT NULL,
            parameters TEXT NOT NULL,
            peer TEXT NOT NULL,
            helo TEXT NOT NULL,
            protocol TEXT NOT NULL,
            user TEXT,
            receivedAt REAL NOT NULL,
            storedAt REAL NOT NULL,
            size INTEGER NOT NULL,
            seen INTEGER NOT NULL DEFAULT 0,
            flagged INTEGER NOT NULL DEFAULT 0,
            answered INTEGER NOT NULL DEFAULT 0,
            deleted INTEGER NOT NULL DEFAULT 0,
            subject TEXT NOT NULL,
            fromField TEXT NOT NULL,
            toField TEXT NOT NULL,
            dateField TEXT NOT NULL,
            messageId TEXT NOT NULL
        )""",
        "CREATE INDEX messageOfMailbox ON message (mailbox, id)",
        # In the order of the client, doubles kept. parameters: of RCPT, as above.
        """CREATE TABLE recipient (
            message INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            address TEXT NOT NULL,
            parameters TEXT NOT NULL,
            PRIMARY KEY (message, position)
        ) WITHOUT ROWID""",
        "CREATE INDEX recipientByAddress ON recipient (address)",
        # Apart from message, so that a change of flags does not write it again. Exactly one of both: the octets, line ends CRLF, or the name of
        # the file in the directory beside the database.
        """CREATE TABLE content (
            message INTEGER PRIMARY KEY REFERENCES message (id) ON DELETE CASCADE,
            octets BLOB,
            file TEXT UNIQUE,
            CHECK ((octets IS NULL) <> (file IS NULL))
        )""",
    ),
)


def bodiesOf(path: str) -> str:
    """The directory of the large messages of a database."""
    return f"{path}.bodies"


def openToWrite(path: str) -> sqlite3.Connection:
    """See `database.openToWrite`."""
    return database.openToWrite(path, MIGRATIONS)


def openToRead(path: str) -> sqlite3.Connection:
    """See `database.openToRead`."""
    return database.openToRead(path, MIGRATIONS)
