from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, LARGE, anEnvelope, aSession, begin, breakOff, deliver, quiet, settle
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import capturedLogs

from twisted_smtplite.delivery import database, sqliteschema
from twisted_smtplite.delivery.sqlite import SQLiteDelivery, plugin
from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.envelope import Parameter
from twisted_smtplite.model.reply import Refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mail.sqlite"


@pytest.fixture
def make(path: Path, stopping: Callable[[Any], Any]) -> Callable[[], SQLiteDelivery]:
    return lambda: stopping(SQLiteDelivery(str(path), reactor))


def rows(path: Path, query: str) -> list[Any]:
    connection = sqliteschema.openToRead(str(path))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def bodies(path: Path) -> list[Path]:
    return sorted(Path(f"{path}.bodies").iterdir())


def contents(path: Path) -> list[bytes]:
    """Each message as stored, without the trace header."""
    found = rows(path, "SELECT octets, file FROM content ORDER BY message")
    whole = [octets if file is None else Path(f"{path}.bodies", file).read_bytes() for octets, file in found]
    return [content.partition(b"+0000\r\n")[2] for content in whole]


async def send(message: IMessage, chunks: list[bytes]) -> None:
    for chunk in chunks:
        await settle(message.dataReceived(chunk))


# ---- What is stored.


@pytest_twisted.ensureDeferred
async def test_a_message_is_stored_exactly(make: Any, path: Path) -> None:
    assert await deliver(make()) == "E1"
    assert contents(path) == [CONTENT]
    assert bodies(path) == []


@pytest_twisted.ensureDeferred
async def test_a_large_message_is_a_file_beside_the_database(make: Any, path: Path) -> None:
    assert await deliver(make(), LARGE) == "E1"
    assert contents(path) == [b"".join(LARGE)]
    assert len(bodies(path)) == 1


@pytest_twisted.ensureDeferred
async def test_only_its_owner_reads_the_mail(make: Any, path: Path) -> None:
    await deliver(make(), LARGE)
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    assert {"mail.sqlite", "mail.sqlite-wal"} <= {file.name for file in files}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest_twisted.ensureDeferred
async def test_the_summary_has_what_an_inbox_shows(make: Any, path: Path) -> None:
    header = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nFrom: Ann <ann@client.test>\r\nTo: ben@mx.test\r\nMessage-ID: <1@client.test>\r\n"
    envelope = anEnvelope("ben@mx.test", "cy@mx.test")
    envelope.parameters = (Parameter("SIZE", "10"), Parameter("SMTPUTF8", None))
    await deliver(make(), header + b"Date: Tue, 1 Jan 2030 00:00:00 +0000\r\n\r\nHello\r\n", envelope, aSession(user="ann"))
    ((*summary, size),) = rows(path, "SELECT subject, fromField, toField, dateField, messageId, size FROM message")
    assert summary == ["Grüße", "Ann <ann@client.test>", "ben@mx.test", "Tue, 1 Jan 2030 00:00:00 +0000", "<1@client.test>"]
    assert size == rows(path, "SELECT length(octets) FROM content")[0][0]
    ((queueId, sender, parameters, peer, helo, protocol, user, receivedAt, mailbox, seen),) = rows(
        path,
        "SELECT queueId, sender, parameters, peer, helo, protocol, user, receivedAt, name, seen FROM message JOIN mailbox ON mailbox.id = mailbox",
    )
    assert (queueId, sender, json.loads(parameters)) == ("E1", "ann@client.test", [["SIZE", "10"], ["SMTPUTF8", None]])
    assert (peer, helo, protocol, user, receivedAt, mailbox, seen) == ("192.0.2.1", "client.test", "ESMTPA", "ann", 1e9, "INBOX", 0)
    assert rows(path, "SELECT position, address, parameters FROM recipient") == [(0, "ben@mx.test", "[]"), (1, "cy@mx.test", "[]")]


