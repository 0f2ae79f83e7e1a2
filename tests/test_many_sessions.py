"""How much memory a session costs, with very many of them at once against a server in a process of its own.

Memory is the server's resident set (VmRSS) before and after, divided by the sessions; what the kernel keeps for their sockets is not in it.
`python -m pytest tests/test_many_sessions.py -m slow -s` prints the figures of docs/performance.md.
"""

from __future__ import annotations

import re
import resource
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from serverprocess import Client, Server, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc"),
]
KIBI = 1024
# On a slow machine it may take longer than this until a session's turn comes again.
PATIENT = ("--command-timeout", "1800")


@pytest.fixture
def manyFiles() -> Iterator[int]:
    """As many open files as the system allows, for us and for the servers that we start. Gives their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(server: Server) -> int:
    """The memory that the server holds now, in octets."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert match
    return int(match[1]) * KIBI


def source(number: int) -> str:
    """An address for the client of this number: 250 share one, half of what is let in by default."""
    return f"127.0.1.{1 + number // 250}"


def plain(server: Server, number: int) -> Client:
    return greeted(server.connect(source(number)))


def greeted(client: Client) -> Client:
    assert client.reply().startswith(b"220 ")
    return introduced(client)


def introduced(client: Client) -> Client:
    assert client.ask(b"EHLO client.test\r\n").startswith(b"250 ")
    return client


def deliver(client: Client) -> None:
    assert client.ask(b"MAIL FROM:<a@client.test>\r\n").startswith(b"250 ")
    assert client.ask(b"RCPT TO:<b@mx.test>\r\n").startswith(b"250 ")
    assert client.ask(b"DATA\r\n").startswith(b"354 ")
    assert client.ask(b"Subject: x\r\n\r\ntext\r\n.\r\n").startswith(b"250 ")


def measure(what: str, server: Server, count: int, connect: Callable[[Server, int], Client]) -> tuple[float, float]:
    """Opens so many sessions and keeps them, then sends a message through each of them. Prints and returns KiB for each, idle and after that."""
    with ExitStack() as stack:
        # What a first session brings into memory counts for nobody.
        first = stack.enter_context(connect(server, 2 * count))
        deliver(first)
        before = resident(server)
        clients = [stack.enter_context(connect(server, number)) for number in range(count)]
        idle = (resident(server) - before) / count / KIBI
        for client in clients:
            deliver(client)
        used = (resident(server) - before) / count / KIBI
        # Nobody was dropped meanwhile.
        assert all(client.isServed() for client in clients)
    print(f"\n{count} {what} sessions: {idle:.1f} KiB each when idle, {used:.1f} KiB each after a message")
    return idle, used


def test_ten_thousand_plain_sessions(manyFiles: int, tmp_path: Path) -> None:
    if manyFiles < 10_100:
        pytest.skip("too few files may be open")
    with running(tmp_path, "--delivery", "null", *PATIENT) as server:
        idle, used = measure("plain", server, 10_000, plain)
    assert idle < 8
    assert used < 12


@pytest.mark.parametrize("count", [1_000, 5_000])
def test_thousands_of_tls_sessions(count: int, manyFiles: int, tmp_path: Path) -> None:
    if manyFiles < count + 100:
        pytest.skip("too few files may be open")
    authority = trustme.CA()
    certificate = tmp_path / "mx.pem"
    authority.issue_cert("mx.test").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def inside(server: Server, number: int) -> Client:
        client = plain(server, number)
        assert client.ask(b"STARTTLS\r\n").startswith(b"220 ")
        return introduced(Client(context.wrap_socket(client.socket, server_hostname="mx.test")))

    with running(tmp_path, "--delivery", "null", "--certificate", str(certificate), *PATIENT) as server:
        idle, used = measure("TLS", server, count, inside)
    assert idle < 60
    assert used < 60
