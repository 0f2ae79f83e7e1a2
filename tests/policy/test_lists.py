"""Lists, and the policies that are a list: networks, senders, recipients, the senders of users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from twisted_smtplite.interfaces import ISenderRights
from twisted_smtplite.model import replies
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.policy.lists import AddressPatterns, WatchedFile
from twisted_smtplite.policy.registry import makePolicy
from twisted_smtplite.policy.usersenders import UserSenderPolicy


def address(text: str) -> Address:
    local, _, domain = text.rpartition("@") if "@" in text else (text, "", "")
    return Address(local, domain)


def envelope(sender: str) -> Envelope:
    return Envelope("E1", address(sender))


def session(peer: str = "192.0.2.1", user: str | None = None, avatar: object = None) -> SessionInfo:
    return SessionInfo("S1", "mx.test", peer, user=user, avatar=avatar)


def policy(spec: str, clock: Clock | None = None) -> Any:
    return cast(Any, makePolicy(spec, cast(Any, clock or Clock())))


def settled(answer: Any) -> Any:
    """What a coroutine that need not wait comes to."""
    results: list[Any] = []
    Deferred.fromCoroutine(answer).addBoth(results.append)
    (result,) = results
    return result


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("ben@mx.test", ["ben@mx.test", "BEN@MX.Test"], ["ben@mx.test.net", "aben@mx.test", "ben@sub.mx.test", "ben", ""]),
        ("@mx.test", ["ben@mx.test", "a@MX.TEST"], ["ben@sub.mx.test", "ben@amx.test", "mx.test@c.test", "postmaster", ""]),
        ("mx.test", ["ben@mx.test"], ["ben@sub.mx.test", ""]),
        (".mx.test", ["ben@mx.test", "ben@sub.mx.test", "a@b.c.mx.test"], ["ben@amx.test", "ben@mx.test.net", "postmaster", ""]),
        ("<>", [""], ["ben@mx.test", "postmaster"]),
        ("*-list@mx.test", ["dogs-list@mx.test", "-list@MX.test"], ["dogs-list@mx.tests", "list@mx.test"]),
        ("ben+*@mx.test", ["ben+a@mx.test"], ["ben@mx.test", "benn@mx.test"]),
        ("b?n@mx.test", ["ben@mx.test", "bin@mx.test"], ["been@mx.test", "bn@mx.test"]),
        ("mx*.test", ["a@mx1.test", "a@mx.sub.test"], ["a@amx.test", "mx1.test@b.test"]),
        ("@mx*.test", ["a@mx1.test"], ["a@b.test"]),
        ("*@*", ["a@b"], ["", "postmaster"]),
        ("postmaster@mx.test", ["Postmaster@mx.test"], ["postmaster"]),
        ("jürgen@mx.test", ["JÜRGEN@mx.test"], ["jurgen@mx.test"]),
        ("a.b@mx.test", ["a.b@mx.test"], ["axb@mx.test"]),
    ],
)
def test_patterns_of_addresses(pattern: str, matching: list[str], others: list[str]) -> None:
    patterns = AddressPatterns([pattern])
    assert [text for text in matching if address(text) not in patterns] == []
    assert [text for text in others if address(text) in patterns] == []


def test_several_patterns_are_any_of_them() -> None:
    patterns = AddressPatterns(["a@a.test", ".b.test", "c*@c.test", "d*@d.test", "e.test"])
    assert all(address(text) in patterns for text in ("a@a.test", "x@y.b.test", "cc@c.test", "d@d.test", "x@e.test"))
    assert address("a@e.c.test") not in patterns
    assert address("a@a.test") not in AddressPatterns([])


@pytest.mark.parametrize("pattern", ["", " ", "a b@c", "a\n@b", "a\x00"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="is no address, domain or pattern"):
        AddressPatterns([pattern])


def test_many_stars_take_no_time() -> None:
    assert address("a" * 60 + "@" + "b" * 190) not in AddressPatterns(["*" * 50 + "a@c", "*a*a*a@c"])


@pytest.mark.parametrize(
    ("spec", "welcome", "refused"),
    [
        ("networks:allow=192.0.2.0/24,2001:db8::/32", ["192.0.2.9", "2001:db8::1"], ["198.51.100.1", "2001:db9::1", ""]),
        ("networks:allow=192.0.2.1, unix", ["192.0.2.1", ""], ["192.0.2.2"]),
        ("networks:deny=192.0.2.0/24", ["198.51.100.1", "2001:db8::1", ""], ["192.0.2.9"]),
    ],
)
def test_networks(spec: str, welcome: list[str], refused: list[str]) -> None:
    asked = policy(spec)
    assert [asked.connect(session(peer)) for peer in welcome] == [None] * len(welcome)
    assert [asked.connect(session(peer)) for peer in refused] == [replies.NETWORK_REFUSED] * len(refused)


@pytest.mark.parametrize(
    ("spec", "welcome", "refused"),
    [
        ("senders:allow=client.test", ["a@client.test", ""], ["a@other.test"]),
        ("senders:deny=client.test", ["a@other.test", ""], ["a@client.test"]),
        ("senders:deny=<>", ["a@other.test"], [""]),
    ],
)
def test_senders(spec: str, welcome: list[str], refused: list[str]) -> None:
    asked = policy(spec)
    assert [asked.mail(session(), envelope(sender)) for sender in welcome] == [None] * len(welcome)
    assert [asked.mail(session(), envelope(sender)) for sender in refused] == [replies.SENDER_REFUSED] * len(refused)


@pytest.mark.parametrize(
    ("spec", "welcome", "refused"),
    [
        ("recipients:allow=ben@mx.test", ["ben@mx.test", "postmaster", "Postmaster@MX.test"], ["ann@mx.test", "postmaster@other.test"]),
        ("recipients:deny=ben@mx.test,*", ["postmaster", "postmaster@mx.test"], ["ben@mx.test", "ann@other.test"]),
    ],
)
def test_recipients(spec: str, welcome: list[str], refused: list[str]) -> None:
    asked = policy(spec)
    assert [asked.rcpt(session(), envelope(""), Recipient(address(each))) for each in welcome] == [None] * len(welcome)
    assert [asked.rcpt(session(), envelope(""), Recipient(address(each))) for each in refused] == [replies.RECIPIENT_REFUSED] * len(refused)


def test_the_senders_of_users(tmp_path: Path) -> None:
    file = tmp_path / "senders"
    file.write_text("# who may be whom\nann ann@a.test .ann.test  # and more\nben b*@b.test\nann shared@a.test\n* news@a.test\n")
    asked = policy(f"user-senders:{file}")

    def refused(user: str | None, sender: str) -> bool:
        answer = asked.mail(session(user=user), envelope(sender))
        assert answer in (None, replies.SENDER_NOT_YOURS)
        return answer is not None

    assert not any(refused("ann", sender) for sender in ("ann@a.test", "x@y.ann.test", "Shared@a.test", "news@a.test", ""))
    assert all(refused("ann", sender) for sender in ("b@b.test", "other@a.test"))
    assert not refused("ben", "bob@b.test")
    assert refused("ben", "ann@a.test")
    assert refused("eve", "ann@a.test")
    assert not refused("eve", "news@a.test")
    assert not refused("eve", "")
    # Who has not authenticated is no user.
    assert not refused(None, "ann@a.test")
    assert refused("*", "ann@a.test")


@implementer(ISenderRights)
class Avatar:
    """Says always the same, and remembers of whom."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def maySend(self, sender: Address) -> Any:
        self.asked.append(str(sender))
        return self.answer() if callable(self.answer) else self.answer


