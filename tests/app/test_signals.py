"""Signals that come at a bad moment: twice, before the server runs, while a worker starts."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import trustme
from programs import STATUS, WAYS, Server, starting

from twisted_smtplite.app.workers import commandLine, environment

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start, None, None]:
    with starting(tmp_path) as start:
        yield start


def withModule(directory: Path, text: str, command: list[str]) -> list[str]:
    """The command, with a module ``ours`` that the server loads."""
    (directory / "ours.py").write_text("import os, signal\ndef send(*numbers):\n    for each in numbers: os.kill(os.getpid(), each)\n" + text)
    return ["/usr/bin/env", f"PYTHONPATH={directory}", *command]


@pytest.mark.parametrize("way", ["twistd", "twist", "smtplite"])
def test_a_second_signal_before_the_first_one_has_its_effect_changes_nothing(way: str, start: Start, tmp_path: Path) -> None:
    code = "def take(envelope, message): send(signal.SIGTERM, signal.SIGTERM, signal.SIGINT)\n"
    server = start(withModule(tmp_path, code, WAYS[way]), "--port", "0", "--delivery", "callable:ours:take")
    server.send()
    assert server.process.wait(20) == STATUS[way]
    assert "Traceback" not in server.log()
    assert server.log().count("Received SIG") == 1


@pytest.mark.parametrize("way", ["twistd", "smtplite"])
def test_two_signals_at_the_same_time_are_one(way: str, start: Start, tmp_path: Path) -> None:
    code = (
        "BOTH = {signal.SIGINT, signal.SIGTERM}\n"
        "def take(envelope, message):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, BOTH)\n"
        "    send(*BOTH)\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, BOTH)\n"
    )
    server = start(withModule(tmp_path, code, WAYS[way]), "--port", "0", "--delivery", "callable:ours:take")
    server.send()
    # Python takes the lower number first.
    assert server.process.wait(20) == {"twistd": -signal.SIGINT, "smtplite": 0}[way]
    assert "Traceback" not in server.log()
    assert server.log().count("Received SIG") == 1


@pytest.mark.slow
def test_nor_does_it_to_a_worker(start: Start, tmp_path: Path) -> None:
    code = "def take(envelope, message): send(signal.SIGTERM, signal.SIGTERM)\n"
    server = start(withModule(tmp_path, code, WAYS["smtplite"]), "--port", "0", "--delivery", "callable:ours:take", "--workers", "1")
    server.send()
    server.wait(lambda: server.log().count("is ready") == 2)
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("way", ["twistd", "twist", "smtplite"])
def test_a_hangup_that_means_nothing_else_ends_the_server_cleanly(way: str, start: Start, tmp_path: Path) -> None:
    # Whoever runs the tests may ignore it.
    heeding = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    server = start([sys.executable, "-c", heeding, *WAYS[way]], "--port", "0", "--listen", "unix:s")
    with server.inFlight():
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: "Stopping" in server.log())
    assert server.process.wait(20) == 0
    assert not any((tmp_path / name).exists() for name in ("s", "s.lock", "twistd.pid"))
    assert "Traceback" not in server.log()


BEFORE = {
    "it is built": "send(signal.SIGINT)\n",
    # Where Twisted takes whatever is raised for the fault of who is called.
    "the reactor runs": "from twisted.internet import reactor\nreactor.addSystemEventTrigger('before', 'startup', send, signal.SIGINT)\n",
}


@pytest.mark.parametrize("code", BEFORE.values(), ids=BEFORE)
def test_an_interrupt_before_the_server_runs_ends_it_without_a_traceback(code: str, start: Start, tmp_path: Path) -> None:
    command = withModule(tmp_path, code + "def take(envelope, message): pass\n", WAYS["smtplite"])
    server = start(command, "--port", "0", "--delivery", "callable:ours:take")
    assert server.process.wait(20) == -signal.SIGINT
    assert "Traceback" not in server.log()


def test_an_interrupt_that_is_ignored_stays_ignored(start: Start, tmp_path: Path) -> None:
    code = "def take(envelope, message): send(signal.SIGINT)\n"
    command = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *withModule(tmp_path, code, WAYS["smtplite"])]
    server = start(command, "--port", "0", "--delivery", "callable:ours:take")
    server.send()
    with server.inFlight():
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: "Stopping" in server.log())
    assert server.process.wait(20) == 0
    assert "SIGINT" not in server.log()


def test_a_worker_leaves_signals_that_all_get_to_its_supervisor_before_it_loads_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "twisted_smtplite").mkdir()
    code = "from signal import *\nraise SystemExit([getsignal(each) is SIG_IGN for each in (SIGINT, SIGHUP, SIGUSR1)])\n"
    (tmp_path / "twisted_smtplite" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = subprocess.run(commandLine(), env=environment(), capture_output=True, text=True, check=False)
    assert done.stderr == "[True, True, True]\n"


def test_a_hangup_while_the_server_ends_changes_nothing(start: Start, tmp_path: Path) -> None:
    trustme.CA().issue_cert("mx.test").private_key_and_cert_chain_pem.write_to_path(tmp_path / "mx.pem")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        relay = f"relay:127.0.0.1:{silent.getsockname()[1]}?tls=never&networks=127.0.0.0/8"
        server = start(WAYS["smtplite"], "--port", "0", "--certificate", str(tmp_path / "mx.pem"), "--delivery", relay)
        server.send()
        taken, _ = silent.accept()
        with taken:
            server.process.send_signal(signal.SIGTERM)
            # Of what is on its way it waits for the end.
            server.wait(lambda: re.search(r"TCP Port \d+ Closed", server.log()))
            for _ in range(10):
                server.process.send_signal(signal.SIGHUP)
                with pytest.raises(subprocess.TimeoutExpired):
                    server.process.wait(0.1)
