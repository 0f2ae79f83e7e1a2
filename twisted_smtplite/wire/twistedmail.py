"""Deliveries written for twisted.mail, unchanged: an adapter from its `IMessageDelivery` and `IMessageDeliveryFactory` to ours.

Importing this module registers the adapters. Knows both contracts. Must not import `twisted.mail.smtp` before somebody has such an object to adapt:
that module looks up the host's name and installs a reactor when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.mail.interfaces import IMessageDelivery as IOldDelivery
from twisted.mail.interfaces import IMessageDeliveryFactory as IOldDeliveryFactory
from twisted.python.components import getRegistry
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IMessage, IMessageDelivery, IMessageDeliveryFactory
from ..model import replies
from ..model.reply import Refused, Reply
from .asking import settled

if TYPE_CHECKING:
    from ..interfaces import Outcome, Verdict
    from ..model.address import Address
    from ..model.envelope import Envelope, Recipient, SessionInfo

_log = Logger(namespace="smtplite")

# RFC 6531 3.5: the old contract has no way to say anything but ASCII.
_SENDER_NOT_ASCII = Reply(550, "5.6.7", "This delivery takes no sender address outside ASCII")
_RECIPIENT_NOT_ASCII = Reply(553, "5.6.7", "This delivery takes no recipient address outside ASCII")


@implementer(IMessageDeliveryFactory)
class TwistedMailDelivery:
    """Serves an object of twisted.mail's `IMessageDelivery` or `IMessageDeliveryFactory`; of one that is both, the factory counts.

    A factory is asked for a delivery at each MAIL, as twisted.mail does it. This is a factory in either case, because what `validateTo` gives
    has to be kept with its session until the message begins.
    """

    def __init__(self, old: object) -> None:
        self._old = old

    def getMessageDelivery(self, session: SessionInfo) -> IMessageDelivery:
        """The adapter for one session."""
        if IOldDeliveryFactory.providedBy(self._old):
            return _Session(self._old.getMessageDelivery)
        return _Session(lambda: self._old)


# Not registerAdapter: it refuses a second registration, and with that a second import of the package (tools that measure or reload do so).
for _interface in (IOldDelivery, IOldDeliveryFactory):
    getRegistry().register([_interface], IMessageDeliveryFactory, "", TwistedMailDelivery)  # type: ignore[no-untyped-call]


def _smtp() -> Any:
    """The module of the old contract, which has no annotations: all that comes from it is untyped."""
    return import_module("twisted.mail.smtp")


class _Protocol:
    """What old deliveries look at in `User.protocol`: the name of the host, and the peer of the transport."""

    def __init__(self, session: SessionInfo) -> None:
        self.host = session.hostname.encode("ascii", "replace")
        self.transport = self
        self._session = session

    def getPeer(self) -> IPv4Address | IPv6Address | UNIXAddress:
        host, port = self._session.peerHost, self._session.peerPort
        if not host:
            return UNIXAddress(None)
        return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


@implementer(IMessageDelivery)
class _Session:
    """One session's conversation with an old delivery. A session has one transaction at a time, so what it keeps is bounded by its recipients."""

    def __init__(self, makeDelivery: Callable[[], Any]) -> None:
        self._makeDelivery = makeDelivery
        self._delivery: Any = None
        self._helo = (b"", b"")
        self._origin: Any = None
        self._accepted: list[tuple[Recipient, Any, Callable[[], Any]]] = []

    async def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Verdict:
        """Asks a delivery, a new one if they come from a factory."""
        if not str(envelope.sender).isascii():
            return _SENDER_NOT_ASCII
        self._accepted = []
        self._helo = (session.heloName.encode("ascii", "replace"), session.peerHost.encode("ascii", "replace"))
        origin = self._address(envelope.sender, session)
        with _refusals():
            self._delivery = self._makeDelivery()
            chosen = await settled(self._delivery.validateFrom(self._helo, origin))
        self._origin = origin if chosen is None else chosen
        return None

    async def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Verdict:
        """Asks the delivery, and keeps what will make the message."""
        if not str(recipient.address).isascii():
            return _RECIPIENT_NOT_ASCII
        user = _smtp().User(self._address(recipient.address, session), self._helo, _Protocol(session), self._origin)
        with _refusals():
            makeMessage = await settled(self._delivery.validateTo(user))
        self._accepted.append((recipient, user, makeMessage))
        return None

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """Makes one old message for each recipient, each with its own Received field."""
        message = _Message()
        # A copy: when this or another delivery refuses DATA, the client may send it again in the same transaction.
        accepted = self._accepted.copy()
        try:
            with _refusals():
                for recipient in envelope.recipients:
                    user, makeMessage = _take(accepted, recipient)
                    message.old.append(makeMessage())
                    header = self._delivery.receivedHeader(self._helo, self._origin, [user])
                    if header:
                        message.old[-1].lineReceived(header)
        except Exception as error:
            message.connectionLost(error)
            raise
        return message

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        """None: each old message has got its own."""
        return None

    def _address(self, address: Address, session: SessionInfo) -> Any:
        """The old kind of address. Filled and not parsed: the old grammar has no address literals."""
        local, _, domain = str(address).rpartition("@") if address.domain else (address.localPart, "", "")
        if local and not domain:
            domain = session.hostname
        old = _smtp().Address(b"<>")
        old.local, old.domain = local.encode(), domain.encode("ascii", "replace")
        old.addrstr = b"<" + bytes(old) + b">"
        return old


