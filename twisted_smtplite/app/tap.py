"""Builds the server from its command line, for ``twistd smtplite``, ``twist smtplite`` and ``smtplite`` alike.

Chooses the parts and wires them together. Everything that can be wrong is tried here, before twistd goes into the background: a value, a
delivery, a busy port, a log file that cannot be written. Each ends the process with one sentence and status 1.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.logfile import LogFile
from twisted.python.util import runAsEffectiveUser

from .. import __version__
from ..delivery.fanout import FanoutDelivery
from ..delivery.registry import makeDelivery, whyOneProcess
from ..wire.factory import SMTPServerFactory
from ..wire.proxy import ProxiedEndpoint
from .log import FORMS, EventLines, Form, LogStream
from .log import LogFile as AnyLogFile
from .logged import LoggedService
from .messagelog import MessageLog
from .options import Options, fail
from .order import FIRST_SOCKET, Order
from .service import CannotListen, SMTPService
from .sockets import CannotShare, HeldSocket
from .supervisor import Supervisor
from .wiretrace import WireTrace
from .workers import complaintAbout

__all__ = ["Options", "ServerService", "buildServer", "makeService"]

Inherited: TypeAlias = Callable[[str], IStreamServerEndpoint]
_T = TypeVar("_T")
_log = Logger(namespace="smtplite")


class ServerService(LoggedService, SMTPService):
    """The service of the command line: an `SMTPService` that brings the log of its process, and ends the process when it cannot listen.

    Args:
        lines: where the message log goes.
        reactor: the reactor.
        arguments: as for `SMTPService`.
    """

    def __init__(self, lines: EventLines, reactor: IReactorCore, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lines = lines
        self._reactor = reactor

    def listeningFailed(self, reason: CannotListen) -> None:
        """A server that listens nowhere is of no use: stop."""
        super().listeningFailed(reason)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Stops, and writes what the log still holds."""
        _log.info("Stopping: waiting for messages in flight")
        return super().stopService().addBoth(self._flush)

    def _flush(self, result: None) -> None:
        self.flushLog()
        return result


def makeService(options: Options) -> ServerService | Supervisor:
    """Builds the service for twistd and twist, with its ports open.

    Raises:
        SystemExit: something cannot be used; status 1, one sentence on standard error.
    """
    from twisted.internet import reactor

    ours = cast(IReactorCore, reactor)
    return buildService(options, ours, chooseLines(options, ours))


def buildService(options: Options, reactor: IReactorCore, lines: EventLines) -> ServerService | Supervisor:
    """Builds the service with its ports open: a server, or with ``--workers`` the supervisor of several.

    Args:
        options: parsed.
        reactor: the reactor that it will run in.
        lines: where the message log goes.

    Raises:
        SystemExit: something cannot be used; status 1, one sentence on standard error.
    """
    return buildServer(options, reactor, lines) if options["workers"] is None else _buildSupervisor(options, reactor, lines)


def _buildSupervisor(options: Options, reactor: IReactorCore, lines: EventLines) -> Supervisor:
    for text in options.deliveries:
        reason = whyOneProcess(text)
        if reason:
            fail(f"--workers: delivery {text!r} works in one process only: {reason}")
    parent: dict[str, Any] = options.parent or {}
    timeout = options["worker-timeout"]
    order = Order(
        options.arguments,
        reactor=type(reactor).__module__,
        form=options["log-format"] or parent.get("logFormat") or "text",
        bare=not isinstance(lines, LogStream),
        interval=min(5.0, timeout / 4) if timeout else 5.0,
        user=parent.get("uid"),
        group=parent.get("gid"),
    )
    with _runDirectory(options):
        complaint = complaintAbout(order)
        if complaint is not None:
            fail(complaint)
        sockets = [HeldSocket(name, endpoint) for name, endpoint in _makeEndpoints(options, reactor)]
        for held in sockets:
            _hold(held)
    named = [(held.name, descriptor) for descriptor, held in enumerate(sockets, FIRST_SOCKET)]
    return Supervisor(sockets, replace(order, sockets=named), options["workers"], options.limits.drainTime, timeout, lines, reactor)


def _hold(held: HeldSocket) -> None:
    try:
        held.open()
    except CannotListen as failure:
        fail(f"{held.name}: cannot listen: {failure.cause}")
    except CannotShare:
        fail(f"{held.name}: with --workers an endpoint must be a plain socket, such as tcp:, tcp6:, unix: or systemd:")


def buildServer(options: Options, reactor: IReactorCore, lines: EventLines, inherited: Inherited | None = None) -> ServerService:
    """Builds the server with its ports open.

    Args:
        options: parsed.
        reactor: the reactor that it will run in.
        lines: where the message log goes.
        inherited: in a worker, gives the socket that an option asked for.

    Raises:
        SystemExit: something cannot be used; status 1, one sentence on standard error.
    """
    with _runDirectory(options):
        deliveries = [_makeDelivery(text, options, reactor) for text in options.deliveries]
        delivery = deliveries[0] if len(deliveries) == 1 else FanoutDelivery(deliveries)
        clock = cast(IReactorTime, reactor)
        server = SMTPServerFactory(
            delivery, clock, hostname=options["hostname"], limits=options.limits, observer=MessageLog(lines), xclients=options.xclients
        )
        endpoints = [(name, _behindProxies(endpoint, options, clock)) for name, endpoint in _makeEndpoints(options, reactor, inherited)]
        factory = WireTrace(server) if options["verbose"] else server
        service = ServerService(lines, reactor, factory, [endpoint for _, endpoint in endpoints], *deliveries)
        names = ", ".join(map(_placed, options.deliveries, deliveries))
        _log.info("twisted-smtplite {version} delivers to {deliveries}", version=__version__, deliveries=names)
        try:
            # twistd would do this in the background, where nobody hears of a busy port. It does it again, which changes nothing.
            service.privilegedStartService()
        except CannotListen as failure:
            name = next(name for name, endpoint in endpoints if endpoint is failure.endpoint)
            fail(f"{name}: cannot listen: {failure.cause}")
    return service


