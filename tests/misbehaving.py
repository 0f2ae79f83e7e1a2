"""A server on a clock that stands still, and parts of it that a test tells how to behave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import RecordedMessage, StrictTransport
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_smtplite.interfaces import IMessage, IMessageDelivery
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.wire.factory import SMTPServerFactory

RCPT = b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\n"
MESSAGE = RCPT + b"DATA\r\nSubject: x\r\n\r\ny\r\n.\r\n"


@implementer(IMessage)
class Message:
    """Records what it gets; `end` is asked for the outcome, `take` for the answer to each chunk."""

    def __init__(self, delivery: Delivery, record: RecordedMessage) -> None:
        self._delivery = delivery
        self._record = record

    def dataReceived(self, chunk: bytes) -> Any:
        self._record.chunks.append(chunk)
        return self._delivery.take()

    def eomReceived(self) -> Any:
        self._record.completed += 1
        return self._delivery.end()

    def connectionLost(self, reason: Exception) -> None:
        self._record.lost.append(reason)


@implementer(IMessageDelivery)
class Delivery:
    """Accepts everything, and answers by what a test puts in its attributes."""

    def __init__(self) -> None:
        self.messages: list[RecordedMessage] = []
        self.recipient: Callable[[], Any] = lambda: None
        self.begin: Callable[[RecordedMessage], Any] = lambda record: Message(self, record)
        self.take: Callable[[], Any] = lambda: None
        self.end: Callable[[], Any] = lambda: None

    def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Any:
        return None

    def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Any:
        return self.recipient()

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> Any:
        record = RecordedMessage(envelope)
        answer = self.begin(record)
        if not isinstance(answer, Reply):
            self.messages.append(record)
        return answer

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        return None


class Server:
    """A server on a clock that stands still."""

    def __init__(self, delivery: object | None = None, **options: Any) -> None:
        self.clock = Clock()
        self.delivery = Delivery()
        self.factory = SMTPServerFactory(delivery or self.delivery, self.clock, hostname="mx.test", **options)

    def drain(self) -> Deferred[None]:
        """Stops, and lets the sessions hear of it."""
        drained = self.factory.drain()
        self.clock.advance(0)
        return drained

    def connect(self) -> StrictTransport:
        transport = StrictTransport()
        transport.protocol = self.factory.buildProtocol(transport.getPeer())
        transport.protocol.makeConnection(transport)
        return transport


def codes(transport: StrictTransport) -> list[bytes]:
    """The codes of all replies, one each."""
    return [line[:3] for line in bytes(transport.written).split(b"\r\n")[:-1] if line[3:4] == b" "]


def broken(*arguments: object) -> Any:
    raise RuntimeError("broken")
