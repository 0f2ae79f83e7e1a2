"""``sqlite:PATH``: all mail in one database, safe on the disk before the client hears 250.

Knows how a message becomes rows. Must not know the dialogue.

All messages that end together are one transaction, written ahead and synced once. What is larger than 256 KiB streams into a file of the directory
``PATH.bodies``, which is synced before the rows that name it are committed: a file without rows does not count, and is cleared when no process
uses the database any more and one starts to.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Sequence
from threading import RLock
from typing import TYPE_CHECKING, TypeAlias

from ..interfaces import IMessage
from ..model.message import Message
from .base import DeliveryPlugin
from .durable import Draft, commitTogether, makeDirectory, syncDirectory
from .maildirlayout import FileNames
from .sqliteschema import INBOX, bodiesOf, openToWrite
from .storing import StoredMessage, StoringDelivery

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import Outcome
    from ..model.envelope import Envelope, Parameter, SessionInfo

Result: TypeAlias = Exception | None
"""Why a message was not stored; None when it was."""

_HEAD = 64 * 1024
"""Octets in which the header fields of the summary are looked for."""
_SUMMARY = 1000
"""Characters that are kept of a header field."""
_MESSAGE = """INSERT INTO message (mailbox, queueId, sender, parameters, peer, helo, protocol, user, receivedAt, storedAt, size,
    subject, fromField, toField, dateField, messageId) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class SQLiteDelivery(StoringDelivery["_SQLiteMessage", Result]):
    """Stores messages in a database, for an inbox to show.

    See `StoringDelivery` for what it does as a service. Several processes may store in one database. A message on its way in holds 256 KiB of memory
    or a little more, whatever its size.

    Args:
        path: the database; it is made when missing, for its owner alone.
        reactor: the reactor.
    """

    failures = (OSError, sqlite3.Error)

    def __init__(self, path: str, reactor: IReactorCore) -> None:
        super().__init__(path, reactor)
        self._names = FileNames()
        self._bodies = bodiesOf(self.path)
        # One thread at a time opens. The connection is used by the commit alone.
        self._opening = RLock()
        self._database: sqlite3.Connection | None = None
        self._lock = -1

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """A message that is written when it ends, and while it arrives when it is large."""
        return _SQLiteMessage(self, session, envelope)

    def isFull(self, error: Exception) -> bool:
        return super().isFull(error) or (isinstance(error, sqlite3.Error) and "full" in str(error))

    def prepare(self) -> int:
        """Opens the database. Clears bodies that no row names, if nobody else has it open."""
        return self._open()

    def newBody(self) -> tuple[str, Draft]:
        """In a thread: a file for a large message, and its name."""
        # Not before what a crash left has been cleared, or it would be taken for that.
        self._open()
        name = self._names.new(self.clock.seconds())
        path = os.path.join(self._bodies, name)
        return name, Draft(path, path)

    def commit(self, messages: Sequence[_SQLiteMessage]) -> list[Result]:
        """One transaction for all, after the files of the large ones."""
        results: dict[_SQLiteMessage, Result] = {}
        for message in messages:
            if message.left:
                message.discard()
                results[message] = OSError(errno.ECANCELED, "The client has left", self.path)
        bodies = {message.draft: message for message in messages if message.draft is not None}
        if bodies:
            results.update((bodies[draft], error) for draft, error in commitTogether(list(bodies), self.syncers).items())
        whole = [message for message in messages if message not in results]
        try:
            self._store(whole)
        except (OSError, sqlite3.Error) as error:
            results.update(dict.fromkeys(whole, error))
        return [results.get(message) for message in messages]

    def close(self) -> None:
        """Closes the database."""
        self._closeDatabase()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def _store(self, messages: Sequence[_SQLiteMessage]) -> None:
        if not messages:
            return
        self._open()
        database = self._database
        assert database is not None, "it was opened"
        try:
            now = self.clock.seconds()
            database.execute("BEGIN IMMEDIATE")
            for message in messages:
                message.insert(database, now)
        except BaseException:
            self._closeDatabase()
            for message in messages:
                message.removeBody()
            raise
        try:
            database.execute("COMMIT")
        except BaseException:
            # Perhaps it did reach the disk. Then the next one who opens the database finds the messages, and must find their files.
            self._closeDatabase()
            raise

    def _open(self) -> int:
        """Makes the directory and the database when they are missing, and opens it. Returns how many files were cleared."""
        with self._opening:
            if self._database is not None:
                return 0
            makeDirectory(self._bodies)
            if self._lock >= 0:
                self._database = openToWrite(self.path)
                return 0
            try:
                alone = self._lockBodies()
                _makeFile(self.path)
                self._database = openToWrite(self.path)
                cleared = self._clearOrphans(self._database) if alone else 0
                # From now on others may come in.
                fcntl.flock(self._lock, fcntl.LOCK_SH)
            except BaseException:
                self.close()
                raise
            return cleared

    def _closeDatabase(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except sqlite3.Error:
                pass

    def _lockBodies(self) -> bool:
        """Marks the directory as in use, until the process ends. True if nobody else uses it, who may be writing to a file of it."""
        self._lock = os.open(self._bodies, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _clearOrphans(self, database: sqlite3.Connection) -> int:
        orphans = [name for name in os.listdir(self._bodies) if not database.execute("SELECT 1 FROM content WHERE file = ?", (name,)).fetchone()]
        for name in orphans:
            os.unlink(os.path.join(self._bodies, name))
        return len(orphans)


class _SQLiteMessage(StoredMessage["_SQLiteMessage", Result]):
    """One message on its way into the database."""

    delivery: SQLiteDelivery

    def __init__(self, delivery: SQLiteDelivery, session: SessionInfo, envelope: Envelope) -> None:
        super().__init__(delivery, envelope)
        # The session goes on, and its values change.
        self._session = (session.peerHost, session.heloName, session.protocol, session.user)
        self._content: bytes | None = None
        self._size = 0
        self._head = b""
        self._file: str | None = None
        self.draft: Draft | None = None

    def keepSmall(self, data: bytes) -> None:
        self._content = data
        self._note(data)

    def outcome(self, result: Result) -> Outcome:
        """The message's id, or why it is not stored."""
        return self.envelope.id if result is None else self.delivery.refusal(result)

    # ---- In the threads.

    def spill(self, data: bytes) -> None:
        if self.draft is None:
            self._file, self.draft = self.delivery.newBody()
        self.draft.write(data)
        self._note(data)

    def finishLarge(self, data: bytes) -> None:
        self.spill(data)
        assert self.draft is not None, "it was spilled to"
        self.draft.sync()

    def discard(self) -> None:
        draft, self.draft = self.draft, None
        if draft is not None:
            draft.discard()

    def removeBody(self) -> None:
        """Takes away the file, though it is durable: no row will name it."""
        if self.draft is not None:
            self.draft.remove()

    def insert(self, database: sqlite3.Connection, now: float) -> None:
        """Makes rows of the message."""
        envelope, headers = self.envelope, Message(self._head).headers
        summary = [_clean(headers.decoded(name, "") or "")[:_SUMMARY] for name in ("Subject", "From", "To", "Date", "Message-ID")]
        peer, helo, protocol, user = self._session
        known = (INBOX, envelope.id, _clean(str(envelope.sender)), _asJSON(envelope.parameters), peer, _clean(helo), protocol, user and _clean(user))
        number = database.execute(_MESSAGE, (*known, envelope.receivedAt, now, self._size, *summary)).lastrowid
        recipients = enumerate(envelope.recipients)
        rows = [(number, position, _clean(str(recipient.address)), _asJSON(recipient.parameters)) for position, recipient in recipients]
        database.executemany("INSERT INTO recipient (message, position, address, parameters) VALUES (?, ?, ?, ?)", rows)
        database.execute("INSERT INTO content (message, octets, file) VALUES (?, ?, ?)", (number, self._content, self._file))

    def _note(self, data: bytes) -> None:
        self._size += len(data)
        if len(self._head) < _HEAD:
            self._head += data[: _HEAD - len(self._head)]


def _makeFile(path: str) -> None:
    """Makes an empty database, so that it survives a crash; its log becomes as private as it is."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    syncDirectory(os.path.dirname(path))


def _clean(text: str) -> str:
    """Text that can be stored: charsets of strangers decode to halves of characters too."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _asJSON(parameters: Sequence[Parameter]) -> str:
    return json.dumps(parameters)


def _make(argument: str, reactor: IReactorCore) -> SQLiteDelivery:
    delivery = SQLiteDelivery(argument or "mail.sqlite", reactor)
    # Now somebody is there to read what is wrong. When mail comes nobody is. Not kept open: the process may fork before it serves.
    try:
        delivery.prepare()
    except (OSError, sqlite3.Error) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"no mail can be stored in {delivery.path}: {cause}") from error
    finally:
        delivery.close()
    return delivery


plugin = DeliveryPlugin(
    "sqlite",
    "store messages in a database, safe before they are accepted",
    "PATH  the database, ./mail.sqlite when left out; large messages are files in PATH.bodies",
    _make,
)
