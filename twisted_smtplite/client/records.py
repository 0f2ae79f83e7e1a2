"""Records of the domain name system, asked of a `twisted.names` resolver: within bounds, along CNAMEs, and with three kinds of answer apart.

Knows queries, names and what can go wrong with them. Must not know what the records are wanted for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.names import dns
from twisted.names.error import AuthoritativeDomainError, DNSNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from twisted.internet.interfaces import IReactorTime, IResolver

    from ..model.mxlimits import MXLimits


class NoSuchName(Exception):
    """The name does not exist, and so has no records of any type."""


class LookupFailed(Exception):
    """Nobody could say what records there are: no answer in time, or a name server in trouble. A later try makes sense."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The records of one type.

    Attributes:
        records: their contents, e.g. `twisted.names.dns.Record_MX`; empty when the name exists but has none of this type.
        ttl: for how long this stays true, in seconds; 0 when there are none.
    """

    records: tuple[Any, ...]
    ttl: float


def makeResolver(reactor: Any) -> IResolver:
    """A resolver that knows ``/etc/hosts``, and asks the name servers of ``/etc/resolv.conf``."""
    from twisted.names.client import Resolver
    from twisted.names.hosts import Resolver as HostsFile
    from twisted.names.resolve import ResolverChain

    hosts, servers, chain = cast("Any", HostsFile), cast("Any", Resolver), cast("Any", ResolverChain)
    return cast("IResolver", chain([hosts(), servers(resolv="/etc/resolv.conf", reactor=reactor)]))


def _of(answers: Sequence[Any], name: bytes, kind: int) -> Iterator[Any]:
    """Those of one name and one type. Names compare without case."""
    return (answer for answer in answers if answer.type == kind and answer.name.name.lower() == name)


class Records:
    """What is asked, and how.

    Args:
        resolver: makes the resolver when it is first asked.
        clock: the reactor.
        limits: waits and counts.
    """

    def __init__(self, resolver: Callable[[], IResolver], clock: IReactorTime, limits: MXLimits) -> None:
        self._makeResolver = resolver
        self._resolver: IResolver | None = None
        self._clock = clock
        self._limits = limits
        self._gate = DeferredSemaphore(limits.lookups)

    async def find(self, name: str, kind: int) -> Answer:
        """The records of the type `kind` (`dns.MX`, `dns.A`, `dns.AAAA`) that a name has, or that its alias has.

        Raises:
            NoSuchName: there is no such name.
            LookupFailed: that cannot be told now.
        """
        names = [name.encode("ascii").lower()]
        ttl = float("inf")
        while len(names) <= self._limits.aliases:
            answers = [answer for answer in await self._ask(names[-1], kind) if answer.cls == dns.IN]
            # An answer holds a piece of the chain, or all of it, with or without the records at its end.
            known = len(names)
            while len(names) <= self._limits.aliases and (alias := next(_of(answers, names[-1], dns.CNAME), None)) is not None:
                names.append(alias.payload.name.name.lower())
                ttl = min(ttl, alias.ttl)
            if found := list(_of(answers, names[-1], kind)):
                return Answer(tuple(answer.payload for answer in found), min(ttl, *(answer.ttl for answer in found)))
            if len(names) == known:
                return Answer((), 0)
        raise LookupFailed(f"more than {self._limits.aliases} aliases")

    async def _ask(self, name: bytes, kind: int) -> Sequence[Any]:
        """The answer section, as one query brings it."""
        try:
            answers, _authority, _additional = await self._gate.run(self._query, name, kind)
        # The second is what a resolver says that is itself the authority.
        except (DNSNameError, AuthoritativeDomainError) as error:
            raise NoSuchName from error
        # A resolver is anybody's, and fails as it likes.
        except Exception as error:
            raise LookupFailed(str(error) or type(error).__name__) from error
        found: Sequence[Any] = answers
        return found

    def _query(self, name: bytes, kind: int) -> Deferred[Any]:
        if self._resolver is None:
            self._resolver = self._makeResolver()
        lookup: Any = {
            dns.MX: self._resolver.lookupMailExchange,
            dns.A: self._resolver.lookupAddress,
            dns.AAAA: self._resolver.lookupIPV6Address,
        }[kind]
        waits = (self._limits.queryTimeout, 3 * self._limits.queryTimeout)
        answer: Deferred[Any] = lookup(name, timeout=waits)
        return answer.addTimeout(self._limits.lookupTimeout, self._clock)
