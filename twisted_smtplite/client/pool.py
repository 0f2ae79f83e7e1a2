"""Connections that are kept, and shared by all messages to one destination.

Knows how many connections there may be, who gets one, and when one is no longer needed. Must not know how they come about (`connector`) nor where a
message has to go (`mx`).
"""

# Twisted's Failure is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from ..model.clientprofile import ClientLimits, requirePositive
from ..model.errors import ConnectionFailed
from ..model.results import Delivery, PeerReply, Stage
from .connector import Connector

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from ..model.envelope import Envelope
    from ..wire.client import Trace, Trust
    from ..wire.outgoing import Text
    from .content import Content
    from .destination import Destination


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """The bounds of a pool.

    Raises:
        ValueError: a value is zero, negative or not finite; the text names the field.
    """

    connections: int = 100
    """Connections in all, those that are being opened or closed included."""
    connectionsPerDestination: int = 4
    """Likewise, to one destination."""
    messagesPerConnection: int = 100
    """Messages after which a connection is closed, and a new one takes its place: some servers refuse more."""
    idleTime: float = 10
    """How long a connection without work is kept, in seconds. Servers close one after five minutes (RFC 5321 4.5.3.2.7), many sooner."""

    def __post_init__(self) -> None:
        requirePositive(self)


class Connection(Protocol):
    """What is asked of an open connection; `wire.client.SMTPClient` is one, and says more."""

    @property
    def usable(self) -> bool:
        """True while `send` may be called."""

    @property
    def pending(self) -> int:
        """Messages given to `send` and not finished."""

    def send(self, envelope: Envelope, content: Text) -> Deferred[Delivery]:
        """Sends a message behind those that are pending."""

    def quit(self) -> Deferred[None]:
        """Ends the session behind the pending messages. Fires when the connection is closed; never fails."""

    def abort(self) -> None:
        """Ends the connection at once."""

    def whenEnded(self) -> Deferred[None]:
        """Fires when the connection is closed."""


class _Job:
    """A message that is to be sent."""

    __slots__ = ("again", "content", "envelope", "result", "sending")

    def __init__(self, envelope: Envelope, content: Content, result: Deferred[Delivery]) -> None:
        self.envelope = envelope
        self.content = content
        self.result = result
        # Its Deferred on the connection that has it.
        self.sending: Deferred[Delivery] | None = None
        # True once a connection was lost before it had begun.
        self.again = False


class _Link:
    """An open connection, and what it was given."""

    __slots__ = ("client", "expiry", "lane", "leaving", "pending", "sent")

    def __init__(self, lane: _Lane, client: Connection) -> None:
        self.lane = lane
        self.client = client
        self.pending = 0
        self.sent = 0
        # True once it takes no more messages.
        self.leaving = False
        self.expiry: IDelayedCall | None = None


class _Lane:
    """All that goes to one destination."""

    __slots__ = ("destination", "links", "most", "opening", "serving", "waiting")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.links: list[_Link] = []
        self.opening: set[Deferred[Connection]] = set()
        self.waiting: deque[_Job] = deque()
        # As many connections as the server was seen to admit.
        self.most: float = inf
        # What is going on in it may find out more about it.
        self.serving = False

    @property
    def size(self) -> int:
        """Connections, those that are being opened included."""
        return len(self.links) + len(self.opening)


