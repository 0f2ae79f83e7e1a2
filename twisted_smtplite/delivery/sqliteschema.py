"""The tables of ``sqlite:PATH``, and how a database of an older version becomes one of this version.

Knows SQL. Must not know how messages come in. All of it blocks.

Who reads such a database beside a running server opens it read-only (`openToRead`) and takes a few rows at a time: a long transaction of a reader
lets the write-ahead log grow.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

INBOX = 1
"""The mailbox that exists from the beginning, and that everything goes to."""
_PATIENCE = 5.0
"""Seconds to wait for other processes that write."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
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
"""What makes version N + 1 of version N, in statements. Only ever added to: a database stands at any of them (``PRAGMA user_version``)."""


def bodiesOf(path: str) -> str:
    """The directory of the large messages of a database."""
    return f"{path}.bodies"


def openToWrite(path: str) -> sqlite3.Connection:
    """Opens a database whose file exists, and brings it to this version. A commit that returns is durable.

    Raises:
        sqlite3.Error: it is no database, or one of a newer version, or cannot be written.
    """
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # In the write-ahead mode NORMAL would let a power failure undo the last commits.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def openToRead(path: str) -> sqlite3.Connection:
    """Opens a database that may be in use.

    Raises:
        sqlite3.Error: it is not there, or of another version.
    """
    connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE, isolation_level=None)
    try:
        _requireThisVersion(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _requireThisVersion(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version != len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"it has version {version}, this program reads {len(MIGRATIONS)}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _migrate(connection: sqlite3.Connection) -> None:
    if _version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    # Once more: another process may have done it meanwhile.
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"it has version {version}, made by a newer program; this one knows {len(MIGRATIONS)}")
    for migration in MIGRATIONS[version:]:
        for statement in migration:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")
