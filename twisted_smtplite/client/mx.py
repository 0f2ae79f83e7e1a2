"""Sends a message to the mail servers of its recipients' domains: host after host and address after address, until each recipient has an outcome.

Knows which failures leave the next host to be tried, and whom it is of no use to try. Must not know how hosts are found (`route`), how connections
are made and kept (`pool`), or when to try again: that is for a queue.

What is tried elsewhere, and what is not (RFC 5321 4.2.5, 5.1):

- No connection, one that ends or breaks the protocol before the end of the text, no protection where it is demanded, a greeting of 4yz or 5yz, a
  message that this server cannot take: the next address, for all who are left.
- 4yz to MAIL, RCPT or DATA: the next address, for those whom it concerns.
- 5yz to MAIL, RCPT or DATA: final.
- Whatever becomes of a text that was sent whole: final, for now. Where the reply to it was lost the server may have taken the message, and to give it
  to the next as well would be to send it twice. That is for a queue to decide.

Where nobody took the message its outcome is temporary if anyone was in trouble for the moment, else permanent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..model.clientprofile import TLSUse
from ..model.errors import ConnectionFailed, SMTPClientError, TLSFailed
from ..model.mxlimits import MXLimits
from ..model.results import Delivery, PeerReply, RecipientOutcome, Stage
from .backoff import Backoff
from .destination import Destination
from .route import MailRoutes, NoRoute, canonicalDomain
from .together import together

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from ..model.envelope import Envelope
    from .content import Content

__all__ = ["HostPolicy", "MXLimits", "MXSender", "MailRoutes", "Policy", "Pool", "opportunistic"]

_log = Logger()
# RFC 5321 4.5.4.2: where servers that take mail for a domain listen.
_PORT = 25
# Whoever says nothing until one of these could not be reached.
_UNREACHED = (Stage.CONNECT, Stage.GREETING, Stage.HELLO)
_NOT_AUTHENTIC = "the message may travel only to servers that are known for certain to be the domain's"


class HostPolicy(NamedTuple):
    """How the connection to a host is protected, and how well one knows whom one has there.

    Attributes:
        tls: the protection. Where it verifies, the certificate has to show the host's name.
        authentic: True where more than DNS without signatures says that this host takes the domain's mail: MTA-STS, DNSSEC, or an agreement.
            Messages with REQUIRETLS go nowhere else (RFC 8689 4.2.1), unless the host has the name of the domain itself.
    """

    tls: TLSUse = TLSUse.OPPORTUNISTIC
    authentic: bool = False


Policy: TypeAlias = Callable[[str, str], HostPolicy]
"""From a domain and the name of one of its hosts, both in lower case and with A-labels, to how that host is met."""


def opportunistic(domain: str, host: str) -> HostPolicy:
    """What can be had (RFC 7435): the usual between mail servers that know nothing of each other."""
    return HostPolicy()


class Pool(Protocol):
    """Who makes connections and sends over them: `pool.SMTPPool`."""

    def send(self, destination: Destination, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        """Sends a message to one server."""


class _Hop(NamedTuple):
    """An address to try."""

    host: str
    address: str
    preference: int
    policy: HostPolicy

    def __str__(self) -> str:
        return self.host if self.host == self.address else f"{self.host} [{self.address}]"


class MXSender:
    """Sends messages to wherever their recipients' domains want them.

    Recipients whose domains have the same hosts share a transaction (RFC 5321 4.5.4.1). An address that could not be reached is left alone for a
    while, by all messages.

    Args:
        clock: the reactor.
        pool: makes the connections.
        routes: finds the hosts.
        port: where they listen.
        policy: how each of them is met.
        limits: waits and counts.
    """

    def __init__(
        self,
        clock: IReactorTime,
        pool: Pool,
        routes: MailRoutes,
        *,
        port: int = _PORT,
        policy: Policy = opportunistic,
        limits: MXLimits | None = None,
    ) -> None:
        self._pool = pool
        self._routes = routes
        self._port = port
        self._policy = policy
        self._limits = limits = limits or MXLimits()
        self._backoff = Backoff(clock, limits.backoffTime, limits.backoffMost, limits.backoffAddresses)

    def send(self, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        """Sends a message.

        Args:
            envelope: to whom; any number of domains.
            content: the text. One that can be read only once reaches one server at most.

        Returns:
            Fires with an outcome for each recipient, in the envelope's order: also where a domain does not exist or nobody could be reached (the
            stage says so). Does not fail, unless it is cancelled, which ends every attempt that is under way.
        """
        return Deferred.fromCoroutine(self._send(envelope, content))

    def leaveNobodyAlone(self) -> None:
        """Somebody wants all to be tried: also the addresses that could not be reached lately."""
        self._backoff.clear()

    async def _send(self, envelope: Envelope, content: Content) -> Delivery:
        sending = _Sending(envelope)
        domains: dict[str, list[int]] = {}
        for index, recipient in enumerate(envelope.recipients):
            domains.setdefault(recipient.address.domain.lower(), []).append(index)
        ways = await together((self._way(domain, sending, indices) for domain, indices in domains.items()), self._limits.domains)
        shared: dict[frozenset[_Hop], tuple[Sequence[_Hop], list[int]]] = {}
        for hops, indices in zip(ways, domains.values(), strict=True):
            shared.setdefault(frozenset(hops), (hops, []))[1].extend(indices)
        await together((self._serve(sending, hops, sorted(indices), content) for hops, indices in shared.values()), self._limits.domains)
        return sending.delivery()

    async def _way(self, domain: str, sending: _Sending, indices: Sequence[int]) -> Sequence[_Hop]:
        """All addresses of a domain, in order. Where it has none its recipients have their outcome."""
        try:
            name = canonicalDomain(domain)
            hosts = await self._routes.find(name)
        except NoRoute as error:
            sending.failed(indices, error.stage, error.reply)
            return ()
        hops = []
        for host in hosts:
            policy = self._policy(name, host.name)
            if host.name == name or name.startswith("["):
                # The certificate shows what the sender has written.
                policy = policy._replace(authentic=True)
            if sending.envelope.requireTLS and not policy.tls.verifies:
                policy = policy._replace(tls=TLSUse.REQUIRED)
            hops += [_Hop(host.name, address, host.preference, policy) for address in host.addresses]
        return hops

    async def _serve(self, sending: _Sending, hops: Iterable[_Hop], left: Sequence[int], content: Content) -> None:
        """Tries one address after another, for those recipients that are left."""
        tried = 0
        for hop in hops:
            if not left or tried == self._limits.attempts:
                return
            wait = self._backoff.remaining((hop.address, self._port))
            if sending.envelope.requireTLS and not hop.policy.authentic:
                sending.failed(left, Stage.CONNECT, _local(550, "5.7.10", f"{hop}: {_NOT_AUTHENTIC}"))
            elif wait:
                text = f"{hop}: could not be reached, and is not tried again for {ceil(wait)} seconds"
                sending.failed(left, Stage.CONNECT, _local(451, "4.4.1", text))
            else:
                tried += 1
                left = await self._try(hop, sending, left, content)

    async def _try(self, hop: _Hop, sending: _Sending, left: Sequence[int], content: Content) -> Sequence[int]:
        """Sends the message to one address. Returns those who are to be tried elsewhere."""
        destination = Destination(host=hop.host, address=hop.address, port=self._port, tls=hop.policy.tls)
        key = (hop.address, self._port)
        try:
            delivery = await self._pool.send(destination, sending.part(left), content)
        except CancelledError:
            raise
        except SMTPClientError as error:
            _log.debug("{hop}: {reply}", hop=str(hop), reply=str(error.reply))
            unreached = isinstance(error, ConnectionFailed) and error.stage in _UNREACHED and error.reply.local
            (self._backoff.failed if unreached else self._backoff.succeeded)(key)
            sending.failed(left, error.stage, _reply(hop, error, required=sending.envelope.requireTLS), "" if unreached else hop.host)
            return left
        except Exception:  # noqa: BLE001 - a text may be anybody's, and fail to be read as it likes; others still have their outcomes
            _log.failure("{hop}: the message could not be sent", Failure(), hop=str(hop))  # type: ignore[no-untyped-call]
            sending.failed(left, Stage.DATA, _local(451, "4.3.0", "Internal error"))
            return ()
        self._backoff.succeeded(key)
        return sending.heard(left, delivery)


class _Sending:
    """What is known so far of one message."""

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self._outcomes: list[RecipientOutcome | None] = [None] * len(envelope.recipients)
        self._peer = ""
        self._extensions: list[frozenset[str]] = []

    def part(self, indices: Sequence[int]) -> Envelope:
        """The envelope for some of the recipients."""
        return replace(self.envelope, recipients=[self.envelope.recipients[index] for index in indices])

    def heard(self, indices: Sequence[int], delivery: Delivery) -> Sequence[int]:
        """Some recipients have outcomes. Returns those for whom that is not the last word."""
        self._peer = delivery.peer
        if delivery.accepted:
            self._extensions.append(delivery.extensions)
        elsewhere = []
        for index, outcome in zip(indices, delivery.outcomes, strict=True):
            # What we found ourselves, such as an address that this server cannot be given, need not be true of the next.
            if outcome.stage is not Stage.TEXT and (outcome.temporary or outcome.reply.local):
                self._keep(index, outcome)
                elsewhere.append(index)
            else:
                self._outcomes[index] = outcome
        return elsewhere

    def failed(self, indices: Sequence[int], stage: Stage, reply: PeerReply, peer: str = "") -> None:
        """An attempt for these recipients came to nothing."""
        self._peer = peer or self._peer
        for index in indices:
            self._keep(index, RecipientOutcome(self.envelope.recipients[index], stage, reply))

    def delivery(self) -> Delivery:
        """What became of the message."""
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        assert len(outcomes) == len(self._outcomes), "each recipient was tried, or could not be"
        # What not all servers promise that took it cannot be relied on.
        return Delivery(tuple(outcomes), self._peer, frozenset.intersection(*self._extensions) if self._extensions else frozenset())

    def _keep(self, index: int, outcome: RecipientOutcome) -> None:
        """Keeps what says more: that a later try makes sense, before all; and what a peer said, before what we did."""
        old = self._outcomes[index]
        if old is None or _weight(outcome) >= _weight(old):
            self._outcomes[index] = outcome


def _weight(outcome: RecipientOutcome) -> tuple[bool, bool]:
    return outcome.temporary, not outcome.reply.local


def _local(code: int, enhanced: str, text: str) -> PeerReply:
    return PeerReply(code, enhanced, (text,), local=True)


def _reply(hop: _Hop, error: SMTPClientError, *, required: bool) -> PeerReply:
    """What is told of an attempt that could not even begin."""
    if required and isinstance(error, TLSFailed):
        # RFC 8689 4.2.1: it is of no use to try again later.
        return _local(550, "5.7.10", f"{hop}: {error.reply.text}")
    if error.reply.local:
        return error.reply._replace(lines=(f"{hop}: {error.reply.text}",))
    return error.reply
