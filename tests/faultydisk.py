"""A disk and a database that fail when they are told to: what the tests of those who store mail share."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest

from twisted_smtplite.delivery import database, durable


class FaultyDisk:
    """The module os as the stores see it. Counts the calls that touch the disk, and fails one of them."""

    CALLS = frozenset({"open", "write", "fsync", "rename", "close", "mkdir", "pread", "unlink", "listdir"})

    def __init__(self) -> None:
        self.count = 0
        self.failing = -1
        self.code = errno.EIO
        self.short = False
        self._lock = threading.Lock()

    def fail(self, number: int, code: int) -> None:
        """Lets the call with this number fail, counted from now, and no other."""
        self.count, self.failing, self.code = 0, number, code

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.CALLS:
            return real

        def call(*arguments: Any) -> Any:
            with self._lock:
                fails = self.count == self.failing
                self.count += 1
            if fails:
                if name == "close":
                    real(*arguments)
                elif name == "write":
                    # Some of it reached the disk.
                    real(arguments[0], arguments[1][:10])
                raise OSError(self.code, os.strerror(self.code))
            if name == "write" and self.short:
                return real(arguments[0], arguments[1][: max(1, len(arguments[1]) // 2)])
            return real(*arguments)

        return call


class FaultyDatabase:
    """A connection of which one statement fails."""

    count = 0
    failing = -1

    def __init__(self, real: sqlite3.Connection, text: str) -> None:
        self._real = real
        self._text = text

    @classmethod
    def opener(cls, text: str) -> Callable[..., Any]:
        real = database.openToWrite
        return lambda *arguments: cls(real(*arguments), text)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in ("execute", "executemany"):
            return real

        def call(*arguments: Any) -> Any:
            kind = type(self)
            kind.count += 1
            if kind.count - 1 == kind.failing:
                raise sqlite3.OperationalError(self._text)
            return real(*arguments)

        return call


def failingDisk(monkeypatch: pytest.MonkeyPatch) -> FaultyDisk:
    """Has all that is stored go to such a disk."""
    disk = FaultyDisk()
    monkeypatch.setattr(durable, "os", disk)
    monkeypatch.setattr(database, "os", disk)
    return disk
