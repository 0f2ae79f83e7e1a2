"""Runs workloads against servers in interleaved rounds.

Knows the load generator's output and what is computed from it. Must not know how results are shown.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from .processes import CannotRun, Process, cores, keepApart, pinned
from .servers import OURS, Server
from .workloads import Measure, Workload

_PATIENCE = 300.0


@dataclass(frozen=True)
class Sample:
    """One round of one server.

    Attributes:
        value: the figure the workload is about, in its unit.
        messagesPerSecond: accepted messages.
        megabytesPerSecond: message octets, without stuffed dots and terminators.
        cpuMicroseconds: processor time of the server for one message.
        p50: median time from MAIL (or from connecting, with a connection for each message) to the final reply, in ms.
        p99: the 99th percentile of the same.
    """

    value: float
    messagesPerSecond: float = 0.0
    megabytesPerSecond: float = 0.0
    cpuMicroseconds: float = 0.0
    p50: float = 0.0
    p99: float = 0.0


@dataclass
class Result:
    """All rounds of one workload: samples by server, in the order of the servers, and why servers were left out."""

    workload: Workload
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    leftOut: dict[str, str] = field(default_factory=dict)

    def middle(self, name: str) -> Sample:
        """Each figure's median over the rounds of a server."""
        rows = [asdict(sample) for sample in self.samples[name]]
        return Sample(**{key: median(row[key] for row in rows) for key in rows[0]})

    def ratio(self, name: str) -> float | None:
        """How many times better ours is than `name`: the median of the ratios within each round, which noise touches alike."""
        if name == OURS or OURS not in self.samples:
            return None
        pairs = zip(self.samples[OURS], self.samples[name], strict=True)
        ratios = [ours.value / theirs.value for ours, theirs in pairs if theirs.value > 0 and ours.value > 0]
        if not ratios:
            return None
        return 1 / median(ratios) if self.workload.measure is Measure.MEMORY else median(ratios)


class Load:
    """The compiled load generator, on a core of its own."""

    def __init__(self, program: Path) -> None:
        """`program` as `compileLoad` returns it."""
        self.program = program

    def run(self, port: int, workload: Workload, *, messages: int = 0, seconds: float = 0.0) -> Mapping[str, float]:
        """Plays `workload` for a number of messages or a time, and returns the generator's report.

        Raises:
            CannotRun: a reply was not the expected one, or the server went away.
        """
        length = ("--messages", str(messages)) if messages else ("--seconds", str(seconds))
        with pinned(cores()[1]):
            done = subprocess.run(self._command(port, workload, *length), capture_output=True, text=True, timeout=_PATIENCE + seconds)
        if done.returncode:
            raise CannotRun(f"{workload.name} broke off. {done.stderr.strip()}")
        return _report(done.stdout)

    def holdIdle(self, server: Process, workload: Workload) -> float:
        """Opens idle connections, and returns by how many KiB per connection the server grew."""
        before = server.residentKibibytes()
        with pinned(cores()[1]):
            child = subprocess.Popen(
                self._command(server.port, workload), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        assert child.stdout is not None
        line = child.stdout.readline()
        grown = server.residentKibibytes() - before
        _, complaint = child.communicate(timeout=_PATIENCE)
        if child.returncode:
            raise CannotRun(f"{workload.name} broke off. {complaint.strip()}")
        return grown / _report(line)["ready"]

    def _command(self, port: int, workload: Workload, *length: str) -> list[str]:
        return [str(self.program), "--port", str(port), *workload.arguments, *length]


def _report(line: str) -> Mapping[str, float]:
    report: Mapping[str, float] = json.loads(line)
    return report


def compare(
    workload: Workload, servers: Sequence[Server], load: Load, directory: Path, *, rounds: int, seconds: float, say: Callable[[str], None]
) -> Result:
    """Measures `servers` side by side: A B C, A B C, ... so that what else the machine does falls on all of them.

    Args:
        workload: what to play.
        servers: who plays.
        load: the generator.
        directory: an empty one for what the servers write.
        rounds: how many; idle connections have one, since they need a new process each.
        seconds: length of each.
        say: is told of progress, in sentences.
    """
    result = Result(workload)
    running: dict[str, Process] = {}
    keepApart(directory)
    try:
        for server in servers:
            reason = _begin(server, workload, load, directory / server.name, running)
            if reason is None:
                result.samples[server.name] = []
            else:
                result.leftOut[server.name] = reason
                say(reason)
        for turn in range(1 if workload.idle else rounds):
            for name in list(result.samples):
                sample = _sample(running[name], workload, load, seconds)
                result.samples[name].append(sample)
                say(f"{workload.name} round {turn + 1}: {name} {sample.value:,.1f} {workload.measure.value}")
    finally:
        for process in running.values():
            process.stop()
    return result


def _begin(server: Server, workload: Workload, load: Load, directory: Path, running: dict[str, Process]) -> str | None:
    """Starts a server, adds it to `running` and warms it up. Returns why that cannot be, or None."""
    try:
        running[server.name] = server.start(workload, cores()[0], directory)
        if workload.warmUp:
            load.run(running[server.name].port, workload, messages=workload.warmUp)
    except CannotRun as error:
        return str(error)
    return None


def _sample(server: Process, workload: Workload, load: Load, seconds: float) -> Sample:
    # What the round before left to do (lingering connections, logs) is not this round's work.
    time.sleep(0.2)
    if workload.idle:
        return Sample(load.holdIdle(server, workload))
    before = server.cpuSeconds()
    report = load.run(server.port, workload, seconds=seconds)
    cpu = server.cpuSeconds() - before
    rate, octets = report["messagesPerSecond"], report["megabytesPerSecond"]
    value = octets if workload.measure is Measure.OCTETS else rate
    return Sample(value, rate, octets, cpu * 1e6 / max(report["messages"], 1), report["p50"], report["p99"])
