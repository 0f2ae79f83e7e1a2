"""``memory``: keeps messages as values, for tests.

Knows nothing of files; what it holds is gone with the process.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zope.interface import implementer

from ..interfaces import IMessage
from ..model.message import Message
from ..model.reply import Refused, Reply
from .base import AcceptingDelivery, DeliveryPlugin

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import Envelope, SessionInfo

_FULL = Reply(452, "4.3.1", "The memory for messages is full")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One message as it was received.

    Attributes:
        session: what was known of the client at the time.
        envelope: the envelope, complete.
        content: the octets the client sent, line ends CRLF, stuffed dots removed; no trace header is added.
    """

    session: SessionInfo
    envelope: Envelope
    content: bytes

    @property
    def message(self) -> Message:
        """The content as headers and body."""
        return Message(self.content)


class MemoryDelivery(AcceptingDelivery):
    """Keeps every message until `clear`.

    What is over a bound is refused with 452 and not kept: a message that heard 250 never disappears from `messages`.

    Args:
        maxMessages: how many messages are kept.
        maxOctets: the size of all that is kept or on its way in, in octets.

    Attributes:
        messages: what has been received, oldest first.
    """

    def __init__(self, maxMessages: int = 10_000, maxOctets: int = 256 * 1024 * 1024) -> None:
        self.messages: list[ReceivedMessage] = []
        self._maxMessages = maxMessages
        self._maxOctets = maxOctets
        self._octets = 0

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage | Reply:
        """Refuses when there is no room for one more message."""
        if self.full:
            return _FULL
        return _MemoryMessage(self, session, envelope)

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        """None, so that tests can compare the content with what was sent."""
        return None

    @property
    def full(self) -> bool:
        """True when no further message can be kept."""
        return len(self.messages) >= self._maxMessages

    def clear(self) -> None:
        """Forgets all messages. Those on their way in are not touched."""
        self.release(sum(len(kept.content) for kept in self.messages))
        self.messages.clear()

    def reserve(self, octets: int) -> None:
        """Makes room for `octets` of a message on its way in, or raises `Refused`."""
        if self._octets + octets > self._maxOctets:
            raise Refused(_FULL)
        self._octets += octets

    def release(self, octets: int) -> None:
        """Gives back what `reserve` took."""
        self._octets -= octets


@implementer(IMessage)
class _MemoryMessage:
    __slots__ = ("_chunks", "_delivery", "_envelope", "_session", "_size")

    def __init__(self, delivery: MemoryDelivery, session: SessionInfo, envelope: Envelope) -> None:
        self._delivery = delivery
        self._session = session
        self._envelope = envelope
        self._chunks: list[bytes] = []
        self._size = 0

    def dataReceived(self, chunk: bytes) -> None:
        """Keeps the chunk, or refuses when there is no room."""
        self._delivery.reserve(len(chunk))
        self._size += len(chunk)
        self._chunks.append(chunk)

    def eomReceived(self) -> Reply | None:
        """Adds the message to the list. Others that came in meanwhile may have filled it."""
        if self._delivery.full:
            self._delivery.release(self._size)
            return _FULL
        # The session goes on, and its values change; those of a finished transaction do not.
        self._delivery.messages.append(ReceivedMessage(copy(self._session), self._envelope, b"".join(self._chunks)))
        return None

    def connectionLost(self, reason: Exception) -> None:
        """Forgets the chunks."""
        self._delivery.release(self._size)
        self._chunks.clear()


def _make(argument: str, reactor: IReactorCore) -> MemoryDelivery:
    if not argument:
        return MemoryDelivery()
    if not (argument.isascii() and argument.isdigit() and int(argument)):
        raise ValueError(f"the number of messages to keep must be 1 or more, not {argument!r}")
    return MemoryDelivery(int(argument))


plugin = DeliveryPlugin(
    "memory",
    "keep messages in memory, for tests",
    "COUNT  how many messages are kept at most, 10000 when left out",
    _make,
    oneProcess="each would have messages of its own, and lose them when it is replaced",
)
