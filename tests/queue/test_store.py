from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from queueing import CONTENT, LARGE, anEnvelope, aReport, bodies, modes, put, take, text, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from twisted_smtplite.delivery.database import openToRead
from twisted_smtplite.model.envelope import DeliverBy
from twisted_smtplite.model.errors import Unsendable
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.model.results import PeerReply, Stage
from twisted_smtplite.queue.entries import State
from twisted_smtplite.queue.schema import MIGRATIONS
from twisted_smtplite.queue.store import POLL, QueueStore


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@pytest.fixture
def make(directory: Path) -> Iterator[Callable[[], QueueStore]]:
    made = []

    def make() -> QueueStore:
        made.append(QueueStore(str(directory), reactor))
        return made[-1]

    yield make
    for store in made:
        store.stopService()


@pytest.fixture
def store(make: Callable[[], QueueStore]) -> QueueStore:
    return make()


def rows(directory: Path, query: str) -> list[Any]:
    connection = openToRead(str(directory / "queue.sqlite"), MIGRATIONS)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


# ---- Coming in.


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_what_comes_in_falls_due_as_it_was(store: QueueStore, content: bytes) -> None:
    envelope = anEnvelope("E1", "ben@mx.test", "cy@b.test", "ben@mx.test", deliverBy=DeliverBy(60, "R", False), requireTLS=True, submitter="ann")
    assert await put(store, envelope, content, "ann") == "E1"
    (message,) = await store.due(1e12, 10)
    assert message.envelope == envelope
    assert (message.id, message.user, message.size, message.held, message.report) == ("E1", "ann", len(content), False, False)
    assert [progress.recipient for progress in message.progress] == envelope.recipients
    assert {progress.state for progress in message.progress} == {State.WAITING}
    assert [await text(store, message) for _ in range(2)] == [content] * 2
    facts = store.content(message)
    assert (facts.size, facts.eightBit, facts.binary, facts.utf8) == (len(content), content is LARGE, False, False)
    assert facts.header.startswith(b"Received: ") and facts.without("Subject").header.count(b"\n") < facts.header.count(b"\n")


@pytest_twisted.ensureDeferred
async def test_nobody_else_can_read_it(store: QueueStore, directory: Path) -> None:
    await put(store, content=LARGE)
    store.claim()
    assert modes(directory) == {"drwx------", "-rw-------"}
    assert {path.name for path in directory.iterdir()} >= {"queue.sqlite", "queue.sqlite-wal", "bodies", "sending"}


@pytest_twisted.ensureDeferred
async def test_messages_that_end_together_share_a_commit(store: QueueStore) -> None:
    await put(store, anEnvelope("first"))
    statements: list[str] = []
    store.database.read(lambda connection: connection.set_trace_callback(statements.append))
    outcomes = await gatherResults([Deferred.fromCoroutine(put(store, anEnvelope(f"E{number}"))) for number in range(50)])
    assert outcomes == [f"E{number}" for number in range(50)]
    # The first of them may go alone, and need not wait for others.
    assert statements.count("COMMIT") <= 2


@pytest.mark.parametrize(("body", "added"), [("8BITMIME", b"\r\n"), ("BINARYMIME", b"")])
@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\nno line end", LARGE + b"no line end", LARGE + b"a bare\r"], ids=["small", "large", "CR"])
@pytest_twisted.ensureDeferred
async def test_a_last_line_without_an_end_gets_one_unless_it_is_binary(store: QueueStore, content: bytes, body: str, added: bytes) -> None:
    await put(store, anEnvelope(body=body), content)
    (message,) = await store.due(1e12, 1)
    assert message.size == len(content + added)
    stored = b"".join(_stored(store))
    assert stored == content + added


def _stored(store: QueueStore) -> list[bytes]:
    found = store._textOf("E1")
    assert found
    return [found[0]] if found[0] is not None else [Path(store.database.bodies, str(found[1])).read_bytes()]


@pytest_twisted.ensureDeferred
async def test_a_message_that_is_given_up_leaves_nothing(store: QueueStore, directory: Path) -> None:
    message = store.newMessage(anEnvelope(), None)
    for _ in range(6):
        answer = message.dataReceived(b"x" * 65_534 + b"\r\n")
        if answer is not None:
            await answer
    assert len(bodies(directory)) == 1
    message.connectionLost(Exception("gone"))
    await until(lambda: not bodies(directory))
    assert await take(store) == {}


# ---- Falling due.


