"""Counts processor instructions of the dialogue: ``python -m benchmarks.instructions`` fails when it has become a third slower.

Instructions hardly depend on what else the machine does, and their ratio to those of a fixed pure-Python loop hardly depends on the machine
or the build of Python. Each count is the difference of two runs, so that start-up and imports fall out. Knows perf and valgrind. Must not
know what the dialogue does.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_ACCEPTED = Path(__file__).with_name("instructions.json")
_ROOT = Path(__file__).parent.parent
_FEW, _MANY = 100, 400
_PATTERN = re.compile(r"([A-Z]+) <([a-z]+)@([a-z.]+)>")


class CannotCount(Exception):
    """Instructions cannot be counted here; the text says why."""


def dialogue(times: int) -> None:
    """One lockstep and one pipelined transaction, `times` times."""
    # Not at the top: the loop must not pay for these imports under valgrind.
    from .dialogue import BODY, DATA, LOCKSTEP, MAIL, PIPELINED, RCPT, Dialogue

    lockstep, pipelined = Dialogue(), Dialogue()
    pipelined.play((MAIL, RCPT, DATA), 1)
    gc.disable()
    lockstep.play(LOCKSTEP, times)
    pipelined.play(PIPELINED, times)
    pipelined.play((BODY,), 1)


def loop(times: int) -> None:
    """The yardstick: calls, slices, a dict and a regular expression. Changing it makes every accepted ratio worthless."""
    table = {f"KEY{number}": number for number in range(64)}
    gc.disable()
    for _ in range(times):
        found = []
        for number in range(60):
            data = b"KEY%d <user@example.test>\r\n" % (number % 64)
            text = data[: data.find(b"\r\n")].decode()
            word, _, rest = text.partition(" ")
            match = _PATTERN.match("A " + rest)
            if match is not None and table.get(word) is not None:
                found.append((match[2], _length(match[3])))
        assert len(found) == 60


def _length(text: str) -> int:
    return len(text)


def counter() -> list[str]:
    """The command that counts: perf where the processor's counters can be read, else callgrind.

    Raises:
        CannotCount: neither is there.
    """
    perf = shutil.which("perf")
    if perf is not None:
        command = [perf, "stat", "-x", ",", "-e", "instructions:u", "--"]
        if _number(subprocess.run([*command, "true"], capture_output=True, text=True).stderr) is not None:
            return command
    valgrind = shutil.which("valgrind")
    if valgrind is not None:
        return [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    raise CannotCount("Instructions cannot be counted here: neither perf with instructions:u nor valgrind is there (Debian: apt install valgrind).")


def _number(text: str) -> int | None:
    """The count in what perf or callgrind wrote."""
    match = re.search(r"^(\d+),[^,]*,instructions:u|Collected : (\d+)", text, re.MULTILINE)
    return int(match[1] or match[2]) if match else None


def _count(command: Sequence[str], work: str, times: int) -> int:
    # Hashes of text decide how dicts collide, and with that how much is done.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"}
    child = [*command, sys.executable, "-m", "benchmarks.instructions", "--work", work, "--times", str(times)]
    done = subprocess.run(child, cwd=_ROOT, env=environment, capture_output=True, text=True)
    number = _number(done.stderr)
    if done.returncode or number is None:
        raise CannotCount(f"{' '.join(child)} failed:\n{done.stderr}")
    return number


def ratio() -> float:
    """Instructions of the dialogue for one of the loop's.

    Raises:
        CannotCount: they cannot be counted here.
    """
    command = counter()
    # Byte code that is not cached yet would be counted in the first run only.
    for work in ("dialogue", "loop"):
        subprocess.run([sys.executable, "-m", "benchmarks.instructions", "--work", work, "--times", "1"], cwd=_ROOT, check=True)
    runs = [(work, times) for work in ("dialogue", "loop") for times in (_FEW, _MANY)]
    with ThreadPoolExecutor(2) as pool:
        few, many, loopFew, loopMany = pool.map(lambda run: _count(command, *run), runs)
    return (many - few) / (loopMany - loopFew)


def judge(measured: float, accepted: float, tolerance: float) -> str | None:
    """The sentence about a dialogue that has become too slow, or None."""
    if measured <= accepted * (1 + tolerance):
        return None
    return (
        f"The dialogue takes {measured / accepted:.2f} times the instructions that were accepted (ratio {measured:.3f}, accepted {accepted:.3f}, "
        f"tolerance {tolerance:.0%}): make it faster, or accept this with python -m benchmarks.instructions --accept."
    )


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 1 when the dialogue is too slow, or when nothing can be counted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--accept", action="store_true", help="note the measured ratio as the accepted one for this Python")
    parser.add_argument("--work", choices=("dialogue", "loop"), help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        (dialogue if options.work == "dialogue" else loop)(options.times)
        return 0
    try:
        measured = ratio()
    except CannotCount as error:
        print(error, file=sys.stderr)
        return 1
    stored = json.loads(_ACCEPTED.read_text())
    minor = ".".join(platform.python_version_tuple()[:2])
    if options.accept:
        stored["accepted"][minor] = round(measured, 3)
        _ACCEPTED.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    accepted = stored["accepted"].get(minor)
    if accepted is None:
        print(f"No ratio is accepted for Python {minor} yet; measured {measured:.3f}. Note it with python -m benchmarks.instructions --accept.")
        return 0
    complaint = judge(measured, accepted, stored["tolerance"])
    print(complaint or f"The dialogue takes {measured:.3f} instructions for one of the loop; accepted for Python {minor}: {accepted:.3f}.")
    return 1 if complaint else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
