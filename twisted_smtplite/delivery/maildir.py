"""``maildir:PATH``: each message a file, safe on the disk before the client hears 250. The default.

Knows the Maildir convention (tmp, new, cur) and what makes a file durable. Must not know the dialogue.

How a message is stored: written to ``tmp/NAME``, fsync of the file, rename to ``new/NAME``, fsync of the directory ``new``. The message counts when
the last step is done; when a step fails the file is taken away again. All that may wait for the disk runs in a pool of threads of its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from ..interfaces import IMessage
from ..model import replies
from ..model.address import Address
from ..model.reply import Refused, Reply
from .base import AcceptingDelivery, DeliveryPlugin
from .durable import Draft, makeDirectory, readPieces, safeName, writeAll

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import Outcome
    from ..model.envelope import Envelope, SessionInfo

T = TypeVar("T")

_THREADS = 8
"""Threads that wait for the disk: more of them were slower."""
_HELD = 256 * 1024
"""Octets of a message that are held in memory before they go to its file."""
_STALE = 36 * 3600.0
"""Seconds after which the convention gives up a file in tmp."""
_REPORT_AGAIN = 3600.0
"""Seconds in which a cause of failure is logged once."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL = Reply(452, "4.3.1", "Insufficient system storage, try again later")

_log = Logger(namespace="smtplite")
_sequence = itertools.count(1)


