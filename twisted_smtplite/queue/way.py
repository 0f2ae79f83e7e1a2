"""What happens on the way of a text from the queue to a server: it is noted, and the last moment to stop it.

Knows the store and the transaction. Must not know what carries the text.
"""

from __future__ import annotations

from ..model.errors import Unsendable
from ..model.results import PeerReply, Stage
from .entries import Store, Way
from .work import Transaction

_WITHDRAWN = PeerReply(451, "4.3.0", ("The message is not to be sent now",), local=True)


class TransactionWay(Way):
    """Has noted how far a transaction has come, and ends it where somebody wants that."""

    def __init__(self, store: Store, transaction: Transaction) -> None:
        self._store = store
        self._transaction = transaction

    def offered(self) -> None:
        """See `Way`."""
        transaction = self._transaction
        if not self._store.handOver(transaction.work.message, transaction.progress):
            transaction.withdrawn = True
            raise Unsendable(_WITHDRAWN, Stage.MAIL)
        transaction.offered = True

    def begun(self) -> None:
        """See `Way`."""
        if not self._transaction.begun:
            self._transaction.begun = True
            self._store.textGoes(self._transaction.work.message, self._transaction.progress)
