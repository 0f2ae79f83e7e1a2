"""The servers that can be measured, one row each: how to start it, and what to say when it is not installed.

Knows commands and packages. Must not know how anything is measured.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .processes import CannotRun, Process
from .workloads import Storage

_PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes:
        name: as it is asked for.
        command: the command line for a storage, or None when it cannot do that. It listens on a loopback port of its choice.
        missing: why it cannot be started here and how to get it, or None.
        environment: added to the environment of the process.
    """

    name: str
    command: Callable[[Storage], list[str] | None]
    missing: Callable[[], str | None] = lambda: None
    environment: Callable[[], Mapping[str, str]] = field(default=dict)

    def start(self, storage: Storage, core: int, directory: Path) -> Process:
        """Starts it on `core` with `directory` for all that it writes.

        Raises:
            CannotRun: it is not installed, has no such storage, or does not start.
        """
        reason = self.missing()
        if reason is not None:
            raise CannotRun(f"{self.name} is left out: {reason}")
        command = self.command(storage)
        if command is None:
            raise CannotRun(f"{self.name} is left out: it has nothing to {storage.value} messages with.")
        return Process(command, core, directory, self.environment())


def _smtplite(storage: Storage) -> list[str]:
    # As users start it: all defaults, message log included.
    beside = Path(sys.executable).with_name("twistd")
    twistd = [str(beside)] if beside.exists() else [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    delivery = {Storage.DISCARD: "null:", Storage.KEEP: "maildir:Maildir"}[storage]
    return [*twistd, "-n", "smtplite", "--delivery", delivery, "--port", "0"]


def _script(name: str) -> Callable[[Storage], list[str] | None]:
    return lambda storage: [sys.executable, str(_PEERS / name), storage.value]


def _discardOnly(command: list[str]) -> Callable[[Storage], list[str] | None]:
    return lambda storage: command if storage is Storage.DISCARD else None


def _module(module: str, advice: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(module) else f"the module {module} is not there ({advice})."


def _smtpSink() -> str:
    # Debian puts it where only root's PATH looks.
    return shutil.which("smtp-sink", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin") or "smtp-sink"


def _nodePath() -> dict[str, str]:
    paths = [str(Path.cwd() / "node_modules"), os.environ.get("NODE_PATH", "")]
    return {"NODE_PATH": os.pathsep.join(path for path in paths if path)}


def _nodeMissing() -> str | None:
    node = shutil.which("node")
    if node is None:
        return "node is not there (Debian: apt install nodejs npm)."
    found = subprocess.run([node, "-e", "require('smtp-server')"], env={**os.environ, **_nodePath()}, capture_output=True)
    return None if found.returncode == 0 else "node finds no smtp-server (npm install smtp-server in this directory, or set NODE_PATH)."


SERVERS = {
    row.name: row
    for row in (
        Server("smtplite", _smtplite, _module("twisted_smtplite", "pip install -e .")),
        Server("aiosmtpd", _script("aiosmtpd_sink.py"), _module("aiosmtpd", "pip install aiosmtpd")),
        Server("twisted", _discardOnly([sys.executable, str(_PEERS / "twisted_sink.py")]), _module("twisted.mail", "pip install Twisted")),
        Server(
            "smtp-sink",
            _discardOnly([_smtpSink(), *(["-u", "nobody"] if os.geteuid() == 0 else []), "-m", "19000", "127.0.0.1:0", "1024"]),
            lambda: None if Path(_smtpSink()).is_absolute() else "the program is not there (Debian: apt install postfix).",
        ),
        Server("node", _discardOnly(["node", str(_PEERS / "node_sink.js")]), _nodeMissing, _nodePath),
    )
}
OURS = "smtplite"
