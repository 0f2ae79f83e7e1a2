from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from queueing import CONTENT, LARGE, anEnvelope, aReport, bodies, modes, put, room, take, text, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from twisted_smtplite.delivery.database import openToRead, openToWrite
from twisted_smtplite.model.envelope import DeliverBy
from twisted_smtplite.model.errors import Unsendable
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.model.results import PeerReply, Stage
from twisted_smtplite.queue import rows as statements
from twisted_smtplite.queue.admin import Administration, Choice
from twisted_smtplite.queue.entries import Doubt, Progress, QueuedMessage, Room, State
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
    (message,) = await store.due(1e12, room(10))
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
    (message,) = await store.due(1e12, room(1))
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
    assert [message.id for message in await store.due(1e12, room(3))] == ["c", "e", "a"]
    assert [message.id for message in await store.due(1e12, room(3))] == ["d", "b"]
    assert await store.due(1e12, room(3)) == []


@pytest_twisted.ensureDeferred
async def test_what_is_taken_is_not_given_out_again_until_it_is_put_back(store: QueueStore) -> None:
    await put(store)
    (message,) = await store.due(1e12, room(10))
    assert await store.due(1e12, room(10)) == [] and await store.nextDue() is None
    store.putBack(message, message.progress)
    assert await store.due(1e12, room(10)) == [message]


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
async def test_progress_is_kept_for_each_recipient(make: Any, directory: Path) -> None:
    store = make()
    await put(store, anEnvelope("E1", "ben@mx.test", "cy@b.test"))
    (message,) = await store.due(1e12, room(1))
    ben, cy = message.progress
    ben.state, ben.attempts, ben.lastAttempt, ben.host = State.SENT, 1, 2e9, "mx.test"
    ben.reply, ben.stage = PeerReply(250, "2.0.0", ("ok",)), Stage.TEXT
    cy.attempts, cy.nextAttempt, cy.reply, cy.stage, cy.warned = 1, 3e9, PeerReply(451, None, ("later",), local=True), Stage.CONNECT, True
    await store.record(message)
    assert await store.due(2.5e9, room(1)) == []
    assert await store.nextDue() == 3e9
    assert await store.due(3e9, room(1)) == [_part(message, cy)]
    store.stopService()
    assert await make().due(3e9, room(1)) == [_part(message, cy)]
    assert rows(directory, "SELECT state, attempts, host FROM recipient ORDER BY position") == [("sent", 1, "mx.test"), ("waiting", 1, "")]


def _part(message: QueuedMessage, *those: Progress) -> QueuedMessage:
    """As it is given out for some of its recipients."""
    return replace(message, progress=list(those), envelope=replace(message.envelope, recipients=[one.recipient for one in those]))


@pytest_twisted.ensureDeferred
async def test_a_message_without_waiting_recipients_leaves_and_its_report_comes(store: QueueStore, directory: Path) -> None:
    await put(store, anEnvelope(), LARGE)
    assert len(bodies(directory)) == 1
    (message,) = await store.due(1e12, room(1))
    message.progress[0].state = State.FAILED
    report = aReport("R1")
    await store.record(message, [report])
    assert bodies(directory) == []
    (queued,) = await store.due(1e12, room(10))
    assert (queued.id, queued.report, queued.envelope, queued.size) == ("R1", True, report.envelope, len(report.text))
    assert await text(store, queued) == report.text


@pytest_twisted.ensureDeferred
async def test_what_was_dropped_meanwhile_stays_dropped_and_is_not_reported(store: QueueStore) -> None:
    await put(store)
    (message,) = await store.due(1e12, room(1))
    store.database.write(lambda connection: connection.execute("DELETE FROM message"))
    message.progress[0].state = State.FAILED
    await store.record(message, [aReport("R1")])
    assert await store.due(1e12, room(10)) == []


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
    (message,) = await store.due(1e12, room(1))
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
    (message,) = await store.due(1e12, room(1))
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
    (message,) = await store.due(1e12, room(1))
    assert await text(store, message) == LARGE


