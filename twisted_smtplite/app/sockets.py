"""Listening sockets that one process holds and others accept from.

Knows how to open a socket without accepting from it, and how to listen on one that was inherited. Must not know processes, options or SMTP.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorSocket, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.internet.tcp import Port
from twisted.internet.unix import Port as UNIXPort
from twisted.python.failure import Failure
from zope.interface import implementer

from .service import CannotListen

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress


class CannotShare(Exception):
    """An endpoint is more than a socket: it wraps connections in something, or it opens later."""


class _Held(ServerFactory):
    """The factory of a port that is never accepted from."""

    noisy = False


class HeldSocket:
    """A socket that listens: its clients wait in the system's queue until a process that has inherited it accepts them.

    Args:
        name: how it is asked for on the command line.
        endpoint: where to listen.

    Attributes:
        name: as given.
    """

    def __init__(self, name: str, endpoint: IStreamServerEndpoint) -> None:
        self.name = name
        self._endpoint = endpoint
        self._port: Port | None = None

    def open(self) -> None:
        """Listens.

        Raises:
            CannotListen: it is not possible.
            CannotShare: the endpoint gives no plain socket.
        """
        opened: list[IListeningPort] = []
        failures: list[Failure] = []
        factory = _Held()
        listening = maybeDeferred(self._endpoint.listen, cast(IProtocolFactory, factory)).addCallbacks(opened.append, failures.append)
        if failures:
            raise CannotListen(self._endpoint, failures[0].value)
        port: Any = opened[0] if opened else None
        # ssl:, haproxy: and their like put a layer of their own between the socket and the factory, which no other process could know.
        if not isinstance(port, Port) or port.factory is not factory:
            listening.cancel()
            raise CannotShare
        port.stopReading()
        # To shut the socket down would do so for those who inherited it, too: they would be told of an error while they still accept.
        port._shouldShutdown = False  # noqa: SLF001 - there is no public way
        self._port = port

    @property
    def descriptor(self) -> int:
        """The file descriptor to inherit."""
        assert self._port is not None, "it is open"
        return cast(int, self._port.fileno())

    @property
    def address(self) -> IAddress:
        """Where it listens."""
        assert self._port is not None, "it is open"
        return cast("IAddress", self._port.getHost())

    def close(self) -> Deferred[Any]:
        """Stops listening, unless a process that inherited it goes on."""
        port, self._port = self._port, None
        return succeed(None) if port is None else maybeDeferred(port.stopListening)


class _SharedUNIXPort(UNIXPort):
    """Accepts from an inherited unix socket. Its file, with its mode and its end, belongs to who opened it."""

    # An adopted TCP port has this too: to shut the socket down would do so for all processes.
    _shouldShutdown = False

    def connectionLost(self, reason: Failure) -> None:
        """Not UNIXPort's: that removes the file, and nobody could connect any more."""
        Port.connectionLost(self, reason)


@implementer(IStreamServerEndpoint)
class InheritedEndpoint:
    """Listens, once, on a socket that this process was started with.

    Args:
        reactor: the reactor.
        descriptor: the file descriptor; it is closed when the port has its own.
    """

    def __init__(self, reactor: IReactorSocket, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Accepts connections from now on."""
        return maybeDeferred(self._adopt, protocolFactory)

    def _adopt(self, factory: IProtocolFactory) -> IListeningPort:
        with socket.socket(fileno=self._descriptor) as inherited:
            if inherited.family == socket.AF_UNIX:
                return _adoptUNIX(self._reactor, inherited, factory)
            return self._reactor.adoptStreamPort(inherited.fileno(), inherited.family, cast(Any, factory))


def _adoptUNIX(reactor: IReactorSocket, inherited: socket.socket, factory: IProtocolFactory) -> IListeningPort:
    """What adoptStreamPort does, without opening the file to everybody."""
    port = _SharedUNIXPort._fromListeningDescriptor(reactor, inherited.fileno(), factory)  # noqa: SLF001 - there is no public way
    path = inherited.getsockname()
    if path and path[0] not in ("\0", 0):
        port.mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 - a path of the system's, as it gave it
    port.startListening()
    return cast(IListeningPort, port)
