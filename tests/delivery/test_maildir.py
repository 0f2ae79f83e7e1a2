"""What a Maildir holds: one for all recipients, or one for each."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, LARGE, anEnvelope, begin, deliver, refusalOf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mailfiles import HOSTILE, body, filesIn, leftOver, onlyFile

from twisted_smtplite.delivery import maildir, storing
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Recipient

# ---- What is stored.


@pytest_twisted.ensureDeferred
async def test_a_message_is_one_file_in_new_that_only_its_owner_reads(makeMaildir: Any, tmp_path: Path) -> None:
    assert await deliver(makeMaildir()) == "E1"
    (file,) = filesIn(tmp_path)
    assert file.parent == tmp_path / "in" / "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "in", *(tmp_path / "in").iterdir()]} == {0o700}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"tmp", "new", "cur"}


@pytest_twisted.ensureDeferred
async def test_the_fields_of_final_delivery_stand_above_the_trace_header(makeMaildir: Any, tmp_path: Path) -> None:
    await deliver(makeMaildir(), envelope=anEnvelope("ben@mx.test", "Cy d@mx.test", "ben@MX.test"))
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
async def test_the_null_sender_is_an_empty_return_path(makeMaildir: Any, tmp_path: Path) -> None:
    await deliver(makeMaildir(), envelope=anEnvelope(sender=""))
    assert onlyFile(tmp_path).startswith(b"Return-Path: <>\n")


@pytest_twisted.ensureDeferred
async def test_an_address_cannot_break_out_of_its_field(makeMaildir: Any, tmp_path: Path) -> None:
    envelope = anEnvelope()
    envelope.sender = Address("a\r\nX-Evil: yes\n", "client.test")
    envelope.recipients = [Recipient(Address("b\nX-Evil: yes", "mx.test")), Recipient(Address("c", "mx.test"))]
    await deliver(makeMaildir(), envelope=envelope)
    assert b"\nX-Evil" not in onlyFile(tmp_path)


@pytest_twisted.ensureDeferred
async def test_the_content_is_exact_but_for_its_line_ends(makeMaildir: Any, tmp_path: Path) -> None:
    await deliver(makeMaildir())
    assert body(onlyFile(tmp_path)) == CONTENT.replace(b"\r\n", b"\n")


@pytest_twisted.ensureDeferred
async def test_an_empty_message_is_stored(makeMaildir: Any, tmp_path: Path) -> None:
    await deliver(makeMaildir(), [])
    assert body(onlyFile(tmp_path)) == b""


@given(content=st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\xff\x00", b"x" * 50])).map(b"".join), data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest_twisted.ensureDeferred
async def test_no_cut_changes_what_is_stored(makeMaildir: Any, tmp_path_factory: Any, content: bytes, data: Any) -> None:
    held = storing._HELD
    storing._HELD = data.draw(st.sampled_from([1, 7, 300, held]))
    try:
        path = tmp_path_factory.mktemp("cuts")
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
        chunks = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True) if end > start]
        delivery = makeMaildir(path)
        await deliver(delivery, chunks)
        delivery.stopService()
        assert body(onlyFile(path)) == content.replace(b"\r\n", b"\n")
    finally:
        storing._HELD = held


@pytest_twisted.ensureDeferred
async def test_a_large_message_goes_to_its_file_while_it_arrives(makeMaildir: Any, tmp_path: Path) -> None:
    message = await begin(makeMaildir())
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
async def test_every_message_has_its_own_name_by_the_convention(makeMaildir: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a/b:c d")
    delivery = makeMaildir()
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


# ---- One Maildir for each recipient.


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("content", [[CONTENT], LARGE], ids=["small", "large"])
async def test_each_recipient_gets_a_copy_with_its_own_name_on_it(makeMaildir: Any, tmp_path: Path, content: list[bytes]) -> None:
    assert await deliver(makeMaildir(users=True), content, anEnvelope("ben@mx.test", "Cy@MX.test", "ben@mx.test")) == "E1"
    assert [str(file.parent.relative_to(tmp_path)) for file in filesIn(tmp_path)] == ["in/mx.test/Cy/new", "in/mx.test/ben/new"]
    for name, address in [("Cy", b"Cy@MX.test"), ("ben", b"ben@mx.test")]:
        stored = onlyFile(tmp_path / "in" / "mx.test" / name)
        assert stored.startswith(b"Return-Path: <ann@client.test>\nX-Original-To: " + address + b"\nDelivered-To: " + address + b"\nReceived:")
        assert stored.endswith(b"".join(content).replace(b"\r\n", b"\n"))


@pytest_twisted.ensureDeferred
async def test_postmaster_has_one_mailbox_however_it_is_spelled(makeMaildir: Any, tmp_path: Path) -> None:
    await deliver(makeMaildir(users=True), envelope=anEnvelope("PostMaster", "POSTMASTER@mx.test"))
    assert [str(file.parent.relative_to(tmp_path)) for file in filesIn(tmp_path)] == ["in/mx.test/postmaster/new"]


@pytest_twisted.ensureDeferred
async def test_a_copy_that_cannot_be_stored_is_refused_for_its_recipients_alone(makeMaildir: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "mx.test").mkdir(parents=True)
    (tmp_path / "in" / "mx.test" / "cy").write_text("in the way")
    outcome = await deliver(makeMaildir(users=True), envelope=anEnvelope("ben@mx.test", "cy@mx.test", "dee@mx.test", "cy@mx.test"))
    assert [reply and reply.code for reply in outcome] == [None, 451, None, 451]
    assert [file.parent.parent.name for file in filesIn(tmp_path) if file.parent.name == "new"] == ["ben", "dee"]
    assert leftOver(tmp_path) == [tmp_path / "in" / "mx.test" / "cy"]


@pytest_twisted.ensureDeferred
async def test_a_large_message_to_many_is_refused_when_there_is_no_room_for_it(
    makeMaildir: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**options: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(maildir, "TemporaryFile", full)
    assert (await refusalOf(makeMaildir(users=True), LARGE, anEnvelope("ben@mx.test", "cy@mx.test"))).code == 452
    assert filesIn(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_no_recipient_leads_out_of_the_directory(makeMaildir: Any, tmp_path: Path) -> None:
    envelope = anEnvelope()
    envelope.recipients = [Recipient(Address(text, other)) for text in HOSTILE for other in ("..", "/", "[IPv6:::1]")]
    outcome = await deliver(makeMaildir(users=True), envelope=envelope)
    assert outcome == "E1"
    assert {file.relative_to(tmp_path / "in").parts[2] for file in filesIn(tmp_path)} == {"new"}