class MaildirDelivery(AcceptingDelivery, Service):
    """Stores messages in one Maildir, or in one for each recipient.

    As a service it makes the directories and clears stale files from tmp when it starts, and ends its threads when it stops. In an application that
    does not start it these happen with the first message and when the reactor stops. A message on its way in holds 256 KiB of memory or a little
    more, whatever its size.

    Args:
        path: the Maildir; with `users`, the directory above the DOMAIN/LOCAL-PART Maildirs. It is made when missing.
        reactor: the reactor.
        users: True stores a copy for each recipient, in the recipient's own Maildir.

    Attributes:
        path: the same, absolute.
    """

    def __init__(self, path: str, reactor: IReactorCore, *, users: bool = False) -> None:
        # Absolute now: twistd changes its directory when it goes to the background.
        self.path = os.path.abspath(os.path.expanduser(path))
        self._users = users
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._host = _safeHost(socket.gethostname())
        self._pool: ThreadPool | None = None
        self._trigger: object = None
        self._reported: dict[int | None, float] = {}

    def startService(self) -> None:
        """Starts to make the directories and to clear tmp. Failures are logged; messages are then refused for now, until it can be done."""
        super().startService()  # type: ignore[no-untyped-call]
        self._threads()

    def stopService(self) -> None:
        """Waits for what is being written, and ends the threads."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._pool is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._endThreads()

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """A message that is written when it ends, and while it arrives when it is large."""
        if not self._users:
            copies = {self.path: _Copy(self.path, dict.fromkeys(recipient.address for recipient in envelope.recipients))}
            return _MaildirMessage(self, envelope, [self.path] * len(envelope.recipients), copies)
        paths = [os.path.join(self.path, *_userPath(recipient.address, session.hostname)) for recipient in envelope.recipients]
        copies = {path: _Copy(path, [recipient.address]) for path, recipient in zip(paths, envelope.recipients, strict=True)}
        return _MaildirMessage(self, envelope, paths, copies)

    def inThread(self, work: Callable[[], T]) -> Deferred[T]:
        """Runs `work` in the pool. Do not cancel this Deferred: what it stands for cannot be stopped."""
        return deferToThreadPool(IReactorFromThreads(self._reactor), self._threads(), work)

    def newName(self) -> str:
        """A file name that no other message on this host has, by the Maildir convention: time, microseconds, process, sequence, host."""
        seconds, micros = divmod(int(self._clock.seconds() * 1_000_000), 1_000_000)
        return f"{seconds}.M{micros:06d}P{os.getpid()}Q{next(_sequence)}.{self._host}"

    def refusal(self, error: OSError) -> Reply:
        """What the client hears of `error`. The log hears of each cause once in a while, and not for each message."""
        now = self._clock.seconds()
        last = self._reported.get(error.errno)
        if last is None or now - last >= _REPORT_AGAIN:
            self._reported[error.errno] = now
            _log.error("Mail cannot be stored in {path}: {cause}", path=error.filename or self.path, cause=error.strerror or str(error))
        return _FULL if error.errno in _NO_ROOM else replies.LOCAL_ERROR

    def _threads(self) -> ThreadPool:
        """The pool, started when it is needed first."""
        if self._pool is None:
            self._pool = ThreadPool(0, _THREADS, "maildir")
            self._pool.start()
            # After everything else: connections that are lost while the reactor stops still have files to take away.
            self._trigger = self._reactor.addSystemEventTrigger("after", "shutdown", self._endThreads)
            ensureDeferred(self._prepare())
        return self._pool

    def _endThreads(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()

    async def _prepare(self) -> None:
        now = self._clock.seconds()
        try:
            stale = await self.inThread(lambda: _prepare(self.path, self._users, now))
        except OSError as error:
            self.refusal(error)
        else:
            if stale:
                _log.info("Removed {count} stale files from tmp of {path}", count=stale, path=self.path)


@implementer(IMessage)
class _MaildirMessage:
    """One message on its way to one or more Maildirs.

    At most one piece of work is in the threads at a time. The draft or the spool belongs to that work while it runs.
    """

    def __init__(self, delivery: MaildirDelivery, envelope: Envelope, paths: list[str], copies: dict[str, _Copy]) -> None:
        self._delivery = delivery
        self._envelope = envelope
        # The Maildir of each recipient, and the copy for each Maildir.
        self._paths = paths
        self._copies = copies
        self._chunks: list[bytes] = []
        self._held = 0
        self._working: Deferred[Any] | None = None
        self._left = False
        # What has been written of a large message: into the only copy itself, or into a nameless file from which the copies are made.
        self._draft: Draft | None = None
        self._spool: IO[bytes] | None = None

    def dataReceived(self, chunk: bytes) -> Deferred[None] | None:
        """Holds the chunk. When much is held it goes to the disk, and the Deferred fires when it is there."""
        self._chunks.append(chunk)
        self._held += len(chunk)
        if self._held < _HELD:
            return None
        return Deferred.fromCoroutine(self._write(self._take()))

    async def _write(self, data: bytes) -> None:
        try:
            await self._inThread(lambda: self._spill(data))
        except OSError as error:
            raise Refused(self._delivery.refusal(error)) from error

    async def eomReceived(self) -> Outcome:
        """Stores the message. The outcome is its id, or one for each recipient when copies could not be stored."""
        data = self._take() + b"".join(self._chunks)
        errors = await self._inThread(lambda: self._store(data))
        if not errors:
            return self._envelope.id
        refusals = {path: self._delivery.refusal(error) for path, error in errors.items()}
        return [refusals.get(path) for path in self._paths]

    def connectionLost(self, reason: Exception) -> None:
        """Takes away what has been written, after what is being written."""
        self._chunks.clear()
        self._left = True
        if self._working is not None:
            self._working.addBoth(lambda result: self._delivery.inThread(self._discard))
        elif self._draft is not None or self._spool is not None:
            self._delivery.inThread(self._discard)

    def _take(self) -> bytes:
        """What is held, except for a CR at the end: its LF may be in the next chunk."""
        data = b"".join(self._chunks)
        self._chunks = [b"\r"] if data.endswith(b"\r") else []
        self._held = len(self._chunks)
        return data[: len(data) - self._held]

    async def _inThread(self, work: Callable[[], T]) -> T:
        """Runs `work`. When the client leaves and this is cancelled, work that has not begun will not."""

        def finished(result: Any) -> Any:
            self._working = None
            return result

        # Cancelling must not reach the work's own Deferred: it tells when the thread has really finished.
        answer: Deferred[T] = Deferred()
        self._working = self._delivery.inThread(work).addBoth(finished)
        self._working.chainDeferred(answer)
        try:
            return await answer
        except CancelledError:
            self._left = True
            raise

    # ---- In the threads.

    def _spill(self, data: bytes) -> None:
        """Writes a part of a large message."""
        if len(self._copies) > 1:
            if self._spool is None:
                self._spool = _openSpool(self._delivery.path)
            writeAll(self._spool.fileno(), _toLF(data))
            return
        (copy,) = self._copies.values()
        if self._draft is None:
            self._draft = _newDraft(copy.maildir, self._delivery.newName())
            self._draft.write(copy.header(self._envelope.sender))
        self._draft.write(_toLF(data))

    def _store(self, data: bytes) -> dict[str, OSError]:
        """Writes the rest and makes all copies durable. Returns what went wrong, by Maildir."""
        rest = _toLF(data)
        try:
            outcomes = {path: self._storeCopy(copy, rest) for path, copy in self._copies.items()}
        finally:
            self._discard()
        return {path: error for path, error in outcomes.items() if error is not None}

    def _storeCopy(self, copy: _Copy, rest: bytes) -> OSError | None:
        if self._left:
            # The client went away before this began, and will send the message again.
            return OSError(errno.ECANCELED, "The client has left", copy.maildir)
        try:
            draft, header = self._draft, b""
            if draft is None:
                draft, header = _newDraft(copy.maildir, self._delivery.newName()), copy.header(self._envelope.sender)
            try:
                if self._spool is not None:
                    draft.write(header)
                    header = b""
                    for piece in readPieces(self._spool.fileno()):
                        draft.write(piece)
                draft.write(header + rest)
                draft.commit()
            finally:
                draft.discard()
        except OSError as error:
            return error
        return None

    def _discard(self) -> None:
        if self._draft is not None:
            self._draft.discard()
        if self._spool is not None:
            self._spool.close()


@dataclass(slots=True)
class _Copy:
    """What goes to one Maildir: for whom."""

    maildir: str
    recipients: Iterable[Address]

    def header(self, sender: Address) -> bytes:
        """The fields of final delivery (RFC 5321 4.4)."""
        names = [_onOneLine(recipient) for recipient in self.recipients]
        fields = [f"Return-Path: <{_onOneLine(sender)}>\n", *(f"X-Original-To: {name}\nDelivered-To: {name}\n" for name in names)]
        return "".join(fields).encode("utf-8", "replace")


def _newDraft(maildir: str, name: str) -> Draft:
    tmp, new = os.path.join(maildir, "tmp", name), os.path.join(maildir, "new", name)
    try:
        return Draft(tmp, new)
    except FileNotFoundError:
        _makeMaildir(maildir)
        return Draft(tmp, new)


def _openSpool(directory: str) -> IO[bytes]:
    """A file without a name: there is nothing to clear after a crash."""
    try:
        return TemporaryFile(dir=directory, buffering=0)
    except FileNotFoundError:
        makeDirectory(directory)
        return TemporaryFile(dir=directory, buffering=0)


def _makeMaildir(path: str) -> None:
    # In this order: where a file can be made in tmp it can be renamed to new.
    for name in ("new", "cur", "tmp"):
        makeDirectory(os.path.join(path, name))


def _prepare(path: str, users: bool, now: float) -> int:
    """Makes the directories and removes stale files of tmp. Returns how many."""
    if not users:
        _makeMaildir(path)
        return _clearStale(path, now)
    makeDirectory(path)
    return sum(_clearStale(user, now) for domain in _directories(path) for user in _directories(domain))


def _directories(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _clearStale(maildir: str, now: float) -> int:
    try:
        with os.scandir(os.path.join(maildir, "tmp")) as entries:
            stale = [entry.path for entry in entries if entry.is_file(follow_symlinks=False) and now - entry.stat().st_mtime > _STALE]
    except FileNotFoundError:
        return 0
    for path in stale:
        os.unlink(path)
    return len(stale)


# ---- Names and text.


def _toLF(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")


def _onOneLine(address: Address) -> str:
    """The address as text. The grammar lets no control character in; a header field must not depend on that."""
    return re.sub(r"[\x00-\x1f\x7f]", "?", str(address))


def _safeHost(host: str) -> str:
    """The host as the convention wants it in file names: slash and colon in octal; here also everything else that is not plain."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: f"\\{ord(match[0]):03o}", host) or "localhost"


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
    for directory in [delivery.path] if users else [os.path.join(delivery.path, name) for name in ("new", "cur", "tmp")]:
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
