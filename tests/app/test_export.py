from __future__ import annotations

import mailbox
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from twisted_smtplite.app import export as module
from twisted_smtplite.app.cli import main
from twisted_smtplite.delivery.sqlite import SQLiteDelivery
from twisted_smtplite.delivery.sqliteschema import openToWrite

FROMS = b"From the start\r\n>From quoted\r\n>>From twice\r\nFrom: not one\r\n From neither\r\n\r\nFrom after an empty line\r\nno line end"
CONTENTS = [b"Subject: one\r\n\r\n" + FROMS, b"", b"x" * 200_000 + b"\r\nFrom " + b"y" * 70_000 + b"\r\n", b"a\rb\nc\r\r\nd\r"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with a message for each of CONTENTS, the odd ones in files, as a server leaves it."""
    path = tmp_path / "mail.sqlite"
    delivery = SQLiteDelivery(str(path), reactor)
    delivery.prepare()
    connection = openToWrite(str(path))
    for number, content in enumerate(CONTENTS, 1):
        connection.execute(
            "INSERT INTO message VALUES (?, 1, 'E', ?, '[]', '', '', 'SMTP', NULL, 0, 1000000000.5, 0, 0, 0, 0, 0, '', '', '', '', '')",
            (number, "" if number == 1 else "a b@client.test"),
        )
        connection.executemany("INSERT INTO recipient VALUES (?, ?, ?, '[]')", [(number, 0, "ben@mx.test"), (number, 1, "ben@mx.test")])
        if number % 2:
            (tmp_path / "mail.sqlite.bodies" / str(number)).write_bytes(content)
        connection.execute("INSERT INTO content VALUES (?, ?, ?)", (number, None if number % 2 else content, str(number) if number % 2 else None))
    connection.close()
    delivery.close()
    return path


def unixLines(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n")


def withoutFields(message: bytes) -> bytes:
    return message.partition(b"Delivered-To: ben@mx.test\n")[2]


def test_an_mbox_has_every_message_and_marks_what_looks_like_the_start_of_one(database: Path, tmp_path: Path, capsys: Any) -> None:
    main(["export", str(database), "mbox", str(tmp_path / "out")])
    assert capsys.readouterr().out == "4 messages\n"
    text = (tmp_path / "out").read_bytes()
    first = unixLines(FROMS).replace(b"\n>>From ", b"\n>>>From ").replace(b"\n>From ", b"\n>>From ").replace(b"\nFrom ", b"\n>From ")
    assert text.startswith(
        b"From MAILER-DAEMON Sun Sep  9 01:46:40 2001\nReturn-Path: <>\nX-Original-To: ben@mx.test\nDelivered-To: ben@mx.test\nSubject: one\n\n>"
        + first
        + b"\n\nFrom a?b@client.test Sun"
    )
    assert len(list(mailbox.mbox(tmp_path / "out"))) == 4
    assert list(tmp_path.glob("*.part")) == []


def test_a_maildir_has_every_message_as_it_was(database: Path, tmp_path: Path) -> None:
    main(["export", str(database), "maildir", str(tmp_path / "out")])
    stored = [
        withoutFields(path.read_bytes())
        for path in sorted((tmp_path / "out" / "new").iterdir(), key=lambda path: int(path.name.split("Q")[1].split(".")[0]))
    ]
    assert stored == [unixLines(content) for content in CONTENTS]
    assert list((tmp_path / "out" / "tmp").iterdir()) == []


def test_no_cut_between_pieces_changes_a_message(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE", 7)
    monkeypatch.setattr(module, "_ROWS", 1)
    connection = sqlite3.connect(database)
    rng = random.Random(4)
    content = b"".join(rng.choices([b"\r\n", b"\r", b"\n", b"x" * 6, b"From ", b">"], k=500))
    connection.execute("UPDATE content SET octets = ? WHERE message = 2", (content,))
    connection.commit()
    main(["export", str(database), "maildir", str(tmp_path / "out")])
    assert unixLines(content) in [withoutFields(path.read_bytes()) for path in (tmp_path / "out" / "new").iterdir()]


def test_a_file_that_was_deleted_meanwhile_is_left_out(database: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "mail.sqlite.bodies" / "1").unlink()
    main(["export", str(database), "mbox", str(tmp_path / "out")])
    assert capsys.readouterr().out == "3 messages\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing", "mbox", "out"], "nothing cannot be exported to out: unable to open database file"),
        (["mail.sqlite", "mbox", "mail.sqlite"], "mail.sqlite exists already"),
        (["mail.sqlite", "maildir", "mail.sqlite"], "cannot be exported to mail.sqlite: .*Not a directory"),
        (["mail.sqlite", "mbox", "nowhere/out"], "No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=sentence):
        main(["export", *arguments])
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))) == ["mail.sqlite", "mail.sqlite.bodies"]


@pytest.mark.parametrize("arguments", [[], ["mail.sqlite", "mh", "out"]])
def test_what_is_asked_for_wrongly_is_shown(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["export", *arguments])
    assert raised.value.code == 64
    assert capsys.readouterr().err == "smtplite: export needs a database, a form and a target: smtplite export DATABASE mbox|maildir TARGET\n"


def test_help_says_how(capsys: Any) -> None:
    main(["export", "--help"])
    assert "smtplite export DATABASE mbox|maildir TARGET" in capsys.readouterr().out
