"""``maildir:PATH``: each message a file, safe on the disk before the client hears 250. The default.

Knows which Maildir a message goes to. Must not know the dialogue.

How a message is stored: written to ``tmp/NAME``, fsync of the file, rename to ``new/NAME``, fsync of the directory ``new``. The message counts when
the last step is done; when a step fails the file is taken away again. Messages that end together do each step together.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, TypeAlias

from ..interfaces import IMessage
from ..model.address import Address
from .base import DeliveryPlugin
from .durable import Draft, commitTogether, makeDirectory, readPieces, safeName, writeAll
from .maildirlayout import DIRECTORIES, FileNames, asText, clearStale, deliveryFields, makeMaildir, newDraft, toLF
from .storing import StoredMessage, StoringDelivery

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import Outcome
    from ..model.envelope import Envelope, SessionInfo

Errors: TypeAlias = dict[str, OSError]
"""What went wrong, by Maildir."""


class MaildirDelivery(StoringDelivery["_MaildirMessage", Errors]):
    """Stores messages in one Maildir, or in one for each recipient.

    See `StoringDelivery` for what it does as a service. A message on its way in holds 256 KiB of memory or a little more, whatever its size.

    Args:
        path: the Maildir; with `users`, the directory above the DOMAIN/LOCAL-PART Maildirs. It is made when missing.
        reactor: the reactor.
        users: True stores a copy for each recipient, in the recipient's own Maildir.
    """

    def __init__(self, path: str, reactor: IReactorCore, *, users: bool = False) -> None:
        super().__init__(path, reactor)
        self._users = users
        self._names = FileNames()

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """A message that is written when it ends, and while it arrives when it is large."""
        if not self._users:
            paths = [self.path] * len(envelope.recipients)
            return _MaildirMessage(self, envelope, paths, [_Copy(self.path, [recipient.address for recipient in envelope.recipients])])
        paths = [os.path.join(self.path, *_userPath(recipient.address, session.hostname)) for recipient in envelope.recipients]
        copies = {path: _Copy(path, [recipient.address]) for path, recipient in zip(paths, envelope.recipients, strict=True)}
        return _MaildirMessage(self, envelope, paths, list(copies.values()))

    def newDraft(self, maildir: str) -> Draft:
        """In a thread: a file on its way into `maildir`."""
        return newDraft(maildir, self._names.new(self.clock.seconds()))

    def prepare(self) -> int:
        """Makes the directories and clears stale files from tmp."""
        now = self.clock.seconds()
        if not self._users:
            makeMaildir(self.path)
            return clearStale(self.path, now)
        makeDirectory(self.path)
        return sum(clearStale(user, now) for domain in _directories(self.path) for user in _directories(domain))

    def commit(self, messages: Sequence[_MaildirMessage]) -> list[Errors]:
        """Writes what is not written yet, and makes the copies of all messages durable together."""
        for message in messages:
            message.writeCopies()
        copies = [copy for message in messages for copy in message.copies]
        failed = commitTogether([copy.draft for copy in copies if copy.draft is not None], self.syncers)
        for copy in copies:
            if copy.draft is not None:
                copy.error = failed.get(copy.draft)
        return [{copy.maildir: copy.error for copy in message.copies if copy.error is not None} for message in messages]


@dataclass(slots=True)
class _Copy:
    """What goes to one Maildir.

    Attributes:
        maildir: the directory.
        recipients: for whom.
        draft: the file, from when it is begun.
        error: why there will be none.
    """

    maildir: str
    recipients: Sequence[Address]
    draft: Draft | None = field(default=None, init=False)
    error: OSError | None = field(default=None, init=False)


class _MaildirMessage(StoredMessage["_MaildirMessage", Errors]):
    """One message on its way to one or more Maildirs. `paths` has the Maildir of each recipient."""

    delivery: MaildirDelivery

    def __init__(self, delivery: MaildirDelivery, envelope: Envelope, paths: Sequence[str], copies: Sequence[_Copy]) -> None:
        super().__init__(delivery, envelope)
        self.copies = copies
        self._paths = paths
        self._rest: bytes | None = None
        # What has been written of a large message to several Maildirs: a nameless file from which the copies are made.
        self._spool: IO[bytes] | None = None

    def keepSmall(self, data: bytes) -> None:
        self._rest = data

    def outcome(self, result: Errors) -> Outcome:
        """The message's id, or one outcome for each recipient when copies could not be stored."""
        if not result:
            return self.envelope.id
        refusals = {path: self.delivery.refusal(error) for path, error in result.items()}
        return [refusals.get(path) for path in self._paths]

    # ---- In the threads.

    def spill(self, data: bytes) -> None:
        if len(self.copies) > 1:
            if self._spool is None:
                self._spool = _openSpool(self.delivery.path)
            writeAll(self._spool.fileno(), toLF(data))
        else:
            self._addTo(self.copies[0], toLF(data))

    def finishLarge(self, data: bytes) -> None:
        self._rest = data
        self.writeCopies(sync=True)

    def writeCopies(self, *, sync: bool = False) -> None:
        """Writes what is still to be written. A copy that cannot be written has its error, and no file."""
        if self.left:
            # The client went away before this began.
            self.discard()
            return
        rest, self._rest = self._rest, None
        if rest is None:
            return
        for copy in self.copies:
            self._writeCopy(copy, toLF(rest), sync=sync)
        self._closeSpool()

    def _writeCopy(self, copy: _Copy, rest: bytes, *, sync: bool) -> None:
        try:
            for piece in readPieces(self._spool.fileno()) if self._spool is not None else ():
                self._addTo(copy, piece)
            self._addTo(copy, rest)
            if sync and copy.draft is not None:
                copy.draft.sync()
        except OSError as error:
            _drop(copy, error)

    def discard(self) -> None:
        for copy in self.copies:
            _drop(copy, OSError(errno.ECANCELED, "The client has left", copy.maildir))
        self._closeSpool()

    def _addTo(self, copy: _Copy, data: bytes) -> None:
        """Adds to the file of a copy, which begins with the fields of final delivery."""
        if copy.draft is None:
            copy.draft = self.delivery.newDraft(copy.maildir)
            data = deliveryFields(str(self.envelope.sender), asText(copy.recipients)) + data
        copy.draft.write(data)

    def _closeSpool(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None


def _drop(copy: _Copy, error: OSError) -> None:
    """Takes away the file of a copy, and says why."""
    draft, copy.draft, copy.error = copy.draft, None, error
    if draft is not None:
        draft.discard()


def _openSpool(directory: str) -> IO[bytes]:
    """A file without a name: there is nothing to clear after a crash."""
    try:
        return TemporaryFile(dir=directory, buffering=0)
    except FileNotFoundError:
        makeDirectory(directory)
        return TemporaryFile(dir=directory, buffering=0)


def _directories(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _userPath(address: Address, hostname: str) -> tuple[str, str]:
    """The directory names of a recipient. RFC 5321 4.5.1: postmaster has one mailbox however it is spelled, at this host without a domain."""
    local = "postmaster" if address.isPostmaster else address.localPart
    return safeName((address.domain or hostname).lower()), safeName(local)


def _make(argument: str, reactor: IReactorCore) -> MaildirDelivery:
    path, _, query = argument.partition("?")
    users = False
    for option in filter(None, query.split("&")):
        key, _, value = option.partition("=")
        if key != "users":
            raise ValueError(f"unknown option {key!r}: the only one is users")
        if value not in ("0", "1"):
            raise ValueError(f"option users must be 0 or 1, not {value!r}")
        users = value == "1"
    delivery = MaildirDelivery(path or "Maildir", reactor, users=users)
    if os.path.exists(delivery.path) and not os.path.isdir(delivery.path):
        raise ValueError(f"{delivery.path} is not a directory")
    # Now somebody is there to read what is wrong. When mail comes nobody is.
    for directory in [delivery.path] if users else [os.path.join(delivery.path, name) for name in DIRECTORIES]:
        _tryDirectory(directory)
    return delivery


def _tryDirectory(directory: str) -> None:
    try:
        makeDirectory(directory)
        TemporaryFile(dir=directory).close()
    except OSError as error:
        raise ValueError(f"no mail can be stored in {directory}: {error.strerror or error}") from error


plugin = DeliveryPlugin(
    "maildir",
    "store each message as a file of a Maildir, safe before it is accepted",
    "PATH          the Maildir, ./Maildir when left out\nPATH?users=1  a Maildir for each recipient: PATH/DOMAIN/LOCAL-PART",
    _make,
)
