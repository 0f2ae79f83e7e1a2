"""The disk fails at each single call: who was refused is not in the queue, who was accepted is there whole, progress is kept or can be kept again."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from faultydisk import FaultyDatabase, FaultyDisk, failingDisk
from queueing import CONTENT, LARGE, anEnvelope, aReport, bodies, put, room, take, text
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from twisted_smtplite.delivery import database
from twisted_smtplite.model.reply import Refused, Reply
from twisted_smtplite.queue.entries import QueuedMessage, State
from twisted_smtplite.queue.store import QueueStore

LOT = {"small": CONTENT, "large": LARGE, "other": CONTENT}
REPLIES = {errno.EIO: 451, errno.ENOSPC: 452}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], QueueStore]]:
    made = []

    def make() -> QueueStore:
        made.append(QueueStore(str(tmp_path / "queue"), reactor))
        return made[-1]

    yield make
    for store in made:
        store.stopService()


async def _putOne(store: QueueStore, name: str, content: bytes) -> int | None:
    """Returns the code of the refusal, None when it was accepted."""
    try:
        outcome = await put(store, anEnvelope(name), content)
    except Refused as refusal:
        return refusal.reply.code
    return outcome.code if isinstance(outcome, Reply) else None


async def putLot(store: QueueStore, mark: str) -> dict[str, int | None]:
    names = [f"{mark}{kind}" for kind in LOT]
    codes = await gatherResults([Deferred.fromCoroutine(_putOne(store, name, content)) for name, content in zip(names, LOT.values(), strict=True)])
    return dict(zip(names, codes, strict=True))


async def everything(store: QueueStore) -> set[str]:
    """All that is in the queue; each must be whole."""
    messages = await take(store, count=10_000)
    for name, message in messages.items():
        assert await text(store, message) == next((content for kind, content in LOT.items() if name.endswith(kind)), CONTENT)
        store.putBack(message, message.progress)
    return set(messages)


@pytest.mark.parametrize("code", REPLIES, ids=errno.errorcode.get)
@pytest_twisted.ensureDeferred
async def test_a_call_that_fails_refuses_its_messages_and_no_others(make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int) -> None:
    disk: FaultyDisk = failingDisk(monkeypatch)
    store = make()
    accepted = set(await putLot(store, "first"))
    disk.fail(-1, code)
    accepted |= set(await putLot(store, "counted"))
    refusals = 0
    for number in range(disk.count):
        disk.fail(number, code)
        codes = await putLot(store, f"c{number}")
        disk.fail(-1, code)
        assert set(codes.values()) <= {None, REPLIES[code]}
        refusals += sum(reply is not None for reply in codes.values())
        accepted |= {name for name, reply in codes.items() if reply is None}
        assert await everything(store) == accepted, f"after call {number}"
        assert len(bodies(tmp_path / "queue")) == sum(name.endswith("large") for name in accepted), f"after call {number}"
    assert refusals


@pytest.mark.parametrize(("words", "reply"), [("disk I/O error", 451), ("database or disk is full", 452)])
@pytest_twisted.ensureDeferred
async def test_a_statement_that_fails_refuses_all_of_its_transaction(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, reply: int
) -> None:
    store = make()
    accepted = set(await putLot(store, "first"))
    monkeypatch.setattr(database, "openToWrite", FaultyDatabase.opener(words))
    store.database.disconnect()
    FaultyDatabase.count, FaultyDatabase.failing = 0, -1
    accepted |= set(await putLot(store, "counted"))
    for number in range(FaultyDatabase.count):
        FaultyDatabase.count, FaultyDatabase.failing = 0, number
        codes = await putLot(store, f"s{number}")
        FaultyDatabase.failing = -1
        assert set(codes.values()) <= {None, reply}
        accepted |= {name for name, refused in codes.items() if refused is None}
        assert await everything(store) == accepted
    store.stopService()
    assert await everything(make()) == accepted
    assert len(bodies(tmp_path / "queue")) == sum(name.endswith("large") for name in accepted)


@pytest_twisted.ensureDeferred
async def test_progress_whose_record_failed_at_any_statement_can_be_recorded_again(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(database, "openToWrite", FaultyDatabase.opener("disk I/O error"))
    FaultyDatabase.failing = -1
    store = make()
    failures = number = 0
    while True:
        await put(store, anEnvelope(f"m{number}"), LARGE)
        message: QueuedMessage = (await take(store))[f"m{number}"]
        message.progress[0].state = State.FAILED
        FaultyDatabase.count, FaultyDatabase.failing = 0, number
        try:
            await store.record(message, [aReport(f"r{number}")])
        except Exception:  # noqa: BLE001 - whatever it was
            failures += 1
            FaultyDatabase.failing = -1
            assert await store.due(1e12, room(10)) == [], "it is still taken"
            await store.record(message, [aReport(f"r{number}")])
        done, FaultyDatabase.failing = FaultyDatabase.count <= number, -1
        # The message is gone with its file, and its report is there once.
        assert set(await take(store)) == {f"r{number}"} and bodies(tmp_path / "queue") == []
        number += 1
        if done:
            break
    assert failures > 5