class SMTPPool:
    """Sends messages to any number of destinations, over few connections.

    A message takes a connection that has nothing to do; else a new one, as long as the limits allow; else it goes out behind others on one that has.
    Those to one destination go out in the order they were given. When there are as many connections as there may be in all, destinations take turns.
    A connection that was lost before a message had begun is replaced without a word, once for each message.

    Args:
        reactor: the reactor.
        hostname: see `Connector`, as for `trust` and `trace`.
        limits: of each connection; `ClientLimits.pipelinedMessages` go out on one without an answer.
        poolLimits: of all of them.
        connect: opens a `Connection`; by default a `Connector` of the above.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        hostname: str = "",
        limits: ClientLimits | None = None,
        poolLimits: PoolLimits | None = None,
        trust: Trust | None = None,
        trace: Trace | None = None,
        connect: Callable[[Destination], Deferred[Any]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._limits = poolLimits or PoolLimits()
        self._inFlight = (limits or ClientLimits()).pipelinedMessages
        self._connect: Callable[[Destination], Deferred[Any]] = connect or Connector(
            reactor, hostname=hostname, limits=limits, trust=trust, trace=trace
        )
        self._lanes: dict[Destination, _Lane] = {}
        self._total = 0
        # Of them, those that take no more messages.
        self._leaving = 0
        # Both in order: who waits for one of the connections of others, and who has none to do.
        self._wanting: dict[_Lane, None] = {}
        self._idle: dict[_Link, None] = {}
        self._closed = False
        self._closing: list[Deferred[None]] = []

    @property
    def connections(self) -> int:
        """How many connections there are, those that are being opened or closed included."""
        return self._total

    def send(self, destination: Destination, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        """Sends a message.

        Returns:
            Fires with what became of it, an outcome for each recipient. Fails with an SMTPClientError when it could not even begin: no connection
            came about, or this message cannot go to this peer (`Unsendable`). Cancelling it takes the message back; if it is on its way already, by
            ending its connection.
        """
        known = self._lanes.get(destination)
        lane = known or _Lane(destination)
        job = _Job(envelope, content, Deferred(lambda _: self._cancelled(lane, job)))
        if self._closed:
            job.result.errback(_closed(destination))
            return job.result
        if known is None:
            self._lanes[destination] = lane
        lane.waiting.append(job)
        self._serve(lane)
        return job.result

    def close(self) -> Deferred[None]:
        """Ends all connections, each after the messages on it. Messages that have none yet fail, and so do those that are sent from now on.

        Returns:
            Fires when the last connection is closed.
        """
        self._closed = True
        closing: Deferred[None] = Deferred()
        self._closing.append(closing)
        for lane in list(self._lanes.values()):
            waiting, lane.waiting = lane.waiting, deque()
            for job in waiting:
                job.result.errback(_closed(lane.destination))
            for opening in list(lane.opening):
                opening.cancel()
            for link in list(lane.links):
                self._dismiss(link)
        self._settle()
        return closing

    # -- who gets which connection

    def _serve(self, lane: _Lane) -> None:
        """Gives the messages that wait in `lane` to connections, and opens those that it may have."""
        if lane.serving:
            return
        lane.serving = True
        while lane.waiting:
            link = self._freest(lane)
            if link is not None and not link.pending:
                self._give(link, lane.waiting.popleft())
            elif len(lane.opening) >= len(lane.waiting):
                break
            elif self._mayOpen(lane):
                self._open(lane)
            elif link is not None:
                self._give(link, lane.waiting.popleft())
            else:
                break
        lane.serving = False
        for link in lane.links:
            if not link.pending and not link.leaving and link.expiry is None:
                self._idle[link] = None
                link.expiry = self._reactor.callLater(self._limits.idleTime, self._dismiss, link)
        self._settle(lane)

    def _freest(self, lane: _Lane) -> _Link | None:
        """Of the connections that take another message, the one that has the fewest to do."""
        freest = None
        for link in lane.links:
            if (freest is None or link.pending < freest.pending) and self._takes(link):
                freest = link
                if not link.pending:
                    break
        return freest

    def _takes(self, link: _Link) -> bool:
        return not link.leaving and link.client.usable and link.pending < self._inFlight and link.sent < self._limits.messagesPerConnection

    def _mayOpen(self, lane: _Lane) -> bool:
        if lane.size >= min(self._limits.connectionsPerDestination, lane.most):
            return False
        if self._total < self._limits.connections:
            return True
        self._wanting.setdefault(lane)
        # One that has nothing to do makes room, when it is closed.
        if self._idle and self._leaving < len(self._wanting):
            self._dismiss(next(iter(self._idle)))
        if self._total >= self._limits.connections:
            return False
        self._wanting.pop(lane, None)
        return True

    def _give(self, link: _Link, job: _Job) -> None:
        self._busy(link)
        link.pending += 1
        link.sent += 1
        job.sending = link.client.send(job.envelope, job.content)
        job.sending.addBoth(self._sent, link, job)

    def _sent(self, result: Delivery | Failure, link: _Link, job: _Job) -> None:
        job.sending = None
        link.pending -= 1
        lane = link.lane
        if isinstance(result, Failure) and result.check(ConnectionFailed) and not (job.again or self._closed) and job.content.readable:
            job.again = True
            # Before those that have not been tried, behind those that have.
            lane.waiting.insert(sum(waiting.again for waiting in lane.waiting), job)
            # The fate of those that had nothing to do is likely the same.
            for other in [other for other in lane.links if other in self._idle]:
                self._leave(other)
                other.client.abort()
        elif isinstance(result, Failure):
            job.result.errback(result)
        else:
            job.result.callback(result)
        if self._leaving < len(self._wanting) and any(not other.size for other in self._wanting if other is not lane):
            # Others have no connection at all. They get the place of this one, before this destination has its turn again.
            if self._wanting.pop(lane, lane) is None:
                self._wanting[lane] = None
            self._dismiss(link)
        elif not link.client.usable or link.sent >= self._limits.messagesPerConnection:
            self._dismiss(link)
        self._serve(lane)

    def _busy(self, link: _Link) -> None:
        """A connection is no longer idle."""
        self._idle.pop(link, None)
        expiry, link.expiry = link.expiry, None
        if expiry is not None and expiry.active():
            expiry.cancel()

    def _leave(self, link: _Link) -> None:
        """A connection takes no more messages."""
        self._busy(link)
        link.leaving = True
        self._leaving += 1

    def _dismiss(self, link: _Link) -> None:
        """A connection is to end, once the messages on it are sent."""
        if not link.leaving:
            self._leave(link)
            link.client.quit()

    # -- how connections come and go

    def _open(self, lane: _Lane) -> None:
        self._total += 1
        opening: Deferred[Connection] = maybeDeferred(self._connect, lane.destination)
        lane.opening.add(opening)
        opening.addCallbacks(self._opened, self._failed, callbackArgs=(lane, opening), errbackArgs=(lane, opening))

    def _opened(self, client: Connection, lane: _Lane, opening: Deferred[Connection]) -> None:
        if not client.usable:
            self._failed(Failure(_lost(lane.destination)), lane, opening)
            return
        lane.opening.discard(opening)
        link = _Link(lane, client)
        lane.links.append(link)
        client.whenEnded().addCallback(lambda _: self._ended(link))
        if self._closed:
            self._dismiss(link)
            return
        self._serve(lane)

    def _failed(self, failure: Failure, lane: _Lane, opening: Deferred[Connection]) -> None:
        lane.opening.discard(opening)
        self._total -= 1
        if lane.opening or any(not link.leaving for link in lane.links):
            # Servers refuse more than so many. Those that are there have to do, until one of them ends.
            lane.most = lane.size
        else:
            lane.most = inf
            waiting, lane.waiting = lane.waiting, deque()
            for job in waiting:
                job.result.errback(failure)
        self._serve(lane)
        self._shareOut()

    def _ended(self, link: _Link) -> None:
        lane = link.lane
        lane.links.remove(link)
        if link.leaving:
            self._leaving -= 1
        else:
            self._busy(link)
            link.leaving = True
        lane.most = inf
        self._total -= 1
        self._shareOut()
        self._serve(lane)

    def _shareOut(self) -> None:
        """There is room for a connection: who waits for one gets it, the first first."""
        while self._wanting and self._total < self._limits.connections:
            lane = next(iter(self._wanting))
            del self._wanting[lane]
            self._serve(lane)

    def _cancelled(self, lane: _Lane, job: _Job) -> None:
        if job.sending is not None:
            job.sending.cancel()
        else:
            lane.waiting.remove(job)
            self._settle(lane)

    def _settle(self, lane: _Lane | None = None) -> None:
        """Forgets a lane in which nothing goes on; and when the last connection is gone, says so to who wants to know."""
        if lane is not None and not (lane.waiting or lane.size):
            self._wanting.pop(lane, None)
            if self._lanes.get(lane.destination) is lane:
                del self._lanes[lane.destination]
        if self._closed and not self._total:
            closing, self._closing = self._closing, []
            for waiting in closing:
                waiting.callback(None)


def _closed(destination: Destination) -> ConnectionFailed:
    return _failed(destination, Stage.CONNECT, "4.3.2", "the pool of connections is closed")


def _lost(destination: Destination) -> ConnectionFailed:
    return _failed(destination, Stage.HELLO, "4.4.2", "the connection was lost as soon as it was there")


def _failed(destination: Destination, stage: Stage, enhanced: str, text: str) -> ConnectionFailed:
    return ConnectionFailed(PeerReply(451, enhanced, (text,), local=True), stage, destination.host, destination.where)
