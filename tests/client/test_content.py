from __future__ import annotations

import io
import os
import threading
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage, Message
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_smtplite.client.content import PIECE, Content
from twisted_smtplite.client.flow import LONGEST_HEADER
from twisted_smtplite.model.errors import Unsendable

LIKE_LINES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"Bcc: x", b"To: y", b" ", b"\xff"]), max_size=12).map(b"".join)


def cuts(octets: bytes) -> Iterator[list[bytes]]:
    """The octets in two pieces, cut at each place; and octet by octet."""
    for at in range(len(octets) + 1):
        yield [octets[:at], octets[at:]]
    yield [octets[at : at + 1] for at in range(len(octets))]


def whole(content: Content) -> bytes:
    return b"".join(fired(piece) if isinstance(piece, Deferred) else piece for piece in content.pieces())


def taken(content: Content) -> bytes:
    """The whole text; the pieces keep what is promised of them."""
    pieces = [fired(piece) if isinstance(piece, Deferred) else piece for piece in content.pieces()]
    assert all(0 < len(piece) <= 65_536 for piece in pieces)
    return b"".join(pieces)


def fired(deferred: Deferred[bytes]) -> bytes:
    """What a Deferred has fired with."""
    came: list[bytes] = []
    failed: list[Failure] = []
    deferred.addCallbacks(came.append, failed.append)
    for failure in failed:
        failure.raiseException()
    return came[0]


async def coming(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def made(octets: bytes, tmp_path: Path) -> Iterator[Content]:
    """The octets in everything that holds a message."""
    path = tmp_path / "message"
    path.write_bytes(octets)
    yield Content.of(octets)
    yield Content.of(bytearray(octets))
    yield Content.of(memoryview(octets))
    yield Content.of(path)
    yield Content.of(path, eightBit=True, utf8=False)
    yield Content.of(io.BytesIO(octets))
    yield Content.of([octets[:3], octets[3:]])
    yield Content.of(iter([octets[:3], octets[3:]]))
    yield Content.of(coming([octets[:3], octets[3:]]))


# -- line ends


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"", b""),
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a\r\nb\r\n"),
        (b"a\r\r\nb", b"a\r\n\r\nb\r\n"),
        (b"a\r\n\nb\n\r\nc\r\n", b"a\r\n\r\nb\r\n\r\nc\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"\r", b"\r\n"),
        (b".\r\n.\r\n", b".\r\n.\r\n"),
    ],
)
def test_each_line_end_becomes_crlf_and_the_last_line_has_one(given: bytes, sent: bytes, tmp_path: Path) -> None:
    for content in made(given, tmp_path):
        # An asynchronous iterable can only fire with what it has.
        assert (taken(content) if sent else whole(content)) == sent
        assert content.size in (len(sent), None)


@given(LIKE_LINES)
@example(b"a\r\nb\rc\nd")
def test_line_ends_do_not_depend_on_where_the_text_is_cut(octets: bytes) -> None:
    uncut = taken(Content.of(octets))
    assert uncut.count(b"\r") == uncut.count(b"\n") == uncut.count(b"\r\n")
    assert uncut.endswith(b"\r\n") or not uncut
    assert uncut.replace(b"\r\n", b"") == octets.replace(b"\r", b"").replace(b"\n", b"")
    for pieces in cuts(octets):
        assert taken(Content.of(iter(pieces))) == uncut


@given(LIKE_LINES)
@example(b"To: y\r\n\rBcc: x")
def test_fields_are_left_out_wherever_the_text_is_cut(octets: bytes) -> None:
    uncut = taken(Content.of(octets).without("Bcc"))
    for pieces in cuts(octets):
        assert taken(Content.of(iter(pieces)).without("Bcc")) == uncut
    header = uncut.partition(b"\r\n\r\n")[0]
    assert uncut.startswith(b"\r\n") or not any(line.startswith(b"Bcc:") for line in header.split(b"\r\n"))


def test_nothing_is_changed_in_a_binary_text() -> None:
    octets = b"To: a\r\n\r\n\r\n\r\0\n\xff\r"
    for source in (octets, io.BytesIO(octets), iter([octets])):
        content = Content.of(source, binary=True)
        assert content.binary
        assert taken(content) == octets
    with pytest.raises(Unsendable, match=r"554 5\.6\.3 The message is binary"):
        Content.of(octets, binary=True).sevenBit()