def _makeDelivery(text: str, options: Options, reactor: IReactorCore) -> object:
    try:
        return _asServer(options, lambda: makeDelivery(text, reactor))
    except ValueError as error:
        fail(f"--delivery: {error}")


def _makeEndpoints(options: Options, reactor: IReactorCore, inherited: Inherited | None = None) -> list[tuple[str, IStreamServerEndpoint]]:
    """What to listen on, each with the option that asked for it."""
    rows: list[tuple[str, Callable[[], IStreamServerEndpoint]]] = []
    port, interface = options["port"], options["interface"]
    if port is not None:
        kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
        rows.append((f"--port {port} on {interface}", partial(kind, reactor, port, interface=interface)))
    rows += [(f"--listen {text}", partial(_parseEndpoint, text, reactor)) for text in options.listens]
    return [(name, make() if inherited is None else inherited(name)) for name, make in rows]


def _behindProxies(endpoint: IStreamServerEndpoint, options: Options, clock: IReactorTime) -> IStreamServerEndpoint:
    """The endpoint, where there are proxies with their headers taken off. They come before TLS, so this is to be the innermost."""
    return ProxiedEndpoint(endpoint, options.proxies, clock, options.limits) if options.proxies else endpoint


def _parseEndpoint(text: str, reactor: IReactorCore) -> IStreamServerEndpoint:
    try:
        return cast(IStreamServerEndpoint, serverFromString(reactor, withSocketMode(text)))
    except Exception as error:  # noqa: BLE001 - the parsers of endpoint strings, plugins among them, raise whatever comes to them
        fail(f"--listen {text}: this is no server endpoint: {error or type(error).__name__}")


def withSocketMode(endpoint: str) -> str:
    """The endpoint string, with mode 660 for a unix socket that names none: Twisted's own default lets every user of the computer in."""
    kind, *arguments = re.split(r"(?<!\\):", endpoint)
    named = any(argument.startswith("mode=") for argument in arguments)
    positional = len([argument for argument in arguments if "=" not in argument]) > 1
    return endpoint if kind != "unix" or named or positional else f"{endpoint}:mode=660"


def _placed(text: str, delivery: object) -> str:
    """A delivery as the log names it: with its path in full when it has one, since a relative path says little of where the mail went."""
    path = getattr(delivery, "path", None)
    return f"{text} ({path})" if isinstance(path, str) and path not in text else text


@contextmanager
def _runDirectory(options: Options) -> Iterator[None]:
    """Relative paths are meant from twistd's ``--rundir``, where it goes later."""
    parent: dict[str, Any] = options.parent or {}
    if parent.get("chroot"):
        fail("twistd --chroot cannot be used: files and ports are opened before the change of root")
    here = Path.cwd()
    try:
        os.chdir(parent.get("rundir") or ".")
    except OSError as error:
        fail(f"twistd --rundir {parent['rundir']}: {error.strerror}")
    try:
        yield
    finally:
        os.chdir(here)


def _asServer(options: Options, function: Callable[[], _T]) -> _T:
    """Calls `function` as the user that twistd's ``--uid`` and ``--gid`` change to later, so that files belong to that user."""
    parent: dict[str, Any] = options.parent or {}
    uid, gid = parent.get("uid"), parent.get("gid")
    if uid is None and gid is None:
        return function()
    if uid is None:
        uid = os.geteuid()
    if gid is None:
        import pwd

        gid = pwd.getpwuid(uid).pw_gid
    return cast(_T, runAsEffectiveUser(uid, gid, function))


def chooseLines(options: Options, reactor: IReactorCore) -> EventLines:
    """Where the message log goes under twistd and twist: the place of all other log output, in a stream of our own wherever they let us.

    Raises:
        SystemExit: the log file cannot be opened.
    """
    parent: dict[str, Any] = options.parent or {}
    form: Form = FORMS[options["log-format"] or parent.get("logFormat") or "text"]()
    clock = cast(IReactorTime, reactor)
    if "nodaemon" in parent and not parent["logger"] and not parent["syslog"]:
        return LogStream(form, clock, _twistdLog(parent, reactor))
    if "fileLogObserverFactory" in parent:
        stream = LogStream(form, clock, parent["logFile"])
        parent["fileLogObserverFactory"] = lambda _: stream
        return stream
    return EventLines(form)


def _twistdLog(parent: dict[str, Any], reactor: IReactorCore) -> AnyLogFile:
    """The file that twistd would log to (its ``--logfile``), with its habit of turning to a new file at SIGUSR1."""
    path = parent["logfile"] or ("-" if parent["nodaemon"] or parent["debug"] else "twistd.log")
    if path == "-":
        if not parent["nodaemon"]:
            fail("twistd --logfile -: only a server in the foreground (twistd -n) can log to standard output")
        return sys.stdout
    try:
        file = LogFile.fromFullPath(path)
    except OSError as error:
        fail(f"twistd --logfile {path}: {error.strerror}")

    def rotate(number: int, frame: FrameType | None) -> None:
        cast(IReactorFromThreads, reactor).callFromThread(file.rotate)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
    return cast(AnyLogFile, file)
