from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, anEnvelope, begin, deliver, quiet, settle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.python.threadpool import ThreadPool

from twisted_smtplite.delivery import durable, maildir, storing
from twisted_smtplite.delivery.durable import Draft, makeDirectory, safeName
from twisted_smtplite.delivery.maildir import MaildirDelivery, plugin
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.reply import Refused

LARGE = [b"0123456789" * 6400 + b"\r\n"] * 20
"""More than is held in memory, several times."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., MaildirDelivery]]:
    made = []

    def make(path: str | Path = tmp_path / "in", **options: Any) -> MaildirDelivery:
        made.append(MaildirDelivery(str(path), reactor, **options))
        return made[-1]

    yield make
    for delivery in made:
        delivery.stopService()


def filesIn(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def onlyFile(path: Path) -> bytes:
    (file,) = filesIn(path)
    return file.read_bytes()


def body(stored: bytes) -> bytes:
    """What is below the Received field that the server added."""
    return stored.partition(b"Received:")[2].partition(b"+0000\n" if b"+0000\n" in stored else b"00\n")[2]


def leftOver(path: Path) -> list[Path]:
    return [file for file in filesIn(path) if file.parent.name != "new"]


# ---- What is stored.


@pytest_twisted.ensureDeferred
async def test_a_message_is_one_file_in_new_that_only_its_owner_reads(make: Any, tmp_path: Path) -> None:
    assert await deliver(make()) == "E1"
    (file,) = filesIn(tmp_path)
    assert file.parent == tmp_path / "in" / "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "in", *(tmp_path / "in").iterdir()]} == {0o700}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"tmp", "new", "cur"}


@pytest_twisted.ensureDeferred
async def test_the_fields_of_final_delivery_stand_above_the_trace_header(make: Any, tmp_path: Path) -> None:
    await deliver(make(), envelope=anEnvelope("ben@mx.test", "Cy d@mx.test", "ben@MX.test"))
    lines = onlyFile(tmp_path).split(b"\n")
    assert lines[:6] == [
        b"Return-Path: <ann@client.test>",
        b"X-Original-To: ben@mx.test",
        b"Delivered-To: ben@mx.test",
        b'X-Original-To: "Cy d"@mx.test',
        b'Delivered-To: "Cy d"@mx.test',
        b"Received: from client.test ([192.0.2.1])",
    ]


@pytest_twisted.ensureDeferred
async def test_the_null_sender_is_an_empty_return_path(make: Any, tmp_path: Path) -> None:
    await deliver(make(), envelope=anEnvelope(sender=""))
    assert onlyFile(tmp_path).startswith(b"Return-Path: <>\n")


@pytest_twisted.ensureDeferred
async def test_an_address_cannot_break_out_of_its_field(make: Any, tmp_path: Path) -> None:
    envelope = anEnvelope()
    envelope.sender = Address("a\r\nX-Evil: yes\n", "client.test")
    envelope.recipients = [Recipient(Address("b\nX-Evil: yes", "mx.test")), Recipient(Address("c", "mx.test"))]
    await deliver(make(), envelope=envelope)
    assert b"\nX-Evil" not in onlyFile(tmp_path)


@pytest_twisted.ensureDeferred
async def test_the_content_is_exact_but_for_its_line_ends(make: Any, tmp_path: Path) -> None:
    await deliver(make())
    assert body(onlyFile(tmp_path)) == CONTENT.replace(b"\r\n", b"\n")


@pytest_twisted.ensureDeferred
async def test_an_empty_message_is_stored(make: Any, tmp_path: Path) -> None:
    await deliver(make(), [])
    assert body(onlyFile(tmp_path)) == b""


@given(content=st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\xff\x00", b"x" * 50])).map(b"".join), data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest_twisted.ensureDeferred
async def test_no_cut_changes_what_is_stored(make: Any, tmp_path_factory: Any, content: bytes, data: Any) -> None:
    held = storing._HELD
    storing._HELD = data.draw(st.sampled_from([1, 7, 300, held]))
    try:
        path = tmp_path_factory.mktemp("cuts")
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
        chunks = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True) if end > start]
        delivery = make(path)
        await deliver(delivery, chunks)
        delivery.stopService()
        assert body(onlyFile(path)) == content.replace(b"\r\n", b"\n")
    finally:
        storing._HELD = held


@pytest_twisted.ensureDeferred
async def test_a_large_message_goes_to_its_file_while_it_arrives(make: Any, tmp_path: Path) -> None:
    message = await begin(make())
    sizes = []
    for chunk in LARGE:
        answer = message.dataReceived(chunk)
        if answer is not None:
            await answer
            sizes.append(sum(file.stat().st_size for file in (tmp_path / "in" / "tmp").iterdir()))
    assert len(sizes) >= 3
    assert sizes == sorted(set(sizes))
    await message.eomReceived()
    assert body(onlyFile(tmp_path)) == b"".join(LARGE).replace(b"\r\n", b"\n")


@pytest_twisted.ensureDeferred
async def test_every_message_has_its_own_name_by_the_convention(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a/b:c d")
    delivery = make()
    for _ in range(3):
        await deliver(delivery)
    names = {file.name for file in filesIn(tmp_path)}
    assert len(names) == 3
    for name in names:
        time, unique, host = name.split(".", 2)
        assert time.isdigit()
        assert unique.startswith("M")
        assert f"P{os.getpid()}Q" in unique
        assert host == "a\\057b\\072c\\040d"


# ---- Durability.


class FaultyOS:
    """The module os, of which one function fails or is told of; the test says when."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: dict[str, Callable[..., bool]] = {}
        self.errno = errno.EIO
        self.shortWrites = False

    def fail(self, name: str, code: int, when: Callable[..., bool] = lambda *arguments: True) -> None:
        self.errno = code
        self.faults[name] = when

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "fsync", "rename", "close", "mkdir", "pread", "unlink"):
            return real

        def call(*arguments: Any) -> Any:
            where = Path(arguments[0]).parent.name + "/" if isinstance(arguments[0], str) else ""
            self.calls.append(f"{name} {where}".strip())
            if self.faults.get(name, lambda *arguments: False)(*arguments):
                if name == "close":
                    os.close(*arguments)
                raise OSError(self.errno, os.strerror(self.errno))
            if name == "write" and self.shortWrites:
                return os.write(arguments[0], arguments[1][:3])
            return real(*arguments)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FaultyOS:
    disk = FaultyOS()
    monkeypatch.setattr(durable, "os", disk)
    return disk


