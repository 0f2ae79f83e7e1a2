"""``python -m benchmarks send``: it measures, and says what it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", "send", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=55)


@pytest.mark.slow
def test_a_table_for_each_place() -> None:
    if shutil.which("smtp-sink", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") is None:
        pytest.skip("smtp-sink is not installed")
    done = benchmarks("--messages", "20", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    for place in ("sink", "disk", "far"):
        assert f"### {place}: " in done.stdout
    assert done.stdout.count("| smtplite send | ") == done.stdout.count("| smtplib, sendmail | ") == 3


def test_unknown_places_are_answered_with_the_known_ones() -> None:
    done = benchmarks("--places", "moon")
    assert (done.returncode, done.stderr) == (1, "--places are some of sink, disk, far; --messages and --rounds must be 1 or more.\n")