@pytest_twisted.ensureDeferred
async def test_higher_priorities_come_first_then_those_that_waited_longest(store: QueueStore) -> None:
    for name, priority in (("a", 0), ("b", -2), ("c", 5), ("d", 0), ("e", 5)):
        await put(store, anEnvelope(name, priority=priority))
    assert [message.id for message in await store.due(1e12, 3)] == ["c", "e", "a"]
    assert [message.id for message in await store.due(1e12, 3)] == ["d", "b"]
    assert await store.due(1e12, 3) == []


@pytest_twisted.ensureDeferred
async def test_what_is_taken_is_not_given_out_again_until_it_is_put_back(store: QueueStore) -> None:
    await put(store)
    (message,) = await store.due(1e12, 10)
    assert await store.due(1e12, 10) == [] and await store.nextDue() is None
    store.putBack(message)
    assert await store.due(1e12, 10) == [message]


@pytest_twisted.ensureDeferred
async def test_the_sender_may_ask_to_wait(store: QueueStore) -> None:
    await put(store, anEnvelope("now"))
    await put(store, anEnvelope("later", holdUntil=5e9))
    assert set(await take(store, 4e9)) == {"now"}
    assert await store.nextDue() == 5e9
    assert set(await take(store, 5e9)) == {"later"}


@pytest_twisted.ensureDeferred
async def test_the_next_time_is_that_of_any_priority_and_of_none_that_is_held(store: QueueStore, directory: Path) -> None:
    assert await store.nextDue() is None
    for name, priority, time in (("a", 3, 7e9), ("b", -3, 6e9), ("c", 0, 5e9)):
        await put(store, anEnvelope(name, priority=priority, holdUntil=time))
    store.database.write(lambda connection: connection.execute("UPDATE message SET held = 1 WHERE queueId = 'c'"))
    assert await store.nextDue() == 6e9
    assert set(await take(store, 6e9)) == {"b"}
    assert await store.nextDue() == 7e9


# ---- Progress.


@pytest_twisted.ensureDeferred
async def test_progress_is_kept_for_each_recipient(make: Any) -> None:
    store = make()
    await put(store, anEnvelope("E1", "ben@mx.test", "cy@b.test"))
    (message,) = await store.due(1e12, 1)
    ben, cy = message.progress
    ben.state, ben.attempts, ben.lastAttempt, ben.host = State.SENT, 1, 2e9, "mx.test"
    ben.reply, ben.stage = PeerReply(250, "2.0.0", ("ok",)), Stage.TEXT
    cy.attempts, cy.nextAttempt, cy.reply, cy.stage, cy.warned = 1, 3e9, PeerReply(451, None, ("later",), local=True), Stage.CONNECT, True
    await store.record(message)
    assert await store.due(2.5e9, 1) == []
    assert await store.nextDue() == 3e9
    assert await store.due(3e9, 1) == [message]
    store.stopService()
    assert await make().due(3e9, 1) == [message]


@pytest_twisted.ensureDeferred
async def test_a_message_without_waiting_recipients_leaves_and_its_report_comes(store: QueueStore, directory: Path) -> None:
    await put(store, anEnvelope(), LARGE)
    assert len(bodies(directory)) == 1
    (message,) = await store.due(1e12, 1)
    message.progress[0].state = State.FAILED
    report = aReport("R1")
    await store.record(message, [report])
    assert bodies(directory) == []
    (queued,) = await store.due(1e12, 10)
    assert (queued.id, queued.report, queued.envelope, queued.size) == ("R1", True, report.envelope, len(report.text))
    assert await text(store, queued) == report.text


@pytest_twisted.ensureDeferred
async def test_what_was_dropped_meanwhile_stays_dropped_and_is_not_reported(store: QueueStore) -> None:
    await put(store)
    (message,) = await store.due(1e12, 1)
    store.database.write(lambda connection: connection.execute("DELETE FROM message"))
    message.progress[0].state = State.FAILED
    await store.record(message, [aReport("R1")])
    assert await store.due(1e12, 10) == []


@pytest_twisted.ensureDeferred
async def test_a_text_that_is_gone_cannot_be_sent_for_now(store: QueueStore, directory: Path) -> None:
    for name, content in (("small", CONTENT), ("large", LARGE)):
        await put(store, anEnvelope(name), content)
    messages = await take(store)
    bodies(directory)[0].unlink()
    store.database.write(lambda connection: connection.execute("DELETE FROM message WHERE queueId = 'small'"))
    with pytest.raises(Unsendable) as caught:
        await text(store, messages["small"])
    assert caught.value.temporary
    with pytest.raises((Unsendable, OSError)):
        await text(store, messages["large"])


