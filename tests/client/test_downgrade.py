from __future__ import annotations

from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.client.downgrade import sevenBit
from twisted_smtplite.model.errors import Unsendable
from twisted_smtplite.model.message import Message

UMLAUTS = "Grüße aus einer Zeile, die sonst nur aus ASCII besteht. \r\n.\r\n\tund weiter\r\n"


def crlf(text: str) -> bytes:
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def headers(text: bytes) -> list[bytes]:
    return text.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_mostly_ascii_text_becomes_quoted_printable() -> None:
    text = crlf("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + UMLAUTS)
    converted = sevenBit(text)
    assert converted.isascii()
    assert headers(converted) == [
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Transfer-Encoding: quoted-printable",
    ]
    assert b"Gr=C3=BC=C3=9Fe" in converted
    assert max(map(len, converted.split(b"\r\n"))) <= 76
    assert Message(converted).parts[0].payload == crlf(UMLAUTS)


def test_other_text_and_octets_become_base64() -> None:
    for kind, body in (("text/plain; charset=utf-8", "приве́т\r\n" * 40), ("image/png", UMLAUTS)):
        converted = sevenBit(crlf(f"MIME-Version: 1.0\nContent-Type: {kind}\n\n{body}"))
        assert headers(converted)[-1] == b"Content-Transfer-Encoding: base64"
        assert max(map(len, converted.split(b"\r\n"))) <= 76
        assert Message(converted).parts[0].payload == crlf(body)


@pytest.mark.parametrize("charset", ["utf-8", "unknown-8bit"])
def test_a_message_without_mime_becomes_one(charset: str) -> None:
    body = b"\xc3\xa4\r\n" if charset == "utf-8" else b"\xe4\r\n"
    converted = sevenBit(b"Subject: x\r\n\r\n" + body)
    assert headers(converted) == [
        b"Subject: x",
        b"Content-Transfer-Encoding: base64",
        b"MIME-Version: 1.0",
        f"Content-Type: text/plain; charset={charset}".encode(),
    ]
    assert Message(converted).parts[0].payload == body
    typed = sevenBit(b"Content-Type: text/html\r\n\r\n" + body)
    assert headers(typed) == [b"Content-Type: text/html", b"Content-Transfer-Encoding: base64", b"MIME-Version: 1.0"]
    assert sevenBit(b"\r\n" + body).startswith(b"Content-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\n")


PARTS = f"""Subject: =?utf-8?q?=C3=A4?=
  folded in its own   way
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b 1"
Content-transfer-encoding:  8BIT

For old readers.
--b 1

{UMLAUTS}
--b 1
Content-Type: multipart/alternative; boundary=b2
Content-Transfer-Encoding: binary

--b2
Content-Type: text/html

<p>ASCII</p>
--b2
Content-Type: text/plain; charset=iso-8859-1
X-Own: stays

{UMLAUTS}
--b2--
--b 1
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: inner
X-Mailer: me

{UMLAUTS}
--b 1--
At the end.
"""


def test_only_what_is_not_ascii_is_encoded_and_everything_around_it_stays() -> None:
    text = crlf(PARTS)
    converted = sevenBit(text)
    expected = text.replace(b"Content-transfer-encoding:  8BIT", b"Content-Transfer-Encoding: 7bit")
    expected = expected.replace(b"Content-Transfer-Encoding: binary", b"Content-Transfer-Encoding: 7bit")
    expected = expected.replace(b"rfc822\r\nContent-Transfer-Encoding: 8bit", b"rfc822\r\nContent-Transfer-Encoding: 7bit")
    label = b"Content-Transfer-Encoding: quoted-printable\r\n"
    quoted = crlf(
        "Gr=C3=BC=C3=9Fe aus einer Zeile, die sonst nur aus ASCII besteht.=20\n=2E\n\tund weiter\n"  # as RFC 2045 6.7 has it
    )
    expected = expected.replace(b"--b 1\r\n\r\n", b"--b 1\r\n" + label + b"\r\n", 1)
    expected = expected.replace(b"X-Own: stays\r\n", b"X-Own: stays\r\n" + label)
    mime = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    expected = expected.replace(b"X-Mailer: me\r\n", b"X-Mailer: me\r\n" + label + mime)
    expected = expected.replace(crlf(UMLAUTS), quoted)
    assert converted == expected
    payloads = [part.payload for part in Message(text).parts]
    assert [part.payload for part in Message(converted).parts][:3] == payloads[:3]


def test_the_email_package_reads_the_same_from_it() -> None:
    before, after = (message_from_bytes(text, policy=policy.default) for text in (crlf(PARTS), sevenBit(crlf(PARTS))))
    texts: Any = [[part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()] for message in (before, after)]
    assert texts[0] == texts[1]


def test_ascii_is_not_touched() -> None:
    text = b"Content-Transfer-Encoding: 8bit\r\nContent-Type: multipart/signed\r\n\r\nanything\r\n"
    assert sevenBit(text) is text


def test_wrongly_labelled_parts_are_mended() -> None:
    for label, body in (("quoted-printable", "a=C3=A4 ä und viel mehr Text, der ASCII ist"), ("base64", "w6TDpA==\r\nä")):
        converted = sevenBit(f"MIME-Version: 1.0\r\nContent-Transfer-Encoding: {label}\r\n\r\n{body}".encode())
        assert converted.isascii()
    assert Message(converted).parts[0].payload == "ää".encode()


def test_one_label_is_left_where_there_were_two() -> None:
    converted = sevenBit(b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\nX: y\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\xff\r\n")
    assert headers(converted) == [b"MIME-Version: 1.0", b"Content-Transfer-Encoding: base64", b"X: y"]


def test_no_line_of_the_new_text_looks_like_a_boundary() -> None:
    # Folded where quoted-printable folds, it would.
    line = "ü" + "x" * 69 + "--b"
    text = crlf(f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n{line}\n--b--\n")
    converted = sevenBit(text)
    assert [part.payload for part in Message(converted).parts] == [line.encode()]
    assert b"base64" in converted


@given(st.lists(st.sampled_from(["ü", "x" * 30, "=", " ", "\t", "\n", ".", "--b", "\0", "From "]), max_size=30).map("".join))
def test_what_was_said_is_what_is_read(body: str) -> None:
    text = crlf(f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: text/plain\n\n{body}\n--bb--\n")
    converted = sevenBit(text)
    assert converted.isascii()
    assert [part.payload for part in Message(converted).parts] == [part.payload for part in Message(text).parts]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        # A signature forbids it.
        ("Content-Type: multipart/signed; boundary=b\n\n--b\n\nä\n--b--\n", "5.6.2"),
        ("Content-Type: multipart/encrypted; boundary=b\n\n--b\n\nä\n--b--\n", "5.6.2"),
        # Nobody knows the parts.
        ("Content-Type: multipart/mixed\n\nä\n", "5.6.5"),
        ("Content-Type: multipart/mixed; boundary=b\n\nä\n", "5.6.5"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nä\n", "5.6.5"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\nä without an empty line\n--b--\n", "5.6.5"),
        ("Subject: a\nä", "5.6.5"),
        ("Content-Type: message/rfc822\n\n" * 22 + "ä\n", "5.6.5"),
        # UTF-8 in header fields.
        ("Subject: ä\n\nä\n", "5.6.9"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\nX-Name: ä\n\na\n--b--\n", "5.6.9"),
        ("Content-Type: message/rfc822\n\nSubject: ä\n\na\n", "5.6.9"),
        # What must not be encoded.
        ("Content-Type: message/partial\n\nä\n", "5.6.3"),
        ("Content-Type: message/delivery-status\n\nä\n", "5.6.3"),
        ("Content-Transfer-Encoding: x-uuencode\n\nä\n", "5.6.3"),
        ("Content-Type: multipart/mixed; boundary=b\n\nä\n--b\n\na\n--b--\n", "5.6.3"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_says_why(text: str, status: str) -> None:
    with pytest.raises(Unsendable) as caught:
        sevenBit(crlf(text))
    assert (caught.value.reply.code, caught.value.reply.enhanced, caught.value.reply.local) == (554, status, True)
    assert not caught.value.temporary


def test_an_internationalized_message_inside_is_encoded_as_a_whole() -> None:
    inner = "Subject: ä\r\n\r\na\r\n"
    converted = sevenBit(crlf(f"MIME-Version: 1.0\nContent-Type: message/global\n\n{inner}"))
    assert Message(converted).parts[0].payload == inner.encode()
