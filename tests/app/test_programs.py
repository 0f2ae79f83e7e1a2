"""The ways to start the server, as processes of their own: they receive a message, stop cleanly, and say in one sentence what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from programs import BIN, STATUS, WAYS, Server, messages, starting

from twisted_smtplite.app.cli import main
from twisted_smtplite.app.commands import COMMANDS

everyWay = pytest.mark.parametrize("way", WAYS)
MESSAGE = re.compile(
    r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[smtplite\] message id=[0-9A-F]+ session=[0-9A-F]+ peer=127\.0\.0\.1:\d+ helo=client\.test"
    r" protocol=ESMTP from=<a@client\.test> to=<b@mx\.test>,<c@mx\.test> recipients=2 size=21 reply=\"250 2\.0\.0 [^\"]+\"$"
)


@pytest.fixture
def start(tmp_path: Path) -> Generator[Callable[..., Server], None, None]:
    with starting(tmp_path) as start:
        yield start


@everyWay
def test_a_message_is_stored_and_logged_and_the_server_drains_at_sigterm(way: str, start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(WAYS[way], "--port", "0")
    port = server.port()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as idle, idle.makefile("rb") as heard:
        assert heard.readline().startswith(b"220 ")
        server.send()
        server.process.send_signal(signal.SIGTERM)
        assert heard.readline().startswith(b"421 4.3.2 ")
        assert heard.readline() == b""
    status = server.process.wait(20)
    (stored,) = messages(tmp_path / "Maildir")
    assert stored.endswith(b"Subject: x\n\nhello\n")
    log = server.log()
    assert len(MESSAGE.findall(log)) == 1, log
    assert f" delivers to maildir:Maildir ({tmp_path / 'Maildir'})" in log
    assert 'cause="Service shutting down, closing the connection" messages=0' in log
    assert "Traceback" not in log
    assert status == STATUS[way]
    assert not (tmp_path / "twistd.pid").exists()


def test_who_says_all_at_once_and_ends_its_side_is_answered_to_the_end(start: Callable[..., Server], tmp_path: Path) -> None:
    # As `nc -N` does.
    message = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\nSubject: x\r\n\r\nhello\r\n.\r\n"
    server = start(WAYS["smtplite"], "--port", "0")
    with socket.create_connection(("127.0.0.1", server.port()), timeout=10) as client, client.makefile("rb") as heard:
        client.sendall(b"HELO client.test\r\n" + message * 3 + b"QUIT\r\n")
        client.shutdown(socket.SHUT_WR)
        codes = [line[:3] for line in heard]
    assert codes == [b"220", b"250", *[b"250", b"250", b"354", b"250"] * 3, b"221"]
    assert len(messages(tmp_path / "Maildir")) == 3


def test_in_the_background_the_log_is_twistds_log_file_and_the_directory_is_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    command = [str(BIN / "twistd"), "--rundir", str(run), "smtplite", "--port", "0", "--listen", "unix:s"]
    server = Server(tmp_path, command, "twistd.log")
    assert server.process.wait(20) == 0
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        server.send()
        assert (run / "s").stat().st_mode & 0o777 == 0o660
    finally:
        os.kill(pid, signal.SIGTERM)
        server.wait(lambda: not (tmp_path / "twistd.pid").exists())
    log = server.log()
    assert len(messages(run / "Maildir")) == 1
    assert len(MESSAGE.findall(log)) == 1
    assert (tmp_path / "output").read_text() == ""
    assert "Server Shut Down." in log
    assert "Traceback" not in log


@pytest.mark.parametrize("way", ["twistd", "twist", "smtplite"])
def test_every_line_of_the_log_can_be_json(way: str, start: Callable[..., Server]) -> None:
    server = start(WAYS[way], "--port", "0", "--log-format", "json", "--delivery", "null", "--verbose")
    server.wait(lambda: re.search(r"Listening on tcp", server.log()))
    server.send()
    server.stop()
    objects = [json.loads(line) for line in server.log().splitlines()]
    assert {each["event"] for each in objects} == {"log", "message"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", each["time"]) for each in objects)
    assert any("message text, 24 octets" in each.get("text", "") for each in objects)


def test_with_a_logger_of_ones_own_a_message_is_an_event(start: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "import sys\nfrom twisted.logger import FileLogObserver, formatEvent\n"
        "def make():\n    return FileLogObserver(sys.stdout, lambda event: 'OURS ' + formatEvent(event) + '\\n')\n"
    )
    command = ["/usr/bin/env", f"PYTHONPATH={tmp_path}", str(BIN / "twistd"), "-n", "--logger", "ours.make", "smtplite"]
    server = start(command, "--port", "0", "--delivery", "null")
    server.send()
    server.stop()
    assert re.search(r"(?m)^OURS message id=\S+ session=", server.log())


# ---- What is wrong is said in one sentence.


@pytest.fixture
def busy() -> Generator[int, None, None]:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()
        yield port.getsockname()[1]


def complaint(directory: Path, command: list[str]) -> str:
    """What a program says that must fail with status 1 and without a word on standard output."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, ""), done
    return done.stderr


