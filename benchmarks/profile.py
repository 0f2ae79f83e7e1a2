"""Where the time goes: system calls of the real server, and processor time of each stage of the dialogue.

Knows strace and cProfile. Must not know what good figures are.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from twisted_smtplite.app.log import LogStream, TextForm
from twisted_smtplite.app.messagelog import MessageLog
from twisted_smtplite.interfaces import ISessionObserver

from .dialogue import BODY, DATA, LOCKSTEP, MAIL, PIPELINED, PLAIN_CHUNK, RCPT, STUFFED_CHUNK, Dialogue
from .measure import Load
from .processes import CannotRun, compileLoad, cores
from .servers import OURS, SERVERS
from .workloads import WORKLOADS, Measure, Workload

_ROWS = 25


def main(arguments: Sequence[str]) -> None:
    """Prints the profile that `arguments` ask for.

    Raises:
        CannotRun: something needed is missing, or there is no such workload.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description="Shows where the time of smtplite goes.")
    parser.add_argument(
        "--workload", default="W1", choices=[row.name for row in WORKLOADS.values() if not row.idle], help="what is played (%(default)s)"
    )
    options = parser.parse_args(arguments)
    workload = WORKLOADS[options.workload]
    print(_systemCalls(workload))
    print(_stages())
    print(_functions(workload))


def _systemCalls(workload: Workload) -> str:
    """System calls per message and per command."""
    strace = shutil.which("strace")
    if strace is None:
        return "System calls: strace is not there (Debian: apt install strace).\n"
    messages = 20 if workload.measure is Measure.OCTETS else 1000
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        directory = Path(name)
        load = Load(compileLoad(directory))
        server = SERVERS[OURS].start(workload, cores()[0], directory / OURS)
        try:
            load.run(server.port, workload, messages=max(workload.warmUp, 1))
            output = directory / "strace"
            tracer = subprocess.Popen([strace, "-c", "-f", "-p", str(server.pid), "-o", str(output)], stderr=subprocess.PIPE, text=True)
            assert tracer.stderr is not None
            attached = tracer.stderr.readline()
            if "attached" not in attached:
                tracer.wait()
                raise CannotRun(f"strace cannot look at the server: {attached.strip()}")
            load.run(server.port, workload, messages=messages)
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
            counts = _countCalls(output.read_text())
        finally:
            server.stop()
    commands = messages * workload.commands
    rows = [
        f"System calls, {workload.name} ({messages} messages, {workload.commands} commands each):",
        "",
        "| call | per message | per command |",
        "|---|--:|--:|",
    ]
    rows += [f"| {call} | {count / messages:,.2f} | {count / commands:,.2f} |" for call, count in counts if count * 100 >= messages]
    total = sum(count for _, count in counts)
    return "\n".join([*rows, f"| all | {total / messages:,.2f} | {total / commands:,.2f} |", ""])


def _countCalls(summary: str) -> list[tuple[str, int]]:
    """The calls and their numbers, most first, from what ``strace -c`` writes: % time, seconds, usecs/call, calls, errors or nothing, name."""
    counts = []
    for line in summary.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            counts.append((fields[-1], int(fields[3])))
    return sorted(counts, key=lambda row: -row[1])


def _withLog(reactor: IReactorTime) -> ISessionObserver:
    """The message log as it is by default, written to memory."""
    stream = LogStream(TextForm(), reactor, io.StringIO())
    stream({"log_format": "begins"})
    return MessageLog(stream)


def _stages() -> str:
    """Processor time of each read of the dialogue, without any instrument."""
    dialogue = Dialogue(_withLog)
    dialogue.play(LOCKSTEP, 200)
    rows = [(name, _timed(dialogue, LOCKSTEP, index)) for index, name in enumerate(("MAIL", "RCPT", "DATA", "1 KiB body, accepted and logged"))]
    plain = Dialogue()
    plain.play(LOCKSTEP, 200)
    rows.append(("1 KiB body, without message log", _timed(plain, LOCKSTEP, 3)))
    hundred = (MAIL + RCPT * 100 + DATA, BODY)
    rows.append(("MAIL, 100 RCPT, DATA in one read", _timed(plain, hundred, 0, 200)))
    rows.append(("NOOP", _timed(plain, (b"NOOP\r\n",), 0)))
    plain.play((MAIL, RCPT, DATA), 1)
    rows.append(("body, MAIL, RCPT, DATA in one read", _timed(plain, PIPELINED, 0)))
    for name, chunk in (("64 KiB of body", PLAIN_CHUNK), ("64 KiB of body, every 10th line stuffed", STUFFED_CHUNK)):
        plain.play((BODY + MAIL + RCPT + DATA,), 1)
        rows.append((name, _timed(plain, (chunk,), 0, 200)))
    rows.append(("connection, EHLO, QUIT", _perCall(plain.connectAndQuit)))
    return "\n".join(
        ["Processor time of the dialogue in process:", "", "| read | us |", "|---|--:|", *(f"| {name} | {us:,.2f} |" for name, us in rows), ""]
    )


def _timed(dialogue: Dialogue, reads: Sequence[bytes], which: int, times: int = 3000) -> float:
    """Microseconds that the read number `which` of `reads` takes, the fastest tenth of `times`: noise only ever adds."""
    feed, clock = dialogue.feed, time.perf_counter_ns
    taken = []
    for _ in range(times):
        for index, read in enumerate(reads):
            began = clock()
            feed(read)
            ended = clock()
            if index == which:
                taken.append(ended - began)
        dialogue.endTurn()
    taken.sort()
    return taken[len(taken) // 10] / 1e3


def _perCall(call: object, times: int = 1000) -> float:
    assert callable(call)
    began = time.perf_counter_ns()
    for _ in range(times):
        call()
    return (time.perf_counter_ns() - began) / times / 1e3


def _functions(workload: Workload, times: int = 3000) -> str:
    """The functions that the dialogue spends most time in, by cProfile: it makes small functions look dearer than they are."""
    dialogue = Dialogue(_withLog)
    reads: Sequence[bytes] = LOCKSTEP
    if "--pipelined" in workload.arguments:
        dialogue.play((MAIL, RCPT, DATA), 1)
        reads = PIPELINED
    elif workload.measure is Measure.OCTETS:
        times = 20
        chunk = STUFFED_CHUNK if "--stuff" in workload.arguments else PLAIN_CHUNK
        reads = (MAIL, RCPT, DATA, *[chunk] * 160, BODY)
    profiler = cProfile.Profile()
    profiler.enable()
    dialogue.play(reads, times)
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(_ROWS)
    return f"Functions of the dialogue in process, {times} transactions of {workload.name}:\n{text.getvalue()}"
