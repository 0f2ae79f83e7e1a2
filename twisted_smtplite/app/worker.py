"""A worker process: the same server as without workers, on sockets that it inherits, and with a supervisor to listen to.

Knows the life of such a process. Must not know options or deliveries: it builds the server as everybody does, with `tap`.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import io
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IReactorSocket,
    IReactorTime,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, globalLogBeginner
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.python.util import switchUID
from zope.interface import implementer

from .ending import stopReactor, unheard
from .exitstatus import fail
from .log import LogStream
from .options import Options
from .order import ALIVE, PULSE, READY, RETIRE, Order
from .sockets import InheritedEndpoint
from .tap import buildServer
from .workerlog import workerForm

if TYPE_CHECKING:
    from .tap import Inherited, ServerService

_log = Logger(namespace="smtplite")


def hearOrder() -> Order:
    """Reads what standard input asks for.

    Raises:
        SystemExit: it asks for nothing.
    """
    # Unbuffered: what comes behind the line is for the reactor.
    with io.FileIO(0, closefd=False) as orders:
        line = orders.readline()
    if not line:
        fail("no order came: this is no command for people")
    return Order.fromLine(line)


def installReactor(module: str) -> None:
    """Makes the reactor of the supervisor's kind the global one: some backends can only work with it."""
    install = getattr(import_module(module), "install", None)
    if install is not None:
        install()


def carryOut(order: Order, reactor: Any) -> None:
    """Runs the worker, until it is told to end.

    Raises:
        SystemExit: it cannot be; status 1, one sentence on standard error.
    """
    options = Options()
    try:
        options.parseOptions(order.arguments)
    except usage.UsageError as error:
        fail(str(error))
    if order.number:
        _serve(order, options, reactor)
    else:
        _check(order, options, reactor)


def _stream(order: Order, reactor: IReactorCore) -> LogStream:
    cast(io.TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    return LogStream(workerForm(order.form, order.number, order.bare), cast(IReactorTime, reactor), sys.stdout)


def _check(order: Order, options: Options, reactor: IReactorCore) -> None:
    """Builds the server and throws it away, so that what is wrong is known before anything runs."""
    if order.user is not None or order.group is not None:
        switchUID(os.geteuid() if order.user is None else order.user, order.group)
    buildServer(options, reactor, _stream(order, reactor), lambda _: _Nowhere())


@implementer(IStreamServerEndpoint)
class _Nowhere:
    """Stands in for the sockets that the check does not have."""

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Never."""
        return Deferred()


def _serve(order: Order, options: Options, reactor: Any) -> None:
    stream = _stream(order, reactor)
    globalLogBeginner.beginLoggingTo([stream], redirectStandardIO=False)
    service = buildServer(options, reactor, stream, _inheritance(order, reactor))
    service.startService()
    commands = Commands(service, reactor, options.limits.drainTime)
    reactor.addReader(commands)
    reactor.addSystemEventTrigger("before", "shutdown", commands.end)
    os.set_blocking(PULSE, False)
    reactor.callWhenRunning(_pulse, READY)
    beat = LoopingCall(_pulse, ALIVE)
    beat.clock = reactor
    beat.start(order.interval, now=False)
    reactor.run()
    stream.flush()


def _inheritance(order: Order, reactor: IReactorSocket) -> Inherited:
    sockets = list(order.sockets)

    def inherited(name: str) -> IStreamServerEndpoint:
        """The first socket of this name that is not taken yet: an option may be given twice."""
        index = next(index for index, (option, _) in enumerate(sockets) if option == name)
        return InheritedEndpoint(reactor, sockets.pop(index)[1])

    return inherited


def _pulse(sign: bytes) -> None:
    try:
        os.write(PULSE, sign)
    except OSError:
        # Nobody listens, or nobody reads: the end of standard input tells which.
        pass


@implementer(IReadDescriptor)
class Commands:
    """Listens to the supervisor.

    Args:
        service: what it is about.
        reactor: the reactor, which is stopped in the end.
        patience: seconds for sessions to end by themselves when this worker retires.
    """

    def __init__(self, service: ServerService, reactor: Any, patience: float) -> None:
        self._service = service
        self._reactor = reactor
        self._patience = patience
        self._ending = False

    def end(self) -> Deferred[None]:
        """The reactor is about to stop: stops the service. Fires when it may.

        Whoever wants the end again has only to wait: the supervisor kills what takes too long.
        """
        self._ending = True
        signal.signal(signal.SIGTERM, unheard)
        return self._service.stopService().addBoth(lambda _: self._reactor.removeReader(self))

    def fileno(self) -> int:
        """Standard input."""
        return 0

    def logPrefix(self) -> str:
        """For the log of Twisted."""
        return "supervisor"

    def doRead(self) -> None:
        """The supervisor said something."""
        heard = os.read(0, 4096)
        if not heard:
            self._reactor.removeReader(self)
            self._alone()
        elif RETIRE in heard:
            _log.info("Accepts no more connections: another worker has taken over")
            ensureDeferred(self._retire())

    def connectionLost(self, reason: Failure) -> None:
        """Some reactors tell the end of standard input so, others by a read of nothing."""
        self._alone()

    def _alone(self) -> None:
        """The supervisor is gone: nobody would replace this worker."""
        if self._ending:
            # Nor would anybody end it if that took too long. What it accepted is safe.
            os._exit(1)
        stopReactor(self._reactor)

    async def _retire(self) -> None:
        self._service.stopListening()
        deadline = self._reactor.seconds() + self._patience
        while self._service.sessions and self._reactor.seconds() < deadline and not self._ending:
            await _pause(self._reactor)
        stopReactor(self._reactor)


def _pause(reactor: IReactorTime) -> Deferred[None]:
    return cast("Deferred[None]", deferLater(reactor, 0.1))
