"""Hostile clients against a real server in a process of its own: its memory stays flat, and never is a second message made of one.

Memory is the peak of the server's resident set as the kernel counts it (VmHWM), so nothing that was let go of again is missed.
"""

from __future__ import annotations

import re
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serverprocess import Client, Server, running

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")

MEBI = 2**20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that keeps nothing and lets one address connect as often as it likes."""
    with running(tmp_path, "--delivery", "null", "--max-connections-per-address", "0") as started:
        # What a first session brings into memory counts for nobody.
        with started.connect() as client:
            client.begin()
            assert client.ask(b"x" * MEBI + b"\r\n.\r\n")[:3] in (b"250", b"554")
        yield started


def test_a_line_without_end_is_answered_once_and_not_kept(server: Server) -> None:
    before = server.peak()
    with server.connect() as client:
        assert client.reply().startswith(b"220 ")
        for _ in range(64):
            client.say(b"x" * MEBI)
        client.say(b"QUIT\r\nNOOP\r\n")
        assert client.reply().startswith(b"500 5.5.2 ")
        assert client.reply().startswith(b"250 2.0.0 ")
    assert server.peak() - before < 4 * MEBI


def test_a_text_without_end_is_not_kept(server: Server) -> None:
    before = server.peak()
    for filler in (b"x", b"\r", b"\n", b"\0", b"\r\n", b"\r\n..", b"\r\n.\r", b"X: y\r\n"):
        piece = filler * (MEBI // len(filler))
        with server.connect() as client:
            client.begin()
            # More than may be stored, with doubled dots not counted.
            for _ in range(72):
                client.say(piece)
            # Too large, an over-long line, or bare line ends: whichever was seen first.
            assert re.match(rb"55[024] 5\.[36]\.[04] ", client.ask(b"x\r\n.\r\n")), filler
            assert client.isServed()
    assert server.peak() - before < 6 * MEBI


def test_recipients_beyond_the_limit_cost_nothing(server: Server) -> None:
    before = server.peak()
    with server.connect() as client:
        assert client.reply().startswith(b"220 ")
        client.say(b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\n")
        sender = threading.Thread(target=client.say, args=(b"RCPT TO:<someone.with.a.long.name@mx.test>\r\n" * 50_000 + b"DATA\r\n",))
        sender.start()
        replies = [client.reply()[:9] for _ in range(50_003)]
        sender.join()
        assert client.ask(b"text\r\n.\r\n").startswith(b"250 2.0.0 ")
    assert replies == [b"250 HELP\r", b"250 2.1.0", *[b"250 2.1.5"] * 1000, *[b"452 4.5.3"] * 49_000, b"354 Send "]
    assert server.peak() - before < 6 * MEBI


def _sayUntilStuck(client: Client, data: bytes, most: int) -> int:
    """Sends `data` again and again until the server reads no more. Returns how many octets went."""
    client.socket.settimeout(1)
    gone = 0
    try:
        while gone < most:
            gone += client.socket.send(data)
    except TimeoutError:
        return gone
    raise AssertionError(f"the server reads on after {gone} octets, and nobody reads what it says")


def test_a_client_that_never_reads_is_not_read_from(server: Server) -> None:
    before = server.peak()
    with ExitStack() as stack:
        for command in (b"NOOP\r\n", b"EHLO client.test\r\n"):
            client = stack.enter_context(server.connect())
            _sayUntilStuck(client, command * 10_000, 64 * MEBI)
        with server.connect() as other:
            other.begin()
    # What was not read ends with the connection.
    with server.connect() as other:
        other.begin()
    assert server.peak() - before < 8 * MEBI


@pytest.fixture
def manyFiles() -> Iterator[int]:
    """As many open files as the system allows, for us and for the servers that we start. Gives their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _silence(server: Server, sources: Callable[[int], str], count: int) -> None:
    before = server.peak()
    with ExitStack() as stack:
        clients = []
        for number in range(count):
            clients.append(stack.enter_context(server.connect(sources(number))))
            assert clients[-1].reply().startswith(b"220 ")
        # They say nothing, and somebody else is served all the same.
        with server.connect("127.0.0.2") as other:
            other.begin()
            assert other.ask(b"text\r\n.\r\n").startswith(b"250 ")
        assert clients[0].isServed() and clients[-1].isServed()
    assert (server.peak() - before) / count < 12 * 1024


