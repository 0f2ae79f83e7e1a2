"""What backends build on: a delivery that takes everything, and a plugin made of four values.

Knows the contract only, and no backend. Third-party backends are welcome to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zope.interface import implementer

from ..dialogue.trace import receivedField
from ..interfaces import IDeliveryPlugin, IMessageDelivery, IOneProcess

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import Answer, MessageAnswer
    from ..model.envelope import Envelope, Recipient, SessionInfo


@implementer(IMessageDelivery)
class AcceptingDelivery(ABC):
    """Welcomes every sender and recipient and puts the usual Received field on top: a subclass says where the message goes, and no more."""

    def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Answer:
        """Accepts."""
        return None

    def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Answer:
        """Accepts."""
        return None

    @abstractmethod
    def startMessage(self, session: SessionInfo, envelope: Envelope) -> MessageAnswer:
        """See `IMessageDelivery.startMessage`."""

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        """The usual Received field (RFC 5321 4.4)."""
        return receivedField(session, envelope)


@implementer(IDeliveryPlugin, IOneProcess)
@dataclass(frozen=True)
class DeliveryPlugin:
    """A plugin that is nothing but its values.

    Attributes:
        name: see `IDeliveryPlugin`.
        description: see `IDeliveryPlugin`.
        argumentHelp: see `IDeliveryPlugin`.
        make: called with the argument and the reactor, see `IDeliveryPlugin.makeDelivery`.
        oneProcess: see `IOneProcess`; empty when several processes can share what it makes.
    """

    name: str
    description: str
    argumentHelp: str
    make: Callable[[str, IReactorCore], object]
    oneProcess: str = ""

    def makeDelivery(self, argument: str, reactor: IReactorCore) -> object:
        """Calls `make`."""
        return self.make(argument, reactor)