def test_one_process_sends(make: Any) -> None:
    store, other = make(), make()
    assert store.claim() and store.claim()
    assert not other.claim()
    store.stopService()
    assert other.claim()
    other.unclaim()


def killed(store: QueueStore) -> None:
    """As the system closes the files of a process that was killed."""
    os.close(store._claim)
    store._claim, store._marks = -1, None


def doubts(directory: Path) -> list[Any]:
    return [doubt for (doubt,) in rows(directory, "SELECT doubt FROM recipient ORDER BY message, position")]


def test_whoever_sends_next_knows_whether_the_one_before_him_just_died(make: Any) -> None:
    first, second, third = make(), make(), make()
    assert first.claim() and first.unclean is None
    killed(first)
    assert second.claim() and second.unclean is not None and second.doubtful == 0
    second.unclaim()
    assert third.claim() and third.unclean is None


@pytest_twisted.ensureDeferred
async def test_of_what_a_killed_process_had_in_hand_only_what_it_had_handed_over_is_doubtful(make: Any, directory: Path) -> None:
    first, second, third = make(), make(), make()
    assert first.claim()
    await put(first, anEnvelope("E1", "sent@mx.test", "refused@mx.test", "on-his-way@mx.test", "waits@b.test"))
    await put(first, anEnvelope("E2"))
    await put(first, anEnvelope("E3"))
    taken = await take(first)
    sent, refused, onHisWay, _ = taken["E1"].progress
    assert first.handOver(taken["E1"], taken["E1"].progress)
    first.textGoes(taken["E1"], [sent, refused, onHisWay])
    first.notTaken(taken["E1"], [refused])
    sent.state = State.SENT
    await first.record(_part(taken["E1"], sent))
    assert first.handOver(taken["E2"], taken["E2"].progress)
    first.textGoes(taken["E2"], taken["E2"].progress)
    first.putBack(taken["E2"], taken["E2"].progress)
    killed(first)
    assert second.claim() and second.doubtful == 1
    assert doubts(directory) == [None, None, "killed", None, None, None]
    # It dies before it has sent anything.
    killed(second)
    assert third.claim()
    assert [progress.doubt for progress in (await take(third))["E1"].progress] == [None, Doubt.KILLED, None]


@pytest.mark.parametrize("header", [b"sending\n", b"sending another-day\n", b"unsure\n", b"\xff\0"])
@pytest_twisted.ensureDeferred
async def test_when_the_machine_itself_was_stopped_all_that_was_due_is_doubtful(make: Any, directory: Path, header: bytes) -> None:
    first, second = make(), make()
    await put(first, anEnvelope("E1", "ben@mx.test", "cy@b.test"))
    await put(first, anEnvelope("E2", holdUntil=1e12))
    assert first.claim()
    os.pwrite(first._claim, header.ljust(64, b"\0"), 0)
    killed(first)
    assert second.claim() and second.unclean is not None and not second.unclean.complete and second.doubtful == 2
    assert doubts(directory) == ["power", "power", None]


@pytest_twisted.ensureDeferred
async def test_what_could_not_be_recorded_before_a_stop_is_doubtful_after_it(make: Any, directory: Path) -> None:
    first, second = make(), make()
    assert first.claim()
    await put(first)
    (message,) = (await take(first)).values()
    assert first.handOver(message, message.progress)
    first.textGoes(message, message.progress)
    first.stopService()
    assert second.claim() and second.doubtful == 1 and doubts(directory) == ["killed"]


