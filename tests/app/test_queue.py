from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from twisted_smtplite.app.cli import main
from twisted_smtplite.delivery.database import Database
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import DeliverBy, Envelope, Recipient
from twisted_smtplite.model.results import PeerReply, Stage
from twisted_smtplite.queue import rows
from twisted_smtplite.queue.entries import Doubt, Progress, QueuedMessage, State
from twisted_smtplite.queue.schema import MIGRATIONS, bodiesOf, databaseOf
from twisted_smtplite.queue.store import QueueStore

TEXT = b"Subject: Hello\r\nX-Bad: \x1b[31m\r\n\r\nThe text.\r\n"
LATER = 4e9


def aMessage(name: str, *progress: Progress, **changes: Any) -> QueuedMessage:
    envelope = Envelope(name, Address("ann", "client.test"), recipients=[one.recipient for one in progress], receivedAt=1e9)
    return QueuedMessage(name, envelope, list(progress), 1e9, len(TEXT), **changes)


def aRecipient(text: str, attempts: int = 0, nextAttempt: float = LATER, **changes: Any) -> Progress:
    # What dee's server said was never heard: the outcome is ours.
    reply = PeerReply(451, "4.3.0", ("Try \x1b[31mlater",), local=text.startswith("dee")) if attempts else None
    return Progress(Recipient(Address(*text.split("@"))), State.WAITING, attempts, nextAttempt, 1e9, reply, Stage.RCPT, "mx.test", **changes)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A queue with three messages: one that was tried, to two domains; one that waits for its time; one that is held, in a file."""
    directory = tmp_path / "queue"
    database = Database(databaseOf(str(directory)), bodiesOf(str(directory)), MIGRATIONS)
    database.open()
    (directory / "bodies" / "large").write_bytes(TEXT)

    def write(connection: sqlite3.Connection) -> None:
        rows.insert(connection, aMessage("TRIED", aRecipient("ben@B.test", 3), aRecipient("cy@c.test", 1)), TEXT, None, eightBit=False)
        rows.insert(connection, aMessage("FRESH", aRecipient("ben@b.test")), TEXT, None, eightBit=False)
        rows.insert(connection, aMessage("HELD", aRecipient("dee@d.test", 1), held=True, user="ann"), None, "large", eightBit=False)

    database.write(write)
    database.close()
    return directory


Run = Callable[..., str]


@pytest.fixture
def run(directory: Path, capfd: Any) -> Run:
    def run(action: str, *arguments: str, status: int = 0) -> str:
        try:
            main(["queue", action, "--queue", str(directory), *arguments])
            ended: object = 0
        except SystemExit as end:
            ended = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                sys.stderr.write(end.code)
        output = capfd.readouterr()
        assert ended == status, output.err
        return str(output.out if not status else output.err)

    return run


def listed(run: Run, *arguments: str) -> dict[str, Any]:
    found = [json.loads(line) for line in run("list", "--json", *arguments).splitlines()]
    return {message["id"]: message for message in found}


def nextAttempts(run: Run) -> dict[str, list[float]]:
    return {name: [one["nextAttempt"] for one in message["recipients"]] for name, message in listed(run).items()}


# ---- Looking.


def test_the_list_has_each_message_with_its_recipients_and_what_was_said_last(run: Run) -> None:
    text = run("list")
    lines = text.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["TRIED", "FRESH", "HELD", "3"]
    assert "<ann@client.test>" in lines[0] and lines[1].startswith("    ben@B.test: waiting, due in ")
    assert lines[1].endswith(", 3 attempts: mx.test said 451 4.3.0 Try ?[31mlater")
    assert lines[-2].endswith(", 1 attempt: mx.test: 451 4.3.0 Try ?[31mlater")
    assert lines[-1] == "3 messages, 4 recipients waiting, 1 held"
    assert run("list", "--held").splitlines()[-1] == "1 message, 1 recipient waiting, 1 held"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [((), ["TRIED", "FRESH", "HELD"]), (("--held",), ["HELD"]), (("--domain", "B.TEST"), ["TRIED", "FRESH"]), (("--domain", "nowhere.test"), [])],
)
def test_a_list_of_some(run: Run, arguments: Sequence[str], names: Sequence[str]) -> None:
    assert list(listed(run, *arguments)) == list(names)
    assert len(run("list", *arguments).splitlines()) >= 1


def test_the_list_for_programs(run: Run) -> None:
    assert listed(run)["TRIED"] == {
        "id": "TRIED", "sender": "ann@client.test", "user": None, "size": len(TEXT), "queuedAt": 1e9, "priority": 0, "held": False, "report": False,
        "recipients": [
            {"recipient": name, "state": "waiting", "attempts": attempts, "nextAttempt": LATER, "lastAttempt": 1e9, "host": "mx.test",
             "stage": "rcpt", "reply": {"code": 451, "enhanced": "4.3.0", "text": "Try \x1b[31mlater", "local": False}, "warned": False,
             "doubt": None}
            for name, attempts in (("ben@B.test", 3), ("cy@c.test", 1))
        ],
    }  # fmt: skip


def test_show_has_the_envelope_the_progress_and_the_header(run: Run) -> None:
    text = run("show", "TRIED")
    assert "Sender:       <ann@client.test>\n" in text and "Recipients:\n    ben@B.test: waiting" in text
    assert text.endswith("\n\nSubject: Hello\nX-Bad: ?[31m\n")
    shown = json.loads(run("show", "HELD", "--json"))
    assert shown["envelope"]["sender"] == ["ann", "client.test"] and shown["envelope"]["recipients"] == [{"address": ["dee", "d.test"]}]
    assert shown["header"] == "Subject: Hello\r\nX-Bad: \x1b[31m\r\n" and shown["user"] == "ann" and "text" not in shown
    assert json.loads(run("show", "--json", "--text", "HELD"))["text"].encode() == TEXT


def test_show_tells_what_the_sender_asked_for(run: Run, directory: Path) -> None:
    recipient = Recipient(Address("a b", "b.test"), notify=frozenset({"SUCCESS", "DELAY"}), originalRecipient=("rfc822", "x@y"))
    envelope = Envelope(
        "FULL", Address("", ""), recipients=[recipient], body="8BITMIME", smtputf8=True, receivedAt=1e9, ret="HDRS", envelopeId="Q1", requireTLS=True,
        deliverBy=DeliverBy(60, "R", False), priority=3, holdUntil=2e9,
    )  # fmt: skip
    database = Database(databaseOf(str(directory)), bodiesOf(str(directory)), MIGRATIONS)
    message = QueuedMessage("FULL", envelope, [Progress(recipient)], 1e9, 5000, report=True)
    database.write(lambda connection: rows.insert(connection, message, TEXT, None, eightBit=False))
    database.close()
    text = run("show", "FULL")
    for line in ("State:        report", "Body:         8BITMIME", "SMTPUTF8:     yes", "Priority:     3", "Require TLS:  yes", "Envelope id:  Q1"):
        assert f"{line}\n" in text
    assert '    "a b"@b.test: waiting, due now notify DELAY,SUCCESS original rfc822;x@y\n' in text
    assert "Hold until: " in text and ", else return it\n" in text


@pytest.mark.parametrize("name", ["TRIED", "HELD"])
def test_the_text_is_shown_as_it_is(run: Run, name: str) -> None:
    assert run("show", name, "--text").encode() == TEXT.replace(b"\r\n", b"\r\n")


def test_a_text_whose_file_is_gone_is_said_to_be(run: Run, directory: Path) -> None:
    (directory / "bodies" / "large").unlink()
    assert run("show", "HELD").endswith("the text cannot be read\n")


def test_statistics(run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(run("stats", "--json"))
    assert (found["messages"], found["held"], found["reports"], found["octets"], found["oldest"], found["due"]) == (3, 1, 0, 3 * len(TEXT), 1e9, 0)
    assert found["next"] == LATER and not found["running"]
    assert found["domains"][0] == {"domain": "b.test", "recipients": 2, "tried": 1, "next": LATER}
    text = run("stats")
    assert text.startswith("messages: 3, held: 1, reports: 0, size: ") and "sending:  no server runs this queue\n" in text
    assert "    b.test: 2 waiting, 1 of them again, the next in " in text
    run("drop", "--all")
    assert "oldest:   none\n" in run("stats")


def test_an_empty_queue(run: Run) -> None:
    run("drop", "--all")
    assert run("list") == "0 messages, 0 recipients waiting, 0 held\n"
    assert run("list", "--json") == ""


# ---- Changing.


def test_flush_makes_due_what_was_tried_and_not_what_waits_for_its_time(run: Run) -> None:
    assert run("flush").splitlines() == ["TRIED tried again now", "HELD tried again now", "2 messages tried again now"]
    after = nextAttempts(run)
    assert max(after["TRIED"]) < LATER and after["FRESH"] == [LATER]
    assert run("flush") == "0 messages tried again now\n"


def test_flush_of_a_domain_leaves_other_recipients_alone(run: Run) -> None:
    assert json.loads(run("flush", "--domain", "b.test", "--json")) == {"flush": ["TRIED"], "underWay": {}}
    ben, cy = nextAttempts(run)["TRIED"]
    assert ben < LATER and cy == LATER
    # The message is due when the first of them is.
    assert json.loads(run("stats", "--json"))["due"] == 1


def test_flush_of_one(run: Run) -> None:
    assert run("flush", "HELD", "FRESH").splitlines() == ["HELD tried again now", "1 message tried again now"]


def test_hold_and_release(run: Run) -> None:
    assert run("hold", "TRIED", "HELD").splitlines() == ["TRIED held", "1 message held"]
    assert [name for name, message in listed(run).items() if message["held"]] == ["TRIED", "HELD"]
    assert run("release", "--domain", "d.test").splitlines() == ["HELD released", "1 message released"]
    assert json.loads(run("hold", "--all", "--json")) == {"hold": ["FRESH", "HELD"], "underWay": {}}
    assert run("release", "--all").splitlines()[-1] == "3 messages released"


def test_drop_takes_a_message_out_with_its_file(run: Run, directory: Path) -> None:
    assert run("drop", "HELD").splitlines() == ["HELD dropped", "1 message dropped"]
    assert list(listed(run)) == ["TRIED", "FRESH"] and list((directory / "bodies").iterdir()) == []


def test_drop_for_a_domain_takes_its_recipients_out_and_the_message_when_nobody_else_waits(run: Run) -> None:
    assert run("drop", "--domain", "b.test").splitlines()[-1] == "2 messages dropped for b.test"
    left = listed(run)
    assert list(left) == ["TRIED", "HELD"]
    assert [one["state"] for one in left["TRIED"]["recipients"]] == ["dropped", "waiting"]


# ---- What goes wrong.


@pytest.mark.parametrize("action", ["show", "flush", "hold", "release", "drop"])
def test_a_message_that_is_not_there_is_named_and_the_others_are_done(run: Run, directory: Path, action: str) -> None:
    assert run(action, "NOBODY", "TRIED", status=1) == f"smtplite: queue: there is no message NOBODY in {directory}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "X"], "list takes no ids"),
        (["list", "--text"], "--text does not go with list"),
        (["show"], "show needs an id"),
        (["show", "X", "--domain", "b"], "--domain does not go with show"),
        (["drop"], "drop needs ids, --domain or --all"),
        (["hold", "X", "--all"], "hold: ids and --all do not go together"),
        (["flush", "--domain", "b", "--all"], "flush: --domain and --all do not go together"),
        (["list", "--colour"], "option --colour not recognized"),
    ],
)
def test_what_cannot_be_used_is_said(run: Run, arguments: Sequence[str], sentence: str) -> None:
    assert run(*arguments, status=64) == f"smtplite: queue: {sentence}; --help shows the options\n"


def test_an_action_is_needed(capsys: Any) -> None:
    for arguments, sentence in (([], "an action is needed: list, "), (["dance"], "dance is no action: list, ")):
        with pytest.raises(SystemExit):
            main(["queue", *arguments])
        assert sentence in capsys.readouterr().err


def test_help(capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main(["queue", "--help"])
    assert not end.value.code and "list|show|flush|hold|release|drop|stats" in capsys.readouterr().out


def test_a_queue_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"there is no queue in {tmp_path}/nowhere"):
        main(["queue", "list", "--queue", str(tmp_path / "nowhere")])
    assert not (tmp_path / "nowhere").exists()


def test_a_queue_that_is_none_or_is_locked_is_said_to_be(directory: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twisted_smtplite.delivery.database._PATIENCE", 0.05)
    other = sqlite3.connect(directory / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert run("drop", "--all", status=1).endswith("cannot be used: database is locked")
    other.close()
    for path in directory.glob("queue.sqlite*"):
        path.unlink()
    (directory / "queue.sqlite").write_text("no database" * 100)
    assert run("list", status=1).endswith("cannot be used: file is not a database")


# ---- Beside a server.


def test_a_running_server_is_seen(run: Run, directory: Path) -> None:
    from twisted.internet import reactor

    store: Any = QueueStore(str(directory), reactor)
    assert store.claim()
    assert json.loads(run("stats", "--json"))["running"] and "sending:  yes\n" in run("stats")
    store.unclaim()
    assert not json.loads(run("stats", "--json"))["running"]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [("hold --all", 2), ("drop --all", 2), ("hold --domain b.test", 2), ("drop --domain b.test", 1), ("drop FRESH", 0)],
)
def test_what_is_on_its_way_is_said_to_be(run: Run, directory: Path, arguments: str, count: int) -> None:
    from twisted.internet import reactor

    store: Any = QueueStore(str(directory), reactor)
    try:
        assert store.claim()
        store._marks.put(1, 0)
        store._marks.put(1, 1)
        text = run(*arguments.split())
        said = f"TRIED is on its way to {count} recipient{'s' if count > 1 else ''} at this moment: that could not be stopped\n"
        assert (said in text) is bool(count) and ("on its way" in text) is bool(count)
    finally:
        store.close()


def test_what_a_dead_server_had_on_its_way_is_nobodys_concern(run: Run, directory: Path) -> None:
    from twisted.internet import reactor

    store: Any = QueueStore(str(directory), reactor)
    assert store.claim()
    store._marks.put(1, 0)
    store.close()
    assert json.loads(run("drop", "--all", "--json")) == {"drop": ["TRIED", "FRESH", "HELD"], "underWay": {}}


def test_who_may_have_a_message_already_is_shown(run: Run, directory: Path) -> None:
    database = Database(databaseOf(str(directory)), bodiesOf(str(directory)), MIGRATIONS)
    database.write(lambda connection: rows.doubt(connection, Doubt.KILLED, [(1, 0)]))
    database.close()
    assert "    ben@B.test: waiting, due in " in run("list") and run("list").count(", may have it already") == 1
    assert [one["doubt"] for one in listed(run)["TRIED"]["recipients"]] == ["killed", None]


def test_the_program(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twisted_smtplite", "queue", "list"], cwd=directory.parent, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0 and "TRIED" in done.stdout, done.stderr
