"""Builds the server from its command line, for ``twistd smtplite``, ``twist smtplite`` and ``smtplite`` alike.

Chooses the parts and wires them together. Everything that can be wrong is tried here, before twistd goes into the background: a value, a
delivery, a busy port, a log file that cannot be written. Each ends the process with one sentence and status 1.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.util import runAsEffectiveUser

from .. import __version__
from ..auth.authenticator import Authenticator
from ..delivery.fanout import FanoutDelivery
from ..delivery.registry import makeDelivery, whyOneProcess
from ..model.profile import Profile
from ..policy.registry import makePolicy
from ..wire.factory import SMTPServerFactory, nobodyIsKnown
from ..wire.proxy import ProxiedEndpoint
from ..wire.tls import implicitTLS
from .authoptions import makeAuthenticator, withUsers
from .certificates import Certificates
from .ending import endOnce, stopReactor
from .exitstatus import fail
from .log import FORMS, EventLines, Form, LogFile, LogStream, TurnedLogFile
from .logged import LoggedService
from .messagelog import MessageLog
from .options import Options
from .order import FIRST_SOCKET, Order
from .ports import Kind, Port, portsOf, profileOf
from .service import CannotListen, SMTPService
from .sockets import CannotShare, HeldSocket
from .supervisor import Supervisor
from .tlsoptions import makeCertificates
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

    Attributes:
        failed: whether it ends because it could not listen.
    """

    def __init__(self, lines: EventLines, reactor: IReactorCore, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lines = lines
        self.failed = False
        self._reactor = reactor

    def startService(self) -> None:
        """Starts, and minds the signals that end it."""
        super().startService()
        self._reactor.callWhenRunning(endOnce, self._reactor)

    def listeningFailed(self, reason: CannotListen) -> None:
        """A server that listens nowhere is of no use: stop."""
        super().listeningFailed(reason)
        self.failed = True
        stopReactor(self._reactor)

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
        sockets = [HeldSocket(port.name, endpoint) for port, endpoint in _makeEndpoints(options, reactor)]
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
    clock = cast(IReactorTime, reactor)
    with _runDirectory(options):
        parts = _makeParts(options, reactor, lines)
        # Proxies with their headers come before TLS, so what takes these off is the innermost.
        ports = [(port, _behindProxies(endpoint, options, clock)) for port, endpoint in _makeEndpoints(options, reactor, inherited)]
        factories = {kind: _makeFactory(kind, parts, options, clock) for kind in dict.fromkeys(port.service.kind for port, _ in ports)}
        service = ServerService(lines, reactor, next(iter(factories.values())), [], *parts.deliveries, *parts.policies, parts.certificates)
        for port, endpoint in ports:
            factory = factories[port.service.kind]
            around = implicitTLS(cast(Any, factory), cast(Any, parts.certificates), clock) if port.service.tls else None
            service.serve(factory, [endpoint], around=around, purpose=port.service.text)
        names = ", ".join(map(_placed, options.deliveries, parts.deliveries))
        _log.info("twisted-smtplite {version} delivers to {deliveries}", version=__version__, deliveries=names)
        _sayWhoMayRelay(parts)
        try:
            # twistd would do this in the background, where nobody hears of a busy port. It does it again, which changes nothing.
            service.privilegedStartService()
        except CannotListen as failure:
            name = next(port.name for port, endpoint in ports if endpoint is failure.endpoint)
            fail(f"{name}: cannot listen: {failure.cause}")
    return service


class _Parts(NamedTuple):
    """What all ports of a server share. `delivery` is one for all `deliveries`."""

    deliveries: list[object]
    delivery: object
    policies: list[object]
    certificates: Certificates | None
    authenticator: Authenticator | None
    observer: MessageLog


def _makeParts(options: Options, reactor: IReactorCore, lines: EventLines) -> _Parts:
    deliveries = [_makeDelivery(text, options, reactor) for text in options.deliveries]
    return _Parts(
        deliveries,
        deliveries[0] if len(deliveries) == 1 else FanoutDelivery(deliveries),
        [_makePolicy(text, options, reactor) for text in options.policies],
        _makeCertificates(options, reactor),
        _makeAuthenticator(options, reactor),
        MessageLog(lines),
    )


def _makeFactory(kind: Kind, parts: _Parts, options: Options, clock: IReactorTime) -> SMTPServerFactory | WireTrace:
    """The server for the ports of one kind."""
    server = SMTPServerFactory(
        parts.delivery,
        clock,
        hostname=options["hostname"],
        limits=options.limits,
        observer=parts.observer,
        profile=_profile(kind, options, parts.authenticator),
        tls=parts.certificates,
        authenticate=parts.authenticator or nobodyIsKnown,
        offer=options.offers,
        xclients=options.xclients,
        policies=parts.policies,
    )
    return WireTrace(server) if options["verbose"] else server


def _makeDelivery(text: str, options: Options, reactor: IReactorCore) -> object:
    try:
        return _asServer(options, lambda: makeDelivery(text, reactor))
    except ValueError as error:
        fail(f"--delivery: {error}")


def _makePolicy(text: str, options: Options, reactor: IReactorCore) -> object:
    try:
        return _asServer(options, lambda: makePolicy(text, reactor))
    except ValueError as error:
        fail(f"--policy: {error}")


def _makeCertificates(options: Options, reactor: IReactorCore) -> Certificates | None:
    try:
        return makeCertificates(options, reactor)
    except ValueError as error:
        fail(str(error))


def _makeAuthenticator(options: Options, reactor: IReactorCore) -> Authenticator | None:
    try:
        # As the user of the server: it reads a password file again when that changes.
        return _asServer(options, lambda: makeAuthenticator(options, options.limits, reactor)) if options.checkers else None
    except ValueError as error:
        fail(str(error))


def _profile(kind: Kind, options: Options, authenticator: Authenticator | None) -> Profile:
    try:
        return withUsers(profileOf(kind, options), options, authenticator, tls=options.offersTLS)
    except ValueError as error:
        fail(str(error))


def _makeEndpoints(options: Options, reactor: IReactorCore, inherited: Inherited | None = None) -> list[tuple[Port, IStreamServerEndpoint]]:
    """What to listen on, each with the port that asked for it."""
    ports = portsOf(options, options.endpoints)
    return [(port, _makeEndpoint(port, reactor) if inherited is None else inherited(port.name)) for port in ports]


def _makeEndpoint(port: Port, reactor: IReactorCore) -> IStreamServerEndpoint:
    try:
        return port.make(reactor)
    except Exception as error:  # noqa: BLE001 - the parsers of endpoint strings, plugins among them, raise whatever comes to them
        fail(f"{port.name}: this is no server endpoint: {error or type(error).__name__}")


def _behindProxies(endpoint: IStreamServerEndpoint, options: Options, clock: IReactorTime) -> IStreamServerEndpoint:
    """The endpoint, where there are proxies with their headers taken off."""
    return ProxiedEndpoint(endpoint, options.proxies, clock, options.limits) if options.proxies else endpoint


def _placed(text: str, delivery: object) -> str:
    """A delivery as the log names it: with its path in full when it has one, since a relative path says little of where the mail went."""
    path = getattr(delivery, "path", None)
    return f"{text} ({path})" if isinstance(path, str) and path not in text else text


def _sayWhoMayRelay(parts: _Parts) -> None:
    """Of each relay. One that nobody may use is right, and yet not what anybody wants."""
    for delivery in parts.deliveries:
        whoMayRelay: Callable[..., str] | None = getattr(delivery, "whoMayRelay", None)
        if whoMayRelay is None:
            continue
        if who := whoMayRelay(users=parts.authenticator is not None):
            _log.info("Mail for everywhere is taken of {who}", who=who)
        else:
            _log.warn(
                "Nobody may relay, all mail is refused: add users (--password-file or --auth), or networks (--delivery '...?networks=127.0.0.0/8')"
            )


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
        file = _twistdLog(parent)
        stream = LogStream(form, clock, file)
        if isinstance(file, TurnedLogFile):
            _turnAtSignal(stream, reactor)
        return stream
    if "fileLogObserverFactory" in parent:
        stream = LogStream(form, clock, parent["logFile"])
        parent["fileLogObserverFactory"] = lambda _: stream
        return stream
    return EventLines(form)


def _twistdLog(parent: dict[str, Any]) -> LogFile:
    """The file that twistd would log to (its ``--logfile``)."""
    path = parent["logfile"] or ("-" if parent["nodaemon"] or parent["debug"] else "twistd.log")
    if path == "-":
        if not parent["nodaemon"]:
            fail("twistd --logfile -: only a server in the foreground (twistd -n) can log to standard output")
        return sys.stdout
    try:
        return cast(LogFile, TurnedLogFile.fromFullPath(path))
    except OSError as error:
        fail(f"twistd --logfile {path}: {error.strerror}")


def _turnAtSignal(stream: LogStream, reactor: IReactorCore) -> None:
    """It is twistd's habit to turn to a new file at SIGUSR1."""

    def turn(number: int, frame: FrameType | None) -> None:
        cast(IReactorFromThreads, reactor).callFromThread(stream.turn)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, turn)
