"""The load generator counts right and accepts no wrong reply; the benchmark command measures, shows and writes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Generator
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "benchmarks" / "load.c"

pytestmark = pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="the load generator needs Linux and a C compiler")

# A reply for each command of a transaction, as a server with PIPELINING gives them.
GREETING = b"220 mx.test ESMTP\r\n"
HELLO = b"250-mx.test\r\n250-ENHANCEDSTATUSCODES\r\n250 PIPELINING\r\n"
GOOD = {
    b"EHLO": HELLO,
    b"MAIL": b"250 2.1.0 ok\r\n",
    b"RCPT": b"250-2.1.5 more\r\n250 2.1.5 ok\r\n",
    b"DATA": b"354 go\r\n",
    b".": b"250 ok\r\n",
    b"QUIT": b"221 bye\r\n",
}


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("load") / "load"
    subprocess.run(["cc", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True)
    return program


@pytest.fixture
def maildir(tmp_path: Path) -> Generator[tuple[int, Path], None, None]:
    """The port of a real server, and the directory that it delivers to."""
    command = [sys.executable, "-m", "twisted_smtplite", "serve", "--port", "0", "--delivery", "maildir:Maildir"]
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        said = next(line for line in server.stdout if "Listening on tcp 127.0.0.1:" in line)
        # What else it says must not fill the pipe.
        Thread(target=server.stdout.read, daemon=True).start()
        yield int(said.rpartition(":")[2]), tmp_path / "Maildir"
    finally:
        server.terminate()
        server.wait(20)


def play(load: Path, port: int, options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([load, "--port", str(port), *options.split()], capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    "options",
    [
        "--connections 4",
        "--connections 4 --pipelined --stuff 3",
        "--connections 4 --reconnect --sources 7",
        "--connections 1 --recipients 5 --pipelined",
        "--connections 64 --size 4096",
        "--connections 2 --size 200000 --stuff 10",
    ],
)
def test_as_many_messages_as_were_asked_for_arrive_whole(load: Path, maildir: tuple[int, Path], options: str) -> None:
    port, directory = maildir
    done = play(load, port, f"{options} --messages 50")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["messages"] == 50
    assert report["pipelining"] is True
    assert 0 < report["p50"] <= report["p99"] <= report["seconds"] * 1000
    arrived = [path.read_bytes() for path in (directory / "new").iterdir()]
    assert len(arrived) == 50
    words = options.split()
    size = int(words[words.index("--size") + 1]) if "--size" in words else 1024
    for message in arrived:
        text = message[message.index(b"From: <sender@load.test>") :]
        assert len(text) + text.count(b"\n") == size


def test_idle_connections_stay_until_they_are_let_go(load: Path, maildir: tuple[int, Path]) -> None:
    command = [load, "--port", str(maildir[0]), "--idle", "--connections", "600", "--sources", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == {"ready": 600}
        rest, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert json.loads(rest)["messages"] == 0


class ScriptedServer(Thread):
    """Serves one connection: a fixed reply for each command, and then nothing more."""

    def __init__(self, replies: dict[bytes, bytes], greeting: bytes = GREETING) -> None:
        super().__init__(daemon=True)
        self._replies = replies
        self._greeting = greeting
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.start()

    def run(self) -> None:
        client, _ = self._listening.accept()
        self._listening.close()
        with client, client.makefile("rb") as lines:
            client.settimeout(20)
            client.sendall(self._greeting)
            text = False
            for line in lines:
                word = line[:4].rstrip()
                if text and word != b".":
                    continue
                text = word == b"DATA" and self._replies[word].startswith(b"354")
                client.sendall(self._replies[word])
                if word == b"QUIT":
                    return


def test_right_replies_of_any_form_are_accepted(load: Path) -> None:
    done = play(load, ScriptedServer(GOOD).port, "--messages 3")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["messages"] == 3


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({b"RCPT": b"550 5.1.1 no such user\r\n"}, "step RCPT, reply 1 of 1: 550 5.1.1 no such user"),
        ({b"MAIL": b"250 5.1.0 ok\r\n"}, "step MAIL, reply 1 of 1: 250 5.1.0 ok"),
        ({b"MAIL": b"250 2.1.0 ok\r\n250 2.1.0 again\r\n"}, "step MAIL, reply 2 of 1: it came, and nothing was sent for it"),
        ({b"RCPT": b"250-2.1.5 one\r\n251 2.1.5 other\r\n"}, "step RCPT, reply 1 of 1: 251 2.1.5 other"),
        ({b"DATA": b"250 go\r\n"}, "step DATA, reply 1 of 1: 250 go"),
        ({b".": b"oops\r\n"}, "step body, reply 1 of 1: oops"),
        ({b".": b"250 ok\n"}, "step body, reply 1 of 1: a reply line that does not end in CRLF"),
        ({b"QUIT": b"250 bye\r\n"}, "step QUIT, reply 1 of 1: 250 bye"),
    ],
)
def test_the_first_wrong_reply_ends_the_run_with_a_sentence(load: Path, changed: dict[bytes, bytes], complaint: str) -> None:
    done = play(load, ScriptedServer({**GOOD, **changed}).port, "--messages 1")
    assert done.returncode == 1
    assert done.stderr == f"load: connection 0, {int(b'QUIT' in changed)} messages done, {complaint}\n"
    assert done.stdout == ""


@pytest.mark.parametrize("options", ["", "--port 1", "--port 1 --messages 1 --pipelined --reconnect", "--port 1 --messages 1 --size 5"])
def test_options_that_make_no_sense_are_explained(load: Path, options: str) -> None:
    done = subprocess.run([load, *options.split()], capture_output=True, text=True)
    assert done.returncode == 1
    assert "usage: load --port N" in done.stderr


def benchmarks(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=55)


@pytest.mark.slow
def test_a_comparison_prints_a_table_and_writes_json_and_a_chart(tmp_path: Path) -> None:
    figures, drawing = tmp_path / "figures.json", tmp_path / "chart.svg"
    done = benchmarks("--peers", "twisted", "--workloads", "W1,W3", "--rounds", 2, "--seconds", 0.2, "--json", figures, "--svg", drawing)
    assert done.returncode == 0, done.stderr
    assert "### W1: 1 KiB, lockstep, 16 connections" in done.stdout
    results = json.loads(figures.read_text())["results"]
    assert [(row["workload"], list(row["servers"])) for row in results] == [("W1", ["smtplite", "twisted"]), ("W3", ["smtplite", "twisted"])]
    for row in results:
        assert [len(server["rounds"]) for server in row["servers"].values()] == [2, 2]
        assert row["servers"]["twisted"]["ratio"] > 0
    assert len(ElementTree.parse(drawing).findall("{http://www.w3.org/2000/svg}rect")) == 4


@pytest.mark.slow
def test_a_profile_shows_system_calls_stages_and_functions() -> None:
    done = benchmarks("profile", "--workload", "W3")
    assert done.returncode == 0, done.stderr
    assert "| read | us |" in done.stdout
    assert "lines.py" in done.stdout


@pytest.mark.slow
def test_fairness_is_measured_alone_and_beside_two_clients() -> None:
    done = benchmarks("fairness", "--seconds", "0.3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n| ") == 3


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    done = benchmarks("--peers", "nobody")
    peers = "smtplite-sqlite, smtplite-relay, smtplite-workers, aiosmtpd, twisted, twisted-floor, smtp-sink, postfix, node"
    assert (done.returncode, done.stderr) == (1, f"There is no peer nobody; there are {peers}.\n")


def test_a_dialogue_that_became_a_third_slower_is_refused_in_one_sentence() -> None:
    program = "from benchmarks.instructions import judge; print(judge(1.32, 1.0, 0.33)); print(judge(1.34, 1.0, 0.33))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    fine, refused = done.stdout.splitlines()
    assert fine == "None"
    assert refused.startswith("The dialogue takes 1.34 times the instructions that were accepted")
