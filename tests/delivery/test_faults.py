"""The disk fails at each single call, for both stores: who was refused is not there, who was accepted is there whole, and nothing else stays."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
from driving import anEnvelope, begin, quiet, settle
from faultydisk import FaultyDatabase, FaultyDisk, failingDisk
from storeprobes import STORES, Store, signed, visibleNames
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from twisted_smtplite.delivery import database
from twisted_smtplite.delivery.maildir import MaildirDelivery
from twisted_smtplite.delivery.sqlite import SQLiteDelivery
from twisted_smtplite.model.reply import Refused, Reply

LOT = {"small": 1_000, "large": 600_000, "middle": 50_000}
"""Messages that end together, with their sizes in octets: one of them goes to its file while it arrives."""
REPLIES = {errno.EIO: 451, errno.ENOSPC: 452}
everyStore = pytest.mark.parametrize("store", STORES.values(), ids=STORES)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FaultyDisk:
    return failingDisk(monkeypatch)


@pytest.fixture
def deliveryOf(tmp_path: Path, stopping: Callable[[Any], Any]) -> Callable[[Store], Any]:
    kinds: dict[str, Any] = {"maildir": MaildirDelivery, "sqlite": SQLiteDelivery}
    return lambda store: stopping(kinds[store.delivery](str(tmp_path / store.place), reactor))


async def deliverOne(delivery: Any, name: str, size: int) -> int | None:
    """Delivers as the server does. Returns the code of the refusal, None when it was accepted."""
    message = await begin(delivery, anEnvelope())
    content = signed(name, size)
    try:
        for start in range(0, len(content), 65_536):
            await settle(message.dataReceived(content[start : start + 65_536]))
    except Refused as refusal:
        message.connectionLost(refusal)
        return refusal.reply.code
    try:
        outcome = await settle(message.eomReceived())
    except Refused as refusal:
        return refusal.reply.code
    if isinstance(outcome, list):
        (outcome,) = outcome
    return outcome.code if isinstance(outcome, Reply) else None


async def deliverLot(delivery: Any, mark: str) -> dict[str, int | None]:
    """Delivers messages that end together. Returns the code of each refusal."""
    names = [f"{mark}-{kind}" for kind in LOT]
    codes = await gatherResults([Deferred.fromCoroutine(deliverOne(delivery, name, size)) for name, size in zip(names, LOT.values(), strict=True)])
    return dict(zip(names, codes, strict=True))


@everyStore
@pytest_twisted.ensureDeferred
async def test_short_writes_change_nothing(tmp_path: Path, disk: FaultyDisk, deliveryOf: Any, store: Store) -> None:
    disk.short = True
    codes = await deliverLot(deliveryOf(store), "short")
    assert set(codes.values()) == {None}
    assert visibleNames(store, tmp_path) == set(codes)


@everyStore
@pytest_twisted.ensureDeferred
async def test_where_no_thread_can_be_started_mail_is_stored_all_the_same(
    tmp_path: Path, deliveryOf: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    codes = await deliverLot(deliveryOf(store), "alone")
    assert set(codes.values()) == {None}
    assert visibleNames(store, tmp_path) == set(codes)


@pytest.mark.parametrize(
    ("store", "step"),
    [
        ("maildir", "maildir.commitTogether"),
        ("sqlite", "databasestoring.commitTogether"),
        ("maildir", "durable.Draft.sync"),
        ("sqlite", "durable.Draft.sync"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_fault_of_the_program_leaves_nothing(tmp_path: Path, deliveryOf: Any, store: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = deliveryOf(STORES[store])
    monkeypatch.setattr(f"twisted_smtplite.delivery.{step}", Mock(side_effect=ZeroDivisionError))
    for size in LOT.values():
        with suppress(ZeroDivisionError):
            await deliverOne(delivery, f"fault{size}", size)
        await quiet(delivery)
    assert STORES[store].leftovers(tmp_path) == []


@everyStore
@pytest.mark.parametrize("code", REPLIES, ids=errno.errorcode.get)
@pytest_twisted.ensureDeferred
async def test_a_call_that_fails_refuses_its_messages_and_no_others(
    tmp_path: Path, disk: FaultyDisk, deliveryOf: Any, store: Store, code: int
) -> None:
    delivery = deliveryOf(store)
    accepted = set(await deliverLot(delivery, "first"))
    disk.fail(-1, code)
    accepted |= set(await deliverLot(delivery, "counted"))
    refusals = 0
    for number in range(disk.count):
        disk.fail(number, code)
        codes = await deliverLot(delivery, f"call{number}")
        disk.fail(-1, code)
        await quiet(delivery)
        assert set(codes.values()) <= {None, REPLIES[code]}
        refusals += sum(reply is not None for reply in codes.values())
        accepted |= {name for name, reply in codes.items() if reply is None}
        assert visibleNames(store, tmp_path) == accepted, f"after call {number}"
        assert store.leftovers(tmp_path) == [], f"after call {number}"
    assert refusals >= disk.count


@pytest.mark.parametrize(
    ("text", "reply"), [("disk I/O error", 451), ("database or disk is full", 452), ("attempt to write a readonly database", 451)]
)
@pytest_twisted.ensureDeferred
async def test_a_statement_that_fails_refuses_the_whole_lot(
    tmp_path: Path, deliveryOf: Any, monkeypatch: pytest.MonkeyPatch, text: str, reply: int
) -> None:
    store = STORES["sqlite"]
    delivery = deliveryOf(store)
    accepted = set(await deliverLot(delivery, "first"))
    monkeypatch.setattr(database, "openToWrite", FaultyDatabase.opener(text))
    delivery.close()
    FaultyDatabase.count, FaultyDatabase.failing = 0, -1
    accepted |= set(await deliverLot(delivery, "counted"))
    counted = FaultyDatabase.count
    for number in range(counted):
        FaultyDatabase.count, FaultyDatabase.failing = 0, number
        codes = await deliverLot(delivery, f"statement{number}")
        FaultyDatabase.failing = -1
        assert set(codes.values()) <= {None, reply}
        accepted |= {name for name, refused in codes.items() if refused is None}
        assert visibleNames(store, tmp_path) == accepted
    delivery.stopService()
    # A COMMIT that failed may have named the file of its large message.
    await deliverLot(deliveryOf(store), "last")
    assert store.leftovers(tmp_path) == []