@pytest_twisted.ensureDeferred
async def test_file_then_name_then_directory_are_safe_before_the_message_is_accepted(make: Any, disk: FaultyOS) -> None:
    delivery = make()
    await deliver(delivery)
    disk.calls.clear()
    await deliver(delivery)
    # `open in/` is the directory new, opened to be synced.
    assert disk.calls == ["open tmp/", "write", "fsync", "close", "rename tmp/", "open in/", "fsync", "close"]


@pytest_twisted.ensureDeferred
async def test_short_writes_are_continued(make: Any, tmp_path: Path, disk: FaultyOS) -> None:
    disk.shortWrites = True
    await deliver(make())
    assert body(onlyFile(tmp_path)) == CONTENT.replace(b"\r\n", b"\n")


# What the client hears.
FULL, LATER = (452, "4.3.1"), (451, "4.3.0")
CAUSES = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EACCES: LATER, errno.EROFS: LATER, errno.EIO: LATER}
STEPS: dict[str, tuple[str, Callable[..., bool]]] = {
    "create": ("open", lambda path, *flags: "/tmp/" in path.removeprefix("/tmp/")),
    "write": ("write", lambda *arguments: True),
    "syncFile": ("fsync", lambda fd: stat.S_ISREG(os.fstat(fd).st_mode)),
    "close": ("close", lambda fd: stat.S_ISREG(os.fstat(fd).st_mode)),
    "rename": ("rename", lambda *arguments: True),
    "openDirectory": ("open", lambda path, *flags: path.endswith("/new")),
    "syncDirectory": ("fsync", lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode)),
}


