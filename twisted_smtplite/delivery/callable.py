"""``callable``: a plain function is the backend.

Knows how a function is named and called. Must not know what it does with the message.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from zope.interface import implementer

from ..interfaces import IMessage
from ..model.message import Message
from .base import AcceptingDelivery, DeliveryPlugin

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import OutcomeAnswer
    from ..model.envelope import Envelope, SessionInfo


class CallableDelivery(AcceptingDelivery):
    """Calls a function with each message.

    Args:
        receive: called as ``receive(envelope, message)`` with an `Envelope` and a `model.message.Message` when a message is complete, its
            Received field on top. It may be a function, an ``async def``, or return a Deferred. What it returns is the outcome (None accepts,
            see `IMessage.eomReceived`); it may raise `Refused`. The message is held in memory: `Limits.messageSize` bounds it.
    """

    def __init__(self, receive: Callable[[Envelope, Message], OutcomeAnswer]) -> None:
        self._receive = receive

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """A message that gathers its content."""
        return _CallableMessage(self._receive, envelope)


@implementer(IMessage)
class _CallableMessage:
    __slots__ = ("_chunks", "_envelope", "_receive")

    def __init__(self, receive: Callable[[Envelope, Message], OutcomeAnswer], envelope: Envelope) -> None:
        self._receive = receive
        self._envelope = envelope
        self._chunks: list[bytes] = []

    def dataReceived(self, chunk: bytes) -> None:
        """Keeps the chunk."""
        self._chunks.append(chunk)

    def eomReceived(self) -> OutcomeAnswer:
        """Calls the function."""
        return self._receive(self._envelope, Message(b"".join(self._chunks)))

    def connectionLost(self, reason: Exception) -> None:
        """Forgets the chunks."""
        self._chunks.clear()


def _make(argument: str, reactor: IReactorCore) -> CallableDelivery:
    """Finds the function that is named ``package.module:function``, also in a module of the working directory."""
    moduleName, _, path = argument.partition(":")
    if not moduleName or not path:
        raise ValueError("name a function as package.module:function")
    # A console script, unlike `python -m`, does not look there. Behind everything else, so that nothing is hidden by it.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        found: object = import_module(moduleName)
    except Exception as error:
        raise ValueError(f"module {moduleName!r} cannot be imported: {error}") from error
    for name in path.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise ValueError(f"module {moduleName!r} has no function {path!r}")  # noqa: TRY004 - what makeDelivery raises for every bad argument
    return CallableDelivery(found)


plugin = DeliveryPlugin(
    "callable",
    "call a function with each message",
    "package.module:function  called as function(envelope, message); it may be an async def",
    _make,
)
