"""Which hosts take the mail of a domain, in which order, and at which addresses (RFC 5321 5.1, RFC 7505).

Knows MX records, implicit ones, address literals, internationalized domains, and this host among others. Must not know what is sent, or how.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from random import SystemRandom
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from twisted.internet.defer import Deferred
from twisted.names import dns

from ..model.errors import SMTPClientError
from ..model.idn import asciiDomain
from ..model.mxlimits import MXLimits
from ..model.results import PeerReply, Stage
from .records import LookupFailed, NoSuchName, Records, makeResolver
from .thishost import ThisHost
from .together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Sequence

    from twisted.internet.interfaces import IReactorTime, IResolver

# RFC 1035 2.3.4: labels of 63 octets, and names that are 255 on the wire. Underscores are in use; what cannot be shown or logged is not.
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class MailHost(NamedTuple):
    """A host that takes mail for a domain.

    Attributes:
        name: its name, in lower case, without a dot at the end; for an address literal the address.
        preference: of its MX record: the lower, the better. 0 where there is no record.
        addresses: where it is reached, in the order in which they are to be tried.
    """

    name: str
    preference: int
    addresses: tuple[str, ...]


_preference = attrgetter("preference")


class NoRoute(SMTPClientError):
    """The domain takes no mail, does not exist, has no usable server, or cannot be looked up now (`temporary`)."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(PeerReply(code, enhanced, (text,), local=True), Stage.CONNECT)


class _Known(NamedTuple):
    hosts: tuple[MailHost, ...]
    ttl: float


def canonicalDomain(domain: str) -> str:
    """The domain as one name for all its spellings: in lower case, with A-labels (IDNA); literals but for case as they are.

    Raises:
        NoRoute: it is no domain name.
    """
    if domain.startswith("["):
        return domain.lower()
    try:
        name = asciiDomain(domain).lower()
    except ValueError as error:
        raise NoRoute(550, "5.1.2", f"{domain!a} is no domain name") from error
    if not _DOMAIN.fullmatch(name):
        raise NoRoute(550, "5.1.2", f"{domain!a} is no domain name")
    return name


