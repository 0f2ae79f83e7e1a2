"""Behind a proxy: reads the PROXY header that a trusted proxy puts in front of each connection, then steps aside.

Knows who is trusted, and how long to wait. Must not know SMTP, nor whether TLS follows: the connection is handed over, as that of the real client,
to the protocol that the factory inside makes for it. The form of the header is in `dialogue.proxy`.
"""

# Twisted's factories and transports are not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory, IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..dialogue.proxy import Header, HeaderReader, ProxyError
from ..model.limits import Limits
from ..model.networks import Networks

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort

    from ..model.envelope import SessionInfo

_log = Logger(namespace="smtplite")


@implementer(IAddress)
class ClientAddress:
    """The address of a client behind a proxy, as a factory gets it in `buildProtocol`.

    Attributes:
        host: the client's IP address as text; empty for a unix socket.
        port: its port.
        header: what else the proxy tells.
    """

    def __init__(self, header: Header, peer: IAddress) -> None:
        self.host: str
        self.port: int
        self.host, self.port = header.client or (getattr(peer, "host", ""), getattr(peer, "port", 0))
        self.header = header

    def tell(self, info: SessionInfo) -> None:
        """Writes what the proxy tells into what is known of a session."""
        header = self.header
        if header.server is not None:
            info.localHost, info.localPort = header.server
        if header.tls is not None:
            info.tls = True
            info.tlsVersion, info.tlsCipher, info.certificate = header.tls
            info.serverName = header.authority


class ProxyProtocol(Protocol):
    """A connection from a proxy, up to the end of the header. Nothing is said in it."""

    def __init__(self, factory: ProxyFactory, peer: IAddress) -> None:
        self._factory = factory
        self._peer = peer
        self._reader = HeaderReader()
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begins to wait."""
        self._factory.waiting.add(self)
        self._timer = self._factory.reactor.callLater(self._factory.limits.handshakeTimeout, self._timeout)

    def dataReceived(self, data: bytes) -> None:
        """Takes more of the header. What stands behind its end is the client's."""
        if self._timer is None:
            # Given up already.
            return
        try:
            header = self._reader.feed(data)
        except ProxyError as error:
            self.end(f"{error}")
            return
        if header is not None:
            self._stop()
            self._handOver(header)

    def _handOver(self, header: Header) -> None:
        transport: Any = self.transport
        protocol = self._factory.inner.buildProtocol(ClientAddress(header, self._peer))
        if protocol is None:
            transport.abortConnection()
            return
        # From here on the transport talks to it directly: a session behind a proxy costs what any other does.
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if self._reader.rest:
            protocol.dataReceived(self._reader.rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The proxy has left before the header was whole, as those do that only look whether somebody listens."""
        self._stop()

    def _timeout(self) -> None:
        self._timer = None
        self.end("no PROXY header in time")

    def end(self, why: str) -> None:
        """Ends the connection without a word: nobody is known who could understand one."""
        self._stop()
        _log.warn("A connection from the proxy {peer} was ended: {why}", peer=getattr(self._peer, "host", "unix socket"), why=why)
        cast(Any, self.transport).abortConnection()

    def _stop(self) -> None:
        self._factory.waiting.discard(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


@implementer(IProtocolFactory)
class ProxyFactory:
    """Serves what another factory serves, to clients behind proxies.

    A peer in one of the networks must send a PROXY header, as its first octets, in the clear; from any other peer none is expected: nothing is
    guessed.

    Args:
        inner: makes the protocol for the real client: SMTP, or TLS with SMTP in it.
        networks: those of the proxies, see `Networks`.
        reactor: the clock.
        limits: `handshakeTimeout` is the wait for a header, `connections` bounds how many wait for one.

    Attributes:
        waiting: the connections whose header is not whole.
    """

    # Read by Twisted.
    noisy = False

    def __init__(self, inner: IProtocolFactory, networks: Networks, reactor: IReactorTime, limits: Limits) -> None:
        self.inner = inner
        self.reactor = reactor
        self.limits = limits
        self.waiting: set[ProxyProtocol] = set()
        self._networks = networks

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """What reads the header, or for a peer that is no proxy what the factory inside makes."""
        if getattr(addr, "host", "") not in self._networks:
            return self.inner.buildProtocol(addr)
        if 0 < self.limits.connections <= len(self.waiting):
            return None
        return ProxyProtocol(self, addr)

    def doStart(self) -> None:
        """Listening begins."""
        self.inner.doStart()

    def doStop(self) -> None:
        """Listening ends: whoever has not said for whom it connects is not waited for."""
        for protocol in list(self.waiting):
            protocol.end("the server stops")
        self.inner.doStop()


@implementer(IStreamServerEndpoint)
class ProxiedEndpoint:
    """An endpoint whose connections may come from proxies: what listens on it serves their clients.

    For TLS it stands below: the header comes before the handshake.

    Args:
        endpoint: where to listen.
        networks: those of the proxies, as text: see `Networks`.
        reactor: the clock.
        limits: see `ProxyFactory`; by default those of `Limits`.

    Raises:
        ValueError: a network is none.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, networks: Iterable[str], reactor: IReactorTime, limits: Limits | None = None) -> None:
        self._endpoint = endpoint
        self._networks = Networks(networks)
        self._reactor = reactor
        self._limits = limits or Limits()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listens, as the endpoint does."""
        return self._endpoint.listen(ProxyFactory(protocolFactory, self._networks, self._reactor, self._limits))
