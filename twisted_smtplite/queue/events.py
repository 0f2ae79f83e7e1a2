"""What the log says of the queue: a line for all recipients that an attempt ended alike for, and for what went wrong beside.

Knows words and fields. Must not know who reads them. What comes from outside stands in these lines only as JSON strings, or where it is plain: no
line can be taken for two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from email.utils import formatdate

from twisted.logger import Logger
from twisted.python.failure import Failure

from ..model.address import Address
from .entries import Progress, QueuedMessage, State

_log = Logger(namespace="smtplite.queue")
_NAMED = 5
"""Recipients that a line names; it counts all."""
_isUsual = re.compile(r"[A-Za-z0-9_+=-]+(?:\.[A-Za-z0-9_+=-]+)*@[A-Za-z0-9.-]+").fullmatch
_EVENTS = {State.SENT: "sent", State.WAITING: "deferred", State.FAILED: "failed", State.EXPIRED: "expired"}


def attempted(message: QueuedMessage, those: Sequence[Progress], now: float, again: str = "") -> None:
    """An attempt has ended, or was not made, and it is decided what that means: ``sent``, ``deferred``, ``failed`` or ``expired``.

    Args:
        message: the message.
        those: its recipients in question.
        now: the time.
        again: why the message may reach them twice, or empty.
    """
    groups: dict[object, list[Progress]] = {}
    for progress in those:
        groups.setdefault((progress.state, progress.reply, progress.host), []).append(progress)
    for group in groups.values():
        first = group[0]
        more = f" until={json.dumps(formatdate(min(progress.nextAttempt for progress in group)))}" if first.state is State.WAITING else ""
        _log.info(
            "{event} id={id} from={sender} to={to} recipients={recipients} host={host} attempts={attempts} delay={delay:.1f} reply={reply}{more}",
            event=_EVENTS.get(first.state, "dropped"),
            id=message.id,
            sender=_path(message.envelope.sender),
            to=_paths(progress.recipient.address for progress in group[:_NAMED]),
            recipients=len(group),
            host=json.dumps(first.host),
            attempts=first.attempts,
            delay=now - message.queuedAt,
            reply=json.dumps(str(first.reply or "")),
            more=more + (f" again={json.dumps(again)}" if again else ""),
        )


def reported(message: QueuedMessage, reportId: str) -> None:
    """A report about the message has entered the queue."""
    _log.info("reported id={id} to={to} report={report}", id=message.id, to=_path(message.envelope.sender), report=reportId)


def interrupted(message: QueuedMessage, those: Sequence[Progress]) -> None:
    """The runner stopped before an attempt had ended."""
    _log.warn(
        "interrupted id={id} to={to} recipients={recipients}: it is sent again, and may reach them twice if the server had it already",
        id=message.id,
        to=_paths(progress.recipient.address for progress in those[:_NAMED]),
        recipients=len(those),
    )


def attemptFailed(message: QueuedMessage, failure: Failure) -> None:
    """The sender raised what it must not."""
    _log.failure("An attempt to send message {id} failed; it is tried again", failure, id=message.id)


def notRecorded(message: QueuedMessage, wait: float, failure: Failure) -> None:
    """The store could not record what is known of the message."""
    cause = json.dumps(failure.getErrorMessage())
    _log.error(
        "What became of message {id} cannot be recorded, the next attempt is in {wait:g} seconds: {cause}", id=message.id, cause=cause, wait=wait
    )


def neverRecorded(message: QueuedMessage, those: Sequence[Progress]) -> None:
    """The runner stopped before the store could record what became of these."""
    sent = [progress for progress in those if progress.state is State.SENT]
    _log.error(
        "What became of message {id} could not be recorded before the end; sent again, and so twice, it will be to {recipients} recipients: {to}",
        id=message.id,
        recipients=len(sent),
        to=_paths(progress.recipient.address for progress in sent[:_NAMED]),
    )


def storeFailed(wait: float, failure: Failure) -> None:
    """The store could not say what is due."""
    _log.error("The queue cannot be read: {cause}; the next attempt is in {wait:g} seconds", cause=json.dumps(failure.getErrorMessage()), wait=wait)


def notQuoted(message: QueuedMessage, failure: Failure) -> None:
    """The text of the message could not be read for a report."""
    _log.error("Message {id} cannot be read to be returned: {cause}", id=message.id, cause=json.dumps(failure.getErrorMessage()))


def stopped(putBack: int) -> None:
    """The runner has stopped."""
    _log.info("The queue stands still; {count} messages were put back", count=putBack)


def _path(address: Address) -> str:
    text = str(address)
    return f"<{text}>" if not text or _isUsual(text) else json.dumps(f"<{text}>")


def _paths(addresses: Iterable[Address]) -> str:
    return ",".join(map(_path, addresses))


def unexpected(failure: Failure) -> None:
    """A part of the runner failed that must not."""
    _log.failure("The queue's runner failed", failure)
