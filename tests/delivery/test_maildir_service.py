"""A Maildir as a service and as an option: how it starts and stops, and what is said at the start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, LARGE, anEnvelope, begin, deliver, quiet, refusalOf
from mailfiles import filesIn
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs

from twisted_smtplite.delivery.maildir import MaildirDelivery, plugin

# ---- Starting and stopping.


@pytest_twisted.ensureDeferred
async def test_starting_makes_the_directories_and_clears_what_is_stale(makeMaildir: Any, tmp_path: Path) -> None:
    old, young, link = (tmp_path / "in" / "tmp" / name for name in ("old", "young", "link"))
    old.parent.mkdir(parents=True)
    for file in (old, young):
        file.write_text("half a message")
    link.symlink_to(old)
    os.utime(old, (reactor.seconds() - 37 * 3600,) * 2)
    delivery = makeMaildir()
    with capturedLogs() as events:
        delivery.startService()
        await quiet(delivery)
    assert not old.exists()
    assert young.exists()
    assert link.is_symlink()
    assert (tmp_path / "in" / "cur").is_dir()
    assert [event["count"] for event in events if "count" in event] == [1]


@pytest_twisted.ensureDeferred
async def test_another_process_may_clear_at_the_same_time(makeMaildir: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in" / "tmp"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / str(number)).write_text("half a message")
        os.utime(folder / str(number), (1, 1))
    unlink = os.unlink

    def afterTheOther(path: str) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        for file in list(folder.iterdir())[:2]:
            unlink(file)
        unlink(path)

    monkeypatch.setattr(os, "unlink", afterTheOther)
    delivery = makeMaildir()
    with capturedLogs() as events:
        delivery.startService()
        await quiet(delivery)
    assert filesIn(folder) == []
    assert not [event for event in events if event["log_level"] is LogLevel.error]


@pytest_twisted.ensureDeferred
async def test_starting_clears_the_maildirs_of_all_recipients(makeMaildir: Any, tmp_path: Path) -> None:
    old = tmp_path / "in" / "mx.test" / "ben" / "tmp" / "old"
    old.parent.mkdir(parents=True)
    old.write_text("half a message")
    os.utime(old, (1, 1))
    (tmp_path / "in" / "mx.test" / "not a maildir").mkdir()
    delivery = makeMaildir(users=True)
    delivery.startService()
    await quiet(delivery)
    assert not old.exists()


@pytest_twisted.ensureDeferred
async def test_a_maildir_that_cannot_be_made_is_logged_and_refuses_for_now(makeMaildir: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    delivery = makeMaildir(tmp_path / "file" / "in")
    with capturedLogs() as events:
        delivery.startService()
        await quiet(delivery)
        assert (await refusalOf(delivery, [CONTENT])).code == 451
    assert [event["cause"] for event in events if "cause" in event] == ["Not a directory"]
    (tmp_path / "file").unlink()
    assert await deliver(delivery) == "E1"


@pytest_twisted.ensureDeferred
async def test_a_maildir_that_disappears_is_made_again(makeMaildir: Any, tmp_path: Path) -> None:
    delivery = makeMaildir()
    await deliver(delivery)
    (tmp_path / "in").rename(tmp_path / "moved")
    assert await deliver(delivery) == "E1"
    assert len(filesIn(tmp_path / "in" / "new")) == 1


@pytest_twisted.ensureDeferred
async def test_a_large_message_to_many_makes_the_directory_it_needs(makeMaildir: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MaildirDelivery, "prepare", lambda delivery: 0)
    assert await deliver(makeMaildir(users=True), LARGE, anEnvelope("ben@mx.test", "cy@mx.test")) == "E1"
    assert len(filesIn(tmp_path)) == 2


@pytest_twisted.ensureDeferred
async def test_it_stops_after_what_is_being_written_and_can_start_again(makeMaildir: Any, tmp_path: Path) -> None:
    delivery = makeMaildir()
    delivery.startService()
    message = await begin(delivery)
    message.dataReceived(CONTENT)
    answer = Deferred.fromCoroutine(message.eomReceived())
    delivery.stopService()
    assert len(filesIn(tmp_path / "in" / "new")) == 1
    assert await answer == "E1"
    delivery.stopService()
    delivery.startService()
    assert await deliver(delivery) == "E1"


@pytest_twisted.ensureDeferred
async def test_without_a_service_the_threads_end_with_the_reactor(makeMaildir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    triggers = []
    monkeypatch.setattr(reactor, "addSystemEventTrigger", lambda *arguments: triggers.append(arguments))
    monkeypatch.setattr(reactor, "removeSystemEventTrigger", lambda trigger: None)
    delivery = makeMaildir()
    await deliver(delivery)
    threads = list(delivery._pool._threads)
    ((phase, event, end),) = triggers
    end()
    assert (phase, event) == ("after", "shutdown")
    assert threads
    assert not any(thread.is_alive() for thread in threads)
    end()


# ---- On the command line.


@pytest.mark.parametrize(
    ("argument", "path", "users"),
    [("", "Maildir", False), ("mail", "mail", False), ("mail?users=1", "mail", True), ("mail?users=0", "mail", False), ("?users=1", "Maildir", True)],
)
def test_the_argument_is_a_path_with_options(argument: str, path: str, users: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    delivery = plugin.makeDelivery(argument, reactor)
    assert isinstance(delivery, MaildirDelivery)
    assert delivery.path == str(tmp_path / path)
    assert delivery._users is users


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    delivery = plugin.makeDelivery("~/Maildir", reactor)
    assert isinstance(delivery, MaildirDelivery)
    assert delivery.path == str(tmp_path / "Maildir")


@pytest.mark.parametrize(
    ("argument", "text"), [("a?colour=red", "unknown option 'colour'"), ("a?users=yes", "must be 0 or 1, not 'yes'"), ("file", "is not a directory")]
)
def test_a_bad_argument_is_said_in_a_sentence(argument: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=text):
        plugin.makeDelivery(argument, reactor)


@pytest.mark.parametrize(("argument", "made"), [("a/mail", ["a/mail/cur", "a/mail/new", "a/mail/tmp"]), ("a/mail?users=1", [])])
def test_the_directories_are_there_before_the_server_starts_and_nothing_else(argument: str, made: list[str], tmp_path: Path) -> None:
    plugin.makeDelivery(f"{tmp_path}/{argument}", reactor)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("a/mail/*")) == made
    assert not list(tmp_path.glob("a/mail/*/*"))


@pytest.mark.parametrize("argument", ["/proc/nope/x", "/proc/nope/x?users=1", "/dev/null/x"])
def test_where_no_mail_can_be_stored_is_said_before_the_server_starts(argument: str) -> None:
    path = argument.partition("?")[0]
    with pytest.raises(ValueError, match=rf"^no mail can be stored in {path}.*: (No such file or directory|Not a directory)$"):
        plugin.makeDelivery(argument, reactor)


def test_a_directory_that_may_not_be_written_is_said_before_the_server_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: str) -> None:  # noqa: A002 - the name is that of tempfile
        raise PermissionError(13, "Permission denied", f"{dir}/x")

    # Not by its mode, which means nothing to the superuser.
    monkeypatch.setattr("twisted_smtplite.delivery.maildir.TemporaryFile", refuse)
    with pytest.raises(ValueError, match=f"^no mail can be stored in {tmp_path}/new: Permission denied$"):
        plugin.makeDelivery(str(tmp_path), reactor)
