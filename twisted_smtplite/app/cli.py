"""The program ``smtplite``, also ``python -m twisted_smtplite``: the server in the foreground, and room for other commands.

``smtplite OPTIONS`` is short for ``smtplite serve OPTIONS``. A further command is a function and a row of `COMMANDS`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.logger import globalLogBeginner
from twisted.python import usage

from .export import export
from .log import FORMS, LogStream
from .options import Options, fail
from .passwd import passwd
from .tap import buildService
from .worker import carryOut, hearOrder, installReactor


class _ServeOptions(Options):
    """The options of the server, with the name of the program in front of them."""

    def getSynopsis(self) -> str:
        commands = [name for name in COMMANDS if name != "serve"]
        return "Usage: smtplite [serve] [options]" + "".join(f"\n       smtplite {name} [options]" for name in commands)


def serve(arguments: Sequence[str]) -> None:
    """Runs the server until SIGTERM or SIGINT. The log goes to standard output.

    Raises:
        SystemExit: an option cannot be used.
    """
    options = _ServeOptions()
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        fail(f"{error}; --help shows the options")

    from twisted.internet import reactor as imported

    reactor = cast(Any, imported)
    stream = LogStream(FORMS[options["log-format"] or "text"](), reactor, sys.stdout)
    service = buildService(options, reactor, stream)
    globalLogBeginner.beginLoggingTo([stream], redirectStandardIO=False)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.addSystemEventTrigger("before", "shutdown", _stopAtOnceNextTime)
    reactor.run()
    stream.flush()


def _stopAtOnceNextTime() -> None:
    """While messages in flight finish, a second signal ends the process: what was accepted is safe."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def work() -> None:
    """Runs a worker of ``--workers``: not a command, but what its supervisor starts.

    Raises:
        SystemExit: it cannot be.
    """
    order = hearOrder()
    installReactor(order.reactor)

    from twisted.internet import reactor

    carryOut(order, reactor)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"serve": serve, "export": export, "passwd": passwd}
"""The commands by name; each takes the arguments behind it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; the entry point of ``smtplite``.

    Args:
        arguments: those of the process when left out.

    Raises:
        SystemExit: the command failed, or has shown what it was asked for; or nobody reads what it shows any more.
    """
    try:
        try:
            _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            # Here and not when the interpreter ends: it would show a traceback. There is no standard output where it was closed.
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends: what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # As a shell sees a program that SIGPIPE has ended.
        sys.exit(128 + signal.SIGPIPE)


def _run(arguments: Sequence[str]) -> None:
    if arguments and not arguments[0].startswith("-"):
        command = COMMANDS.get(arguments[0])
        if command is None:
            fail(f"unknown command {arguments[0]!r}; there is {', '.join(COMMANDS)}")
        command(arguments[1:])
    else:
        serve(arguments)
