"""The options for AUTH."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from auth.rooms import HeldThreads, cheap, cheapKeys, session, settled
from twisted.logger import capturedLogs
from twisted.python.usage import UsageError

from twisted_smtplite.app.authoptions import makeAuthenticator, withUsers
from twisted_smtplite.app.options import Options
from twisted_smtplite.dialogue.sasl import External, Password
from twisted_smtplite.model.profile import Profile


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)
    return options


def profile(*arguments: str, tls: bool = True, before: Profile | None = None) -> Profile:
    options = parsed(*arguments)
    return withUsers(before or Profile(), options, makeAuthenticator(options, options.limits, HeldThreads()), tls=tls)  # type: ignore[arg-type]


@pytest.fixture
def users(tmp_path: Path) -> str:
    path = tmp_path / "users"
    path.write_text(f"tim:{cheap('hunter2')}\n")
    return str(path)


def test_without_users_nothing_is_offered() -> None:
    assert profile() == Profile()


def test_checkers_are_asked_in_the_order_of_the_command_line(users: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("tim:other\ntom:beer\n")
    options = parsed("--password-file", users, "--auth", f"file:{tmp_path}/plain", "--auth", "memory:ann:wine")
    authenticator: Any = makeAuthenticator(options, options.limits, HeldThreads())  # type: ignore[arg-type]
    for user, password, known in (
        ("tim", "hunter2", True),
        ("tim", "other", False),
        ("tom", "beer", True),
        ("ann", "wine", True),
        ("bo", "x", False),
    ):
        assert settled(authenticator.check(session(), Password(user, password))) == (user if known else None)


def test_mechanisms_are_those_that_the_users_can_use(users: str, tmp_path: Path) -> None:
    assert profile("--auth", f"smtplite:{users}").mechanisms == ("PLAIN", "LOGIN")
    assert profile("--password-file", users, "--mechanisms", "login").mechanisms == ("LOGIN",)
    pytest.importorskip("scramp")
    (tmp_path / "keys").write_text(f"tim:{cheapKeys('hunter2')}\n")
    assert profile("--password-file", str(tmp_path / "keys"), tls=False).mechanisms[1] == "SCRAM-SHA-256"


def test_certificates_alone_or_beside_passwords_let_clients_in(users: str) -> None:
    certificate = ("--auth", "certificate", "--self-signed", "--client-certificates", "request", "--client-ca", "ca.pem")
    assert profile(*certificate).mechanisms == ("EXTERNAL",)
    assert profile(*certificate, "--password-file", users).mechanisms == ("EXTERNAL", "PLAIN", "LOGIN")
    assert profile(*certificate, "--password-file", users, "--mechanisms", "PLAIN").mechanisms == ("PLAIN",)
    options = parsed(*certificate)
    authenticator: Any = makeAuthenticator(options, options.limits, HeldThreads())  # type: ignore[arg-type]
    assert settled(authenticator.check(session(), External("ann@client.test", ""))) == "ann@client.test"
    assert settled(authenticator.check(session(), External("ann@client.test", "ben@client.test"))) is None


def test_choices_reach_the_profile(users: str) -> None:
    assert not profile("--password-file", users).requireAuth
    chosen = profile("--password-file", users, "--require-auth", "--allow-plaintext-auth", tls=False)
    assert chosen.requireAuth and chosen.plaintextAuth
    assert profile("--password-file", users, before=Profile(lmtp=True)) == Profile(lmtp=True)
    assert profile("--password-file", users, before=Profile(submission=True, requireAuth=True)).requireAuth


def test_a_submission_port_without_users_is_told_of_in_the_log() -> None:
    with capturedLogs() as events:
        profile(before=Profile(submission=True, requireAuth=True))
    assert ["A submission port without users" in event["log_format"] for event in events] == [True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--require-auth"], "--require-auth needs users"),
        (["--allow-plaintext-auth"], "--allow-plaintext-auth needs users"),
        (["--mechanisms", "PLAIN"], "--mechanisms needs users"),
        (["--auth", "certificate"], "--auth certificate needs --client-certificates request or require, and --client-ca"),
    ],
)
def test_what_needs_users_says_so(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--password-file", "{users}"], "is for encrypted sessions only"),
        (["--password-file", "{users}", "--mechanisms", "NTLM"], "--mechanisms NTLM: there is no mechanism 'NTLM'"),
        (["--password-file", "{users}", "--mechanisms", "CRAM-MD5"], "no checker that was given can serve it"),
        (["--password-file", "/nowhere/users"], "No such file or directory"),
        (["--auth", "file:/nowhere/users"], "--auth file:/nowhere/users: No such file or directory"),
        (["--auth", "certificate:x"], "--auth certificate: there is no such checker"),
        (["--auth", "ldap:x"], "--auth ldap: there is no such checker"),
        (["--auth", "anonymous"], "this checker knows no passwords"),
        (["--auth", "memory:odd"], "--auth memory: "),
        (["--auth", "smtplite:{users}-broken"], "line 1: this is no stored password that is known here"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: list[str], words: str, users: str) -> None:
    Path(f"{users}-broken").write_text("tim:secret\n")
    with pytest.raises(ValueError, match=words) as caught:
        profile(*[each.format(users=users) for each in arguments], tls=False)
    assert "secret" not in str(caught.value)


def test_the_checkers_that_there_are_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--list-auth")
    shown = capsys.readouterr().out
    assert "smtplite:FILE" in shown and "certificate: " in shown and "file: " in shown and "anonymous" not in shown
