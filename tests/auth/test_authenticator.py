"""Who may log in, and how often he may try."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from auth.rooms import HeldThreads, cheap, cheapKeys, passwordFile, session, settled
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.error import LoginDenied
from twisted.cred.portal import IRealm
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_smtplite.auth.authenticator import Authenticator, chosen
from twisted_smtplite.auth.checkers import PasswordFileChecker
from twisted_smtplite.auth.threads import FewThreads
from twisted_smtplite.dialogue.sasl import Conclusion, Digest, External, Keys, Login, Password, StoredKeys, Token
from twisted_smtplite.interfaces import IMessageDelivery, ISenderRights
from twisted_smtplite.model import replies
from twisted_smtplite.model.limits import Limits

TIM = InMemoryUsernamePasswordDatabaseDontUse(tim=b"hunter2")
FAILED = Conclusion("PLAIN", None)
SUCCEEDED = Conclusion("PLAIN", "tim")


def authenticator(*checkers: object, clock: Clock | None = None, limits: Limits | None = None, **choices: Any) -> Authenticator:
    return Authenticator(checkers or (TIM,), clock or Clock(), limits=limits, **choices)


def keyed(tmp_path: Path, **users: str) -> PasswordFileChecker:
    return PasswordFileChecker(passwordFile(tmp_path / "users", **users), FewThreads(HeldThreads(), 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (Password("tim", "hunter2"), "tim"),
        (Password("tim", "hunter3"), None),
        (Password("tom", "hunter2"), None),
        (Password("tim", "hunter2", "tim"), "tim"),
        (Password("tim", "hunter2", "root"), None),
        (Password("tim", "hunter3", "tim"), None),
        (Digest("tim", b"<1>", "0" * 32), None),
        (Keys("tim", "SCRAM-SHA-256"), None),
        (External("carol", ""), "carol"),
        (External("carol", "carol"), "carol"),
        (External("carol", "dave"), None),
    ],
)
def test_checks_are_answered(check: Any, answer: str | None) -> None:
    assert settled(authenticator().check(session(), check)) == answer


def test_who_may_act_for_others_is_a_choice() -> None:
    chosenly = authenticator(mayActAs=lambda user, other: (user, other) == ("tim", "list"))
    assert settled(chosenly.check(session(), Password("tim", "hunter2", "list"))) == "list"
    assert settled(chosenly.check(session(), Password("tim", "hunter2", "root"))) is None


async def _later(value: str | None) -> str | None:
    return value


@pytest.mark.parametrize("way", [lambda name: name, succeed, _later], ids=["plain", "deferred", "coroutine"])
def test_tokens_and_certificates_are_checked_by_functions(way: Any) -> None:
    both = authenticator(
        tokens=lambda session, check: way("tim" if check.token == "abc" else None),
        certificates=lambda session, check: way({"CN of Carol": "carol"}.get(check.certificate)),
    )
    assert settled(both.check(session(), Token("", "abc"))) == "tim"
    assert settled(both.check(session(), Token("tim", "x"))) is None
    assert settled(both.check(session(), External("CN of Carol", ""))) == "carol"
    assert settled(both.check(session(), External("CN of Dave", ""))) is None


def test_keys_are_answered_for_everybody(tmp_path: Path) -> None:
    scram = authenticator(keyed(tmp_path, tim=cheapKeys("a")))
    assert isinstance(settled(scram.check(session(), Keys("tim", "SCRAM-SHA-256"))), StoredKeys)
    assert isinstance(settled(scram.check(session(), Keys("nobody", "SCRAM-SHA-256"))), StoredKeys)


def test_what_is_offered_is_what_every_user_can_use(tmp_path: Path) -> None:
    pytest.importorskip("scramp")
    assert Authenticator([], Clock()).mechanisms == ()
    assert authenticator().mechanisms == ("PLAIN", "LOGIN")
    assert authenticator(keyed(tmp_path, tim=cheap("a"))).mechanisms == ("PLAIN", "LOGIN")
    assert authenticator(keyed(tmp_path, tim=cheapKeys("a"))).mechanisms == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
    assert Authenticator([], Clock(), tokens=lambda session, check: None).mechanisms == ("OAUTHBEARER", "XOAUTH2")
    assert Authenticator([], Clock(), certificates=lambda session, check: None).mechanisms == ("EXTERNAL",)


def test_mechanisms_are_chosen_by_name(tmp_path: Path) -> None:
    assert chosen(["login", " cram-md5", "External"], authenticator()) == ("LOGIN", "CRAM-MD5", "EXTERNAL")
    for name, why in (("NTLM", "there is no mechanism 'NTLM'"), ("SCRAM-SHA-256", "for all its users"), ("XOAUTH2", "for all its users")):
        with pytest.raises(ValueError, match=why):
            chosen([name], authenticator())
    with pytest.raises(ValueError, match="for all its users"):
        chosen(["CRAM-MD5"], authenticator(keyed(tmp_path, tim=cheap("a"))))


def test_scram_is_not_offered_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twisted_smtplite.dialogue.mechanisms.find_spec", lambda name: None)
    scram = authenticator(keyed(tmp_path, tim=cheapKeys("a")))
    assert scram.mechanisms == ("PLAIN", "LOGIN")
    with pytest.raises(ValueError, match="needs the package scramp"):
        chosen(["SCRAM-SHA-256"], scram)


# -- guessing


def test_a_failed_login_is_told_later_each_time() -> None:
    clock = Clock()
    slow = authenticator(clock=clock, limits=Limits(authDelay=1, authDelayMost=3))
    for seconds in (1, 2, 3, 3):
        answer = Deferred.fromCoroutine(slow.conclude(session(), FAILED))
        clock.advance(seconds - 0.1)
        assert not answer.called
        clock.advance(0.1)
        assert settled(answer) is None


def test_a_client_that_hangs_up_does_not_wait_on() -> None:
    clock = Clock()
    answer = Deferred.fromCoroutine(authenticator(clock=clock).conclude(session(), FAILED))
    answer.cancel()
    settled(answer)
    assert clock.getDelayedCalls() == []


def test_the_last_failed_login_ends_the_session_and_the_next_ones_are_not_checked() -> None:
    guarded = authenticator(limits=Limits(authFailures=3, authDelay=0))
    assert [settled(guarded.conclude(session(), FAILED)) for _ in range(3)] == [None, None, replies.TOO_MANY_FAILED_LOGINS]
    assert settled(guarded.check(session(), Password("tim", "hunter2"))) is replies.TOO_MANY_FAILED_LOGINS
    assert settled(guarded.check(session("192.0.2.2"), Password("tim", "hunter2"))) == "tim"


def test_of_many_guesses_at_the_same_time_no_more_are_answered() -> None:
    guarded = authenticator(limits=Limits(authFailures=2, authDelay=0))
    assert settled(guarded.check(session(), Password("tim", "hunter2"))) == "tim"
    for _ in range(2):
        settled(guarded.conclude(session(), FAILED))
    # This one was right, and came too late.
    assert settled(guarded.conclude(session(), SUCCEEDED)) is replies.TOO_MANY_FAILED_LOGINS


def test_a_success_is_told_at_once_and_forgives_nothing() -> None:
    guarded = authenticator(limits=Limits(authFailures=2, authDelay=0))
    settled(guarded.conclude(session(), FAILED))
    assert settled(guarded.conclude(session(), SUCCEEDED)) is None
    assert settled(guarded.conclude(session(), FAILED)) is replies.TOO_MANY_FAILED_LOGINS


# -- what users get


@implementer(IRealm)
class Realm:
    """Has something for some users."""

    def __init__(self) -> None:
        self.loggedOut: list[str] = []

    def requestAvatar(self, avatarId: bytes, mind: Any, *interfaces: Any) -> Any:
        assert interfaces == (IMessageDelivery, ISenderRights) and mind.id == "1"
        if avatarId == b"denied":
            raise LoginDenied
        if avatarId == b"broken":
            raise OSError("disk")
        interface = ISenderRights if avatarId == b"sender" else IMessageDelivery
        avatar = None if avatarId == b"plain" else f"avatar of {avatarId.decode()}"
        return succeed((interface, avatar, lambda: self.loggedOut.append(avatarId.decode())))


def test_the_realm_has_a_delivery_for_each_user() -> None:
    realm = Realm()
    login = settled(authenticator(realm=realm).conclude(session(), SUCCEEDED))
    assert isinstance(login, Login) and login.delivery == login.avatar == "avatar of tim" and not realm.loggedOut
    login.logout()
    assert realm.loggedOut == ["tim"]


def test_a_user_may_have_rights_and_no_delivery_of_his_own() -> None:
    realm = Realm()
    login = settled(authenticator(realm=realm).conclude(session(), Conclusion("PLAIN", "sender")))
    assert isinstance(login, Login) and (login.delivery, login.avatar) == (None, "avatar of sender")
    login.logout()
    assert realm.loggedOut == ["sender"]


def test_a_user_whom_the_realm_has_nothing_for_uses_everybodys() -> None:
    realm = Realm()
    assert settled(authenticator(realm=realm).conclude(session(), Conclusion("PLAIN", "plain"))) is None
    assert realm.loggedOut == ["plain"]


@pytest.mark.parametrize("denied", [False, True])
def test_who_leaves_while_the_realm_thinks_is_logged_out_when_it_has_thought(denied: bool) -> None:
    realm = Realm()
    waiting: Deferred[Any] = Deferred()
    slow = Mock(requestAvatar=lambda *arguments: waiting.addCallback(lambda _: realm.requestAvatar(*arguments)))
    concluding = Deferred.fromCoroutine(authenticator(realm=slow).conclude(session(), Conclusion("PLAIN", "denied" if denied else "tim")))
    concluding.cancel()
    assert isinstance(settled(concluding), CancelledError)
    waiting.callback(None)
    assert realm.loggedOut == ([] if denied else ["tim"])


def test_the_realm_may_deny_a_login_or_break() -> None:
    realm = Realm()
    assert settled(authenticator(realm=realm).conclude(session(), Conclusion("PLAIN", "denied"))) is replies.AUTH_FAILED
    assert isinstance(settled(authenticator(realm=realm).conclude(session(), Conclusion("PLAIN", "broken"))), OSError)
