from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model import message as module
from twisted_smtplite.model.headers import Defect
from twisted_smtplite.model.message import Message

LIKE_MESSAGES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"a: b", b"x", b"\0"])).map(b"".join)


class CountingFile(io.BytesIO):
    """A file that knows how many octets were read from it, and gives no more than `most` at a time."""

    def __init__(self, content: bytes, most: int = 1 << 30) -> None:
        super().__init__(content)
        self.most = most
        self.octetsRead = 0

    def read(self, size: int | None = -1, /) -> bytes:
        octets = super().read(size if size is None or size < 0 else min(size, self.most))
        self.octetsRead += len(octets)
        return octets


@pytest.mark.parametrize(
    ("content", "section", "separator", "body"),
    [
        (b"", b"", b"", b""),
        (b"A: b\r\n\r\nbody", b"A: b\r\n", b"\r\n", b"body"),
        (b"A: b\n\nbody\r\n", b"A: b\n", b"\n", b"body\r\n"),
        (b"A: b\r\n\nbody", b"A: b\r\n", b"\n", b"body"),
        (b"A: b\n\r\nbody", b"A: b\n", b"\r\n", b"body"),
        (b"A: b\r\n\r\n", b"A: b\r\n", b"\r\n", b""),
        (b"A: b\r\n", b"A: b\r\n", b"", b""),
        (b"A: b", b"A: b", b"", b""),
        (b"\r\nbody", b"", b"\r\n", b"body"),
        (b"\nbody", b"", b"\n", b"body"),
        (b"\r\n\r\nbody", b"", b"\r\n", b"\r\nbody"),
        (b"A: b\r\n \r\nstill header\r\n\r\nbody", b"A: b\r\n \r\nstill header\r\n", b"\r\n", b"body"),
        (b"A: b\r\r\n\r\nbody", b"A: b\r\r\n", b"\r\n", b"body"),
        (b"A: b\r\n\r\r\nx\r\n\r\nbody", b"A: b\r\n\r\r\nx\r\n", b"\r\n", b"body"),
        (b"no header\r\n", b"no header\r\n", b"", b""),
    ],
)
def test_header_section_and_body(content: bytes, section: bytes, separator: bytes, body: bytes) -> None:
    message = Message(content)
    assert (message.headers.raw, message.separator, message.body, message.content) == (section, separator, body, content)


def test_headers_and_body_as_mail_developers_expect() -> None:
    message = Message(b"Received: one\r\nReceived: two\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\nHello\r\n")
    assert message.headers["subject"] == "=?utf-8?q?caf=C3=A9?="
    assert message.headers.decoded("Subject") == "caf\u00e9"
    assert message.headers.getAll("Received") == ["one", "two"]
    assert message.body == b"Hello\r\n"


def test_what_was_parsed_is_kept() -> None:
    message = Message(b"A: b\r\n\r\nbody")
    assert message.headers is message.headers
    assert message.body is message.body
    assert message.parts is message.parts


def test_defects_are_those_of_fields_and_structure() -> None:
    message = Message(b"junk\r\nContent-Type: multipart/mixed\r\n\r\nbody")
    assert message.defects == (
        Defect("not a header field", b"junk\r\n"),
        Defect("multipart without a boundary parameter", b"Content-Type: multipart/mixed\r\n"),
    )


@given(st.one_of(st.binary(), LIKE_MESSAGES), st.integers(1, 5))
def test_fields_separator_and_body_make_up_the_content_however_it_is_read(content: bytes, most: int) -> None:
    for message in (Message(content), Message.fromFile(CountingFile(content, most))):
        assert b"".join(field.raw for field in message.headers.fields) + message.separator + message.body == content == message.content
        assert bool(message.separator) or not message.body


def test_maildir_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(b"Subject: x\n\nHello\n")
    with path.open("rb") as file:
        message = Message.fromFile(file)
        assert (message.headers["Subject"], message.body, message.content) == ("x", b"Hello\n", b"Subject: x\n\nHello\n")


def test_file_is_read_from_its_beginning_and_only_as_far_as_needed() -> None:
    file = CountingFile(b"Subject: x\r\n\r\n" + b"y" * 1_000_000)
    file.seek(100)
    message = Message.fromFile(file)
    assert file.octetsRead == 0
    assert message.headers["Subject"] == "x"
    assert file.octetsRead <= module._CHUNK
    assert len(message.body) == 1_000_000


def test_header_section_may_be_longer_than_one_read() -> None:
    # The empty line is cut after each of its octets.
    for size in range(module._CHUNK - 6, module._CHUNK + 1):
        content = b"A: " + b"b" * (size - 3) + b"\r\n\r\nbody"
        assert Message(content).body == b"body"
