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

from .processes import CannotRun, Process, makeCertificate
from .workloads import Storage, Workload

_PEERS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Server:
    """One server.

    Attributes:
        name: as it is asked for.
        command: the command line for a storage, or None when it cannot do that. It listens on a loopback port of its choice.
        secure: the command line with a PEM file, for TLS from the beginning; None when it has none.
        missing: why it cannot be started here and how to get it, or None.
        spread: True when it uses all cores, and shares them with the load generator.
        environment: added to the environment of the process.
    """

    name: str
    command: Callable[[Storage], list[str] | None]
    missing: Callable[[], str | None] = lambda: None
    secure: Callable[[Path], list[str]] | None = None
    spread: bool = False
    environment: Callable[[], Mapping[str, str]] = field(default=dict)

    def start(self, workload: Workload, core: int, directory: Path) -> Process:
        """Starts it on `core` with `directory` for all that it writes.

        Raises:
            CannotRun: it is not installed, has no such storage, or does not start.
        """
        reason = self.missing()
        if reason is not None:
            raise CannotRun(f"{self.name} is left out: {reason}")
        if workload.secure:
            directory.mkdir(parents=True, exist_ok=True)
            command = self.secure(makeCertificate(directory)) if self.secure is not None else None
        else:
            command = self.command(workload.storage)
        if command is None:
            raise CannotRun(f"{self.name} is left out: it has nothing to {'secure' if workload.secure else workload.storage.value} messages with.")
        return Process(command, None if self.spread else core, directory, self.environment())


def _smtplite(*options: str) -> list[str]:
    # As users start it: all defaults, message log included.
    beside = Path(sys.executable).with_name("twistd")
    twistd = [str(beside)] if beside.exists() else [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    return [*twistd, "-n", "smtplite", *options]


def _plain(keep: str, *options: str) -> Callable[[Storage], list[str]]:
    delivery = {Storage.DISCARD: "null:", Storage.KEEP: keep}
    return lambda storage: _smtplite("--port", "0", "--delivery", delivery[storage], *options)


def _keepOnly(keep: str) -> Callable[[Storage], list[str] | None]:
    command = _plain(keep)
    return lambda storage: command(storage) if storage is Storage.KEEP else None


def _secure(pem: Path) -> list[str]:
    return _smtplite("--tls-port", "0", "--certificate", str(pem), "--delivery", "null:")


def _script(name: str) -> Callable[[Storage], list[str] | None]:
    return lambda storage: [sys.executable, str(_PEERS / name), storage.value]


def _secureScript(*command: str) -> Callable[[Path], list[str]]:
    return lambda pem: [*command, Storage.DISCARD.value, str(pem)]


def _discardOnly(command: list[str]) -> Callable[[Storage], list[str] | None]:
    return lambda storage: command if storage is Storage.DISCARD else None


def _module(module: str, advice: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(module) else f"the module {module} is not there ({advice})."


def _smtpSink() -> str:
    # Debian puts it where only root's PATH looks.
    return shutil.which("smtp-sink", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin") or "smtp-sink"


def _keepIn(name: str) -> Callable[[Storage], list[str] | None]:
    return lambda storage: [sys.executable, str(_PEERS / name)] if storage is Storage.KEEP else None


def _postfixMissing() -> str | None:
    if shutil.which("postfix", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin") is None:
        return "the program is not there (Debian: apt install postfix)."
    return "only root can start it." if os.geteuid() else None


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
        Server("smtplite", _plain("maildir:Maildir"), _module("twisted_smtplite", "pip install -e ."), _secure),
        Server("smtplite-sqlite", _keepOnly("sqlite:mail.sqlite"), _module("twisted_smtplite", "pip install -e .")),
        # The next server is away: all of it stays, and each first attempt is recorded.
        Server("smtplite-relay", _keepOnly("relay:localhost:1?networks=127.0.0.0/8"), _module("twisted_smtplite", "pip install -e .")),
        Server("smtplite-workers", _plain("maildir:Maildir", "--workers", "2"), _module("twisted_smtplite", "pip install -e ."), spread=True),
        Server(
            "aiosmtpd",
            _script("aiosmtpd_sink.py"),
            _module("aiosmtpd", "pip install aiosmtpd"),
            _secureScript(sys.executable, str(_PEERS / "aiosmtpd_sink.py")),
        ),
        Server(
            "twisted",
            _discardOnly([sys.executable, str(_PEERS / "twisted_sink.py")]),
            _module("twisted.mail", "pip install Twisted"),
            _secureScript(sys.executable, str(_PEERS / "twisted_sink.py")),
        ),
        Server("twisted-floor", _discardOnly([sys.executable, str(_PEERS / "twisted_floor.py")])),
        Server(
            "smtp-sink",
            _discardOnly([_smtpSink(), *(["-u", "nobody"] if os.geteuid() == 0 else []), "-m", "19000", "127.0.0.1:0", "1024"]),
            lambda: None if Path(_smtpSink()).is_absolute() else "the program is not there (Debian: apt install postfix).",
        ),
        Server("postfix", _keepIn("postfix_queue.py"), _postfixMissing, spread=True),
        Server(
            "node",
            _discardOnly(["node", str(_PEERS / "node_sink.js")]),
            _nodeMissing,
            _secureScript("node", str(_PEERS / "node_sink.js")),
            environment=_nodePath,
        ),
    )
}
OURS = "smtplite"