@pytest_twisted.ensureDeferred
async def test_a_report_that_is_there_already_does_not_come_twice(store: QueueStore) -> None:
    await put(store, anEnvelope("E1", "ben@mx.test", "cy@b.test"))
    (message,) = await store.due(1e12, 1)
    message.progress[0].state = State.FAILED
    # As after a commit that reached the disk although it failed.
    for _ in range(2):
        await store.record(message, [aReport("R1")])
    assert set(await take(store)) == {"E1", "R1"}


# ---- Changes.


@pytest_twisted.ensureDeferred
async def test_who_sends_is_told_what_comes(store: QueueStore) -> None:
    told: list[str] = []
    store.onChange(lambda: told.append("change"))
    await put(store)
    await until(lambda: told)
    (message,) = await store.due(1e12, 1)
    told.clear()
    message.progress[0].state = State.FAILED
    await store.record(message, [aReport("R1")])
    await until(lambda: told)


@pytest_twisted.ensureDeferred
async def test_changes_of_another_process_are_noticed_within_a_second(make: Any, directory: Path) -> None:
    store, clock = make(), Clock()
    store.clock = clock
    told: list[str] = []
    await put(store)
    store.onChange(lambda: told.append("change"))

    async def poll() -> None:
        await until(clock.getDelayedCalls)
        clock.advance(POLL)
        await until(clock.getDelayedCalls)

    await poll()
    await poll()
    assert told == []
    other = sqlite3.connect(directory / "queue.sqlite")
    other.execute("UPDATE message SET nextAttempt = 0")
    other.commit()
    other.close()
    await poll()
    assert told == ["change"]


@pytest_twisted.ensureDeferred
async def test_what_another_process_takes_in_falls_due_here(make: Any) -> None:
    store, other = make(), make()
    await put(other, content=LARGE)
    (message,) = await store.due(1e12, 1)
    assert await text(store, message) == LARGE


def test_one_process_sends(make: Any) -> None:
    store, other = make(), make()
    assert store.claim() and store.claim()
    assert not other.claim()
    store.stopService()
    assert other.claim()
    other.unclaim()


def test_whoever_sends_next_knows_whether_the_one_before_him_just_died(make: Any) -> None:
    first, second, third = make(), make(), make()
    assert first.claim() and not first.unclean
    # As the system closes the files of a process that was killed.
    os.close(first._claim)
    first._claim = -1
    assert second.claim() and second.unclean
    second.unclaim()
    assert third.claim() and not third.unclean


# ---- After a crash.


@pytest_twisted.ensureDeferred
async def test_what_a_dead_process_had_taken_falls_due_again_and_files_without_rows_go(make: Any, directory: Path) -> None:
    store = make()
    await put(store, content=LARGE)
    assert set(await take(store)) == {"E1"}
    (named,) = bodies(directory)
    (directory / "bodies" / "orphan").write_bytes(b"half a message")
    second = make()
    assert set(await take(second)) == {"E1"}
    assert len(bodies(directory)) == 2, "somebody may be writing it"
    store.stopService()
    second.stopService()
    assert set(await take(make())) == {"E1"}
    assert bodies(directory) == [named]


def test_a_queue_of_a_newer_version_is_left_alone(store: QueueStore, directory: Path) -> None:
    store.prepare()
    store.database.write(lambda connection: connection.execute("PRAGMA user_version = 99"))
    store.close()
    with pytest.raises(sqlite3.DatabaseError, match="it has version 99, made by a newer program"):
        store.prepare()


# ---- Faults.


@pytest_twisted.ensureDeferred
async def test_a_locked_queue_refuses_for_now_and_progress_can_be_recorded_again(
    store: QueueStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted_smtplite.delivery.database._PATIENCE", 0.05)
    await put(store, content=LARGE)
    (message,) = await store.due(1e12, 1)
    message.progress[0].state = State.FAILED
    other = sqlite3.connect(directory / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = [await put(store, anEnvelope("E2"), content) for content in (CONTENT, LARGE)]
    assert [reply.code for reply in refused if isinstance(reply, Reply)] == [451, 451]
    with pytest.raises(sqlite3.OperationalError):
        await store.record(message, [aReport("R1")])
    assert await store.due(1e12, 10) == [], "it is still taken"
    other.close()
    assert len(bodies(directory)) == 1
    await store.record(message, [aReport("R1")])
    assert set(await take(store)) == {"R1"}