async def soon(answer: bool) -> bool:
    return answer


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("way", [bool, succeed, soon])
def test_an_avatar_with_rights_decides_alone(tmp_path: Path, answer: bool, way: Any) -> None:
    file = tmp_path / "senders"
    file.write_text("ann ann@a.test\n")
    verdict = None if answer else replies.SENDER_NOT_YOURS
    for asked in (policy(f"user-senders:{file}"), UserSenderPolicy()):
        # Both on the list of the file and not.
        for sender in ("ann@a.test", "ben@b.test"):
            avatar = Avatar(lambda: way(answer))
            said = asked.mail(session(user="ann", avatar=avatar), envelope(sender))
            assert (said if way is bool else settled(said)) is verdict
            assert avatar.asked == [sender]


def test_an_avatar_is_not_asked_about_reports_or_strangers() -> None:
    avatar = Avatar(False)
    assert UserSenderPolicy().mail(session(user="ann", avatar=avatar), envelope("")) is None
    assert UserSenderPolicy().mail(session(avatar=avatar), envelope("a@b.test")) is None
    assert avatar.asked == []


@pytest.mark.parametrize("avatar", [None, object()])
def test_an_avatar_without_a_say_leaves_it_to_others(tmp_path: Path, avatar: object) -> None:
    file = tmp_path / "senders"
    file.write_text("ann ann@a.test\n")
    ann = session(user="ann", avatar=avatar)
    assert policy(f"user-senders:{file}").mail(ann, envelope("ann@a.test")) is None
    assert UserSenderPolicy().mail(ann, envelope("ann@a.test")) is replies.SENDER_NOT_YOURS