@pytest_twisted.ensureDeferred
async def test_more_than_the_table_holds_is_noted_and_no_room_makes_all_doubtful(make: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make(), make()
    assert first.claim()
    await put(first, anEnvelope("E1", *(f"a{number}@mx.test" for number in range(3000))))
    (message,) = await first.due(1e12, Room(1, 5000, 5000))
    assert first.handOver(message, message.progress)
    first.textGoes(message, message.progress)
    killed(first)
    assert second.claim() and second.doubtful == 3000 and set(doubts(directory)) == {"killed"}
    second.database.write(lambda connection: connection.execute("UPDATE recipient SET doubt = NULL"))

    def full(descriptor: int, octets: bytes, at: int) -> int:
        if at == 0:
            return write(descriptor, octets, at)
        raise OSError(28, "No space left on device")

    write = os.pwrite
    monkeypatch.setattr("os.pwrite", full)
    (message,) = await second.due(1e12, Room(1, 1, 1))
    assert second.handOver(message, message.progress)
    second.textGoes(message, message.progress)
    second.notTaken(message, message.progress)
    monkeypatch.undo()
    killed(second)
    third = make()
    assert third.claim() and third.doubtful == 3000 and set(doubts(directory)) == {"power"}


# ---- Changes by hand.


@pytest_twisted.ensureDeferred
async def test_what_is_held_or_taken_out_is_known_when_it_is_to_be_handed_over_and_then_before(make: Any, directory: Path) -> None:
    store = make()
    assert store.claim()
    for name in ("E1", "E2", "E3"):
        await put(store, anEnvelope(name, "ben@mx.test", "cy@b.test"))
    taken = await take(store)
    administration = Administration(str(directory))
    assert [store.maySend(message, message.progress) for message in taken.values()] == [True] * 3
    administration.hold(Choice(["E1"]), held=True)
    administration.drop(Choice(["E2"]))
    administration.drop(Choice(domain="b.test"))
    administration.close()
    assert [store.handOver(message, message.progress) for message in taken.values()] == [False] * 3
    assert [store.handOver(message, message.progress[:1]) for message in taken.values()] == [False, False, True]
    store.onChange(lambda: None)
    await until(lambda: store._version is not None)
    store._changedByOthers()
    assert [store.maySend(message, message.progress[:1]) for message in taken.values()] == [False, False, True]
    store.putBack(taken["E3"], taken["E3"].progress)
    assert store._marks.empty


@pytest_twisted.ensureDeferred
async def test_recipients_that_fall_due_beside_others_that_are_taken_are_given_out(store: QueueStore, directory: Path) -> None:
    await put(store, anEnvelope("E1", *(f"a{number}@mx.test" for number in range(10))))
    store.database.write(lambda connection: connection.execute("UPDATE recipient SET nextAttempt = 5e9 WHERE position = 9"))
    some = [await store.due(2e9, Room(5, 100, 4)) for _ in range(2)]
    assert [[(one.position, message.more) for one in message.progress] for message in some[0]] == [[(number, True) for number in range(4)]]
    assert some[1] == [] and await store.nextDue() is None
    (message,) = some[0]
    store.putBack(message, message.progress[:1])
    assert await store.due(2e9, Room(5, 100, 4)) == [], "not before half of it is done"
    for one in message.progress[1:]:
        one.state = State.SENT
    await store.record(_part(message, *message.progress[1:]))
    (message,) = await store.due(2e9, Room(5, 100, 100))
    assert [one.position for one in message.progress] == [0, 4, 5, 6, 7, 8] and not message.more
    assert await store.due(4e9, Room(5, 100, 100)) == [] and await store.nextDue() == 5e9
    (message,) = await store.due(5e9, Room(5, 100, 100))
    assert [one.position for one in message.progress] == [9] and await store.nextDue() is None


@pytest_twisted.ensureDeferred
async def test_what_another_process_hurries_of_a_message_that_is_taken_is_given_out(store: QueueStore, directory: Path) -> None:
    await put(store, anEnvelope("E1", "a@mx.test", "b@mx.test"))
    store.database.write(
        lambda connection: connection.execute("UPDATE recipient SET nextAttempt = 5e9, reply = '[451,null,[],0]' WHERE position = 1")
    )
    assert len((await take(store, 2e9))["E1"].progress) == 1
    administration = Administration(str(directory))
    assert administration.flush(Choice(), 2e9).ids == ["E1"]
    administration.close()
    assert await store.due(2e9, room(1)) == []
    store._changedByOthers()
    assert len((await take(store, 2e9))["E1"].progress) == 1


@pytest_twisted.ensureDeferred
async def test_no_more_is_given_out_than_there_is_room_for(store: QueueStore) -> None:
    for number in range(5):
        await put(store, anEnvelope(f"E{number}", *(f"a{number}@mx.test" for number in range(10))))
    given = await store.due(1e12, Room(3, 25, 8))
    assert [(message.id, len(message.progress), message.more) for message in given] == [("E0", 8, True), ("E1", 8, True), ("E2", 8, True)]
    given = await store.due(1e12, Room(3, 12, 8))
    assert [(message.id, len(message.progress), message.more) for message in given] == [("E3", 8, True), ("E4", 4, True)]


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


@pytest_twisted.ensureDeferred
async def test_a_queue_of_the_first_version_is_brought_to_this_one(make: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "bodies").mkdir(parents=True)
    old = openToWrite(str(directory / "queue.sqlite"), MIGRATIONS[:1])
    old.execute(
        """INSERT INTO message (queueId, envelope, size, eightBit, queuedAt, priority, nextAttempt)
        VALUES ('OLD', '{"id":"OLD","sender":["ann","client.test"]}', 9, 0, 1e9, 0, 1e9)"""
    )
    old.execute("INSERT INTO content VALUES (1, 'text', NULL)")
    old.execute("INSERT INTO recipient VALUES (1, 0, 'b.test', '{\"address\":[\"ben\",\"b.test\"]}', 'waiting', 1, 1e9, 1e9, NULL, NULL, '', 0)")
    old.close()
    (message,) = (await take(make())).values()
    (ben,) = message.progress
    assert (message.id, str(ben.recipient.address), ben.attempts, ben.doubt) == ("OLD", "ben@b.test", 1, None)


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
    (message,) = await store.due(1e12, room(1))
    message.progress[0].state = State.FAILED
    other = sqlite3.connect(directory / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = [await put(store, anEnvelope("E2"), content) for content in (CONTENT, LARGE)]
    assert [reply.code for reply in refused if isinstance(reply, Reply)] == [451, 451]
    with pytest.raises(sqlite3.OperationalError):
        await store.record(message, [aReport("R1")])
    assert await store.due(1e12, room(10)) == [], "it is still taken"
    other.close()
    assert len(bodies(directory)) == 1
    await store.record(message, [aReport("R1")])
    assert set(await take(store)) == {"R1"}


# ---- Some of a message's recipients are taken, and others are not.


@pytest_twisted.ensureDeferred
async def test_who_comes_back_while_others_are_taken_is_due_at_his_time(store: QueueStore) -> None:
    await put(store, anEnvelope("E1", "a@one.test", "b@two.test"))
    message = (await take(store))["E1"]
    first = message.progress[0]
    first.nextAttempt = 2e12
    await store.record(replace(message, progress=[first]))
    assert await store.nextDue() == 2e12
    assert await take(store, now=1e12) == {}
    assert [one.position for one in (await take(store, now=3e12))["E1"].progress] == [0]


@pytest_twisted.ensureDeferred
async def test_who_comes_back_while_it_is_looked_who_is_due_is_not_forgotten(store: QueueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(store, anEnvelope("E1", "a@one.test", "b@two.test"))
    message = (await take(store))["E1"]
    first = message.progress[0]
    first.nextAttempt = 2e12
    look = statements.due

    def interrupted(*arguments: Any) -> Any:
        found = look(*arguments)
        store.putBack(message, [first])
        return found

    # Others have changed something, so all are looked at.
    store._changedByOthers()
    monkeypatch.setattr(statements, "due", interrupted)
    assert await take(store) == {}
    monkeypatch.undo()
    assert await store.nextDue() == 0.0
    assert [one.position for one in (await take(store, now=3e12))["E1"].progress] == [0]


@pytest_twisted.ensureDeferred
async def test_what_others_change_is_noticed_although_the_database_was_opened_anew(
    store: QueueStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted_smtplite.queue.store.POLL", 0.01)
    await put(store)
    told: list[None] = []
    store.onChange(lambda: told.append(None))
    await until(lambda: store._version is not None)
    # As after a transaction that failed.
    store.database.disconnect()
    administration = Administration(str(directory))
    administration.hold(Choice(), held=True)
    administration.close()
    await until(lambda: told)
