"""What a sender's answer says: an outcome for each recipient, whether the destination was reached, and why a message may arrive twice.

Knows the results and errors of the client. Must not know what follows from them (`verdict`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from twisted.python.failure import Failure

from ..model.errors import AuthenticationFailed, SMTPClientError, Unsendable
from ..model.results import Delivery, PeerReply, RecipientOutcome, Stage
from . import events
from .entries import Doubt
from .work import Attempt, Transaction

_BEFORE_MAIL = (Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.TLS, Stage.AUTH)
_MOST_KEPT = 2000
"""Characters of a reply that are kept: more than any server means to be read."""
_OWN_FAULT = PeerReply(451, "4.3.0", ("Internal error",), local=True)
_LOST = "The server's reply was lost: it may have the message"
_DOUBTS = {
    Doubt.LOST: "The server's reply to an earlier attempt was lost",
    Doubt.STOPPED: "The server was stopped while it sent this",
    Doubt.KILLED: "The process that sent this before did not end as it should",
    Doubt.POWER: "The machine may have stopped while this was sent",
}


class Heard(NamedTuple):
    """What was heard of one transaction.

    Attributes:
        attempts: one for each recipient.
        trouble: why the destination could not be reached, or None when it was.
        host: whom that was with, or empty.
    """

    attempts: Sequence[Attempt]
    trouble: PeerReply | None
    host: str


def hear(result: Delivery | Failure, transaction: Transaction, now: float) -> Heard:
    """Reads a sender's answer.

    Args:
        result: what `Sender.send` gave: outcomes, or a failure that holds for all recipients.
        transaction: what was sent.
        now: the time, in seconds since the epoch.
    """
    if isinstance(result, Delivery):
        if len(result.outcomes) == len(transaction.progress):
            return _outcomes(result, transaction, now)
        result = Failure(ValueError(f"{len(result.outcomes)} outcomes for {len(transaction.progress)} recipients"))  # type: ignore[no-untyped-call]
    error = result.value
    if not isinstance(error, SMTPClientError):
        events.attemptFailed(transaction.work.message, result)
        return _forAll(transaction, _OWN_FAULT, Stage.CONNECT, "", now, None)
    reply = _brief(error.reply)
    if isinstance(error, AuthenticationFailed) and not reply.temporary:
        # Nobody who has written a message is to blame for our password: all wait until that is put right.
        reply = reply._replace(code=454, enhanced="4.7.0")
    trouble = reply if reply.temporary and not isinstance(error, Unsendable) else None
    # Where nobody has said anything it is the port that may be wrong.
    host = (error.where or error.host) if reply.local else error.host
    return _forAll(transaction, reply, error.stage, host, now, trouble)


def _outcomes(result: Delivery, transaction: Transaction, now: float) -> Heard:
    attempts = [
        Attempt(progress, replace(outcome, reply=_brief(outcome.reply)), result.peer, result.extensions, now)
        for progress, outcome in zip(transaction.progress, result.outcomes, strict=True)
    ]
    broken = all(map(_isOfDestination, result.outcomes))
    return Heard(attempts, attempts[0].outcome.reply if broken else None, result.peer)


def _brief(reply: PeerReply) -> PeerReply:
    """The reply as it is kept, logged and reported: a peer may say a mebibyte to each recipient."""
    if sum(map(len, reply.lines)) <= _MOST_KEPT:
        return reply
    return reply._replace(lines=(reply.text[:_MOST_KEPT],))


def _isOfDestination(outcome: RecipientOutcome) -> bool:
    """Whether this is trouble with the destination, whatever the message: nobody was there to take one, or broke off, as good as none."""
    return outcome.temporary and (outcome.stage in _BEFORE_MAIL or (outcome.reply.local and outcome.enhanced.startswith("4.4.")))


def _forAll(transaction: Transaction, reply: PeerReply, stage: Stage, host: str, now: float, trouble: PeerReply | None) -> Heard:
    attempts = [Attempt(progress, RecipientOutcome(progress.recipient, stage, reply), host, frozenset(), now) for progress in transaction.progress]
    return Heard(attempts, trouble, host)


def byDoubt(attempts: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    """Attempts by the reason for which a recipient may have, or get, the message twice; empty for none. Asked before they are judged."""
    doubts: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        reason = _LOST if attempt.outcome.uncertain else ""
        if attempt.outcome.accepted and attempt.progress.doubt is not None:
            reason = _DOUBTS[attempt.progress.doubt]
        doubts.setdefault(reason, []).append(attempt)
    return doubts
