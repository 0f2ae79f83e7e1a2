"""The command ``smtplite serve``: the server in the foreground; and what its workers run.

Knows how a process of ours runs a service until it is told to stop. Must not know what the service is made of: that is `tap`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any, cast

from twisted.logger import globalLogBeginner
from twisted.python import usage

from .commands import COMMANDS
from .ending import interruptible
from .exitstatus import ExitStatus, fail
from .log import FORMS, LogStream
from .options import Options
from .tap import ServerService, buildService
from .worker import carryOut, hearOrder, installReactor


class _ServeOptions(Options):
    """The options of the server, with the name of the program in front of them."""

    def getSynopsis(self) -> str:
        commands = [f"       smtplite {name} ...".ljust(30) + purpose for name, purpose in COMMANDS.items() if purpose]
        return "\n".join(["Usage: smtplite [serve] [options]", *commands, "       smtplite COMMAND --help"])


def serve(arguments: Sequence[str]) -> None:
    """Runs the server until SIGTERM or SIGINT. The log goes to standard output.

    Raises:
        SystemExit: an option is wrong (64), or something cannot be used (1); one sentence on standard error. Also where it could not
            listen after all (1); the log says why.
    """
    options = _ServeOptions()
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        fail(f"{error}; --help shows the options", ExitStatus.USAGE)

    from twisted.internet import reactor as imported

    reactor = cast(Any, imported)
    ending = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    stream = LogStream(FORMS[options["log-format"] or "text"](), reactor, sys.stdout)
    with interruptible():
        service = buildService(options, reactor, stream)
    globalLogBeginner.beginLoggingTo([stream], redirectStandardIO=False)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.addSystemEventTrigger("before", "shutdown", _stopAtOnceNextTime, ending)
    reactor.run()
    stream.flush()
    if isinstance(service, ServerService) and service.failed:
        sys.exit(1)


def _stopAtOnceNextTime(numbers: Sequence[int]) -> None:
    """While messages in flight finish, a second signal ends the process: what was accepted is safe."""
    for number in numbers:
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
