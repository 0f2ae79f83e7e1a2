"""``smtplite passwd``, as its user sees it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from twisted_smtplite.app.cli import main
from twisted_smtplite.auth.hashes import verify
from twisted_smtplite.auth.passwordfile import PasswordFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    answers = list(lines)
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))


def complaint(arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["passwd", *arguments])
    return str(caught.value.code)


def test_a_password_is_asked_for_twice(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    typed(monkeypatch, "hunter2", "hunter2")
    main(["passwd", str(path), "tim"])
    stored = PasswordFile(str(path)).users().stored
    assert list(stored) == ["tim"] and stored["tim"].startswith("$scrypt$") and verify(stored["tim"], "hunter2")
    assert "hunter2" not in path.read_text() + "".join(capsys.readouterr())


def test_two_different_passwords_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "hunter2", "hunter3")
    assert complaint([str(path), "tim"]) == f"smtplite: passwd: {path}: the passwords are not the same"
    assert not path.exists()


def test_where_there_is_no_terminal_that_is_said(path: Path) -> None:
    command = [sys.executable, "-m", "twisted_smtplite", "passwd", str(path), "tim"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, timeout=30, check=False)
    sentence = f"smtplite: passwd: {path}: there is no terminal to ask for a password on; --stdin reads it from standard input\n"
    assert (done.returncode, done.stderr) == (1, sentence)
    assert not path.exists()


def test_scripts_give_the_password_on_standard_input(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for user in ("tim", "tom"):
        monkeypatch.setattr("sys.stdin", io.StringIO("hunter2\n"))
        main(["passwd", "--stdin", "--hash", "scram-sha-256", str(path), user])
    main(["passwd", "--list", str(path)])
    assert capsys.readouterr().out == "tim\tscram-sha-256\ntom\tscram-sha-256\n"
    main(["passwd", "--delete", str(path), "tim"])
    main(["passwd", "--list", str(path)])
    assert capsys.readouterr().out == "tom\tscram-sha-256\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "FILE and USER are needed"),
        (["--list"], "FILE is needed"),
        (["--list", "--delete", "FILE"], "--list and --delete do not go together"),
        (["--hash", "md5", "FILE", "tim"], "--hash md5: it must be one of scrypt, argon2, bcrypt, scram-sha-256"),
    ],
)
def test_what_is_asked_for_wrongly_has_a_status_of_its_own(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["passwd", *arguments])
    assert raised.value.code == 64
    assert capsys.readouterr().err == f"smtplite: passwd: {sentence}; --help shows the options\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--delete", "FILE", "tim"], "there is no user tim"),
        (["--list", "FILE"], "No such file or directory"),
        (["--stdin", "FILE", "a:b"], "a user's name is"),
        (["--stdin", "FILE", "#a"], "a user's name is"),
        (["--stdin", "FILE", ""], "a user's name is"),
        (["--stdin", "FILE", "tim"], "a password is 1 to 255 octets"),
        (["--stdin", "FILE/file", "tim"], "a password is 1 to 255 octets"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(arguments: list[str], words: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    said = complaint([each.replace("FILE", str(path)) if each != "FILE" else str(path) for each in arguments])
    assert said.startswith("smtplite: passwd: ") and words in said and "\n" not in said
