"""The files of a Maildir, and names that had better not become files."""

from __future__ import annotations

from pathlib import Path

HOSTILE = ["../../etc", "/etc/passwd", "..", ".", "", ".forward", "a/b", "a\\b", "a\x00b", "ü", "%41", "A", "a b", "x" * 300, "~root", "\ud800"]
HOSTILE += ["-rf", "new\n", "tmp", "con"]


def filesIn(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def onlyFile(path: Path) -> bytes:
    (file,) = filesIn(path)
    return file.read_bytes()


def body(stored: bytes) -> bytes:
    """What is below the Received field that the server added."""
    return stored.partition(b"Received:")[2].partition(b"+0000\n" if b"+0000\n" in stored else b"00\n")[2]


def leftOver(path: Path) -> list[Path]:
    return [file for file in filesIn(path) if file.parent.name != "new"]
