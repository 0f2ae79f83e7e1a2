"""From a destination to a connection on which messages can be sent.

Knows endpoints, and how a host calls itself. Must not know what is sent.
"""

# Twisted's endpoints are not all typed.
# mypy: allow-untyped-calls

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import ClientCreator
from zope.interface import implementer

from ..dialogue.grammar import parseHeloName
from ..model.clientprofile import ClientLimits
from ..model.limits import Limits
from ..model.networks import isAddress
from ..wire.client import SMTPClient, Trace, Trust, connect

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocol, IProtocolFactory

    from .destination import Destination


class Connector:
    """Connects to destinations: ``connector(destination)`` gives a Deferred that fires with an `SMTPClient`, or fails with an SMTPClientError.

    Args:
        reactor: the reactor.
        hostname: how the client calls itself (RFC 5321 4.1.4), a domain or an address literal; by default `ownName`.
        limits: every wait and count.
        trust: makes TLS for a host of a name, where certificates are verified; by default with the authorities that the machine trusts.
        trace: hears the dialogues.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        hostname: str = "",
        limits: ClientLimits | None = None,
        trust: Trust | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.limits = limits or ClientLimits()
        self._reactor = reactor
        self._hostname = hostname or ownName()
        self._trust = trust
        self._trace = trace

    def __call__(self, destination: Destination, endpoint: IStreamClientEndpoint | None = None) -> Deferred[SMTPClient]:
        """Begins to connect; cancelling the Deferred ends that.

        Args:
            destination: where to.
            endpoint: what makes the connection, where that does not follow from the destination.
        """
        return connect(
            self._reactor,
            endpoint or self.endpoint(destination),
            destination.profile(self._hostname),
            self.limits,
            host=destination.host,
            where="" if endpoint is not None else destination.where,
            trust=self._trust,
            trace=self._trace,
        )

    def endpoint(self, destination: Destination) -> IStreamClientEndpoint:
        """What makes the connection to a destination, in the clear."""
        host, timeout = destination.address or destination.host, self.limits.connectTimeout
        if not destination.endpoint and isAddress(host):
            return AddressEndpoint(self._reactor, host, destination.port, timeout)
        # They take a while to load.
        from twisted.internet.endpoints import HostnameEndpoint, clientFromString

        if destination.endpoint:
            endpoint: IStreamClientEndpoint = clientFromString(self._reactor, destination.endpoint)
            return endpoint
        return HostnameEndpoint(self._reactor, host, destination.port, timeout=timeout)


@implementer(IStreamClientEndpoint)
class AddressEndpoint:
    """Connects to an IP address. Twisted's endpoint for names asks the system about an address too, in a thread.

    Args:
        reactor: the reactor.
        address: IPv4 or IPv6.
        port: of TCP.
        timeout: in seconds.
    """

    def __init__(self, reactor: Any, address: str, port: int, timeout: float) -> None:
        self._reactor = reactor
        self._address = address
        self._port = port
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`."""
        attempt: Deferred[IProtocol] = ClientCreator(self._reactor, protocolFactory.buildProtocol, None).connectTCP(
            self._address, self._port, self._timeout
        )
        return attempt


def ownName() -> str:
    """How this host calls itself in EHLO: its name if that is a complete one, else an address literal (RFC 5321 4.1.4). Asks no name server."""
    name = socket.gethostname()
    if "." in name and parseHeloName(name, Limits()) is not None:
        return name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent. The system only looks up from which address it would be; the one asked about is for documentation (RFC 5737 3).
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    return f"[{address}]"