def test_a_thousand_clients_that_say_nothing_cost_little(manyFiles: int, server: Server) -> None:
    if manyFiles < 1_100:
        pytest.skip("too few files may be open")
    _silence(server, lambda number: "127.0.0.1", 1000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_clients_that_say_nothing_cost_little(manyFiles: int, server: Server) -> None:
    if manyFiles < 10_100:
        pytest.skip("too few files may be open")
    _silence(server, lambda number: f"127.0.{number // 250}.{number % 250 + 1}", 10_000)


def test_more_connections_than_allowed_from_one_address_are_turned_away(tmp_path: Path) -> None:
    with running(tmp_path, "--delivery", "null", "--max-connections-per-address", "3") as server, ExitStack() as stack:
        for _ in range(3):
            assert stack.enter_context(server.connect()).reply().startswith(b"220 ")
        for _ in range(50):
            with server.connect() as client:
                assert client.reply().startswith(b"421 4.7.0 ")
                assert client.reply() == b""
        with server.connect("127.0.0.2") as other:
            other.begin()


ENDS = (
    b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\n.\r", b"\r.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
    b"\r\0\n.\r\0\n",
    b"\n\r.\n\r", b"\r\n\n.\n\n", b"\n\n.\r\n", b"\r\n .\r\n", b"\r\n. \r\n", b"\r\n\t.\r\n", b"\r\n..\r\n", b"\x85.\x85", b"\x0b.\x0b", b"\x0c.\x0c",
    b"\xe2\x80\xa8.\xe2\x80\xa8", b"\x8d\x8a.\x8d\x8a", b"\r\n.\x8d\x8a", b"\\r\\n.\\r\\n", b"\r\n\xef\xbc\x8e\r\n",
)  # fmt: skip
"""What is not the end of a message, and what some program somewhere has taken for one."""
_SECOND = b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@mx.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n"


@pytest.mark.parametrize("mode", ["refuse", "normalise"])
def test_no_end_of_data_but_the_right_one_lets_a_second_transaction_in(tmp_path: Path, mode: str) -> None:
    maildir = tmp_path / "mail"
    with running(tmp_path, "--delivery", f"maildir:{maildir}", "--bare-line-ends", mode) as server:
        for end in ENDS:
            for pieces in (
                [b"first" + end + _SECOND + b".\r\n"],
                [b"first", end, _SECOND, b".\r\n"],
                [b"first" + end[:-1], end[-1:] + _SECOND + b".\r\n"],
            ):
                before = set(maildir.glob("new/*"))
                with server.connect() as client:
                    client.begin()
                    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    for piece in pieces:
                        client.say(piece)
                    answer = client.reply()
                    assert client.ask(b"QUIT\r\n").startswith(b"221 "), f"more than one reply after {end!r}"
                stored = set(maildir.glob("new/*")) - before
                bare = not end.strip(b"\r\n") or re.search(rb"\0|(?<!\r)\n|\r(?!\n)", end)
                assert answer.startswith(b"550 5.6.0 " if mode == "refuse" and bare else b"250 2.0.0 "), f"{end!r}: {answer!r}"
                assert len(stored) == answer.startswith(b"250"), f"{len(stored)} messages of {end!r}"
                for path in stored:
                    content = path.read_bytes()
                    assert b"Return-Path: <a@client.test>" in content and content.count(b"Return-Path") == 1
                    assert content.rstrip().endswith(b"smuggled")
        assert not list(maildir.glob("tmp/*"))
