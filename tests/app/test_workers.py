"""``--workers`` with real processes: all serve, none is missed when it ends, and a reload is not noticed by any client."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from programs import BIN, STATUS, WAYS, Server, messages, starting

from twisted_smtplite.app.cli import main

OURS = WAYS["python -m"]
# Each test starts several Pythons, and on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(300)
Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start, None, None]:
    with starting(tmp_path) as start:
        yield start


def ready(server: Server, times: int) -> list[tuple[int, int]]:
    """Number and process id of the workers that have become ready, when there were so many."""
    pattern = r"Worker (\d) \(process (\d+)\) is ready"
    server.wait(lambda: len(re.findall(pattern, server.log())) >= times)
    return [(int(number), int(pid)) for number, pid in re.findall(pattern, server.log())]


def isGone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Load:
    """Clients that send, connection after connection, until they are told to stop."""

    def __init__(self, port: int) -> None:
        self.accepted = 0
        self.failures: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._count = threading.Lock()
        self._threads = [threading.Thread(target=self._send) for _ in range(3)]

    def _send(self) -> None:
        # Not as fast as it goes: the workers that start in the meantime want a processor too.
        while not self._stop.wait(0.02):
            self._sendOne()

    def _sendOne(self) -> None:
        try:
            with smtplib.SMTP("127.0.0.1", self._port, local_hostname="client.test", timeout=20) as client:
                client.sendmail("a@client.test", ["b@mx.test"], b"Subject: x\r\n\r\nhello\r\n")
                with self._count:
                    self.accepted += 1
        except (OSError, smtplib.SMTPException) as error:
            self.failures.append(repr(error))

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(30)


def test_all_workers_serve_and_one_that_is_killed_is_missed_by_nobody_who_comes(start: Start, tmp_path: Path) -> None:
    server = start(OURS, "--port", "0", "--workers", "2", "--delivery", "null")
    (_, first), (_, second) = ready(server, 2)
    load = Load(server.port())
    with load.running():
        server.wait(lambda: {"1", "2"} <= set(re.findall(r"\[smtplite\] worker=(\d) message id=", server.log())))
        # Stopped first: only who is connected to it loses the connection, as with any server that dies.
        before = len(load.failures)
        os.kill(first, signal.SIGKILL)
        (_, third) = ready(server, 3)[2]
        server.wait(lambda: load.accepted > 20)
    # One connection for each client, and those that the killed one had accepted but not greeted yet.
    assert before == 0
    assert len(load.failures) <= 6, load.failures
    assert not any("refused" in failure for failure in load.failures)
    assert f"(process {first}) ended: by signal SIGKILL" in server.log()
    with socket.create_connection(("127.0.0.1", server.port()), timeout=10) as idle, idle.makefile("rb") as heard:
        assert heard.readline().startswith(b"220 ")
        server.process.send_signal(signal.SIGTERM)
        assert heard.readline().startswith(b"421 4.3.2 ")
    assert server.process.wait(20) == 0
    assert isGone(second) and isGone(third)
    assert "Traceback" not in server.log()


@pytest.mark.slow
def test_a_reload_under_load_refuses_no_connection_and_loses_no_message(start: Start, tmp_path: Path) -> None:
    server = start(OURS, "--port", "0", "--workers", "2", "--listen", "unix:s")
    ready(server, 2)
    load = Load(server.port())
    with load.running():
        server.process.send_signal(signal.SIGHUP)
        fresh = {pid for _, pid in ready(server, 4)[2:]}
        server.wait(lambda: len(re.findall(r"Worker \d \(process \d+\) has ended", server.log())) == 2)
    assert load.failures == []
    assert load.accepted > 0
    # The old workers are gone, and the file of the socket is still there, for those who may use it.
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(tmp_path / "s"))
        assert client.recv(4) == b"220 "
    assert server.stop() == 0
    assert not (tmp_path / "s").exists()
    assert len(messages(tmp_path / "Maildir")) == load.accepted
    assert len(re.findall("message id=", server.log())) == load.accepted
    assert all(isGone(pid) for pid in fresh)
    assert "Traceback" not in server.log()


# ---- What cannot be done is said in one sentence.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workers", "0"], r"--workers 0: there must be at least one worker; --help shows the options"),
        (["--workers", "many"], r"--workers many: a whole number is needed; --help shows the options"),
        (["--workers", "2", "--worker-timeout", "x"], r"--worker-timeout x: a time is .*"),
        (
            ["--workers", "2", "--delivery", "memory"],
            r"--workers: delivery 'memory' works in one process only: each would have messages of its own, and lose them when it is replaced",
        ),
        (["--workers", "2", "--delivery", "null", "--delivery", "console:9"], r"--workers: delivery 'console:9' works in one process only: .*"),
        (["--workers", "2", "--delivery", "nosuch"], r"--delivery: unknown delivery 'nosuch': the known ones are .*"),
        (["--workers", "auto", "--delivery", "null", "--listen", "haproxy:tcp:0"], r"--listen haproxy:tcp:0: with --workers an endpoint must be .*"),
        (
            ["--workers", "1", "--delivery", "null", "--listen", "unix:/nonexistent/s"],
            r"--listen unix:/nonexistent/s: cannot listen: No such file .*",
        ),
    ],
)
def test_what_cannot_be_used(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    out, err = capsys.readouterr()
    assert out == ""
    # A wrong option has a status of its own.
    said = err.removesuffix("\n") if raised.value.code == 64 else str(raised.value.code)
    assert re.fullmatch("smtplite: " + sentence, said)


# ---- What takes longer.


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_and_replaced(start: Start) -> None:
    server = start(OURS, "--port", "0", "--workers", "2", "--worker-timeout", "2", "--delivery", "null")
    (number, pid) = ready(server, 2)[0]
    os.kill(pid, signal.SIGSTOP)
    assert ready(server, 3)[2][0] == number
    assert f"Worker {number} (process {pid}) gave no sign of life for 2 seconds: it is killed" in server.log()
    assert isGone(pid)
    server.send()
    assert server.stop() == 0


@pytest.mark.slow
def test_a_worker_that_does_not_end_is_killed_after_its_deadline(start: Start) -> None:
    server = start(OURS, "--port", "0", "--workers", "2", "--drain-time", "1", "--delivery", "null")
    (_, pid) = ready(server, 2)[0]
    os.kill(pid, signal.SIGSTOP)
    assert server.stop() == 0
    assert f"(process {pid}) does not end in time: it is killed" in server.log()
    assert isGone(pid)


@pytest.mark.slow
def test_a_message_in_flight_is_finished_before_a_retired_worker_ends(start: Start, tmp_path: Path) -> None:
    server = start(OURS, "--port", "0", "--workers", "1", "--drain-time", "5")
    ready(server, 1)
    with server.inFlight():
        server.process.send_signal(signal.SIGHUP)
        server.wait(lambda: "Reloaded" in server.log())
    server.wait(lambda: "has ended" in server.log())
    assert len(messages(tmp_path / "Maildir")) == 1
    # The next one has idled for the time to drain, and then hears it.
    with socket.create_connection(("127.0.0.1", server.port()), timeout=20) as idle, idle.makefile("rb") as heard:
        assert heard.readline().startswith(b"220 ")
        server.process.send_signal(signal.SIGHUP)
        assert heard.readline().startswith(b"421 4.3.2 ")
    assert server.stop() == 0


@pytest.mark.slow
def test_what_cannot_be_loaded_any_more_leaves_the_old_workers_at_work(start: Start, tmp_path: Path) -> None:
    code = tmp_path / "ours.py"
    code.write_text("def take(envelope, message):\n    pass\n")
    command = ["/usr/bin/env", f"PYTHONPATH={tmp_path}", *OURS]
    server = start(command, "--port", "0", "--workers", "2", "--delivery", "callable:ours:take")
    ready(server, 2)
    code.write_text("this is no Python\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait(lambda: re.search(r"Not reloaded, the former workers go on: smtplite: --delivery: delivery 'callable:ours:take'", server.log()))
    server.send()
    code.write_text("def take(envelope, message):\n    print('new code', flush=True)\n")
    server.process.send_signal(signal.SIGHUP)
    ready(server, 4)
    server.send()
    server.wait(lambda: "new code" in server.log())
    assert server.stop() == 0


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_gone(start: Start) -> None:
    server = start(OURS, "--port", "0", "--workers", "2", "--delivery", "null")
    pids = [pid for _, pid in ready(server, 2)]
    server.process.kill()
    server.process.wait()
    server.wait(lambda: all(map(isGone, pids)))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["twistd", "twist", "smtplite"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_every_way_to_start_it_has_one_log_that_names_the_worker(way: str, form: str, start: Start) -> None:
    server = start(WAYS[way], "--port", "0", "--workers", "2", "--delivery", "null", "--log-format", form)
    ready(server, 2)
    server.send()
    server.process.send_signal(signal.SIGHUP)
    ready(server, 4)
    server.send()
    assert server.stop() == STATUS[way]
    lines = server.log().splitlines()
    if form == "json":
        objects = [json.loads(line) for line in lines]
        assert [each["worker"] in (1, 2) for each in objects if each["event"] == "message"] == [True, True]
        assert any(each.get("worker") == 2 and "Listening on" in each.get("text", "") for each in objects)
    else:
        stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[[^]]+\] ")
        assert all(stamp.match(line) for line in lines)
        assert len([line for line in lines if re.search(r"\[smtplite\] worker=[12] message id=", line)]) == 2


@pytest.mark.slow
def test_in_the_background_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    command = [str(BIN / "twistd"), "--rundir", str(run), "smtplite", "--port", "0", "--workers", "2"]
    server = Server(tmp_path, command, "twistd.log")
    assert server.process.wait(30) == 0
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        ready(server, 2)
        server.send()
        os.kill(pid, signal.SIGHUP)
        ready(server, 4)
        server.send()
    finally:
        os.kill(pid, signal.SIGTERM)
        server.wait(lambda: not (tmp_path / "twistd.pid").exists())
    assert len(messages(run / "Maildir")) == 2
    assert (tmp_path / "output").read_text() == ""
    assert "Traceback" not in server.log()


@pytest.mark.slow
def test_with_a_logger_of_ones_own_a_line_of_a_worker_is_an_event(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "import sys\nfrom twisted.logger import FileLogObserver, formatEvent\n"
        "def make():\n    return FileLogObserver(sys.stdout, lambda event: 'OURS ' + formatEvent(event) + '\\n')\n"
    )
    command = ["/usr/bin/env", f"PYTHONPATH={tmp_path}", str(BIN / "twistd"), "-n", "--logger", "ours.make", "smtplite"]
    server = start(command, "--port", "0", "--workers", "1", "--delivery", "null")
    ready(server, 1)
    server.send()
    server.stop()
    assert re.search(r"(?m)^OURS worker=1 message id=\S+ session=", server.log())


@pytest.mark.slow
def test_workers_share_a_socket_that_systemd_has_opened(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        # What systemd does: the socket is file descriptor 3, and the process finds its own id beside it.
        script = f'exec 3<&{listening.fileno()} && LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=smtp exec {" ".join(OURS)} "$@"'
        command = ["bash", "-c", script, "bash", "--workers", "2", "--delivery", "null", "--listen", "systemd:domain=INET:name=smtp"]
        with starting(tmp_path, listening.fileno()) as start:
            server = start(command)
            ready(server, 2)
            server.send()
            assert server.stop() == 0


@pytest.mark.slow
def test_workers_have_the_reactor_that_the_supervisor_has(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "import sys\ndef take(envelope, message):\n    print(sorted(m for m in sys.modules if 'reactor' in m), flush=True)\n"
    )
    command = ["/usr/bin/env", f"PYTHONPATH={tmp_path}", str(BIN / "twist"), "--log-format=text", "--reactor=asyncio", "smtplite"]
    server = start(command, "--port", "0", "--workers", "1", "--delivery", "callable:ours:take")
    ready(server, 1)
    server.send()
    server.wait(lambda: "'twisted.internet.asyncioreactor'" in server.log())
    assert "epollreactor" not in server.log()
    server.stop()
