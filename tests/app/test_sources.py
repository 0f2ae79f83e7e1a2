"""The messages of files, Maildirs, mboxes and standard input, octet for octet."""

from __future__ import annotations

import io
import mailbox
import os
import random
from pathlib import Path
from threading import Thread

import pytest

from twisted_smtplite.app.sources import Found, Gone, Sources

ONE = b"Subject: one\n\nHello.\n"
TWO = b"Subject: two\r\n\r\nFrom here\r\n>From there\r\n.\r\nno line end \xe4"


def found(*names: object, stdin: bytes = b"") -> list[tuple[str, bytes]]:
    messages = []
    for each in Sources([str(name) for name in names], io.BytesIO(stdin)):
        assert isinstance(each, Found), each
        messages.append((each.name, each.source.read_bytes() if isinstance(each.source, Path) else each.source))
    return messages


def contents(*names: object, stdin: bytes = b"") -> list[bytes]:
    return [content for _, content in found(*names, stdin=stdin)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "1.eml", tmp_path / "2.eml"]
    for path, content in zip(paths, (ONE, TWO), strict=True):
        path.write_bytes(content)
    return paths


def makeMaildir(path: Path) -> Path:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    return path


def test_files_are_found_in_the_order_they_are_named(files: list[Path]) -> None:
    assert found(files[1], files[0]) == [(str(files[1]), TWO), (str(files[0]), ONE)]


def test_standard_input_is_one_message(files: list[Path]) -> None:
    assert found(files[0], "-", files[1], stdin=b"anything\r\n") == [(str(files[0]), ONE), ("standard input", b"anything\r\n"), (str(files[1]), TWO)]
    assert found("-") == [("standard input", b"")]


def test_a_maildir_gives_its_messages_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    maildir = makeMaildir(tmp_path / "mail")
    for name in ("new/1000.c.host", "cur/999.a.host:2,S", "new/20.b.host", "tmp/1.x.host", "new/.hidden", "cur/named-by-nobody"):
        (maildir / name).write_bytes(name.encode())
    assert contents(maildir) == [b"cur/named-by-nobody", b"new/20.b.host", b"cur/999.a.host:2,S", b"new/1000.c.host"]


def test_a_message_that_leaves_the_maildir_meanwhile_is_told_and_the_others_are_found(tmp_path: Path) -> None:
    maildir = makeMaildir(tmp_path / "mail")
    for name in ("1", "2", "3"):
        (maildir / "new" / name).write_bytes(ONE)
    messages = iter(Sources([str(maildir)], io.BytesIO()))
    next(messages)
    (maildir / "new" / "2").unlink()
    assert next(messages) == Gone(str(maildir / "new" / "2"), "No such file or directory")
    assert isinstance(next(messages), Found)


def test_a_large_file_is_left_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 1_048_577)
    assert list(Sources([str(path)], io.BytesIO())) == [Found(str(path), path, 1_048_577)]


def mboxrd(*messages: bytes) -> bytes:
    text = b""
    for message in messages:
        quoted = b"".join(b">" + line if line.lstrip(b">").startswith(b"From ") else line for line in message.splitlines(keepends=True))
        text += b"From a@client.test Thu Jan  1 00:00:00 2026\n" + quoted + (b"\n" if message.endswith(b"\n") or not message else b"\n\n")
    return text


def test_an_mbox_gives_what_was_put_into_it(tmp_path: Path) -> None:
    messages = [
        ONE,
        b"",
        b"\n",
        b"From the start\n>From\n>>From twice\n\nFrom after an empty line\n\n\nFrom\n",
        b"x" * 100_000 + b"\n",
        TWO.replace(b"\r", b"") + b"\n",
    ]
    (tmp_path / "mail.mbox").write_bytes(mboxrd(*messages))
    assert found(tmp_path / "mail.mbox") == [(f"{tmp_path}/mail.mbox:{number}", message) for number, message in enumerate(messages, 1)]
    assert contents("-", stdin=mboxrd(*messages)) == messages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"From - Thu Jan  1 0:00:00 2026\r\na\r\n\r\nFrom b Thu Jan  1 00:00:00 +0100 2026\r\nc\r\n\r\n", [b"a\r\n", b"c\r\n"]),
        (b"From a\nb\n", [b"b\n"]),
        (b"From a\nb", [b"b"]),
        (b"From a\nb\nFrom c Thu Jan  1 00:00:00 2026\nd\n", [b"b\nFrom c Thu Jan  1 00:00:00 2026\nd\n"]),
        (b"From a\nb\n\nFrom now on nothing is quoted\n", [b"b\n\nFrom now on nothing is quoted\n"]),
        (b"From a\n", [b""]),
    ],
)
def test_where_a_message_of_an_mbox_ends(text: bytes, expected: list[bytes]) -> None:
    assert contents("-", stdin=text) == expected


def test_any_messages_come_back_from_an_mbox() -> None:
    rng = random.Random(5)
    for _ in range(200):
        messages = [
            b"".join(rng.choices([b"\n", b"x", b"From a 1:00\n", b">", b">From b 2:00\n", b" "], k=rng.randrange(12))) + b"\n" for _ in range(3)
        ]
        assert contents("-", stdin=mboxrd(*messages)) == messages


def test_the_standard_librarys_mbox_is_read(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "mbox")
    for _ in range(2):
        box.add(b"Subject: x\n\nFrom here\nto there\n")
    box.flush()
    assert contents(tmp_path / "mbox") == [b"Subject: x\n\nFrom here\nto there\n"] * 2


def test_an_mbox_is_read_as_it_is_asked_for() -> None:
    class Endless(io.BytesIO):
        read = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.read += 1
            return (b"From a@client.test Thu Jan  1 00:00:00 2026\n", b"text\n", b"\n")[(self.read - 1) % 3]

        __next__ = readline  # type: ignore[assignment]

    stream = Endless()
    messages = iter(Sources(["-"], stream))
    assert [message.source for message, _ in zip(messages, range(3), strict=False) if isinstance(message, Found)] == [b"text\n"] * 3
    assert stream.read < 15


def test_a_large_mbox_and_a_large_message(tmp_path: Path) -> None:
    large = b"Subject: x\n\n" + 20_000 * (b"x" * 76 + b"\n")
    (tmp_path / "one").write_bytes(large)
    (tmp_path / "box").write_bytes(mboxrd(ONE, large))
    assert list(Sources([str(tmp_path / "one")], io.BytesIO())) == [Found(str(tmp_path / "one"), tmp_path / "one", len(large))]
    assert contents(tmp_path / "box") == [ONE, large]


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(ONE,))
    writer.start()
    sources = Sources([str(pipe)], io.BytesIO())
    assert sources.octets() is None
    assert list(sources) == [Found(str(pipe), ONE, len(ONE))]
    writer.join()


def test_how_much_there_is(files: list[Path], tmp_path: Path) -> None:
    maildir = makeMaildir(tmp_path / "mail")
    (maildir / "new" / "1").write_bytes(ONE)
    assert Sources([str(files[0]), str(files[1]), str(maildir)], io.BytesIO()).octets() == 2 * len(ONE) + len(TWO)
    assert Sources([str(files[0]), "-"], io.BytesIO()).octets() is None


def test_what_cannot_be_read_is_said_before_anything_is(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Sources([str(files[0]), str(tmp_path / "nothing")], io.BytesIO())
    with pytest.raises(ValueError, match="is a directory, but no Maildir: it has no new and cur in it"):
        Sources([str(tmp_path)], io.BytesIO())
    with pytest.raises(ValueError, match="standard input can be read only once"):
        Sources(["-", "-"], io.BytesIO())
