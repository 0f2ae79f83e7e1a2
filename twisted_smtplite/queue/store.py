"""The queue on the disk.

Knows what happens when: which changes share a transaction, who has taken a message, and how changes of other processes are noticed. Must not know
SQL (that is `rows`), nor how mail is sent.

All messages that end together, and all progress that is recorded meanwhile, are one transaction, written ahead and synced once. What is larger than
256 KiB is a file of the directory ``bodies``, see `delivery.databasestoring`. Several processes may put messages in, and change what is there;
only one may send (`claim`).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from ..delivery.database import openToRead
from ..delivery.databasestoring import DatabaseMessage, DatabaseStorage
from ..delivery.durable import makeDirectory
from ..delivery.storing import absolute
from . import rows
from .entries import NewReport, Progress, QueuedMessage
from .schedule import dueAt
from .schema import MIGRATIONS, bodiesOf, databaseOf, lockOf
from .text import QueuedText

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorCore

    from ..client.content import Content
    from ..delivery.durable import Draft
    from ..model.envelope import Envelope

T = TypeVar("T")

POLL = 1.0
"""Seconds after which a change that another process made is noticed."""


class QueueStore(DatabaseStorage[Any]):
    """Keeps the queue; see `entries.Store` for what each method promises, and `Storage` for what it does as a service.

    Args:
        directory: the queue; it is made when missing, for its owner alone.
        reactor: the reactor.

    Attributes:
        directory: the same, absolute.
        unclean: True when the process that sent before this one did not end as it should: what it had in hand may have been sent.
    """

    def __init__(self, directory: str, reactor: IReactorCore) -> None:
        self.directory = absolute(directory)
        super().__init__(databaseOf(self.directory), bodiesOf(self.directory), MIGRATIONS, reactor)
        self._taken: set[str] = set()
        self._listeners: list[Callable[[], None]] = []
        self._poll: IDelayedCall | None = None
        self._version: int | None = None
        self.unclean = False
        self._claim = -1
        self._reader: sqlite3.Connection | None = None

    def newMessage(self, envelope: Envelope, user: str | None) -> QueueMessage:
        """A message on its way in; it is in the queue when its `eomReceived` has answered."""
        return QueueMessage(self, envelope, user)

    # ---- For the runner.

    def due(self, now: float, count: int) -> Deferred[Sequence[QueuedMessage]]:
        """See `entries.Store.due`."""

        def take(connection: sqlite3.Connection) -> Sequence[QueuedMessage]:
            # In one go: what `record` writes meanwhile comes wholly before or wholly after.
            ids = rows.due(connection, now, count, self._taken.copy())
            place = {queueId: index for index, queueId in enumerate(ids)}
            found = sorted(rows.find(connection, ids), key=lambda message: place[message.id])
            self._taken.update(message.id for message in found)
            return found

        return self._reading(take)

    def nextDue(self) -> Deferred[float | None]:
        """See `entries.Store.nextDue`."""
        return self._reading(lambda connection: rows.nextDue(connection, self._taken.copy()))

    def content(self, message: QueuedMessage) -> Content:
        """See `entries.Store.content`."""
        return QueuedText(message, self._textOf, self.database.bodies)

    def maySend(self, message: QueuedMessage) -> bool:
        """See `entries.Store.maySend`."""
        try:
            return rows.mayGo(self._ownReader(), message.id)
        except sqlite3.Error:
            # Its text cannot be read either, and then that is said.
            self._closeReader()
            return True

    def record(self, message: QueuedMessage, reports: Sequence[NewReport] = ()) -> Deferred[None]:
        """See `entries.Store.record`. When it fails the message is still taken: call it again."""
        return ensureDeferred(self._record(message, reports))

    def putBack(self, message: QueuedMessage) -> None:
        """See `entries.Store.putBack`."""
        self._taken.discard(message.id)

    def onChange(self, call: Callable[[], None]) -> None:
        """See `entries.Store.onChange`. Other processes are looked for every second from now on."""
        self._listeners.append(call)
        self._startLooking()

    def claim(self) -> bool:
        """Makes this process the one that sends, until `unclaim` or its end. False when another one does. May be called again.

        May block: call it in a thread.

        Raises:
            OSError: the place cannot be used.
        """
        if self._claim >= 0:
            return True
        makeDirectory(self.directory)
        descriptor = os.open(lockOf(self.directory), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # What is in the file says that somebody sends, or did so when he died.
            self.unclean = os.fstat(descriptor).st_size > 0
            os.pwrite(descriptor, b"sending\n", 0)
            os.fsync(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._claim = descriptor
        return True

    def unclaim(self) -> None:
        """Another process may send from now on, and need not wonder what this one was doing."""
        descriptor, self._claim = self._claim, -1
        if descriptor >= 0:
            os.ftruncate(descriptor, 0)
            os.close(descriptor)

    # ---- The work.

    def transaction(self, changes: Sequence[Any]) -> None:
        """Makes the changes, takes away the files of what has left the queue, and tells of what has come."""
        super().transaction(changes)
        for change in changes:
            for file in change.gone:
                self.database.removeBody(file)
        if any(change.comes for change in changes):
            IReactorFromThreads(self._reactor).callFromThread(self._tell)

    def close(self) -> None:
        """Closes the database, and stops looking for changes."""
        if self._poll is not None and self._poll.active():
            self._poll.cancel()
        self._poll = None
        self._closeReader()
        self.unclaim()
        super().close()

    def startService(self) -> None:
        """See `Storage`."""
        super().startService()
        if self._listeners:
            self._startLooking()

    def stopService(self) -> None:
        """See `Storage`."""
        super().stopService()
        self.close()

    def _textOf(self, queueId: str) -> tuple[bytes | None, str | None, bool] | None:
        """See `rows.text`. In the reactor's thread, by a connection that never waits for those who write."""
        try:
            return rows.text(self._ownReader(), queueId)
        except sqlite3.Error:
            self._closeReader()
            raise

    def _ownReader(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = openToRead(self.path, MIGRATIONS)
        return self._reader

    def _closeReader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    async def _record(self, message: QueuedMessage, reports: Sequence[NewReport]) -> None:
        error = await self.commits.add(_Record(message, reports))
        if error is not None:
            self.refusal(error)
            raise error
        self._taken.discard(message.id)

    def _reading(self, query: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        return self.inThread(lambda: self.database.read(query))

    def _startLooking(self) -> None:
        if self._poll is None:
            self._poll = self.clock.callLater(0, self._look)

    def _look(self) -> None:
        """Asks the database whether another process has changed anything."""

        def found(version: int | Failure) -> None:
            if self._poll is None:
                return
            self._poll = self.clock.callLater(POLL, self._look)
            if not isinstance(version, Failure):
                changed, self._version = self._version not in (None, version), version
                if changed:
                    self._tell()

        # What goes wrong goes wrong for everybody, who say so.
        self._reading(lambda connection: int(connection.execute("PRAGMA data_version").fetchone()[0])).addBoth(found)

    def _tell(self) -> None:
        for call in list(self._listeners):
            call()


class QueueMessage(DatabaseMessage):
    """One message on its way into the queue.

    Attributes:
        gone: no files: nothing leaves the queue by it.
        comes: True: by it something comes.
    """

    gone: Sequence[str] = ()
    comes = True

    def __init__(self, store: QueueStore, envelope: Envelope, user: str | None) -> None:
        super().__init__(store, envelope)
        self._user = user
        self._eightBit = False
        self._tail = b""

    def keepSmall(self, data: bytes) -> None:
        super().keepSmall(self._whole(data))

    def spill(self, data: bytes) -> None:
        super().spill(data)
        self._look(data)

    def finishLarge(self, data: bytes) -> None:
        super().finishLarge(self._whole(data))

    def write(self, connection: sqlite3.Connection, now: float) -> None:
        """Makes rows of the message. A recipient waits from now on, or from when the sender wants (RFC 4865)."""
        begin = dueAt(self.envelope, now)
        progress = [Progress(recipient, nextAttempt=begin) for recipient in self.envelope.recipients]
        message = QueuedMessage(self.envelope.id, self.envelope, progress, now, self.size, user=self._user)
        rows.insert(connection, message, self.content, self.file, eightBit=self._eightBit)

    def _whole(self, data: bytes) -> bytes:
        """The rest of the text, with an end to its last line: BDAT does not need one, DATA does (RFC 3030 2)."""
        self._look(data)
        return data if self._tail == b"\r\n" or self.envelope.body == "BINARYMIME" else data + b"\r\n"

    def _look(self, data: bytes) -> None:
        self._eightBit = self._eightBit or not data.isascii()
        self._tail = (self._tail + data[-2:])[-2:]


class _Record:
    """Progress that is to be kept, and reports of it."""

    left = False
    draft: Draft | None = None

    def __init__(self, message: QueuedMessage, reports: Sequence[NewReport]) -> None:
        self._message = message
        self._reports = reports
        self.gone: Sequence[str] = ()
        self.comes = bool(reports)

    def write(self, connection: sqlite3.Connection, now: float) -> None:
        """Makes the change, unless the message has left the queue."""
        if not rows.keep(connection, self._message):
            return
        for report in self._reports:
            if rows.isThere(connection, report.envelope.id):
                # A commit that failed, and yet had reached the disk.
                continue
            progress = [Progress(recipient, nextAttempt=now) for recipient in report.envelope.recipients]
            message = QueuedMessage(report.envelope.id, report.envelope, progress, now, len(report.text), report=True)
            rows.insert(connection, message, report.text, None, eightBit=not report.text.isascii())
        if rows.isFinished(connection, self._message.id):
            self.gone = rows.remove(connection, [self._message.id])

    def discard(self) -> None:
        """There is no file."""
