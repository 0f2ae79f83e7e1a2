"""``null``: accepts every message and keeps nothing. For load tests, and for sinks.

Knows nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from ..interfaces import IMessage
from .base import AcceptingDelivery, DeliveryPlugin

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import Envelope, SessionInfo


@implementer(IMessage)
class _Nothing:
    """Takes a message and forgets it."""

    __slots__ = ()

    def dataReceived(self, chunk: bytes) -> None:
        """Drops the chunk."""

    def eomReceived(self) -> None:
        """Accepts."""

    def connectionLost(self, reason: Exception) -> None:
        """There is nothing to throw away."""


# One serves all messages: it has no state.
_NOTHING = _Nothing()


class NullDelivery(AcceptingDelivery):
    """Discards all mail, with as little work as possible: not even a trace header is made."""

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """The message that forgets."""
        return _NOTHING

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        """None: nobody would read it."""
        return None


def _make(argument: str, reactor: IReactorCore) -> NullDelivery:
    if argument:
        raise ValueError("it takes no argument")
    return NullDelivery()


plugin = DeliveryPlugin("null", "accept every message and discard it", "", _make)
