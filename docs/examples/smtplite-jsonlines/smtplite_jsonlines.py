"""``jsonlines:PATH``: appends each message to a file as one line of JSON. A worked example of a delivery backend."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Lock

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from twisted_smtplite.delivery.base import AcceptingDelivery, DeliveryPlugin
from twisted_smtplite.delivery.durable import writeAll
from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.envelope import Envelope, SessionInfo


class JSONLinesDelivery(AcceptingDelivery):
    """Accepts all mail. To refuse a sender or a recipient, override validateFrom or validateTo."""

    def __init__(self, path: str, reactor) -> None:
        self.path = Path(path).absolute()
        self.reactor = reactor
        # One line at a time, however many sessions there are.
        self.lock = Lock()

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        return JSONLinesMessage(self, envelope)

    def append(self, line: bytes) -> Deferred[None]:
        # The disk may be slow. The reactor must not wait for it; the client must.
        return deferToThreadPool(self.reactor, self.reactor.getThreadPool(), self._write, line)

    def _write(self, line: bytes) -> None:
        with self.lock, self.path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                writeAll(file.fileno(), line)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


@implementer(IMessage)
class JSONLinesMessage:
    def __init__(self, delivery: JSONLinesDelivery, envelope: Envelope) -> None:
        self.delivery = delivery
        self.envelope = envelope
        self.chunks: list[bytes] = []

    def dataReceived(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    async def eomReceived(self) -> str:
        # When this raises, the client hears "451 4.3.0" and sends the message again later.
        entry = {
            "id": self.envelope.id,
            "from": str(self.envelope.sender),
            "to": [str(recipient.address) for recipient in self.envelope.recipients],
            # Octets that are no UTF-8 become lone surrogates, which the same error handler turns back.
            "content": b"".join(self.chunks).decode("utf-8", "surrogateescape"),
        }
        await self.delivery.append(json.dumps(entry).encode() + b"\n")
        # It is on the disk: accept it, and tell the client its queue id.
        return self.envelope.id

    def connectionLost(self, reason: Exception) -> None:
        self.chunks.clear()


def makeDelivery(argument: str, reactor) -> JSONLinesDelivery:
    if not argument:
        raise ValueError("name a file: jsonlines:PATH")
    return JSONLinesDelivery(argument, reactor)


plugin = DeliveryPlugin("jsonlines", "append each message to a file, one JSON object a line", "PATH  the file", makeDelivery)
