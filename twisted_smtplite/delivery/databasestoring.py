"""Messages as rows: all that end together are one transaction, and the text of large ones is in files.

Knows how a message gets to where a row can name it. Must not know the tables.

What is larger than 256 KiB streams into a file, which is synced before the rows that name it are committed.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from .database import Database, Migrations
from .durable import Draft, commitTogether
from .maildirlayout import FileNames
from .storing import Storage, StoredMessage

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import Outcome
    from ..model.envelope import Envelope

Result: TypeAlias = Exception | None
"""Why a change was not made; None when it was."""


class Change(Protocol):
    """What a transaction is made of.

    Attributes:
        left: True when nobody wants it any more.
        draft: the file that its rows name, or None.
    """

    left: bool
    draft: Draft | None

    def write(self, connection: sqlite3.Connection, now: float) -> None:
        """Makes the change, within a transaction; `now` is in seconds since the epoch."""

    def discard(self) -> None:
        """Takes away the file, unless it is durable."""


C = TypeVar("C", bound=Change)


class DatabaseStorage(Storage[C, Result]):
    """Makes changes in lots, each lot a transaction. See `Storage` for what it does as a service.

    Args:
        path: the database; it is made when missing, for its owner alone.
        bodies: the directory of the files, likewise.
        migrations: what makes the tables, see `Database`.
        reactor: the reactor.

    Attributes:
        database: the place.
    """

    failures = (OSError, sqlite3.Error)

    def __init__(self, path: str, bodies: str, migrations: Migrations, reactor: IReactorCore) -> None:
        super().__init__(path, reactor)
        self.database = Database(self.path, bodies, migrations)
        self._names = FileNames()

    def isFull(self, error: Exception) -> bool:
        return super().isFull(error) or (isinstance(error, sqlite3.Error) and "full" in str(error))

    def prepare(self) -> int:
        """Opens the database. Clears files that no row names, if nobody else has it open."""
        return self.database.open()

    def newBody(self) -> tuple[str, Draft]:
        """In a thread: a file for a large message, and its name."""
        # Not before what a crash left has been cleared, or it would be taken for that.
        self.database.open()
        name = self._names.new(self.clock.seconds())
        path = self.database.bodyPath(name)
        return name, Draft(path, path)

    def commit(self, changes: Sequence[C]) -> list[Result]:
        """One transaction for all, after the files of those that have one."""
        results: dict[C, Result] = {}
        for change in changes:
            if change.left:
                change.discard()
                results[change] = OSError(errno.ECANCELED, "The client has left", self.path)
        bodies = {change.draft: change for change in changes if change.draft is not None}
        if bodies:
            results.update((bodies[draft], error) for draft, error in commitTogether(list(bodies), self.syncers).items())
        whole = [change for change in changes if change not in results]
        try:
            if whole:
                self.transaction(whole)
        except (OSError, sqlite3.Error) as error:
            results.update(dict.fromkeys(whole, error))
        return [results.get(change) for change in changes]

    def transaction(self, changes: Sequence[C]) -> None:
        """Makes the changes, all or none. Their files are durable."""

        def write(connection: sqlite3.Connection) -> None:
            now = self.clock.seconds()
            for change in changes:
                change.write(connection, now)

        def removeBodies() -> None:
            # They are durable, but no row will name them.
            for change in changes:
                if change.draft is not None:
                    change.draft.remove()

        self.database.write(write, removeBodies)

    def close(self) -> None:
        """Closes the database."""
        self.database.close()


class DatabaseMessage(StoredMessage[Any, Result]):
    """One message on its way into a database. A subclass says what its rows are.

    Attributes:
        content: the whole text of a small one.
        file: the name of the file of a large one.
        draft: that file.
        size: octets of the text.
        head: its first octets, `headLength` at most.
    """

    delivery: DatabaseStorage[Any]
    headLength = 0
    """How much of `head` is wanted."""

    def __init__(self, delivery: DatabaseStorage[Any], envelope: Envelope) -> None:
        super().__init__(delivery, envelope)
        self.content: bytes | None = None
        self.file: str | None = None
        self.draft: Draft | None = None
        self.size = 0
        self.head = b""

    def keepSmall(self, data: bytes) -> None:
        self.content = data
        self._note(data)

    def outcome(self, result: Result) -> Outcome:
        """The message's id, or why it is not stored."""
        return self.envelope.id if result is None else self.delivery.refusal(result)

    # ---- In the threads.

    def spill(self, data: bytes) -> None:
        if self.draft is None:
            self.file, self.draft = self.delivery.newBody()
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

    def _note(self, data: bytes) -> None:
        self.size += len(data)
        if len(self.head) < self.headLength:
            self.head += data[: self.headLength - len(self.head)]