def test_long_texts_come_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 100 + b"\n" * 200_000)
    for content in (Content.of(path), Content.of(path.read_bytes()), Content.of([path.read_bytes()])):
        assert taken(content) == b"x" * 100 + b"\r\n" * 200_000
        assert content.size == 400_100


# -- facts


@pytest.mark.parametrize(
    ("octets", "eightBit", "utf8"),
    [
        (b"To: a\r\n\r\nb\r\n", False, False),
        (b"To: a\r\n\r\n\xc3\xa4\r\n", True, False),
        (b"To: \xc3\xa4\r\n\r\nb\r\n", True, True),
        (b"To: a\n \xc3\xa4\n\nb\n", True, True),
        (b"\r\nTo: \xc3\xa4\r\n", True, False),
        # What has no header section is all body.
        (b"H\xc3\xa4 hello\r\n", True, False),
        (b"", False, False),
    ],
)
def test_what_the_text_needs_is_found_out(octets: bytes, eightBit: bool, utf8: bool) -> None:
    for source in (octets, io.BytesIO(octets), [octets]):
        content = Content.of(source)
        assert (content.eightBit, content.utf8) == (eightBit, utf8)


def test_of_a_stream_the_harmless_is_assumed_and_what_is_said_believed() -> None:
    for source in (iter([b""]), coming([])):
        content = Content.of(source)
        assert (content.size, content.eightBit, content.utf8, content.repeatable) == (None, True, False, False)
        with pytest.raises(Unsendable, match="is not known before"):
            _ = content.header
        with pytest.raises(Unsendable, match="cannot be converted while it is read"):
            content.sevenBit()
    content = Content.of(iter([b""]), size=10, eightBit=False, utf8=True)
    assert (content.size, content.eightBit, content.utf8) == (10, False, True)
    assert content.sevenBit() is content


def test_known_facts_spare_a_look_at_the_file(tmp_path: Path) -> None:
    content = Content.of(tmp_path / "missing", size=12, eightBit=True, utf8=False)
    assert (content.size, content.eightBit, content.utf8, content.repeatable) == (12, True, False, True)
    with pytest.raises(FileNotFoundError):
        list(content.pieces())
    with pytest.raises(FileNotFoundError):
        Content.of(tmp_path / "missing")


@pytest.mark.parametrize("size", [3, 5, 100])
def test_a_text_of_another_size_than_promised_has_no_end(size: int, tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(b"ab\n")
    for source in (path, iter([b"ab\n"]), coming([b"ab\n"])):
        content = Content.of(source, size=size, eightBit=False, utf8=False)
        with pytest.raises(Unsendable, match=r"451 4\.3\.0 The text has changed") as caught:
            whole(content)
        assert caught.value.temporary


def test_the_header_section_ends_at_the_empty_line(tmp_path: Path) -> None:
    for content in made(b"To: a\nCc: b\n\nbody\n", tmp_path):
        if content.repeatable:
            assert content.header == b"To: a\r\nCc: b\r\n"
    assert Content.of(b"To: a").header == b"To: a\r\n"
    assert Content.of([b"To", b": a"]).header == b"To: a\r\n"
    assert Content.of(b"\r\nTo: a").header == b""


def test_a_header_section_without_end_is_not_looked_at(tmp_path: Path) -> None:
    endless = [b"X: \xc3\xa4\r\n" * 50_000] * 4
    content = Content.of(endless)
    assert content.utf8
    with pytest.raises(Unsendable, match="header section is longer"):
        _ = content.header
    with pytest.raises(Unsendable, match="header section is longer"):
        taken(Content.of(iter(endless)).without("Bcc"))
    assert sum(map(len, endless)) > LONGEST_HEADER


# -- fields that are left out


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"Bcc: a\r\nTo: b\r\n\r\nBcc: c\r\n", b"To: b\r\n\r\nBcc: c\r\n"),
        (b"To: b\r\nBCC: a,\r\n\tc\r\n  \r\nX: y\r\n\r\nz\r\n", b"To: b\r\nX: y\r\n\r\nz\r\n"),
        (b"To: b\r\nBcc : a\r\n\r\n", b"To: b\r\n\r\n"),
        (b"Resent-Bcc: b\nX-Bcc: a\nBcc: a\n\n", b"X-Bcc: a\r\n\r\n"),
        (b"To: b\rBcc: a\r\r", b"To: b\r\n\r\n"),
        (b"Bcc: a", b""),
        (b"bcc\r\nTo:  odd   spacing \r\n\r\n", b"bcc\r\nTo:  odd   spacing \r\n\r\n"),
        (b"\r\nBcc: a\r\n", b"\r\nBcc: a\r\n"),
    ],
)
def test_fields_are_left_out_and_nothing_else_is_changed(given: bytes, sent: bytes, tmp_path: Path) -> None:
    for content in made(given, tmp_path):
        text = content.without("Bcc", "Resent-BCC")
        assert (taken(text) if sent else whole(text)) == sent
        assert text.size in (len(sent), None)


