"""``python -m benchmarks send``: a Maildir from one end to the other, by ours and by other programs, as a user waits for it.

Knows the programs, and the servers they send to. What counts is the time from the start of a program to its end, in seconds for the whole Maildir.
Each was started once before, so that those in Python find their bytecode, as they do where they are installed.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from . import report
from .processes import CannotRun, Process, cores, pinned
from .servers import SERVERS
from .workloads import WORKLOADS

_PEERS = Path(__file__).with_name("peers")
_OURS = "smtplite send"
_FAR = 0.005
"""Seconds to a far server; as many back."""
_PATIENCE = 300.0


@dataclass(frozen=True)
class Program:
    """What sends: its command, given port, Maildir and number of messages; and how many it is given where each takes long."""

    command: Callable[[int, Path, int], list[str]]
    most: dict[str, int] = field(default_factory=dict)
    missing: Callable[[], str | None] = lambda: None


def _smtplite(port: int, maildir: Path, count: int) -> list[str]:
    return [sys.executable, "-m", "twisted_smtplite", "send", "--quiet", "--server", f"127.0.0.1:{port}", str(maildir)]


def _smtplib(form: str) -> Callable[[int, Path, int], list[str]]:
    return lambda port, maildir, count: [sys.executable, str(_PEERS / "smtplib_send.py"), "127.0.0.1", str(port), str(maildir), str(count), form]


def _swaks(port: int, maildir: Path, count: int) -> list[str]:
    # It sends one message each time that it is started, and takes it in its options.
    each = f'swaks --silent 2 --server 127.0.0.1:{port} --from ann@client.test --to ben@mx.test --data - < "$file" || exit 1'
    return ["sh", "-c", f"find {shlex.quote(str(maildir / 'new'))} -type f | head -n {count} | while read -r file; do {each}; done"]


def _swaksMissing() -> str | None:
    return None if shutil.which("swaks") else "the program is not there (Debian: apt install swaks)."


PROGRAMS = {
    _OURS: Program(_smtplite),
    "smtplib, sendmail": Program(_smtplib("octets"), {"far": 100}),
    "smtplib, send_message": Program(_smtplib("message"), {"far": 100}),
    "swaks": Program(_swaks, {"sink": 30, "disk": 30, "far": 30}, _swaksMissing),
}
PLACES = {
    "sink": "smtp-sink, which discards",
    "disk": "smtplite, a Maildir, each message safe on disk before 250",
    "far": f"smtp-sink, {2000 * _FAR:.0f} ms for a round trip",
}


def makeMaildir(path: Path, count: int) -> None:
    """Messages as people write them, 1 to 20 KiB, the same each time."""
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz.", k=rng.randrange(2, 12))) for _ in range(500)]
    for number in range(count):
        head = (
            f"From: Ann <ann@client.test>\nTo: Ben <ben@mx.test>\nSubject: Message {number}\nDate: Tue, 24 Nov 2026 12:00:00 +0000\n"
            f"Message-ID: <{number}@client.test>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n\n"
        )
        lines = (" ".join(rng.choices(words, k=10)) for _ in range(rng.choice((10, 20, 40, 80, 250))))
        (path / "new" / f"{1_700_000_000 + number}.M{number}P1.client.test").write_text(head + "\n".join(lines) + "\n")


@contextmanager
def serving(place: str, directory: Path) -> Iterator[int]:
    """The port of the server at a place."""
    ours = place == "disk"
    server = SERVERS["smtplite" if ours else "smtp-sink"].start(WORKLOADS["W8" if ours else "W1"], cores()[0], directory / "server")
    processes = [server]
    try:
        if place == "far":
            processes.append(Process([sys.executable, str(_PEERS / "delay.py"), str(server.port), str(_FAR)], cores()[0], directory / "delay"))
        yield processes[-1].port
    finally:
        for process in reversed(processes):
            process.stop()


def environment(directory: Path) -> dict[str, str]:
    """What programs are started with: bytecode is kept in a directory, whatever the environment of the benchmark says."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPYCACHEPREFIX": str(directory)}


def run(program: Program, port: int, maildir: Path, count: int, bytecode: Path) -> float:
    """Sends `count` messages. Returns the seconds that it took.

    Raises:
        CannotRun: the program failed.
    """
    began = time.monotonic()
    with pinned(cores()[1]):
        done = subprocess.run(program.command(port, maildir, count), capture_output=True, text=True, timeout=_PATIENCE, env=environment(bytecode))
    if done.returncode:
        raise CannotRun(f"A program failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return time.monotonic() - began


def compare(place: str, names: Sequence[str], maildir: Path, messages: int, rounds: int, directory: Path, say: Callable[[str], None]) -> str:
    """Measures programs side by side, A B C, A B C. Returns a table."""
    counts = {name: min(messages, PROGRAMS[name].most.get(place, messages)) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with serving(place, directory) as port:
        for name in names:
            run(PROGRAMS[name], port, maildir.with_name("one"), 1, directory / "bytecode")
        for turn in range(rounds):
            for name in names:
                whole = run(PROGRAMS[name], port, maildir, counts[name], directory / "bytecode") * messages / counts[name]
                seconds[name].append(whole)
                say(f"{place} round {turn + 1}: {name} {whole:,.2f} s")
    rows = [f"### {place}: {PLACES[place]}", "", "| program | seconds | messages/s | smtplite is faster by |", "|---|--:|--:|--:|"]
    for name, times in seconds.items():
        scaled = "" if counts[name] == messages else f" (from {counts[name]} messages)"
        ratio = "" if name == _OURS else f"{median(theirs / ours for ours, theirs in zip(seconds[_OURS], times, strict=True)):.1f} x"
        rows.append(f"| {name}{scaled} | {median(times):,.2f} | {messages / median(times):,.0f} | {ratio} |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str], say: Callable[[str], None]) -> None:
    """Measures, and prints tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks send", description="Measures smtplite send beside other programs that send mail.")
    parser.add_argument("--places", default=",".join(PLACES), help="where to (%(default)s)")
    parser.add_argument("--messages", type=int, default=1000, help="in the Maildir (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the medians count (%(default)s)")
    options = parser.parse_args(arguments)
    places = options.places.split(",")
    if not set(places) <= set(PLACES) or options.messages < 1 or options.rounds < 1:
        raise CannotRun(f"--places are some of {', '.join(PLACES)}; --messages and --rounds must be 1 or more.")
    missing = {name: reason for name, program in PROGRAMS.items() if (reason := program.missing()) is not None}
    for name, reason in missing.items():
        say(f"{name} is left out: {reason}")
    names = [name for name in PROGRAMS if name not in missing]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        maildir = Path(folder) / "Maildir"
        makeMaildir(maildir, options.messages)
        makeMaildir(maildir.with_name("one"), 1)
        tables = [compare(place, names, maildir, options.messages, options.rounds, Path(folder) / place, say) for place in places]
    command = shlex.join(["python", "-m", "benchmarks", "send", *arguments])
    print(f"{', '.join(f'{key} {value}' for key, value in report.machine().items())}\n`{command}`\n")
    print(f"{options.messages:,} messages; seconds from the start of a program to its end\n")
    print("\n".join(tables))
