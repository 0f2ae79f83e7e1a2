"""The program ``smtplite``, also ``python -m twisted_smtplite``: runs one of the commands.

``smtplite OPTIONS`` is short for ``smtplite serve OPTIONS``. Must not know what the commands do; only the one that is asked for is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .commands import COMMANDS
from .exitstatus import ExitStatus, fail
from .loading import loading

# What the program may also be called, and the arguments that this is short for.
_NAMES = {"sendmail": (), "mailq": ("-bp",), "newaliases": ("-bi",)}


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
    name = "serve"
    if Path(sys.argv[0]).name in _NAMES:
        name, arguments = "sendmail", [*_NAMES[Path(sys.argv[0]).name], *arguments]
    elif arguments and not arguments[0].startswith("-"):
        name, arguments = arguments[0], arguments[1:]
    if name not in COMMANDS:
        fail(f"unknown command {name!r}; there is {', '.join(COMMANDS)}", ExitStatus.USAGE)
    with loading():
        command = getattr(import_module(f".{name}", __package__), name)
    command(arguments)