def test_a_text_without_such_fields_stays_the_same_object() -> None:
    content = Content.of(b"To: a\r\n\r\n")
    assert content.without("Bcc") is content


# -- files and streams


def test_a_small_file_is_read_at_once_and_a_large_one_each_time(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"a\n")
    large.write_bytes(b"a" * PIECE + b"\n")
    contents = Content.of(small), Content.of(large)
    small.write_bytes(b"b\n")
    large.write_bytes(b"b" * PIECE + b"\n")
    assert [taken(content)[:1] for content in contents] == [b"a", b"b"]
    with pytest.raises(IsADirectoryError):
        Content.of(tmp_path)


def test_an_open_file_is_read_from_where_it_stands_by_each_reader_for_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"skipped\n" + b"x" * 200_000)
    with (tmp_path / "file").open("rb") as file:
        file.readline()
        content = Content.of(file)
        one, other = content.pieces(), content.pieces()
        assert [len(next(one)), len(next(other)), len(next(one))] == [PIECE] * 3  # type: ignore[arg-type]
        assert content.size == 200_002
        assert len(b"".join(one)) + 2 * PIECE == 200_002  # type: ignore[arg-type]
        assert not file.closed


@pytest.mark.parametrize("octets", [b"a\n", b"a\n" * 100_000])
def test_a_pipe_is_read_once_also_by_its_name(octets: bytes, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=[octets])
    writer.start()
    assert taken(Content.of(tmp_path / "fifo")) == octets.replace(b"\n", b"\r\n")
    writer.join()

    reading, writing = os.pipe()
    writer = threading.Thread(target=fill, args=[writing, octets])
    writer.start()
    with os.fdopen(reading, "rb") as file:
        content = Content.of(file)
        assert not content.repeatable
        assert taken(content) == octets.replace(b"\n", b"\r\n")
    writer.join()


def fill(pipe: int, octets: bytes) -> None:
    with os.fdopen(pipe, "wb") as file:
        file.write(octets)


def test_a_stream_cannot_be_read_twice() -> None:
    for source in (iter([b"a"]), coming([b"a"])):
        content = Content.of(source)
        assert (content.repeatable, content.readable) == (False, True)
        taken(content)
        assert not content.without("Bcc").readable
        with pytest.raises(Unsendable, match=r"554 5\.6\.0 The text has been read already"):
            content.without("Bcc").pieces()


def test_what_can_be_iterated_again_is_read_again() -> None:
    class Twice:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return coming([b"a"])

    for content in (Content.of([b"a"]), Content.of((b"a",)), Content.of(Twice())):
        assert content.repeatable
        assert content.readable
        assert taken(content) == taken(content) == b"a\r\n"


def test_a_reader_who_stops_closes_what_he_reads(tmp_path: Path) -> None:
    ended = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"a\n"
            yield b"b\n"
        finally:
            ended.append("iterator")

    async def later() -> AsyncIterator[bytes]:
        try:
            yield b"a\n"
            yield b"b\n"
            yield b"c\n"
        finally:
            ended.append("asynchronous")

    for source in (pieces(), later()):
        reading: Any = Content.of(source).pieces()
        next(reading)
        reading.close()
    assert ended == ["iterator", "asynchronous"]