@pytest.mark.parametrize("text", ["ann\n", "ann a b@\x00\n"])
def test_a_file_of_users_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    file = tmp_path / "senders"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"^policy 'user-senders:.*: .*/senders: "):
        policy(f"user-senders:{file}")


def test_a_list_in_a_file_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "deny"
    file.write_text("# unwelcome\n192.0.2.0/24\n\n")
    clock = Clock()
    asked = policy(f"networks:deny-file={file}", clock)

    def welcome() -> list[bool]:
        return [asked.connect(session(peer)) is None for peer in ("192.0.2.1", "198.51.100.1")]

    assert welcome() == [False, True]
    file.write_text("198.51.100.0/24 # others now\n")
    # At most once a second.
    assert welcome() == [False, True]
    clock.advance(1)
    assert welcome() == [True, False]
    for broken in ("nonsense\n", "\xff\xfe"):
        file.write_bytes(broken.encode("latin-1"))
        clock.advance(1)
        with capturedLogs() as events:
            assert welcome() == [True, False]
            clock.advance(1)
            assert welcome() == [True, False]
        assert len(events) == 1, "said once"
    file.unlink()
    with capturedLogs() as events:
        for _ in range(3):
            clock.advance(1)
            assert welcome() == [True, False]
    assert len(events) == 1, "said once"
    file.write_text("192.0.2.0/24\n")
    clock.advance(1)
    assert welcome() == [False, True]


def test_a_file_that_is_replaced_by_one_as_old_and_as_long_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("a\n")
    os.utime(file, (1, 1))
    clock = Clock()
    content = WatchedFile(str(file), list, clock)
    assert content() == ["a"]
    other = tmp_path / "other"
    other.write_text("b\n")
    os.utime(other, (1, 1))
    other.replace(file)
    clock.advance(1)
    assert content() == ["b"]


def test_a_clock_that_goes_back_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("a\n")
    clock = Clock()
    clock.advance(100)
    content = WatchedFile(str(file), list, clock)
    clock.rightNow = 0.0
    file.write_text("bb\n")
    assert content() == ["bb"]


def test_a_file_is_found_again_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list").write_text("a@b\n")
    monkeypatch.chdir(tmp_path)
    clock = Clock()
    asked = policy("senders:deny-file=list", clock)
    monkeypatch.chdir("/")
    (tmp_path / "list").write_text("cc@d\n")
    clock.advance(1)
    assert asked.mail(session(), envelope("cc@d")) is replies.SENDER_REFUSED


@pytest.mark.parametrize("name", ["networks", "senders", "recipients"])
@pytest.mark.parametrize("argument", ["", "allow", "allow=", "permit=a", "allow-file=/no/such/file", "deny=,", "allow-file="])
def test_an_argument_that_is_none_is_said(name: str, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"^policy '{name}:{argument}': "):
        policy(f"{name}:{argument}")


def test_users_need_a_file() -> None:
    with pytest.raises(ValueError, match="it needs a file"):
        policy("user-senders")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        policy("user-senders:/no/such/file")
