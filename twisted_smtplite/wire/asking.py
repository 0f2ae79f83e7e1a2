"""Asking somebody who may answer later: one question at a time, and late answers that count no more.

Knows Deferreds, coroutines and failures. Must not know SMTP. A plain answer goes straight through and costs a call; for any other everything
behind it waits, until the answer is there, or time runs out, or the connection is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from types import CoroutineType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..model import replies
from ..model.reply import Refused, Reply
from .lines import PatientLineReceiver

_log = Logger(namespace="smtplite")

T = TypeVar("T")


def nobody(answer: object) -> None:
    """Takes an answer that came too late, and drops it."""


async def settled(answer: T | Awaitable[T]) -> T:
    """The value of an answer that may be a plain value, a Deferred or a coroutine."""
    return await answer if isawaitable(answer) else answer


class AskingLineReceiver(PatientLineReceiver):
    """A line receiver that asks, and parses nothing until it was answered. Subclasses say how long that may take, by `waiting` and `answered`."""

    __slots__ = ("_pending", "_serial", "_settle")

    def __init__(self) -> None:
        super().__init__()
        # The open question: its answer, what to do with it, and its number, which a late answer to an old question does not have.
        self._pending: Deferred[Any] | None = None
        self._settle: Callable[[Any], None] = nobody
        self._serial = 0

    def waiting(self) -> None:
        """Called when an answer is to be waited for."""
        raise NotImplementedError

    def answered(self) -> None:
        """Called when it is there, before anything is done with it."""
        raise NotImplementedError

    def situation(self) -> dict[str, Any]:
        """What the log should know when an answer was a failure: ``session`` and ``stage``."""
        raise NotImplementedError

    @property
    def asking(self) -> bool:
        """True while a question is open."""
        return self._pending is not None

    def call(self, method: Callable[..., Any], *arguments: object) -> Any:
        """Calls somebody else's code. What it raises becomes the reply for the client: nothing comes out of here."""
        try:
            return method(*arguments)
        except Exception:  # noqa: BLE001 - whatever the other does wrong, the session goes on
            return self.failed(Failure())  # type: ignore[no-untyped-call]

    def failed(self, failure: Failure) -> Reply:
        """The reply for somebody who failed: his own if he refused, else 451 and a traceback in the log."""
        if isinstance(failure.value, Refused):
            return failure.value.reply
        _log.failure("A part of the server failed in session {session} at {stage}", failure, **self.situation())
        return replies.LOCAL_ERROR

    def wrong(self, answer: object) -> Reply:
        """The reply for somebody who answered what the contract does not know."""
        _log.error("Session {session} got the answer {answer!r} at {stage}: see twisted_smtplite.interfaces", answer=answer, **self.situation())
        return replies.LOCAL_ERROR

    def awaitAnswer(self, answer: Any, settle: Callable[[Any], None], late: Callable[[Any], None] = nobody) -> None:
        """Settles a plain answer at once. For a Deferred or a coroutine everything waits, and `settle` is called when it is there.

        Args:
            answer: what somebody returned.
            settle: what to do with it; failures have become replies.
            late: what to do with it when it comes after the question was forgotten.
        """
        if answer is None:
            settle(None)
            return
        if isinstance(answer, CoroutineType):
            answer = Deferred.fromCoroutine(answer)
        # Like isinstance, which for this class costs as much as a command: it is an abstract base class too.
        if Deferred not in type(answer).__mro__:
            settle(answer)
            return
        self.hold()
        self._pending = answer
        self._settle = settle
        self.waiting()
        answer.addBoth(self._arrived, self._serial, late)

    def giveUp(self, reply: Reply) -> None:
        """Stops waiting: the open question is cancelled, and answered by `reply`."""
        settle = self._settle
        self.forget()
        self._goOnWith(settle, reply)

    def forget(self) -> None:
        """Drops the open question: its answer is cancelled, and belongs to nobody if it comes all the same."""
        self._serial += 1
        pending, self._pending = self._pending, None
        if pending is not None:
            # It is somebody else's code that hears of it.
            self.call(pending.cancel)

    def _arrived(self, answer: object, serial: int, late: Callable[[Any], None]) -> None:
        """A Deferred has fired."""
        if serial != self._serial:
            if not isinstance(answer, Failure):
                self.call(late, answer)
            return
        self._pending = None
        self._goOnWith(self._settle, self.failed(answer) if isinstance(answer, Failure) else answer)

    def _goOnWith(self, settle: Callable[[Any], None], answer: object) -> None:
        self._serial += 1
        self.answered()
        settle(answer)
        if self._pending is None:
            self.release()
