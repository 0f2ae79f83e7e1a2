"""The messages that were given to a client, until all is known about each: which transactions they take, and what these come to.

Knows that a message for many recipients takes several transactions, and that a server may have room for some of them only. Must not know connections
or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.envelope import Envelope
from ..model.errors import ConnectionFailed, Unsendable
from ..model.results import Delivery, PeerReply, RecipientOutcome, Stage
from .outgoing import Text

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..dialogue.clientsession import ClientSession
    from ..dialogue.clientsteps import Transaction

# RFC 5321 4.5.3.1.10: too many recipients; the rest in another transaction.
_NO_ROOM = PeerReply(452, "4.5.3", ("too many recipients for one transaction",), local=True)
_NOBODY = PeerReply(554, "5.5.1", ("the message has no recipients",), local=True)


class OutgoingMessage:
    """A message on its way.

    Attributes:
        envelope: its envelope, as it is sent.
        text: its text, likewise.
        size: octets of that, or None.
        deferred: fires when all is known.
        outcomes: what is known of each recipient.
        open: the transactions that are not finished, with the indices of their recipients.
        accepted: how many recipients had been accepted when it was last put into more transactions.
    """

    __slots__ = ("accepted", "deferred", "envelope", "open", "outcomes", "size", "text")

    def __init__(self, envelope: Envelope, text: Text, deferred: Deferred[Delivery]) -> None:
        self.envelope = envelope
        self.text = text
        self.size: int | None = None
        self.deferred = deferred
        self.outcomes: list[RecipientOutcome | None] = [None] * len(envelope.recipients)
        self.open: dict[Transaction, list[int]] = {}
        self.accepted = 0


class Outbox:
    """The messages of one connection.

    Args:
        session: takes their transactions.
        host: the server's name.
        where: what was connected to.
    """

    __slots__ = ("_host", "_messages", "_pending", "_session", "_where")

    def __init__(self, session: ClientSession, host: str, where: str) -> None:
        self._session = session
        self._host = host
        self._where = where
        self._messages: dict[Transaction, OutgoingMessage] = {}
        self._pending: set[OutgoingMessage] = set()

    @property
    def pending(self) -> int:
        """How many messages are not finished."""
        return len(self._pending)

    @property
    def awaiting(self) -> bool:
        """True while somebody waits for the answer to a message that was sent whole."""
        return any(transaction.sent for transaction in self._messages)

    def messageOf(self, transaction: Transaction) -> OutgoingMessage:
        """Whose transaction that is."""
        return self._messages[transaction]

    def add(self, message: OutgoingMessage) -> None:
        """Takes a message, in as many transactions as it needs and the session has left.

        Raises:
            Unsendable: this server cannot take it.
        """
        envelope = message.envelope
        if not envelope.recipients:
            raise Unsendable(_NOBODY, Stage.RCPT)
        if envelope.body == "8BITMIME" and not self._session.peer.offers("8BITMIME"):
            message.text = message.text.sevenBit()
            message.envelope = replace(envelope, body="7BIT")
        if envelope.smtputf8 and not (self._session.peer.offers("SMTPUTF8") or message.text.utf8 or _onlyInUTF8(envelope)):
            # Domains have an ASCII form.
            message.envelope = replace(message.envelope, smtputf8=False)
        message.size = message.text.size
        self._pending.add(message)
        groups = self._session.groups(envelope.recipients)
        self._submit(message, groups if message.text.repeatable else groups[:1])

    def finished(self, transaction: Transaction) -> bool:
        """All is known about a transaction; perhaps also about its message. Returns True if that takes another one."""
        message = self._messages.pop(transaction, None)
        if message is None:
            return False
        for index, outcome in zip(message.open.pop(transaction), transaction.outcomes, strict=True):
            message.outcomes[index] = outcome
        if message.open:
            return False
        if self._submitRest(message):
            return True
        self._tell(message, RecipientOutcome(message.envelope.recipients[0], Stage.RCPT, _NO_ROOM))
        return False

    def withdraw(self, message: OutgoingMessage) -> bool:
        """Takes a message back. Returns False if something of it has begun."""
        for transaction in [transaction for transaction in message.open if self._session.withdraw(transaction)]:
            del message.open[transaction]
            del self._messages[transaction]
        if message.open:
            return False
        self._pending.discard(message)
        return True

    def forget(self, message: OutgoingMessage) -> None:
        """Whatever becomes of this message, nobody waits for it any more."""
        for transaction in message.open:
            del self._messages[transaction]
        message.open.clear()
        self._pending.discard(message)

    def giveUp(self, strange: Sequence[Transaction], reply: PeerReply) -> None:
        """The connection is gone, and nobody has heard of these transactions.

        A message of which nothing is known can be sent elsewhere as if nothing had been.
        """
        messages = dict.fromkeys(self._messages.pop(transaction) for transaction in strange if transaction in self._messages)
        for message in messages:
            message.open.clear()
            self._pending.discard(message)
        for message in messages:
            if message.deferred.called:
                # Cancelled by who was told before.
                continue
            if any(message.outcomes):
                self._tell(message, RecipientOutcome(message.envelope.recipients[0], Stage.MAIL, reply))
            else:
                message.deferred.errback(ConnectionFailed(reply, Stage.MAIL, self._host, self._where))

    def _tell(self, message: OutgoingMessage, otherwise: RecipientOutcome) -> None:
        """All is known; who has no outcome of his own has this one."""
        outcomes = tuple(
            outcome or replace(otherwise, recipient=recipient)
            for outcome, recipient in zip(message.outcomes, message.envelope.recipients, strict=True)
        )
        self._pending.discard(message)
        message.deferred.callback(Delivery(outcomes, self._host, frozenset(self._session.peer.extensions)))

    def _submitRest(self, message: OutgoingMessage) -> bool:
        """Puts recipients for whom one transaction had no room into another. Returns True if there are such."""
        rest = [index for index, outcome in enumerate(message.outcomes) if outcome is None or _noRoom(outcome)]
        if not rest:
            return False
        accepted = sum(1 for outcome in message.outcomes if outcome is not None and outcome.accepted)
        # Only as long as that leads on: it may be today, and not one transaction, that has no room for more.
        if not (self._session.usable and message.text.repeatable and accepted > message.accepted):
            return False
        message.accepted = accepted
        recipients = message.envelope.recipients
        groups = self._session.groups([recipients[index] for index in rest])
        self._submit(message, [[rest[each] for each in group] for group in groups])
        return True

    def _submit(self, message: OutgoingMessage, groups: Sequence[Sequence[int]]) -> None:
        """As many groups as the session takes (RFC 9422 4.1); those of the others have no outcome, then."""
        recipients = message.envelope.recipients
        for group in groups:
            if not self._session.usable:
                break
            transaction = self._session.submit(message.envelope, [recipients[index] for index in group], message.size)
            message.open[transaction] = list(group)
            self._messages[transaction] = message


def _onlyInUTF8(envelope: Envelope) -> bool:
    """True where an address has a local part that ASCII cannot spell. Another server may take that."""
    return not all(address.localPart.isascii() for address in (envelope.sender, *(recipient.address for recipient in envelope.recipients)))


def _noRoom(outcome: RecipientOutcome) -> bool:
    return outcome.stage is Stage.RCPT and outcome.code == _NO_ROOM.code and outcome.reply.enhanced == _NO_ROOM.enhanced