def _take(accepted: list[tuple[Recipient, Any, Callable[[], Any]]], recipient: Recipient) -> tuple[Any, Callable[[], Any]]:
    """Takes what belongs to a recipient out of the list: the same one can be there twice."""
    # The envelope can lack some that were accepted here: another delivery or a policy refused them later.
    for index, (known, user, makeMessage) in enumerate(accepted):
        if known == recipient:
            del accepted[index]
            return user, makeMessage
    raise LookupError(f"recipient {recipient.address} was not asked about")


@implementer(IMessage)
class _Message:
    """One message to old messages, one for each recipient; in lines, as they want it.

    Attributes:
        old: twisted.mail's `IMessageSMTP` objects, in the order of the recipients.
    """

    def __init__(self) -> None:
        self.old: list[Any] = []
        # The line that is not complete yet, in pieces: a long one is put together once.
        self._pieces: list[bytes] = []
        self._first = True

    def dataReceived(self, chunk: bytes) -> None:
        """Gives all the lines that are complete to all."""
        # Binary text (RFC 3030 3) may go on for long without a CRLF: it is not put together until one comes.
        complete = b"\r\n" in chunk or (chunk.startswith(b"\n") and self._pieces and self._pieces[-1].endswith(b"\r"))
        self._pieces.append(chunk)
        if not complete:
            return
        *lines, rest = b"".join(self._pieces).split(b"\r\n")
        self._pieces = [rest]
        with _refusals():
            for line in lines:
                self._lineReceived(line)

    def _lineReceived(self, line: bytes) -> None:
        # twisted.mail puts a blank line between the trace header and a message that has no header of its own.
        if self._first and line and b":" not in line:
            self._giveAll(b"")
        self._first = False
        self._giveAll(line)

    def _giveAll(self, line: bytes) -> None:
        for message in self.old:
            message.lineReceived(line)

    def eomReceived(self) -> Deferred[Outcome]:
        """Ends the old messages, all at once, and fires with each recipient's outcome."""
        # Only text behind DATA always ends in a CRLF: the last chunk of BDAT need not.
        rest = b"".join(self._pieces)
        if rest:
            try:
                with _refusals():
                    self._lineReceived(rest)
            except Exception as error:
                self.connectionLost(error)
                raise
        ends = [maybeDeferred(message.eomReceived) for message in self.old]
        return DeferredList(ends, consumeErrors=True).addCallback(lambda results: [_outcome(*result) for result in results])

    def connectionLost(self, reason: Exception) -> None:
        """Tells all, even if some raise."""
        for message in self.old:
            try:
                message.connectionLost()
            except Exception:  # noqa: BLE001, PERF203 - whatever one does wrong, the others are told too
                _log.failure("A delivery of twisted.mail failed to throw a message away")


def _outcome(success: bool, result: Any) -> Reply | None:
    """One recipient's outcome. A success of the old contract has a value without meaning; a failure means that nothing was promised: 451."""
    if success:
        return None
    failure: Failure = result
    reply = _refusal(failure.value)
    if reply is None:
        _log.failure("A delivery of twisted.mail failed at the end of a message", failure)
    return reply or replies.LOCAL_ERROR


@contextmanager
def _refusals() -> Iterator[None]:
    """Makes the refusals of the old contract our own."""
    try:
        yield
    except Exception as error:
        reply = _refusal(error)
        if reply is None:
            raise
        raise Refused(reply) from error


def _refusal(error: BaseException | None) -> Reply | None:
    """The reply that an exception of the old contract stands for; None for any other exception."""
    smtp = _smtp()
    if not isinstance(error, smtp.SMTPServerError):
        return None
    code, text = error.code, error.resp
    decoded = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
    lines = tuple("".join(char if " " <= char <= "~" else "?" for char in line) for line in decoded.splitlines())
    try:
        reply = Reply(code, _enhanced(error), lines, closes=code == 421)
    except ValueError:
        return replies.LOCAL_ERROR
    return replies.LOCAL_ERROR if reply.positive else reply


def _enhanced(error: Any) -> str:
    """The enhanced status code for a refusal that has none; empty for the general one."""
    if isinstance(error, _smtp().SMTPBadRcpt):
        # RFC 3463 3.2: X.1.1 is permanent by its nature; X.2.0 says as much for now.
        return "5.1.1" if error.code >= 500 else "4.2.0"
    return f"{error.code // 100}.1.0" if isinstance(error, _smtp().SMTPBadSender) else ""
