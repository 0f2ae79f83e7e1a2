"""What is hurried by hand, and a list that nobody can show."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from queueing import anEnvelope

from twisted_smtplite.delivery.database import Database
from twisted_smtplite.model.results import PeerReply, Stage
from twisted_smtplite.queue import rows
from twisted_smtplite.queue.admin import Administration, Choice
from twisted_smtplite.queue.entries import AT_ONCE, Progress, QueuedMessage
from twisted_smtplite.queue.schema import MIGRATIONS, bodiesOf, databaseOf

GONE = PeerReply(421, "4.4.1", ("No connection",), local=True)


def test_flush_makes_due_what_was_put_off_because_nobody_could_be_reached(tmp_path: Path) -> None:
    database = Database(databaseOf(str(tmp_path)), bodiesOf(str(tmp_path)), MIGRATIONS)
    for name, reply in (("PUTOFF", GONE), ("FRESH", None)):
        envelope = anEnvelope(name)
        progress = Progress(envelope.recipients[0], nextAttempt=2e9, reply=reply, stage=reply and Stage.CONNECT)
        message = QueuedMessage(name, envelope, [progress], 1e9, 2)
        database.write(lambda connection, message=message: rows.insert(connection, message, b"\r\n", None, eightBit=False))  # type: ignore[misc]
    database.close()
    administration = Administration(str(tmp_path))
    assert administration.flush(Choice(), 1e9).ids == ["PUTOFF"]
    assert [message.progress[0].nextAttempt for message in administration.messages(Choice())] == [AT_ONCE, 2e9]
    administration.close()


def test_a_list_goes_to_any_terminal_and_ends_when_nobody_reads(tmp_path: Path) -> None:
    database = Database(databaseOf(str(tmp_path)), bodiesOf(str(tmp_path)), MIGRATIONS)

    def write(connection: sqlite3.Connection) -> None:
        for number in range(2000):
            envelope = anEnvelope(f"E{number}", "m\u00fcller@mx.test")
            rows.insert(connection, QueuedMessage(envelope.id, envelope, [Progress(envelope.recipients[0])], 1e9, 2), b"\r\n", None, eightBit=False)

    database.write(write)
    database.close()
    command = [sys.executable, "-m", "twisted_smtplite", "queue", "list", "--queue", str(tmp_path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert b"m\\xfcller@mx.test" in done.stdout and done.stderr == b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        assert reading.stdout is not None and reading.stderr is not None
        reading.stdout.readline()
        reading.stdout.close()
        assert reading.stderr.read() == b""


def test_a_message_that_leaves_while_it_is_looked_up_is_not_there(tmp_path: Path) -> None:
    database = Database(databaseOf(str(tmp_path)), bodiesOf(str(tmp_path)), MIGRATIONS)
    envelopes = [anEnvelope("LEAVES"), anEnvelope("STAYS")]
    for envelope in envelopes:
        message = QueuedMessage(envelope.id, envelope, [Progress(envelope.recipients[0])], 1e9, 2)
        database.write(lambda connection, message=message: rows.insert(connection, message, b"\r\n", None, eightBit=False))  # type: ignore[misc]
    reader = sqlite3.connect(databaseOf(str(tmp_path)), isolation_level=None)
    statements: list[str] = []

    def between(statement: str) -> None:
        statements.append(statement)
        if len(statements) == 2:
            database.write(lambda connection: rows.remove(connection, ["LEAVES"]))

    reader.set_trace_callback(between)
    assert [message.id for message in rows.find(reader, ["LEAVES", "STAYS"])] == ["STAYS"]
    reader.close()
    database.close()
