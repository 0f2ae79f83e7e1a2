"""The server as a Twisted service: a delivery, listening ports and a clean stop, for composition into any application.

Knows the order in which parts start and stop. Must not know options, logs or which delivery it is. `tap` builds the service of the command line.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IReactorCore, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..model.limits import Limits
from ..wire.factory import SMTPServerFactory

if TYPE_CHECKING:
    from ..interfaces import ISessionObserver
    from .wiretrace import WireTrace

_log = Logger(namespace="smtplite")


class CannotListen(Exception):
    """An endpoint could not be listened on.

    Attributes:
        endpoint: which one.
        cause: why, as a sentence without full stop.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, reason: BaseException | None) -> None:
        # A CannotListenError has its cause in `socketError`, an OSError its text in `strerror`.
        cause = getattr(reason, "socketError", reason)
        self.endpoint = endpoint
        self.cause = str(getattr(cause, "strerror", None) or cause or type(cause).__name__).rstrip(".")
        super().__init__(self.cause)


class SMTPService(MultiService):
    """Serves SMTP on one or more endpoints while it runs.

    Starting: the deliveries (those that provide `IService` and have no parent yet), then the ports; `privilegedStartService`, which twistd calls
    before it gives up its privileges, opens the ports first: no connection is accepted before the reactor runs. Stopping: the ports close, the
    factory drains, then the deliveries stop. It can be started again. There may be any number of these in a process.

    Args:
        factory: the `SMTPServerFactory`, or a `WireTrace` of one; `serve` adds others.
        endpoints: where to listen.
        deliveries: what the factory delivers to. Other services can be added in the ways of `MultiService`.

    Attributes:
        factory: as given.
        addresses: the addresses that are listened on, in the order of the endpoints: a port 0 has become a real one.
    """

    def __init__(self, factory: SMTPServerFactory | WireTrace, endpoints: Iterable[IStreamServerEndpoint], *deliveries: object) -> None:
        super().__init__()
        self.factory = factory
        self._factories: list[SMTPServerFactory | WireTrace] = []
        # Each endpoint with what it makes connections with, and what the log says that it is for.
        self._endpoints: list[tuple[IStreamServerEndpoint, IProtocolFactory, str]] = []
        self.serve(factory, endpoints)
        self._listening: list[Deferred[None]] = []
        self._failure: CannotListen | None = None
        # How many stops are going on, and whether it is to start behind them.
        self._stopping = 0
        self._startsAgain = False
        self._ports: dict[int, IListeningPort] = {}
        for delivery in deliveries:
            if IService.providedBy(delivery) and getattr(delivery, "parent", None) is None:
                delivery.setServiceParent(self)

    def serve(
        self,
        factory: SMTPServerFactory | WireTrace,
        endpoints: Iterable[IStreamServerEndpoint],
        *,
        around: IProtocolFactory | None = None,
        purpose: str = "",
    ) -> None:
        """Adds endpoints; called before the start.

        Args:
            factory: what speaks there. It drains when the service stops, once however often it is added.
            endpoints: where to listen.
            around: what accepts the connections where that is not `factory` itself: `twisted_smtplite.wire.tls.implicitTLS` of it.
            purpose: what the log says behind the address.
        """
        if factory not in self._factories:
            self._factories.append(factory)
        self._endpoints += [(endpoint, cast(IProtocolFactory, around or factory), purpose) for endpoint in endpoints]

    @classmethod
    def forDelivery(
        cls,
        delivery: object,
        reactor: IReactorCore,
        *listen: str,
        hostname: str = "",
        limits: Limits | None = None,
        observer: ISessionObserver | None = None,
    ) -> SMTPService:
        """The short way: a factory for `delivery` that listens on endpoint strings, ``SMTPService.forDelivery(delivery, reactor, "tcp:2525")``.

        Args:
            delivery: see `SMTPServerFactory`, as for the others.
            reactor: the reactor.
            listen: server endpoint strings.
            hostname: the name in greeting and trace headers.
            limits: the bounds, `Limits()` when it is left out.
            observer: told what happens, for instance a `twisted_smtplite.app.messagelog.MessageLog`.
        """
        factory = SMTPServerFactory(delivery, cast(IReactorTime, reactor), hostname=hostname, limits=limits or Limits(), observer=observer)
        return cls(factory, [serverFromString(reactor, text) for text in listen], delivery)

    @property
    def addresses(self) -> list[IAddress]:
        """See the class."""
        return [self._ports[index].getHost() for index in sorted(self._ports)]

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return sum(factory.sessions for factory in self._factories)

    def privilegedStartService(self) -> None:
        """Opens the ports. Doing it twice is doing it once.

        Raises:
            CannotListen: an endpoint failed at once; those before it are closed again.
        """
        super().privilegedStartService()
        if self._listening:
            return
        for index, (endpoint, factory, purpose) in enumerate(self._endpoints):
            self._listen(index, endpoint, factory, purpose)
            if self._failure is not None:
                failure, self._failure = self._failure, None
                self.stopListening()
                raise failure

    def _listen(self, index: int, endpoint: IStreamServerEndpoint, factory: IProtocolFactory, purpose: str) -> None:
        opening = True

        def opened(port: IListeningPort) -> None:
            self._ports[index] = port
            _log.info("Listening on {address}{purpose}", address=addressText(port.getHost()), purpose=purpose)

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                return
            reason = CannotListen(endpoint, failure.value)
            if opening:
                self._failure = reason
            else:
                self.listeningFailed(reason)

        listening = maybeDeferred(endpoint.listen, factory)
        self._listening.append(listening.addCallbacks(opened, failed))
        opening = False

    def listeningFailed(self, reason: CannotListen) -> None:
        """An endpoint that takes its time has failed after the start: logged; a subclass may do more."""
        _log.critical("Cannot listen on {endpoint!r}: {cause}", endpoint=reason.endpoint, cause=reason.cause)

    def startService(self) -> None:
        """Starts the delivery, then opens the ports that are not open yet. While it still stops, that is done as soon as it has stopped.

        Raises:
            CannotListen: an endpoint failed at once; nothing is left running. Later it is `listeningFailed` that hears of it.
        """
        if self._stopping:
            self._startsAgain = True
            return
        super().startService()
        try:
            self.privilegedStartService()
        except CannotListen:
            super().stopService()
            raise

    def stopService(self) -> Deferred[None]:
        """Stops as the class says; the Deferred fires when no session is left and the delivery has stopped."""
        self._startsAgain = False
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._stopping += 1
        try:
            await self.stopListening()
            await DeferredList([factory.drain() for factory in self._factories], consumeErrors=True)
            await super().stopService()
        finally:
            self._stopping -= 1
        if self._startsAgain and not self._stopping:
            self._startsAgain = False
            try:
                self.startService()
            except CannotListen as reason:
                self.listeningFailed(reason)

    def stopListening(self) -> Deferred[Any]:
        """Closes the ports; the sessions go on. The Deferred fires when the ports are closed."""
        for listening in self._listening:
            listening.cancel()
        ports = list(self._ports.values())
        self._listening.clear()
        self._ports.clear()
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)


def addressText(address: IAddress) -> str:
    """An address for people and logs: ``tcp 127.0.0.1:2525``, ``tcp [::1]:2525``, ``unix /run/smtp.sock``."""
    if isinstance(address, IPv4Address):
        return f"tcp {address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"tcp [{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress):
        return f"unix {os.fsdecode(address.name or b'')}"
    return str(address)
