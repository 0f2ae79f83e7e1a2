"""Standing between the server and a message of the delivery: what is done to the message on its way is done by subclasses.

Knows the contract of `IMessage` from both sides: chunks of a certain size, one at a time, and exactly one end. Must not know what a subclass is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..interfaces import IMessage
from ..model.reply import Refused, Reply

_log = Logger(namespace="smtplite")

_LONGEST_CHUNK = 65_536


def later(answer: Any) -> Any:
    """An answer in a form in which a Deferred can pass it on."""
    return Deferred.fromCoroutine(answer) if isinstance(answer, CoroutineType) else answer


class PassingMessage:
    """What an `IMessage` that stands before another one is made of."""

    __slots__ = ("_message",)

    def __init__(self, message: IMessage) -> None:
        self._message = message

    def connectionLost(self, reason: Exception) -> None:
        """Says that there is no more."""
        self._message.connectionLost(reason)

    def give(self, *texts: bytes) -> Any:
        """Hands texts on, in pieces of a size that a message takes.

        Returns:
            None, or the Reply that refuses them; or a Deferred of these.
        """
        return self._give(text[start : start + _LONGEST_CHUNK] for text in texts for start in range(0, len(text), _LONGEST_CHUNK))

    def _give(self, pieces: Iterator[bytes]) -> Any:
        for piece in pieces:
            taken = later(self._message.dataReceived(piece))
            if isinstance(taken, Deferred):
                return taken.addCallback(lambda answer: answer if isinstance(answer, Reply) else self._give(pieces))
            if isinstance(taken, Reply):
                return taken
        return None

    def complete(self, *texts: bytes) -> Any:
        """Hands the last texts on, then says that this is all. Returns the outcome; when it comes to nothing, the message hears that it is lost."""
        try:
            taken = self.give(*texts)
        except Exception:  # noqa: BLE001 - it is passed on
            taken = fail()
        if isinstance(taken, Deferred):
            return taken.addCallbacks(self._complete, self.lost)
        return self._complete(taken)

    def _complete(self, refusal: Reply | None) -> Any:
        return later(self._message.eomReceived()) if refusal is None else self.refuse(refusal)

    def refuse(self, refusal: Reply) -> Reply:
        """The message is refused at its end. Returns the refusal, for the client."""
        self._tellLost(Refused(refusal))
        return refusal

    def lost(self, failure: Failure) -> Failure:
        """The message cannot be completed: its client has gone meanwhile, or it failed. Returns the failure."""
        self._tellLost(failure.value if isinstance(failure.value, Exception) else ConnectionLost())
        return failure

    def _tellLost(self, reason: Exception) -> None:
        """As `connectionLost`, where an answer must be given all the same."""
        try:
            self.connectionLost(reason)
        except Exception:  # noqa: BLE001 - whatever a delivery does wrong, the session goes on
            _log.failure("A message failed at connectionLost")
