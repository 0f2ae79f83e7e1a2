"""The relay: mail that comes in is safe in the queue before its sender hears 250, and is sent on by the one process that empties the queue.

Knows who may use it, and when the runner runs. Must not know how the queue is kept, nor how and where mail is sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from ..delivery.base import AcceptingDelivery
from ..interfaces import IHonourExtensions
from ..model import replies

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..interfaces import IMessage
    from ..model.envelope import Envelope, Recipient, SessionInfo
    from ..model.networks import Networks
    from ..model.reply import Reply
    from .store import QueueStore

CLAIM_AGAIN = 1.0
"""Seconds after which a process that does not send looks whether it should."""

_log = Logger(namespace="smtplite.queue")


class Emptying(Protocol):
    """What empties the queue; `runner.Runner` with the connections that it uses."""

    def start(self) -> None:
        """Begins to send."""

    def stop(self) -> Deferred[None]:
        """Ends what it has begun. Fires when the queue and the connections are left alone."""


@implementer(IHonourExtensions)
class RelayDelivery(AcceptingDelivery, Service):
    """Takes mail of users who have authenticated, and of clients in named networks, for any recipient.

    As a service it empties the queue, if no other process does. When that one ends it takes over.

    Args:
        store: the queue.
        emptying: makes what empties it, anew for each start.
        networks: whose clients need not authenticate. There are none unless somebody says so: never an open relay.
        domainless: True also takes recipients without a domain, which means ``<postmaster>``: for a server that all mail goes to.

    Attributes:
        honours: what the queue and the runner act on.
        path: where the queue is, for the log.
    """

    honours: Collection[str] = frozenset({"DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE"})

    def __init__(self, store: QueueStore, emptying: Callable[[], Emptying], networks: Networks, *, domainless: bool = True) -> None:
        self.store = store
        self.path = store.directory
        self._make = emptying
        self._networks = networks
        self._domainless = domainless
        self._emptying: Emptying | None = None
        self._attempt: Deferred[None] | None = None
        self._again: IDelayedCall | None = None

    def whoMayRelay(self, *, users: bool) -> str:
        """Who may use it, for the log; empty for nobody. `users`: there are some who can authenticate."""
        who = ["users who have authenticated"] if users else []
        return " and ".join([*who, f"clients in {self._networks}"] if self._networks else who)

    def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """Refuses strangers, whoever they say they are: the null reverse-path is no exception (RFC 5321 7.1)."""
        if session.user is None and session.peerHost not in self._networks:
            return replies.RELAYING_DENIED
        return None if self._domainless or recipient.address.domain else replies.RECIPIENT_UNQUALIFIED

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """A message on its way into the queue."""
        return self.store.newMessage(envelope, session.user)

    def startService(self) -> None:
        """Opens the queue, and begins to empty it unless another process does."""
        super().startService()  # type: ignore[no-untyped-call]
        self.store.startService()
        self._attempt = Deferred.fromCoroutine(self._tryToBegin())

    def stopService(self) -> Deferred[None]:
        """Ends what is being sent, then closes the queue. Fires when that is done."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _tryToBegin(self) -> None:
        self._again = None
        try:
            claimed = await self.store.inThread(self.store.claim)
        except (OSError, sqlite3.Error) as error:
            self.store.refusal(error)
            claimed = False
        if not self.running:
            return
        if not claimed:
            self._again = self.store.clock.callLater(CLAIM_AGAIN, self._lookAgain)
            return
        self._sayWhatIsDoubtful()
        self._emptying = self._make()
        self._emptying.start()

    def _sayWhatIsDoubtful(self) -> None:
        unclean, path, count = self.store.unclean, self.store.directory, self.store.doubtful
        if unclean is None:
            return
        if unclean.complete:
            what = "The process that sent from {path} did not end as it should; of what was on its way {count} recipients may get a message twice"
        else:
            what = "It is not known what was on its way from {path} when the machine stopped; {count} recipients were due and may get a message twice"
        _log.warn(what, path=path, count=count)

    def _lookAgain(self) -> None:
        self._attempt = Deferred.fromCoroutine(self._tryToBegin())

    async def _stop(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            await attempt
        emptying, self._emptying = self._emptying, None
        if emptying is not None:
            await emptying.stop()
        self.store.stopService()
