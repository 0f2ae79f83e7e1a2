"""How long a small message waits beside a client that keeps the server busy: ``python -m benchmarks fairness``.

One connection sends 1 KiB messages in lockstep, and each is timed from its MAIL to its last reply: alone, beside a client that streams bodies of
40 MiB, and beside one that sends commands by the hundred thousand without waiting. All clients share the core that the server is not on, so the
figures hold what they take from each other too. Knows sockets and percentiles. Must not know what good figures are.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .dialogue import BODY, DATA, HELLO, MAIL, RCPT
from .processes import CannotRun, compileLoad, cores, pinned
from .servers import OURS, SERVERS
from .workloads import MEBIBYTE, WORKLOADS

_BODY = 40 * MEBIBYTE
_COMMANDS = 100_000
# A process of its own: sends the commands as fast as they are taken, reads the replies, and begins again, in a new session before the server ends it.
_FLOOD = f"""
import socket, sys, threading
size = {_COMMANDS} * len(b"250 2.0.0 OK\\r\\n")
while True:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
        client.recv(1000)
        client.sendall(b"EHLO flood.test\\r\\n")
        client.recv(10000)
        for _ in range(9):
            threading.Thread(target=client.sendall, args=(b"NOOP\\r\\n" * {_COMMANDS},), daemon=True).start()
            left = size
            while left > 0:
                left -= len(client.recv(1 << 20)) or sys.exit("the server has closed the connection")
"""


def main(arguments: Sequence[str]) -> None:
    """Prints the table.

    Raises:
        CannotRun: something needed is missing, or the server said what it should not.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks fairness", description="Times small messages beside a client that wants much.")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement (%(default)s)")
    seconds = parser.parse_args(arguments).seconds
    rows = ["| beside | messages | p50 ms | p99 ms | worst ms |", "|---|--:|--:|--:|--:|"]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        directory = Path(name)
        load = str(compileLoad(directory))
        server = SERVERS[OURS].start(WORKLOADS["W1"], cores()[0], directory / OURS)
        try:
            port = str(server.port)
            neighbours: dict[str, list[str]] = {
                "nobody": [],
                f"a client that streams bodies of {_BODY // MEBIBYTE} MiB": [load, "--port", port, "--size", str(_BODY), "--seconds", "600"],
                f"a client that sends {_COMMANDS:,} commands at a time": [sys.executable, "-c", _FLOOD, port],
            }
            with pinned(cores()[1]):
                _latencies(server.port, 0.5)
                for title, command in neighbours.items():
                    with _running(command):
                        taken = sorted(_latencies(server.port, seconds))
                    rows.append(f"| {title} | {len(taken):,} | {_at(taken, 0.5):.2f} | {_at(taken, 0.99):.2f} | {taken[-1]:.2f} |")
        finally:
            server.stop()
    print("\n".join(rows))


def _at(ordered: Sequence[float], part: float) -> float:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    """A neighbour that works inside the block, and still does at its end."""
    if not command:
        yield
        return
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        # Until it is in full swing.
        time.sleep(1)
        yield
        if child.poll() is not None:
            raise CannotRun("The client beside the measured one has ended.")
    finally:
        child.kill()
        child.wait()


def _latencies(port: int, seconds: float) -> list[float]:
    """Sends messages for so long. Returns how many milliseconds each took."""
    taken = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _expect(client, b"220")
        client.sendall(HELLO)
        _expect(client, b"250")
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            for data, code in ((MAIL, b"250"), (RCPT, b"250"), (DATA, b"354"), (BODY, b"250")):
                client.sendall(data)
                _expect(client, code)
            taken.append((time.perf_counter() - begun) * 1e3)
    return taken


def _expect(client: socket.socket, code: bytes) -> None:
    reply = client.recv(10_000)
    if not reply.startswith(code):
        raise CannotRun(f"The server said {reply!r}, not {code.decode()}.")
