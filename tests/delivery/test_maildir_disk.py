"""A Maildir whose disk fails, and one whose clients leave: what is accepted is safe, and nothing else stays."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, LARGE, anEnvelope, begin, breakOff, deliver, quiet, refusalOf
from mailfiles import body, filesIn, onlyFile
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs

from twisted_smtplite.delivery import durable, storing
from twisted_smtplite.delivery.threads import Threads

# ---- Durability.


class FaultyOS:
    """The module os, of which one function fails or is told of; the test says when."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: dict[str, Callable[..., bool]] = {}
        self.errno = errno.EIO
        self.shortWrites = False

    def fail(self, name: str, code: int, when: Callable[..., bool] = lambda *arguments: True) -> None:
        self.errno = code
        self.faults[name] = when

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "fsync", "rename", "close", "mkdir", "pread", "unlink"):
            return real

        def call(*arguments: Any) -> Any:
            where = Path(arguments[0]).parent.name + "/" if isinstance(arguments[0], str) else ""
            self.calls.append(f"{name} {where}".strip())
            if self.faults.get(name, lambda *arguments: False)(*arguments):
                if name == "close":
                    os.close(*arguments)
                raise OSError(self.errno, os.strerror(self.errno))
            if name == "write" and self.shortWrites:
                return os.write(arguments[0], arguments[1][:3])
            return real(*arguments)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FaultyOS:
    disk = FaultyOS()
    monkeypatch.setattr(durable, "os", disk)
    return disk


@pytest_twisted.ensureDeferred
async def test_file_then_name_then_directory_are_safe_before_the_message_is_accepted(makeMaildir: Any, disk: FaultyOS) -> None:
    delivery = makeMaildir()
    await deliver(delivery)
    disk.calls.clear()
    await deliver(delivery)
    # `open in/` is the directory new, opened to be synced.
    assert disk.calls == ["open tmp/", "write", "fsync", "close", "rename tmp/", "open in/", "fsync", "close"]


@pytest_twisted.ensureDeferred
async def test_short_writes_are_continued(makeMaildir: Any, tmp_path: Path, disk: FaultyOS) -> None:
    disk.shortWrites = True
    await deliver(makeMaildir())
    assert body(onlyFile(tmp_path)) == CONTENT.replace(b"\r\n", b"\n")


# What the client hears.
FULL, LATER = (452, "4.3.1"), (451, "4.3.0")
CAUSES = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EACCES: LATER, errno.EROFS: LATER, errno.EIO: LATER}
STEPS: dict[str, tuple[str, Callable[..., bool]]] = {
    "create": ("open", lambda path, *flags: "/tmp/" in path.removeprefix("/tmp/")),
    "write": ("write", lambda *arguments: True),
    "syncFile": ("fsync", lambda fd: stat.S_ISREG(os.fstat(fd).st_mode)),
    "close": ("close", lambda fd: stat.S_ISREG(os.fstat(fd).st_mode)),
    "rename": ("rename", lambda *arguments: True),
    "openDirectory": ("open", lambda path, *flags: path.endswith("/new")),
    "syncDirectory": ("fsync", lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode)),
}


@pytest.mark.parametrize("code", CAUSES, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("content", [[CONTENT], LARGE], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_stored_is_refused_and_leaves_nothing(
    makeMaildir: Any, tmp_path: Path, disk: FaultyOS, step: str, code: int, content: list[bytes]
) -> None:
    delivery = makeMaildir()
    await deliver(delivery)
    (first,) = filesIn(tmp_path)
    disk.fail(STEPS[step][0], code, STEPS[step][1])
    outcome = await refusalOf(delivery, content)
    assert (outcome.code, outcome.enhanced) == CAUSES[code]
    assert filesIn(tmp_path) == [first]
    disk.faults.clear()
    assert await deliver(delivery, content) == "E1"


@pytest_twisted.ensureDeferred
async def test_a_file_that_cannot_be_taken_away_does_not_hide_the_cause(makeMaildir: Any, disk: FaultyOS) -> None:
    delivery = makeMaildir()
    await deliver(delivery)
    disk.fail("fsync", errno.ENOSPC, STEPS["syncFile"][1])
    disk.fail("close", errno.ENOSPC, STEPS["close"][1])
    disk.fail("unlink", errno.ENOSPC)
    assert (await refusalOf(delivery, [CONTENT])).code == 452
    assert disk.calls[-3:] == ["fsync", "close", "unlink tmp/"]


@pytest_twisted.ensureDeferred
async def test_a_cause_is_logged_once_in_an_hour(makeMaildir: Any, disk: FaultyOS, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = makeMaildir()
    disk.fail("fsync", errno.ENOSPC)
    with capturedLogs() as events:
        for _ in range(3):
            await refusalOf(delivery, [CONTENT])
        disk.fail("fsync", errno.EIO)
        await refusalOf(delivery, [CONTENT])
        monkeypatch.setattr(storing, "_REPORT_AGAIN", 0.0)
        await refusalOf(delivery, [CONTENT])
    causes = [event["cause"] for event in events if "cause" in event]
    assert causes == [os.strerror(errno.ENOSPC), os.strerror(errno.EIO), os.strerror(errno.EIO)]


# ---- The client leaves.


@pytest_twisted.ensureDeferred
async def test_a_small_message_that_breaks_off_never_touches_the_disk(makeMaildir: Any, tmp_path: Path, disk: FaultyOS) -> None:
    message = await begin(makeMaildir())
    message.dataReceived(CONTENT)
    message.connectionLost(Exception("gone"))
    assert not any(call.startswith("open tmp") for call in disk.calls)


@pytest.mark.parametrize("recipients", [["ben@mx.test"], ["ben@mx.test", "cy@mx.test"]])
@pytest.mark.parametrize("wait", [True, False], ids=["between writes", "during a write"])
@pytest_twisted.ensureDeferred
async def test_a_large_message_that_breaks_off_leaves_nothing(makeMaildir: Any, tmp_path: Path, wait: bool, recipients: list[str]) -> None:
    delivery = makeMaildir(users=True)
    message = await begin(delivery, anEnvelope(*recipients))
    await breakOff(message, LARGE, waiting=wait)
    await quiet(delivery)
    assert filesIn(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_cut_off_by_the_end_leaves_nothing(makeMaildir: Any, tmp_path: Path) -> None:
    delivery = makeMaildir()
    await breakOff(await begin(delivery), LARGE, waiting=False)
    delivery.stopService()
    assert filesIn(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_message_whose_client_left_before_its_turn_is_not_stored(makeMaildir: Any, tmp_path: Path) -> None:
    delivery = makeMaildir()
    message = await begin(delivery)
    message.dataReceived(CONTENT)
    with busy(delivery._threads()):
        answer = Deferred.fromCoroutine(message.eomReceived())
        answer.addErrback(lambda failure: failure.trap(CancelledError))
        answer.cancel()
    await quiet(delivery)
    assert filesIn(tmp_path) == []


@contextmanager
def busy(threads: Threads) -> Iterator[None]:
    """Keeps all threads busy inside the block."""
    ready, go = Semaphore(0), Event()

    def wait() -> None:
        ready.release()
        go.wait()

    for _ in range(threads._most):
        threads.run(wait)
    for _ in range(threads._most):
        ready.acquire()
    yield
    go.set()
