"""``python -m benchmarks``: compare servers; ``... send``: compare programs that send; ``... profile``: where the time of our server goes.

Knows the command line. Must not know how anything is measured.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from . import fairness, profile, report, sending
from .measure import Load, Result, compare
from .processes import CannotRun, compileLoad, raiseFileLimit
from .servers import OURS, SERVERS
from .workloads import WORKLOADS

T = TypeVar("T")
_PEERS = {name: server for name, server in SERVERS.items() if name != OURS}


def _choose(rows: Mapping[str, T], names: str, what: str) -> list[T]:
    wanted = list(dict.fromkeys(name for name in names.split(",") if name))
    unknown = [name for name in wanted if name not in rows]
    if unknown:
        raise CannotRun(f"There is no {what} {', '.join(unknown)}; there are {', '.join(rows)}.")
    return [rows[name] for name in wanted]


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    titles = "\n".join(f"  {row.name:4} {row.title}" for row in WORKLOADS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures smtplite beside other SMTP servers, server and load generator on a core each.",
        epilog=f"workloads:\n{titles}\n\nSee also, with --help: python -m benchmarks send, profile, fairness",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", default=",".join(_PEERS), help="who is measured beside ours (%(default)s)")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="what is played (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the medians count (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the medians")
    return parser


def _compare(arguments: Sequence[str]) -> None:
    options = _parser().parse_args(arguments)
    if options.rounds < 1 or options.seconds <= 0:
        raise CannotRun("--rounds must be 1 or more, and --seconds more than 0.")
    servers = [SERVERS[OURS], *_choose(_PEERS, options.peers, "peer")]
    workloads = _choose(WORKLOADS, options.workloads, "workload")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        directory = Path(name)
        load = Load(compileLoad(directory))
        for workload in workloads:
            where = directory / workload.name
            results.append(compare(workload, servers, load, where, rounds=options.rounds, seconds=options.seconds, say=_say))
    command = shlex.join(["python", "-m", "benchmarks", *arguments])
    print(f"{', '.join(f'{key} {value}' for key, value in report.machine().items())}\n`{command}`\n")
    print(report.table(results))
    if options.json:
        options.json.write_text(json.dumps(report.document(results, command), indent=1) + "\n")
    if options.svg:
        options.svg.write_text(report.chart(results))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    raiseFileLimit()
    try:
        if arguments[:1] == ["profile"]:
            profile.main(arguments[1:])
        elif arguments[:1] == ["fairness"]:
            fairness.main(arguments[1:])
        elif arguments[:1] == ["send"]:
            sending.main(arguments[1:], _say)
        else:
            _compare(arguments)
    except CannotRun as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


sys.exit(main(sys.argv[1:]))
