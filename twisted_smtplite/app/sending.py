"""Sends messages one after the other, several at a time, and tells what became of each.

Knows how many are held in memory, and when it is of no use to go on. Must not know where messages come from, nor how they are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList

from ..model.envelope import Envelope
from ..model.errors import SMTPClientError, Unsendable
from ..model.results import Delivery
from .exitstatus import ExitStatus
from .progress import Progress
from .sendresults import Results
from .sources import Found, Gone

if TYPE_CHECKING:
    from ..client.content import Content


class Sender(Protocol):
    """Whoever sends a message."""

    def send(self, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        """Fires with what became of it, or fails with an `SMTPClientError`."""


class Letter(NamedTuple):
    """A message with its envelope."""

    envelope: Envelope
    content: Content


class Sending:
    """Sends all messages that there are.

    Args:
        sender: sends one.
        messages: that there are.
        letter: makes the envelope of one.
        results: is told what became of each.
        progress: is told that one is done.
        single: True when there is one server alone: if it cannot be reached for one message, no other is tried.
    """

    def __init__(
        self,
        sender: Sender,
        messages: Iterator[Found | Gone],
        letter: Callable[[Found], Letter],
        results: Results,
        progress: Progress,
        *,
        single: bool,
    ) -> None:
        self._sender = sender
        self._messages = messages
        self._letter = letter
        self._results = results
        self._progress = progress
        self._single = single
        self._stopped = False

    async def run(self, most: int) -> None:
        """Sends them, at most `most` at a time."""
        running = [Deferred.fromCoroutine(self._carry()) for _ in range(most)]
        for success, result in await DeferredList(running, consumeErrors=True):
            if not success:
                result.raiseException()  # type: ignore[attr-defined]
        if self._stopped and next(self._messages, None) is not None:
            self._results.givenUp()

    async def _carry(self) -> None:
        """Sends one after the other; the others do the same, each with messages of its own."""
        for found in self._messages:
            if isinstance(found, Gone):
                self._results.lost(found.name, ExitStatus.INPUT, found.reason)
                continue
            await self._one(found)
            self._progress.advance(found.size)
            if self._stopped:
                return

    async def _one(self, found: Found) -> None:
        try:
            letter = self._letter(found)
            delivery = await self._sender.send(letter.envelope, letter.content)
        except SMTPClientError as error:
            self._results.failed(found.name, error)
            # The others would hear the same, each after as long a wait.
            self._stopped = self._stopped or (self._single and not isinstance(error, Unsendable))
        except CancelledError:
            self._results.lost(found.name, ExitStatus.TEMPORARY, "broken off: it may have arrived or not")
            raise
        except OSError as error:
            self._results.lost(found.name, ExitStatus.INPUT, error.strerror or str(error))
        except ValueError as error:
            self._results.lost(found.name, ExitStatus.DATA, str(error))
        else:
            self._results.delivered(found.name, letter.envelope, delivery)
