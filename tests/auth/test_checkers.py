"""Checkers of twisted.cred, ours and in a chain."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

import pytest
from auth.rooms import HeldThreads, cheap, cheapKeys, passwordFile, settled
from twisted.cred.checkers import FilePasswordDB, ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import succeed
from zope.interface import implementer

from twisted_smtplite.auth.checkers import Chain, DigestCredentials, PasswordFileChecker, WrongPassword
from twisted_smtplite.auth.threads import FewThreads
from twisted_smtplite.dialogue.sasl import Digest


def ours(path: Path, **users: str) -> PasswordFileChecker:
    return PasswordFileChecker(passwordFile(path, **users), FewThreads(HeldThreads(), 1))  # type: ignore[arg-type]


def memory(**users: bytes) -> InMemoryUsernamePasswordDatabaseDontUse:
    return InMemoryUsernamePasswordDatabaseDontUse(**users)


def password(user: str, secret: str) -> UsernamePassword:
    return UsernamePassword(user.encode(), secret.encode())


def test_our_checker_tells_a_wrong_password_from_an_unknown_user(tmp_path: Path) -> None:
    checker = ours(tmp_path / "users", tim=cheap("hunter2"))
    assert settled(checker.requestAvatarId(password("tim", "hunter2"))) == b"tim"
    assert type(settled(checker.requestAvatarId(password("tim", "hunter3")))) is WrongPassword
    assert type(settled(checker.requestAvatarId(password("tom", "hunter2")))) is UnauthorizedLogin


def test_an_unknown_user_costs_a_hash_like_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def verify(stored: str, secret: str) -> bool:
        hashed.append(stored)
        return True

    monkeypatch.setattr("twisted_smtplite.auth.checkers.verify", verify)
    checker = ours(tmp_path / "users", tim=cheap("a"), tom=cheap("b", ln=3))
    # The password is right, for somebody: that must not help.
    assert type(settled(checker.requestAvatarId(password("nobody", "a")))) is UnauthorizedLogin
    assert len(hashed) == 1


def test_an_empty_file_knows_nobody(tmp_path: Path) -> None:
    assert type(settled(ours(tmp_path / "users").requestAvatarId(password("nobody", "a")))) is UnauthorizedLogin


@implementer(ICredentialsChecker)
class Scripted:
    """Answers what it is told to, and writes down that it was asked."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: object, asked: list[object]) -> None:
        self._answer = answer
        self._asked = asked

    def requestAvatarId(self, credentials: object) -> Any:
        self._asked.append(self._answer)
        if isinstance(self._answer, Exception):
            raise self._answer
        return succeed(self._answer)


@pytest.mark.parametrize(
    ("answers", "user", "asked"),
    [
        ([b"tim", b"other"], "tim", 1),
        ([UnauthorizedLogin(), b"tim"], "tim", 2),
        # Its own user, and not his password: nobody behind it can let him in, but they are asked, for the time that it takes.
        ([WrongPassword(), b"tim"], None, 2),
        ([UnauthorizedLogin(), UnauthorizedLogin()], None, 2),
        (["tim"], "tim", 1),
        ([()], None, 1),
        ([b""], None, 1),
        ([], None, 0),
    ],
)
def test_the_first_checker_that_knows_the_user_decides(answers: list[object], user: str | None, asked: int) -> None:
    seen: list[object] = []
    chain = Chain([Scripted(answer, seen) for answer in answers])
    assert settled(chain.firstWho(password("tim", "a"))) == user
    assert len(seen) == asked


def test_a_checker_that_fails_says_nothing_about_the_password() -> None:
    assert isinstance(settled(Chain([Scripted(OSError("disk"), [])]).firstWho(password("tim", "a"))), OSError)


def test_checkers_of_twisted_work_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("tom:beer\n")
    chain = Chain([ours(tmp_path / "users", tim=cheap("hunter2")), FilePasswordDB(str(tmp_path / "plain")), memory(ann=b"wine")])
    for user, secret in (("tim", "hunter2"), ("tom", "beer"), ("ann", "wine")):
        assert settled(chain.firstWho(password(user, secret))) == user
        assert settled(chain.firstWho(password(user, "x"))) is None
    assert chain.takes(IUsernamePassword) and chain.takes(IUsernameHashedPassword)
    assert not Chain([]).takes(IUsernamePassword)


def test_a_digest_goes_to_who_knows_passwords_only(tmp_path: Path) -> None:
    # RFC 2195 2: the example.
    digest = DigestCredentials(Digest("tim", b"<1896.697170952@postoffice.reston.mci.net>", "b913a602c7eda7a495b4e6e7334d3890"))
    assert hmac.new(b"tanstaaftanstaaf", b"<1896.697170952@postoffice.reston.mci.net>", "md5").hexdigest() == "b913a602c7eda7a495b4e6e7334d3890"
    assert settled(Chain([ours(tmp_path / "users", tim=cheap("tanstaaftanstaaf"))]).firstWho(digest)) is None
    assert settled(Chain([memory(tim=b"tanstaaftanstaaf")]).firstWho(digest)) == "tim"
    assert settled(Chain([memory(tim=b"other")]).firstWho(digest)) is None


def test_keys_come_from_the_first_who_has_some(tmp_path: Path) -> None:
    first, second = ours(tmp_path / "one", tim=cheapKeys("a")), ours(tmp_path / "two", tim=cheapKeys("b"), tom=cheapKeys("c"))
    chain = Chain([first, second])
    assert chain.allHaveKeys
    assert chain.keys("tim") == first.keys("tim") != second.keys("tim")
    assert chain.keys("tom") == second.keys("tom")
    assert chain.keys("nobody") == first.decoyKeys("nobody") == chain.keys("nobody")
    assert Chain([memory()]).keys("tim") is None
    assert not Chain([first, memory()]).allHaveKeys
    assert not Chain([]).allHaveKeys