@pytest_twisted.ensureDeferred
async def test_no_header_of_a_stranger_keeps_a_message_out(make: Any, path: Path) -> None:
    header = b"Subject: =?utf-7?q?+2AA-?= =?utf-16?b?ANg=?= \xed\xa0\x80 \x00" + b"x" * 5000 + b"\r\nFrom\r\n: \r\n"
    assert await deliver(make(), header + b"\r\n") == "E1"
    assert len(rows(path, "SELECT subject FROM message")[0][0]) <= 1000


@pytest_twisted.ensureDeferred
async def test_messages_that_end_together_are_one_transaction(make: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = make()
    lots = []
    monkeypatch.setattr(delivery.commits, "_commit", lambda messages: lots.append(len(messages)) or delivery.commit(messages))
    assert await gatherResults([Deferred.fromCoroutine(deliver(delivery)) for _ in range(300)]) == ["E1"] * 300
    assert len(contents(path)) == 300
    assert lots == [128, 128, 44]


@pytest_twisted.ensureDeferred
async def test_several_may_store_in_one_database(make: Any, path: Path) -> None:
    both = [make(), make()]
    for _ in range(5):
        assert await gatherResults([Deferred.fromCoroutine(deliver(delivery)) for delivery in both * 3]) == ["E1"] * 6
    assert contents(path) == [CONTENT] * 30


# ---- Faults.


@pytest_twisted.ensureDeferred
async def test_a_locked_database_refuses_for_now(make: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 0.05)
    delivery = make()
    assert await deliver(delivery, LARGE) == "E1"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with capturedLogs() as events:
        refused = [await deliver(delivery, content) for content in (LARGE, CONTENT, CONTENT)]
    other.close()
    assert [reply.code for reply in refused] == [451] * 3
    assert [event["cause"] for event in events if "cause" in event] == ["database is locked"]
    assert len(bodies(path)) == 1
    assert await deliver(delivery) == "E1"


@pytest_twisted.ensureDeferred
async def test_a_full_database_is_said_to_be_full(make: Any, path: Path) -> None:
    delivery = make()
    assert await deliver(delivery) == "E1"
    (pages,) = delivery.database._connection.execute("PRAGMA page_count").fetchone()
    delivery.database._connection.execute(f"PRAGMA max_page_count = {pages}")
    reply = await deliver(delivery, b"x" * 100_000)
    assert (reply.code, reply.enhanced) == (452, "4.3.1")
    assert contents(path) == [CONTENT]
    assert await deliver(delivery) == "E1"


@pytest_twisted.ensureDeferred
async def test_a_commit_that_fails_leaves_the_files_that_it_may_have_named(make: Any, path: Path) -> None:
    delivery = make()
    await deliver(delivery)

    class Failing:
        def __init__(self, real: sqlite3.Connection) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def execute(self, text: str, *arguments: Any) -> Any:
            if text == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return self.real.execute(text, *arguments)

    delivery.database._connection = Failing(delivery.database._connection)
    assert (await deliver(delivery, LARGE)).code == 451
    assert len(bodies(path)) == 1
    assert contents(path) == [CONTENT]
    delivery.stopService()
    assert SQLiteDelivery(str(path), reactor).prepare() == 1
    assert bodies(path) == []


@pytest_twisted.ensureDeferred
async def test_a_database_that_cannot_be_opened_refuses_large_messages_too(make: Any, path: Path) -> None:
    delivery = make()
    path.mkdir()
    with capturedLogs() as events:
        delivery.startService()
        await quiet(delivery)
        assert (await deliver(delivery)).code == 451
        message = await begin(delivery)
        with pytest.raises(Refused):
            await send(message, LARGE)
        message.connectionLost(Exception("refused"))
    assert [event["cause"] for event in events if "cause" in event] == ["unable to open database file"]
    path.rmdir()
    assert await deliver(delivery, LARGE) == "E1"


# ---- The client leaves.


@pytest.mark.parametrize("wait", [True, False], ids=["between writes", "during a write"])
@pytest_twisted.ensureDeferred
async def test_a_large_message_that_breaks_off_leaves_nothing(make: Any, path: Path, wait: bool) -> None:
    delivery = make()
    message = await begin(delivery)
    await breakOff(message, LARGE, waiting=wait)
    await quiet(delivery)
    assert bodies(path) == []


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_cut_off_by_the_end_leaves_nothing(make: Any, path: Path) -> None:
    delivery = make()
    await breakOff(await begin(delivery), LARGE, waiting=False)
    delivery.stopService()
    assert bodies(path) == []


@pytest.mark.parametrize("content", [[CONTENT], LARGE], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_a_message_whose_client_left_before_its_turn_is_not_stored(make: Any, path: Path, content: list[bytes]) -> None:
    delivery = make()
    delivery.startService()
    await quiet(delivery)
    message = await begin(delivery)
    await send(message, content)
    answer = Deferred.fromCoroutine(message.eomReceived())
    answer.addErrback(lambda failure: failure.trap(CancelledError))
    answer.cancel()
    await quiet(delivery)
    assert contents(path) == []
    assert bodies(path) == []


# ---- Starting and stopping.


@pytest_twisted.ensureDeferred
async def test_files_that_no_row_names_are_cleared_at_the_start_unless_somebody_may_be_writing_them(make: Any, path: Path) -> None:
    delivery = make()
    await deliver(delivery, LARGE)
    (kept,) = bodies(path)
    orphan = kept.with_name("orphan")
    orphan.write_text("half a message")
    other = make()
    other.startService()
    await quiet(other)
    assert bodies(path) == [kept, orphan]
    assert await deliver(other) == "E1"
    delivery.stopService()
    other.stopService()
    with capturedLogs() as events:
        delivery.startService()
        await quiet(delivery)
    assert bodies(path) == [kept]
    assert [event["count"] for event in events if "count" in event] == [1]
    assert contents(path) == [b"".join(LARGE), CONTENT]


@pytest_twisted.ensureDeferred
async def test_it_stops_after_what_was_accepted_and_can_start_again(make: Any, path: Path) -> None:
    delivery = make()
    delivery.startService()
    answers = [Deferred.fromCoroutine(deliver(delivery)) for _ in range(3)]
    delivery.stopService()
    assert len(contents(path)) == 3
    assert await gatherResults(answers) == ["E1"] * 3
    delivery.startService()
    assert await deliver(delivery) == "E1"


# ---- The schema.


def test_a_database_of_every_older_version_becomes_one_of_this_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqliteschema, "MIGRATIONS", (*sqliteschema.MIGRATIONS, ("ALTER TABLE message ADD COLUMN colour TEXT",)))
    for version in range(len(sqliteschema.MIGRATIONS)):
        old = path.with_name(f"{version}")
        with monkeypatch.context() as earlier:
            earlier.setattr(sqliteschema, "MIGRATIONS", sqliteschema.MIGRATIONS[:version])
            sqliteschema.openToWrite(str(old)).close()
        sqliteschema.openToWrite(str(old)).close()
        assert rows(old, "SELECT colour FROM message") == []


def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    sqlite3.connect(path).execute("PRAGMA user_version = 99")
    for opener in (sqliteschema.openToWrite, sqliteschema.openToRead):
        with pytest.raises(sqlite3.DatabaseError, match="it has version 99"):
            opener(str(path))
    with pytest.raises(ValueError, match="version 99, made by a newer program"):
        plugin.makeDelivery(str(path), reactor)


# ---- On the command line.


def test_the_argument_is_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plugin.makeDelivery("", reactor).path == str(tmp_path / "mail.sqlite")
    assert plugin.makeDelivery("a/b.db", reactor).path == str(tmp_path / "a" / "b.db")
    assert (tmp_path / "a" / "b.db.bodies").is_dir()


@pytest.mark.parametrize("argument", ["/proc/nope/x", "/dev/null/x"])
def test_where_no_mail_can_be_stored_is_said_before_the_server_starts(argument: str) -> None:
    with pytest.raises(ValueError, match=f"^no mail can be stored in {argument}: "):
        plugin.makeDelivery(argument, reactor)


def test_a_file_that_is_no_database_is_said_before_the_server_starts(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(ValueError, match="file is not a database"):
        plugin.makeDelivery(str(path), reactor)
