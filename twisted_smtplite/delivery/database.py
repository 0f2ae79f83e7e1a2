"""A database with a directory of files beside it, for whoever keeps rows and large bodies: opened, migrated, and cleared after a crash.

Knows SQLite, its write-ahead log, and who else may be using the same place. Must not know the tables. All of it blocks: call it in a thread.

A file without a row that names it does not count. Such files are left by a crash, and cleared when no process uses the place any more and one
starts to.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock
from typing import TypeAlias, TypeVar

from .durable import makeDirectory, syncDirectory

T = TypeVar("T")

Migrations: TypeAlias = Sequence[Sequence[str]]
"""What makes version N + 1 of version N, in statements. Only ever added to: a database stands at any of them (``PRAGMA user_version``)."""

_PATIENCE = 5.0
"""Seconds to wait for other processes that write."""


class Database:
    """One connection, used by one thread at a time, and the directory of bodies.

    Several processes may open one place.

    Args:
        path: the database, absolute; it is made when missing, for its owner alone.
        bodies: the directory of the files.
        migrations: what makes the tables. One of them is ``content``, with the names of the files in its column ``file``.

    Attributes:
        openings: how often it has been connected to: SQLite's ``data_version`` counts within one connection.
    """

    def __init__(self, path: str, bodies: str, migrations: Migrations) -> None:
        self.path = path
        self.bodies = bodies
        self._migrations = migrations
        self._inUse = RLock()
        self._connection: sqlite3.Connection | None = None
        self._lock = -1
        self.openings = 0

    def open(self) -> int:
        """Makes the directory and the database when they are missing, and opens it. Returns how many files were cleared.

        Raises:
            OSError: the place cannot be used.
            sqlite3.Error: nor can the database.
        """
        with self._inUse:
            if self._connection is not None:
                return 0
            makeDirectory(self.bodies)
            self.openings += 1
            if self._lock >= 0:
                self._connection = openToWrite(self.path, self._migrations)
                return 0
            try:
                alone = self._lockBodies()
                _makeFile(self.path)
                self._connection = openToWrite(self.path, self._migrations)
                cleared = self._clearOrphans(self._connection) if alone else 0
                # From now on others may come in.
                fcntl.flock(self._lock, fcntl.LOCK_SH)
            except BaseException:
                self.close()
                raise
            return cleared

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What `query` finds."""
        with self._inUse:
            return query(self._opened())

    def write(self, statements: Callable[[sqlite3.Connection], T], undo: Callable[[], None] = lambda: None) -> T:
        """Does `statements` as one transaction, which is durable when this returns.

        Args:
            statements: called once.
            undo: called when they failed. Not when the commit did: perhaps it did reach the disk, and then what the rows name must be there.

        Raises:
            OSError: nothing was done.
            sqlite3.Error: nothing was done, or nobody knows: the commit failed.
        """
        with self._inUse:
            try:
                connection = self._opened()
            except BaseException:
                undo()
                raise
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = statements(connection)
            except BaseException:
                self.disconnect()
                undo()
                raise
            try:
                connection.execute("COMMIT")
            except BaseException:
                # The next one who opens the database finds out.
                self.disconnect()
                raise
            return result

    def bodyPath(self, name: str) -> str:
        """Where a file of the directory is."""
        return os.path.join(self.bodies, name)

    def removeBody(self, name: str) -> None:
        """Takes away a file that no row names any more. What cannot be taken away is cleared when the place is opened alone."""
        try:
            os.unlink(self.bodyPath(name))
        except OSError:
            pass

    def disconnect(self) -> None:
        """Closes the connection. It is opened again when it is needed."""
        with self._inUse:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    connection.close()
                except sqlite3.Error:
                    pass

    def close(self) -> None:
        """Lets go of the place."""
        with self._inUse:
            self.disconnect()
            lock, self._lock = self._lock, -1
            if lock >= 0:
                os.close(lock)

    def _opened(self) -> sqlite3.Connection:
        self.open()
        assert self._connection is not None, "it was opened"
        return self._connection

    def _lockBodies(self) -> bool:
        """Marks the directory as in use, until the process ends. True if nobody else uses it, who may be writing to a file of it."""
        self._lock = os.open(self.bodies, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _clearOrphans(self, connection: sqlite3.Connection) -> int:
        orphans = [name for name in os.listdir(self.bodies) if not connection.execute("SELECT 1 FROM content WHERE file = ?", (name,)).fetchone()]
        for name in orphans:
            os.unlink(self.bodyPath(name))
        return len(orphans)


def openToWrite(path: str, migrations: Migrations) -> sqlite3.Connection:
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
        _migrate(connection, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def openToRead(path: str, migrations: Migrations) -> sqlite3.Connection:
    """Opens a database that may be in use.

    Raises:
        sqlite3.Error: it is not there, or of another version.
    """
    connection = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE, isolation_level=None)
    try:
        _requireThisVersion(connection, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def _requireThisVersion(connection: sqlite3.Connection, migrations: Migrations) -> None:
    version = _version(connection)
    if version != len(migrations):
        raise sqlite3.DatabaseError(f"it has version {version}, this program reads {len(migrations)}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _migrate(connection: sqlite3.Connection, migrations: Migrations) -> None:
    if _version(connection) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    # Once more: another process may have done it meanwhile.
    version = _version(connection)
    if version > len(migrations):
        raise sqlite3.DatabaseError(f"it has version {version}, made by a newer program; this one knows {len(migrations)}")
    for migration in migrations[version:]:
        for statement in migration:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(migrations)}")
    connection.execute("COMMIT")


def _makeFile(path: str) -> None:
    """Makes an empty database, so that it survives a crash; its log becomes as private as it is."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    syncDirectory(os.path.dirname(path))
