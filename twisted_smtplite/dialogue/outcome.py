"""What became of a message, recipient by recipient, and the one reply that SMTP makes of it.

Knows how outcomes fold (RFC 5321 4.4, 6.1). Must not know how a backend reached them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ..model import replies
from ..model.reply import Reply

Outcome: TypeAlias = Reply | str | Sequence[Reply | None] | None
"""What a backend says of a whole message: see `interfaces.IMessage.eomReceived`."""


def perRecipient(outcome: Outcome, recipients: int) -> tuple[Reply, ...]:
    """One Reply for each recipient, in order.

    Raises:
        ValueError: a sequence of outcomes is not as long as the list of recipients.
        TypeError: what was said is no outcome.
    """
    if outcome is None:
        return (replies.MESSAGE_OK,) * recipients
    if isinstance(outcome, str):
        return (replies.accepted(outcome),) * recipients
    if isinstance(outcome, Reply):
        outcome = (outcome,) * recipients
    if len(outcome) != recipients:
        raise ValueError(f"{len(outcome)} outcomes for {recipients} recipients")
    told = tuple(replies.MESSAGE_OK if reply is None else reply for reply in outcome)
    # RFC 5321 4.2.1: 3yz asks for more, which there is not.
    if not all(isinstance(reply, Reply) and reply.code // 100 != 3 for reply in told):
        raise TypeError(f"{outcome!r} holds what is no final Reply")
    return told


def fold(outcomes: Sequence[Reply]) -> Reply:
    """The one reply for all recipients: accepted if anybody's was, else the first temporary failure, else the first failure.

    A temporary failure wins over a permanent one because the client tries again for all of them, and nobody is lost.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    # Classes 2, 4, 5 sort as they should win; of equals the first is taken.
    return min(outcomes, key=lambda reply: reply.code // 100)