@everyWay
def test_a_busy_port(way: str, busy: int, tmp_path: Path) -> None:
    assert complaint(tmp_path, [*WAYS[way], "--port", str(busy)]) == f"smtplite: --port {busy} on 127.0.0.1: cannot listen: Address already in use\n"


@pytest.mark.parametrize("way", ["twistd", "twist"])
def test_a_bad_value(way: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, [*WAYS[way], "--max-size", "big"]) == (
        "smtplite: --max-size big: a size is a number, with k, M or G behind it or nothing; --help shows the options\n"
    )


LATE = """
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

@implementer(IPlugin, IStreamServerEndpointStringParser, IStreamServerEndpoint)
class Late:
    prefix = "late"
    def parseStreamServer(self, reactor, *arguments):
        self.reactor = reactor
        return self
    def listen(self, factory):
        waiting = Deferred()
        self.reactor.callLater(0, waiting.errback, RuntimeError("no network"))
        return waiting

late = Late()
"""


def test_an_endpoint_that_fails_later_ends_the_server_with_a_status_of_failure(start: Callable[..., Server], tmp_path: Path) -> None:
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "late.py").write_text(LATE)
    server = start(["/usr/bin/env", f"PYTHONPATH={tmp_path}", *WAYS["smtplite"]], "--listen", "late:", "--listen", "late:")
    assert server.process.wait(20) == 1
    assert re.findall(r"Cannot listen on .*: (.*)", server.log()) == ["no network"] * 2
    assert "Traceback" not in server.log()


def test_a_busy_port_is_told_before_twistd_goes_into_the_background(busy: int, tmp_path: Path) -> None:
    command = [str(BIN / "twistd"), "smtplite", "--listen", f"tcp:{busy}:interface=127.0.0.1"]
    assert complaint(tmp_path, command) == f"smtplite: --listen tcp:{busy}:interface=127.0.0.1: cannot listen: Address already in use\n"
    assert not (tmp_path / "twistd.pid").exists()


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    """How `smtplite` ends, run in this process."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert capsys.readouterr() == ("", "")
    return raised.value.code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--delivery", "nosuch:x"], r"--delivery: unknown delivery 'nosuch:x': the known ones are .*maildir.*"),
        (["--delivery", "maildir:/dev/null"], r"--delivery: delivery 'maildir:/dev/null': /dev/null is not a directory"),
        (["--listen", "nosuch:1"], r"--listen nosuch:1: this is no server endpoint: Unknown endpoint type: 'nosuch'"),
        (["--listen", "tcp:x"], r"--listen tcp:x: this is no server endpoint: .*"),
        (["--listen", "unix:/nonexistent/s"], r"--listen unix:/nonexistent/s: cannot listen: No such file or directory"),
        (["--listen", "systemd:domain=INET:index=0"], r"--listen systemd:domain=INET:index=0: this is no server endpoint: .*"),
        (["--interface", "203.0.113.9", "--port", "0"], r"--port 0 on 203\.0\.113\.9: cannot listen: .*"),
    ],
)
def test_what_cannot_be_used(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch("smtplite: " + sentence, str(cli(capsys, *arguments)))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serve", "--port", "x"], r"--port x: a whole number is needed; --help shows the options"),
        (["--nosuch"], r"option --nosuch not recognized; --help shows the options"),
        (["nosuch"], r"unknown command 'nosuch'; there is serve, .*"),
        *(([name, "--nosuch"], rf"{name}: option --nosuch not recognized; --help shows the options") for name in ("send", "queue", "passwd")),
        (["export", "--nosuch"], r"export needs a database, a form and a target: .*"),
    ],
)
def test_a_wrong_option_has_a_status_of_its_own_in_every_command(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    out, err = capsys.readouterr()
    assert (raised.value.code, out) == (64, "")
    assert re.fullmatch(f"smtplite: {sentence}\n", err)


def test_a_command_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr("twisted_smtplite.app.passwd.passwd", called.append)
    main(["passwd", "--file", "x"])
    assert called == [["--file", "x"]]


def test_the_help_of_the_program_names_its_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    assert usage.splitlines()[0] == "Usage: smtplite [serve] [options]"
    assert "       smtplite passwd ...    keep the passwords of users" in usage.splitlines()
    assert rest.startswith("Receives mail")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [*([name, "--help"] for name in COMMANDS), ["--help"], ["--list-deliveries"]], ids=" ".join)
def test_who_shows_something_that_nobody_reads_ends_quietly_as_by_sigpipe(arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        ended = subprocess.run([str(BIN / "smtplite"), *arguments], stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=30)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_without_standard_output_nothing_is_shown_and_that_is_no_error(name: str) -> None:
    command = ["bash", "-c", 'exec "$0" "$@" >&-', str(BIN / "smtplite"), name, "--help"]
    ended = subprocess.run(command, stderr=subprocess.PIPE, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, b"")
