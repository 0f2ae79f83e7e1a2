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
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from ..delivery.database import openToRead
from ..delivery.databasestoring import DatabaseMessage, DatabaseStorage
from ..delivery.durable import absolute, makeDirectory
from . import rows
from .entries import Doubt, NewReport, Progress, QueuedMessage, Room, Way
from .marks import Marks, OnTheirWay, onTheirWay
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
_UNMARKED = 0


class QueueStore(DatabaseStorage[Any]):
    """Keeps the queue; see `entries.Store` for what each method promises, and `Storage` for what it does as a service.

    Args:
        directory: the queue; it is made when missing, for its owner alone.
        reactor: the reactor.

    Attributes:
        directory: the same, absolute.
        unclean: what the process that sent before this one had on its way, where it did not end as it should; else None.
        doubtful: how many recipients may have their messages for that reason.
    """

    def __init__(self, directory: str, reactor: IReactorCore) -> None:
        self.directory = absolute(directory)
        super().__init__(databaseOf(self.directory), bodiesOf(self.directory), MIGRATIONS, reactor)
        # Changed in the reactor's thread and in that which asks what is due.
        self._taken: dict[str, rows.Taken] = {}
        self._taking = Lock()
        self._listeners: list[Callable[[], None]] = []
        self._poll: IDelayedCall | None = None
        self._version: tuple[int, int] | None = None
        self._changes = 0
        self.unclean: OnTheirWay | None = None
        self.doubtful = 0
        self._claim = -1
        self._marks: Marks | None = None
        self._reader: sqlite3.Connection | None = None

    def newMessage(self, envelope: Envelope, user: str | None) -> QueueMessage:
        """A message on its way in; it is in the queue when its `eomReceived` has answered."""
        return QueueMessage(self, envelope, user)

    # ---- For the runner.

    def due(self, now: float, room: Room) -> Deferred[Sequence[QueuedMessage]]:
        """See `entries.Store.due`."""

        def take(connection: sqlite3.Connection) -> Sequence[QueuedMessage]:
            # In one go: what `record` writes meanwhile comes wholly before or wholly after.
            seen = self._changes
            with self._taking:
                before = {queueId: known.returns for queueId, known in self._taken.items()}
                taken = self._taken.copy()
            found = rows.due(connection, now, room, taken)
            with self._taking:
                for number, message, following in found:
                    known = self._taken.get(message.id)
                    if known is None:
                        if not message.progress:
                            continue
                        known = self._taken[message.id] = rows.Taken(number)
                    # Those that came back meanwhile may be the next.
                    isSure = known.returns == before.get(message.id, 0)
                    known.following, known.more, known.seen = following if isSure else min(following, 0.0), message.more, seen
                    known.places.update((one.position, _UNMARKED) for one in message.progress)
            return [message for _, message, _ in found if message.progress]

        return self._reading(take)

    def nextDue(self) -> Deferred[float | None]:
        """See `entries.Store.nextDue`."""

        def find(connection: sqlite3.Connection) -> float | None:
            taken = self._taken.copy()
            first = min([rows.nextDue(connection, taken), *(known.following for known in taken.values() if not known.more)])
            return first if first < inf else None

        return self._reading(find)

    def content(self, message: QueuedMessage, way: Way | None = None) -> Content:
        """See `entries.Store.content`."""
        return QueuedText(message, self._textOf, self.database.bodies, way or Way())

    def maySend(self, message: QueuedMessage, those: Sequence[Progress]) -> bool:
        """See `entries.Store.maySend`."""
        known = self._taken[message.id]
        return known.seen == self._changes or self._mayGo(known, those)

    def handOver(self, message: QueuedMessage, those: Sequence[Progress]) -> bool:
        """See `entries.Store.handOver`."""
        known = self._taken[message.id]
        new = [one for one in those if known.places[one.position] == _UNMARKED]
        if self._marks is not None:
            for one in new:
                known.places[one.position] = self._marks.put(known.number, one.position)
        # After that: who changes something now, and then looks what is on its way, finds it there if it is not found here.
        if self._mayGo(known, those):
            return True
        self.notTaken(message, new)
        return False

    def textGoes(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        """See `entries.Store.textGoes`."""
        known = self._taken[message.id]
        if self._marks is not None:
            for one in those:
                self._marks.begin(known.places[one.position], known.number, one.position)

    def notTaken(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        """See `entries.Store.notTaken`."""
        known = self._taken[message.id]
        for one in those:
            self._unmark(known.places[one.position])
            known.places[one.position] = _UNMARKED

    def record(self, message: QueuedMessage, reports: Sequence[NewReport] = ()) -> Deferred[None]:
        """See `entries.Store.record`. When it fails the recipients are still taken: call it again."""
        return ensureDeferred(self._record(message, reports))

    def putBack(self, message: QueuedMessage, those: Sequence[Progress]) -> None:
        """See `entries.Store.putBack`."""
        with self._taking:
            known = self._taken.get(message.id)
            if known is None:
                # The store was closed meanwhile.
                return
            known.returns += 1
            for one in those:
                self._unmark(known.places.pop(one.position, _UNMARKED))
                if not one.state.final:
                    known.following = min(known.following, one.nextAttempt)
            if not known.places:
                del self._taken[message.id]

    def onChange(self, call: Callable[[], None]) -> None:
        """See `entries.Store.onChange`. Other processes are looked for every second from now on."""
        self._listeners.append(call)
        self._startLooking()

    def claim(self) -> bool:
        """Makes this process the one that sends, until `unclaim` or its end. False when another one does. May be called again.

        What the one before it may have sent is then known of the recipients in question. May block: call it in a thread.

        Raises:
            OSError: the place cannot be used.
            sqlite3.Error: nor can the database.
        """
        if self._claim >= 0:
            return True
        makeDirectory(self.directory)
        descriptor = os.open(lockOf(self.directory), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # What is in the file says that somebody sends, or did so when he died.
            self.unclean = onTheirWay(_contentOf(descriptor))
            self.doubtful = self._doubt(self.unclean) if self.unclean is not None else 0
            self._marks = Marks(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._claim = descriptor
        return True

    def unclaim(self) -> None:
        """Another process may send from now on, and need not wonder what this one was doing, unless that could not be recorded."""
        descriptor, self._claim = self._claim, -1
        marks, self._marks = self._marks, None
        if marks is not None:
            if marks.empty:
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def _doubt(self, unclean: OnTheirWay) -> int:
        """Notes of recipients that they may have been sent a message by a process that could not record it."""

        def write(connection: sqlite3.Connection) -> int:
            doubtful = rows.doubt(connection, Doubt.KILLED, unclean.begun) if unclean.begun else 0
            if not unclean.complete:
                doubtful += rows.doubtAll(connection, Doubt.POWER, self.clock.seconds())
            return doubtful

        return self.database.write(write)

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
        self._taken.clear()
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

    def _mayGo(self, known: rows.Taken, those: Sequence[Progress]) -> bool:
        try:
            return rows.mayGo(self._ownReader(), known.number, those)
        except sqlite3.Error:
            # Its text cannot be read either, and then that is said.
            self._closeReader()
            return True

    def _unmark(self, place: int) -> None:
        if self._marks is not None:
            self._marks.clear(place)

    async def _record(self, message: QueuedMessage, reports: Sequence[NewReport]) -> None:
        error = await self.commits.add(_Record(message, reports))
        if error is not None:
            self.refusal(error)
            raise error
        self.putBack(message, message.progress)

    def _reading(self, query: Callable[[sqlite3.Connection], T]) -> Deferred[T]:
        return self.inThread(lambda: self.database.read(query))

    def _startLooking(self) -> None:
        if self._poll is None:
            self._poll = self.clock.callLater(0, self._look)

    def _look(self) -> None:
        """Asks the database whether another process has changed anything."""

        def ask(connection: sqlite3.Connection) -> tuple[int, int]:
            # The second one counts within one connection only.
            return self.database.openings, connection.execute("PRAGMA data_version").fetchone()[0]

        def found(version: tuple[int, int] | Failure) -> None:
            if self._poll is None:
                return
            self._poll = self.clock.callLater(POLL, self._look)
            if not isinstance(version, Failure):
                changed, self._version = self._version not in (None, version), version
                if changed:
                    self._changedByOthers()

        # What goes wrong goes wrong for everybody, who say so.
        self._reading(ask).addBoth(found)

    def _changedByOthers(self) -> None:
        self._changes += 1
        with self._taking:
            for known in self._taken.values():
                # Recipients that were not due then may be now.
                known.following = min(known.following, 0.0)
        self._tell()

    def _tell(self) -> None:
        for call in list(self._listeners):
            call()


def _contentOf(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


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
        """Makes the change, unless somebody has taken out all that it is about."""
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
