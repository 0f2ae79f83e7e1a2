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
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from twisted.python.util import runAsEffectiveUser

from .. import __version__
from ..delivery.fanout import FanoutDelivery
from ..delivery.registry import makeDelivery
from ..wire.factory import SMTPServerFactory
from .log import FORMS, EventLines, Form, LogStream
from .log import LogFile as AnyLogFile
from .messagelog import MessageLog
from .options import Options, fail
from .service import CannotListen, SMTPService
from .wiretrace import WireTrace

__all__ = ["Options", "ServerService", "makeService"]

_T = TypeVar("_T")
_log = Logger(namespace="smtplite")


class ServerService(SMTPService):
    """The service of the command line: an `SMTPService` that brings the log of its process, and ends the process when it cannot listen.

    Args:
        lines: where the message log goes.
        reactor: the reactor.
        arguments: as for `SMTPService`.
    """

    def __init__(self, lines: EventLines, reactor: IReactorCore, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lines = lines
        self._reactor = reactor

    @property
    def stream(self) -> LogStream | None:
        """The observer that the process should log to, if it is ours to choose."""
        return self._lines if isinstance(self._lines, LogStream) else None

    def setServiceParent(self, parent: Any) -> None:
        """Gives twistd our observer on the way: it asks the application for one."""
        if self.stream is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.stream)
        super().setServiceParent(parent)

    def listeningFailed(self, reason: CannotListen) -> None:
        """A server that listens nowhere is of no use: stop."""
        super().listeningFailed(reason)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Stops, and writes what the log still holds."""
        _log.info("Stopping: waiting for messages in flight")
        stopping = super().stopService()
        return stopping if self.stream is None else stopping.addBoth(self._flush, self.stream)

    def _flush(self, result: None, stream: LogStream) -> None:
        stream.flush()
        return result


def makeService(options: Options) -> ServerService:
    """Builds the service for twistd and twist, with its ports open.

    Raises:
        SystemExit: something cannot be used; status 1, one sentence on standard error.
    """
    from twisted.internet import reactor

    ours = cast(IReactorCore, reactor)
    return buildService(options, ours, chooseLines(options, ours))


def buildService(options: Options, reactor: IReactorCore, lines: EventLines) -> ServerService:
    """Builds the service with its ports open.

    Args:
        options: parsed.
        reactor: the reactor that it will run in.
        lines: where the message log goes.

    Raises:
        SystemExit: something cannot be used; status 1, one sentence on standard error.
    """
    with _runDirectory(options):
        deliveries = [_makeDelivery(text, options, reactor) for text in options.deliveries]
        delivery = deliveries[0] if len(deliveries) == 1 else FanoutDelivery(deliveries)
        clock = cast(IReactorTime, reactor)
        server = SMTPServerFactory(delivery, clock, hostname=options["hostname"], limits=options.limits, observer=MessageLog(lines))
        endpoints = _makeEndpoints(options, reactor)
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


def _makeEndpoints(options: Options, reactor: IReactorCore) -> list[tuple[str, IStreamServerEndpoint]]:
    """What to listen on, each with the option that asked for it."""
    endpoints: list[tuple[str, IStreamServerEndpoint]] = []
    port, interface = options["port"], options["interface"]
    if port is not None:
        kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
        endpoints.append((f"--port {port} on {interface}", kind(reactor, port, interface=interface)))
    return endpoints + [(f"--listen {text}", _parseEndpoint(text, reactor)) for text in options.listens]


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