def test_pieces_that_come_later_are_waited_for_and_the_wait_can_be_ended() -> None:
    waiting: list[Deferred[bytes]] = [Deferred(), Deferred(), Deferred()]

    async def later() -> AsyncIterator[bytes]:
        for each in waiting:
            yield await each

    pieces = Content.of(later()).pieces()
    first = next(pieces)
    assert isinstance(first, Deferred)
    waiting[0].callback(b"a\r")
    # Whether there is another piece is not known yet.
    assert not first.called
    waiting[1].callback(b"\nb")
    assert fired(first) == b"a"
    second = next(pieces)
    assert isinstance(second, Deferred)
    failed: list[Any] = []
    second.addErrback(failed.append)
    second.cancel()
    assert failed[0].check(CancelledError)
    pieces.close()  # type: ignore[attr-defined]


def test_an_iterator_that_cannot_be_closed_need_not_be() -> None:
    class Bare:
        def __aiter__(self) -> Bare:
            return self

        async def __anext__(self) -> bytes:
            return b"a\n"

    reading: Any = Content.of(Bare()).pieces()
    assert fired(next(reading)) == b"a\r\n"
    reading.close()


def test_a_source_that_fails_fails_the_reader() -> None:
    def broken() -> Iterator[bytes]:
        yield b"a\n"
        raise OSError("the disk is gone")

    reading = Content.of(broken()).pieces()
    assert next(reading) == b"a\r\n"
    with pytest.raises(OSError, match="the disk is gone"):
        next(reading)


def test_a_stream_of_no_octets_at_all_ends() -> None:
    (only,) = Content.of(coming([])).pieces()
    assert isinstance(only, Deferred)
    assert fired(only) == b""


@pytest.mark.parametrize("source", ["text", io.StringIO("text"), None, 5])
def test_what_is_no_message_is_told_from_one(source: Any) -> None:
    with pytest.raises(TypeError, match=r"a message is octets, not text|is no message"):
        Content.of(source)


def test_pieces_of_text_are_refused() -> None:
    with pytest.raises(TypeError, match="the pieces of a message are octets, not str"):
        taken(Content.of(iter(["text"])))  # type: ignore[list-item]


def test_a_content_is_its_own() -> None:
    content = Content.of(b"a")
    assert Content.of(content) is content


# -- messages of the email package


def email(to: str, text: str = "Hello\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Änn <ann@client.test>"
    message["To"] = to
    message.set_content(text)
    return message


def test_a_message_of_the_email_package_is_taken_as_it_is_now() -> None:
    message = email("ben@mx.test")
    content = Content.of(message)
    message["Cc"] = "later@mx.test"
    text = taken(content)
    assert b"To: ben@mx.test\r\n" in text
    assert text.endswith(b"\r\n\r\nHello\r\n")
    assert b"later" not in text
    assert not content.utf8


def test_lines_that_begin_with_from_stay_as_they_are() -> None:
    assert b"\r\nFrom here\r\n" in taken(Content.of(email("ben@mx.test", "Hello\nFrom here\n")))
    old = Message()
    old["To"] = "ben@mx.test"
    old.set_payload("From here\n")
    assert taken(Content.of(old)) == b"To: ben@mx.test\r\n\r\nFrom here\r\n"


def test_an_address_in_utf8_makes_the_header_section_utf8() -> None:
    content = Content.of(email("bän@mx.test"))
    assert content.utf8
    assert "To: bän@mx.test\r\n".encode() in content.header
    assert "Änn".encode() in content.header


def test_the_policy_of_a_message_is_kept() -> None:
    message = EmailMessage(policy=SMTPUTF8)
    message["Subject"] = "Ä"
    assert Content.of(message).header == "Subject: Ä\r\n".encode()


# -- seven bits


def test_what_is_ascii_needs_no_conversion_and_what_is_not_gets_it(tmp_path: Path) -> None:
    plain = Content.of(b"To: a\r\n\r\nb\r\n")
    assert plain.sevenBit() is plain
    for content in (Content.of(b"To: a\r\n\r\n\xc3\xa4\r\n"), Content.of([b"To: a\r\n\r\n\xc3\xa4\r\n"])):
        converted = content.sevenBit()
        assert not converted.eightBit
        assert taken(converted).startswith(b"To: a\r\nContent-Transfer-Encoding: base64\r\n")


def test_a_large_file_is_not_gathered_in_memory(tmp_path: Path) -> None:
    content = Content.of(tmp_path / "missing", size=67_108_865, eightBit=True, utf8=False)
    with pytest.raises(Unsendable, match=r"554 5\.6\.3 .* too large to be converted"):
        content.sevenBit()