@pytest.mark.parametrize("code", CAUSES, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("content", [[CONTENT], LARGE], ids=["small", "large"])
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_stored_is_refused_and_leaves_nothing(
    make: Any, tmp_path: Path, disk: FaultyOS, step: str, code: int, content: list[bytes]
) -> None:
    delivery = make()
    await deliver(delivery)
    (first,) = filesIn(tmp_path)
    disk.fail(STEPS[step][0], code, STEPS[step][1])
    outcome = await refusalOf(delivery, content)
    assert (outcome.code, outcome.enhanced) == CAUSES[code]
    assert filesIn(tmp_path) == [first]
    disk.faults.clear()
    assert await deliver(delivery, content) == "E1"


async def refusalOf(delivery: MaildirDelivery, content: list[bytes], envelope: Envelope | None = None) -> Any:
    """Delivers as the server does: a refusal in the middle ends with connectionLost."""
    message = await begin(delivery, envelope)
    try:
        for chunk in content:
            await settle(message.dataReceived(chunk))
    except Refused as refusal:
        message.connectionLost(refusal)
        await quiet(delivery)
        return refusal.reply
    (outcome,) = await message.eomReceived()
    return outcome


@pytest_twisted.ensureDeferred
async def test_a_file_that_cannot_be_taken_away_does_not_hide_the_cause(make: Any, disk: FaultyOS) -> None:
    disk.fail("fsync", errno.ENOSPC, STEPS["syncFile"][1])
    disk.fail("close", errno.ENOSPC, STEPS["close"][1])
    disk.fail("unlink", errno.ENOSPC)
    assert (await refusalOf(make(), [CONTENT])).code == 452
    assert disk.calls[-3:] == ["fsync", "close", "unlink tmp/"]


@pytest_twisted.ensureDeferred
async def test_a_cause_is_logged_once_in_an_hour(make: Any, disk: FaultyOS, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = make()
    disk.fail("fsync", errno.ENOSPC)
    with capturedLogs() as events:
        for _ in range(3):
            await refusalOf(delivery, [CONTENT])
        disk.fail("fsync", errno.EIO)
        await refusalOf(delivery, [CONTENT])
        monkeypatch.setattr(storing, "_REPORT_AGAIN", 0.0)
        await refusalOf(delivery, [CONTENT])
    causes = [event["cause"] for event in events if "cause" in event]
    assert causes == [os.strerror(errno.ENOSPC), os.strerror(errno.EIO), os.strerror(errno.EIO)]


# ---- The client leaves.


@pytest_twisted.ensureDeferred
async def test_a_small_message_that_breaks_off_never_touches_the_disk(make: Any, tmp_path: Path, disk: FaultyOS) -> None:
    message = await begin(make())
    message.dataReceived(CONTENT)
    message.connectionLost(Exception("gone"))
    assert not any(call.startswith("open tmp") for call in disk.calls)


@pytest.mark.parametrize("recipients", [["ben@mx.test"], ["ben@mx.test", "cy@mx.test"]])
@pytest.mark.parametrize("wait", [True, False], ids=["between writes", "during a write"])
@pytest_twisted.ensureDeferred
async def test_a_large_message_that_breaks_off_leaves_nothing(make: Any, tmp_path: Path, wait: bool, recipients: list[str]) -> None:
    delivery = make(users=True)
    message = await begin(delivery, anEnvelope(*recipients))
    writes = 0
    while writes < 2:
        answer = message.dataReceived(LARGE[0])
        if answer is not None:
            writes += 1
            if wait or writes < 2:
                await answer
    if not wait:
        answer.addErrback(lambda failure: failure.trap(CancelledError))
        answer.cancel()
    message.connectionLost(Exception("gone"))
    await quiet(delivery)
    assert filesIn(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_message_whose_client_left_before_its_turn_is_not_stored(make: Any, tmp_path: Path) -> None:
    delivery = make()
    message = await begin(delivery)
    message.dataReceived(CONTENT)
    with busy(delivery._threads()):
        answer = Deferred.fromCoroutine(message.eomReceived())
        answer.addErrback(lambda failure: failure.trap(CancelledError))
        answer.cancel()
    await quiet(delivery)
    assert filesIn(tmp_path) == []


@contextmanager
def busy(pool: ThreadPool) -> Iterator[None]:
    """Keeps all threads of a pool busy inside the block."""
    ready, go = Semaphore(0), Event()

    def wait() -> None:
        ready.release()
        go.wait()

    for _ in range(pool.max):
        pool.callInThread(wait)
    for _ in range(pool.max):
        ready.acquire()
    yield
    go.set()


# ---- One Maildir for each recipient.


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("content", [[CONTENT], LARGE], ids=["small", "large"])
async def test_each_recipient_gets_a_copy_with_its_own_name_on_it(make: Any, tmp_path: Path, content: list[bytes]) -> None:
    assert await deliver(make(users=True), content, anEnvelope("ben@mx.test", "Cy@MX.test", "ben@mx.test")) == "E1"
    assert [str(file.parent.relative_to(tmp_path)) for file in filesIn(tmp_path)] == ["in/mx.test/Cy/new", "in/mx.test/ben/new"]
    for name, address in [("Cy", b"Cy@MX.test"), ("ben", b"ben@mx.test")]:
        stored = onlyFile(tmp_path / "in" / "mx.test" / name)
        assert stored.startswith(b"Return-Path: <ann@client.test>\nX-Original-To: " + address + b"\nDelivered-To: " + address + b"\nReceived:")
        assert stored.endswith(b"".join(content).replace(b"\r\n", b"\n"))


@pytest_twisted.ensureDeferred
async def test_postmaster_has_one_mailbox_however_it_is_spelled(make: Any, tmp_path: Path) -> None:
    await deliver(make(users=True), envelope=anEnvelope("PostMaster", "POSTMASTER@mx.test"))
    assert [str(file.parent.relative_to(tmp_path)) for file in filesIn(tmp_path)] == ["in/mx.test/postmaster/new"]


@pytest_twisted.ensureDeferred
async def test_a_copy_that_cannot_be_stored_is_refused_for_its_recipients_alone(make: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "mx.test").mkdir(parents=True)
    (tmp_path / "in" / "mx.test" / "cy").write_text("in the way")
    outcome = await deliver(make(users=True), envelope=anEnvelope("ben@mx.test", "cy@mx.test", "dee@mx.test", "cy@mx.test"))
    assert [reply and reply.code for reply in outcome] == [None, 451, None, 451]
    assert [file.parent.parent.name for file in filesIn(tmp_path) if file.parent.name == "new"] == ["ben", "dee"]
    assert leftOver(tmp_path) == [tmp_path / "in" / "mx.test" / "cy"]


@pytest_twisted.ensureDeferred
async def test_a_large_message_to_many_is_refused_when_there_is_no_room_for_it(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(maildir, "TemporaryFile", full)
    assert (await refusalOf(make(users=True), LARGE, anEnvelope("ben@mx.test", "cy@mx.test"))).code == 452
    assert filesIn(tmp_path) == []


HOSTILE = ["../../etc", "/etc/passwd", "..", ".", "", ".forward", "a/b", "a\\b", "a\x00b", "ü", "%41", "A", "a b", "x" * 300, "~root", "\ud800"]
HOSTILE += ["-rf", "new\n", "tmp", "con"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_safe_name_is_a_plain_file_name(text: str) -> None:
    name = safeName(text)
    assert 0 < len(name.encode("ascii")) <= 255
    assert not name.startswith(".")
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+=@-%~")


@given(st.text(), st.text())
def test_different_texts_have_different_safe_names(one: str, other: str) -> None:
    assert (safeName(one) == safeName(other)) is (one == other)


def test_long_texts_that_differ_at_the_end_have_different_safe_names() -> None:
    assert safeName("x" * 300 + "1") != safeName("x" * 300 + "2")
    assert len(safeName("x" * 300)) == 255


def test_plain_names_stay_as_they_are() -> None:
    assert safeName("Ben.Jr+list=a_b-c@d") == "Ben.Jr+list=a_b-c@d"


@pytest_twisted.ensureDeferred
async def test_no_recipient_leads_out_of_the_directory(make: Any, tmp_path: Path) -> None:
    envelope = anEnvelope()
    envelope.recipients = [Recipient(Address(text, other)) for text in HOSTILE for other in ("..", "/", "[IPv6:::1]")]
    outcome = await deliver(make(users=True), envelope=envelope)
    assert outcome == "E1"
    assert {file.relative_to(tmp_path / "in").parts[2] for file in filesIn(tmp_path)} == {"new"}


# ---- Starting and stopping.


@pytest_twisted.ensureDeferred
async def test_starting_makes_the_directories_and_clears_what_is_stale(make: Any, tmp_path: Path) -> None:
    old, young, link = (tmp_path / "in" / "tmp" / name for name in ("old", "young", "link"))
    old.parent.mkdir(parents=True)
    for file in (old, young):
        file.write_text("half a message")
    link.symlink_to(old)
    os.utime(old, (reactor.seconds() - 37 * 3600,) * 2)
    delivery = make()
    with capturedLogs() as events:
        delivery.startService()
        await quiet(delivery)
    assert not old.exists()
    assert young.exists()
    assert link.is_symlink()
    assert (tmp_path / "in" / "cur").is_dir()
    assert [event["count"] for event in events if "count" in event] == [1]


@pytest_twisted.ensureDeferred
async def test_starting_clears_the_maildirs_of_all_recipients(make: Any, tmp_path: Path) -> None:
    old = tmp_path / "in" / "mx.test" / "ben" / "tmp" / "old"
    old.parent.mkdir(parents=True)
    old.write_text("half a message")
    os.utime(old, (1, 1))
    (tmp_path / "in" / "mx.test" / "not a maildir").mkdir()
    delivery = make(users=True)
    delivery.startService()
    await quiet(delivery)
    assert not old.exists()


@pytest_twisted.ensureDeferred
async def test_a_maildir_that_cannot_be_made_is_logged_and_refuses_for_now(make: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    delivery = make(tmp_path / "file" / "in")
    with capturedLogs() as events:
        delivery.startService()
        await quiet(delivery)
        assert (await refusalOf(delivery, [CONTENT])).code == 451
    assert [event["cause"] for event in events if "cause" in event] == ["Not a directory"]
    (tmp_path / "file").unlink()
    assert await deliver(delivery) == "E1"


@pytest_twisted.ensureDeferred
async def test_a_maildir_that_disappears_is_made_again(make: Any, tmp_path: Path) -> None:
    delivery = make()
    await deliver(delivery)
    (tmp_path / "in").rename(tmp_path / "moved")
    assert await deliver(delivery) == "E1"
    assert len(filesIn(tmp_path / "in" / "new")) == 1


@pytest_twisted.ensureDeferred
async def test_a_large_message_to_many_makes_the_directory_it_needs(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MaildirDelivery, "prepare", lambda delivery: 0)
    assert await deliver(make(users=True), LARGE, anEnvelope("ben@mx.test", "cy@mx.test")) == "E1"
    assert len(filesIn(tmp_path)) == 2


@pytest_twisted.ensureDeferred
async def test_it_stops_after_what_is_being_written_and_can_start_again(make: Any, tmp_path: Path) -> None:
    delivery = make()
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
async def test_without_a_service_the_threads_end_with_the_reactor(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    triggers = []
    monkeypatch.setattr(reactor, "addSystemEventTrigger", lambda *arguments: triggers.append(arguments))
    monkeypatch.setattr(reactor, "removeSystemEventTrigger", lambda trigger: None)
    delivery = make()
    await deliver(delivery)
    pool = delivery._pool
    ((phase, event, end),) = triggers
    end()
    assert (phase, event) == ("after", "shutdown")
    assert not any(thread.is_alive() for thread in pool.threads)
    end()


def test_a_draft_is_made_for_its_owner_and_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Draft(str(tmp_path / "link"), str(tmp_path / "final"))


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


@pytest.mark.parametrize("answers", [[FileNotFoundError, FileExistsError], [FileExistsError]])
def test_a_directory_that_somebody_else_makes_meanwhile_will_do(answers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def mkdir(path: str, mode: int) -> None:
        if path.endswith("theirs"):
            raise answers.pop(0)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    makeDirectory(str(tmp_path / "theirs"))
    assert answers == []
