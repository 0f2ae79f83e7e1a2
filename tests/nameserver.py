"""A name server of our own on loopback, with the names that a test gives it; over UDP and TCP, as name servers are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from twisted.internet import reactor as globalReactor
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.error import CannotListenError
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.client import Resolver
from twisted.names.common import ResolverBase
from twisted.names.server import DNSServerFactory

reactor: Any = globalReactor


def mx(preference: int, host: str, ttl: int = 60) -> Any:
    return dns.Record_MX(preference, host.encode(), ttl)


def a(address: str, ttl: int = 60) -> Any:
    return dns.Record_A(address, ttl)


def aaaa(address: str, ttl: int = 60) -> Any:
    return dns.Record_AAAA(address, ttl)


def cname(target: str, ttl: int = 60) -> Any:
    return dns.Record_CNAME(target.encode(), ttl)


class Trouble(Exception):
    """What a name server answers SERVFAIL for."""


class Zone(FileAuthority):
    """All names below ``test``, and no others. Of the names in `broken` it says that the server is in trouble, of those in `silent` nothing."""

    def __init__(self, records: dict[str, list[Any]]) -> None:
        cast("Any", ResolverBase).__init__(self)
        self._cache: dict[str, object] = {}
        self.soa = (b"test", dns.Record_SOA(b"ns.test", b"hostmaster.test", 1, 60, 60, 60, 60, 60))
        self.records = {name.encode(): list(found) for name, found in records.items()}
        self.broken: set[str] = set()
        self.silent: set[str] = set()
        # What was asked, in order: (name, type).
        self.asked: list[tuple[str, int]] = []

    def _lookup(self, name: bytes, cls: int, type: int, timeout: object = None) -> Deferred[Any]:  # noqa: A002
        text = name.decode().lower()
        self.asked.append((text, type))
        if text in self.silent:
            return Deferred()
        if text in self.broken:
            return fail(Trouble())
        found: Deferred[Any] = super()._lookup(name, cls, type, timeout)  # type: ignore[no-untyped-call]
        return found


class NameServer:
    """A zone on a free port, and a resolver that asks it."""

    def __init__(self, records: dict[str, list[Any]], *, timeout: Iterable[float] = (1, 3)) -> None:
        self.zone = Zone(records)
        factory = cast("Any", DNSServerFactory)(authorities=[self.zone])
        factory.noisy = False
        protocol = dns.DNSDatagramProtocol(factory, reactor)
        for attempt in range(20):
            stream = reactor.listenTCP(0, factory, interface="127.0.0.1")
            try:
                datagrams = reactor.listenUDP(stream.getHost().port, protocol, interface="127.0.0.1")
            except CannotListenError:
                stream.stopListening()
                if attempt == 19:
                    raise
            else:
                break
        self._listening = [stream, datagrams]
        self.resolver = cast("Any", Resolver)(servers=[("127.0.0.1", stream.getHost().port)], timeout=tuple(timeout), reactor=reactor)

    def stop(self) -> Deferred[Any]:
        for connection in list(self.resolver.connections):
            connection.transport.abortConnection()
        return gatherResults([port.stopListening() for port in self._listening])
