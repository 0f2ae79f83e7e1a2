"""A delivery behind a submission port (RFC 6409): it hears of complete domains alone, and gets complete messages.

Knows where in a transaction the rules of `dialogue.submission` apply. Must not know the rules, nor who is behind it: policies and the delivery.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from ..dialogue.submission import Completion, missingFields, recipientRefusal, senderRefusal
from ..interfaces import IMessage, IMessageDelivery
from ..model.envelope import Envelope, Recipient, SessionInfo
from ..model.reply import Reply
from .passing import PassingMessage, later


@implementer(IMessageDelivery)
class SubmissionDelivery:
    """Stands before the delivery, and before the policies."""

    def __init__(self, delivery: IMessageDelivery) -> None:
        self._delivery = delivery

    def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Any:
        """The rules, then the delivery."""
        return senderRefusal(envelope.sender) or self._delivery.validateFrom(session, envelope)

    def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Any:
        """The rules, then the delivery."""
        return recipientRefusal(recipient.address) or self._delivery.validateTo(session, envelope, recipient)

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> Any:
        """A message that is completed on its way to the delivery's."""
        message = later(self._delivery.startMessage(session, envelope))
        if isinstance(message, Deferred):
            return message.addCallback(_completed, session, envelope)
        return _completed(message, session, envelope)

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        """The delivery's."""
        return self._delivery.receivedHeader(session, envelope)


def _completed(message: Any, session: SessionInfo, envelope: Envelope) -> Any:
    if message is None or isinstance(message, (str, Reply)):
        return message
    return SubmittedMessage(message, Completion(lambda: missingFields(session, envelope)))


@implementer(IMessage)
class SubmittedMessage(PassingMessage):
    """A message that gets what it lacks, or is refused for what it has."""

    __slots__ = ("_completion",)

    def __init__(self, message: IMessage, completion: Completion) -> None:
        super().__init__(message)
        self._completion = completion

    def dataReceived(self, chunk: bytes) -> Any:
        """Hands on what can go on."""
        ready = self._completion.feed(chunk)
        return self._completion.refusal or self.give(ready)

    def eomReceived(self) -> Any:
        """Hands on what was held back, then says that this is all."""
        ready = self._completion.end()
        refusal = self._completion.refusal
        return self.complete(ready) if refusal is None else self.refuse(refusal)
