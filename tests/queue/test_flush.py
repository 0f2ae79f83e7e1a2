"""What is hurried by hand."""

from __future__ import annotations

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
    assert administration.flush(Choice(), 1e9) == ["PUTOFF"]
    assert [message.progress[0].nextAttempt for message in administration.messages(Choice())] == [AT_ONCE, 2e9]
    administration.close()