class MailRoutes:
    """Finds the hosts of domains, and remembers them for a while: a busy sender asks for the same few again and again.

    Args:
        reactor: for its clock, and for the resolver where none is given.
        resolver: a `twisted.names` resolver; None: the system's name servers, with ``/etc/hosts`` before them.
        ownNames: what this host is called in MX records, other than by its addresses.
        ownAddresses: the addresses that lead to this host, as `Networks`, say; by default those that the system knows of, see `ThisHost`.
        ipVersions: 4, 6 or both, the preferred first: of each host the addresses of both take turns. Both, unless this host has no way to one.
        limits: waits and counts.
        shuffle: brings a list into random order, in place.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        resolver: IResolver | None = None,
        *,
        ownNames: Collection[str] = (),
        ownAddresses: Container[str] | None = None,
        ipVersions: Sequence[int] = (4, 6),
        limits: MXLimits | None = None,
        shuffle: Callable[[list[MailHost]], None] | None = None,
    ) -> None:
        self._clock = reactor
        self._limits = limits or MXLimits()
        self._records = Records(lambda: resolver or makeResolver(reactor), reactor, self._limits)
        self._ownNames = frozenset(name.lower().rstrip(".") for name in ownNames)
        self._ownAddresses = ThisHost() if ownAddresses is None else ownAddresses
        self._kinds = [{4: dns.A, 6: dns.AAAA}[version] for version in ipVersions]
        self._shuffle = shuffle or SystemRandom().shuffle
        self._cache: OrderedDict[str, tuple[_Known, float]] = OrderedDict()
        self._asked: dict[str, list[Deferred[_Known]]] = {}

    async def find(self, domain: str) -> list[MailHost]:
        """The hosts to try, in order: by preference, and those of the same in random order (RFC 5321 5.1). Each has an address.

        Raises:
            NoRoute: there is none.
        """
        name = canonicalDomain(domain)
        hosts = list(self._literal(name) if name.startswith("[") else (await self._known(name)).hosts)
        self._shuffle(hosts)
        return sorted(hosts, key=_preference)

    def _literal(self, literal: str) -> tuple[MailHost]:
        """RFC 5321 4.1.3: an address literal names the host itself."""
        form, inside = (IPv6Address, literal[6:-1]) if literal.startswith("[ipv6:") else (IPv4Address, literal[1:-1])
        try:
            address = str(form(inside))
        except ValueError as error:
            raise NoRoute(550, "5.1.2", f"{literal!a} is no address to send to") from error
        if address in self._ownAddresses:
            raise NoRoute(554, "5.4.6", f"Mail for {literal} would come back to this host")
        return (MailHost(address, 0, (address,)),)

    # -- what is remembered, and what is being asked

    async def _known(self, name: str) -> _Known:
        cached, until = self._cache.get(name, (None, 0.0))
        if cached is not None and self._clock.seconds() < until:
            self._cache.move_to_end(name)
            return cached
        # A Deferred for each: whoever gives up leaves the question to the others who wait for the same.
        waiting: Deferred[_Known] = Deferred()
        first = name not in self._asked
        self._asked.setdefault(name, []).append(waiting)
        if first:
            Deferred.fromCoroutine(self._look(name)).addBoth(self._answered, name)
        return await waiting

    def _answered(self, result: Any, name: str) -> None:
        """An answer or a failure has come."""
        if isinstance(result, _Known) and result.ttl > 0:
            self._cache[name] = (result, self._clock.seconds() + min(result.ttl, self._limits.cacheTime))
            self._cache.move_to_end(name)
            if len(self._cache) > self._limits.cachedDomains:
                self._cache.popitem(last=False)
        for waiting in self._asked.pop(name):
            waiting.callback(result)

    # -- the rules

    async def _look(self, name: str) -> _Known:
        try:
            answer = await self._records.find(name, dns.MX)
        except NoSuchName as error:
            raise NoRoute(550, "5.1.2", f"The domain {name} does not exist") from error
        except LookupFailed as error:
            raise NoRoute(451, "4.4.3", f"The servers of {name} cannot be looked up: {error}") from error
        hosts = self._better(name, _exchanges(name, answer.records), lambda host: host.name in self._ownNames)[: self._limits.hosts]
        looked = await together(self._addresses(host.name) for host in hosts)
        hosts = [host._replace(addresses=addresses) for host, (addresses, _) in zip(hosts, looked, strict=True)]
        hosts = self._better(name, hosts, lambda host: any(address in self._ownAddresses for address in host.addresses))
        ttls = [ttl for _, ttl in looked]
        usable = tuple(host for host in hosts if host.addresses)
        if not usable:
            raise _unreachable(name, implicit=not answer.records, failed=0 in ttls)
        # An implicit MX is true for as long as its addresses are.
        return _Known(usable, min([answer.ttl, *ttls] if answer.records else ttls))

    def _better(self, domain: str, hosts: Sequence[MailHost], own: Callable[[MailHost], bool]) -> list[MailHost]:
        """Those that are preferred to this host, where it is among them: the others would send to it what it cannot deliver itself."""
        # RFC 5321 5.1: a relay that finds itself in the list drops its own preference and all above, or messages loop.
        best = min((host.preference for host in hosts if own(host)), default=float("inf"))
        better = [host for host in hosts if host.preference < best]
        if not better:
            raise NoRoute(554, "5.4.6", f"Mail for {domain} would come back to this host")
        return better

    async def _addresses(self, host: str) -> tuple[tuple[str, ...], float]:
        """The addresses of a host, and for how long they are true: 0 when there may be more, but nobody could say."""
        each = await together(self._ofKind(host, kind) for kind in self._kinds)
        turns = [list(addresses) for addresses, _ in each]
        mixed = [kind[turn] for turn in range(max(map(len, turns))) for kind in turns if turn < len(kind)]
        return tuple(dict.fromkeys(mixed)), min(ttl for _, ttl in each)

    async def _ofKind(self, host: str, kind: int) -> tuple[list[str], float]:
        if not _DOMAIN.fullmatch(host):
            return [], self._limits.cacheTime
        try:
            answer = await self._records.find(host, kind)
        except NoSuchName:
            return [], self._limits.cacheTime
        except LookupFailed:
            return [], 0
        form = IPv4Address if kind == dns.A else IPv6Address
        addresses = [str(form(cast("bytes", record.address))) for record in answer.records]
        return addresses, answer.ttl if addresses else self._limits.cacheTime


def _exchanges(domain: str, records: Sequence[Any]) -> list[MailHost]:
    """The hosts by preference, still without addresses; the domain itself where it has no MX record (RFC 5321 5.1)."""
    if not records:
        return [MailHost(domain, 0, ())]
    preferences: dict[str, int] = {}
    for record in records:
        # A name may hold any octet. One that cannot be a host's is shown so that it can be logged, and has no address.
        name = record.name.name.decode("ascii", "backslashreplace").lower().rstrip(".")
        preferences[name] = min(record.preference, preferences.get(name, record.preference))
    # RFC 7505 3: the root alone says that there is no mail; beside others it is a mistake, and no host.
    preferences.pop("", None)
    if not preferences:
        raise NoRoute(556, "5.1.10", f"The domain {domain} takes no mail")
    return sorted((MailHost(name, preference, ()) for name, preference in preferences.items()), key=_preference)


def _unreachable(domain: str, *, implicit: bool, failed: bool) -> NoRoute:
    """No host has an address."""
    if failed:
        return NoRoute(451, "4.4.3", f"The servers of {domain} cannot be looked up")
    if implicit:
        return NoRoute(550, "5.1.2", f"The domain {domain} has no mail server and no address")
    # RFC 5321 5.1: where there are MX records, the domain's own addresses are none to try.
    return NoRoute(550, "5.4.4", f"No mail server of {domain} has an address")
