from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model.headers import Defect, Headers
from twisted_smtplite.model.message import Message
from twisted_smtplite.model.parts import Part

LIKE_MIME = st.lists(
    st.sampled_from(
        [
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n",
            b"Content-Type: multipart/digest; boundary=bb\n\n",
            b"Content-Transfer-Encoding: base64\r\n",
            b"Content-Transfer-Encoding: quoted-printable\r\n",
            b"Content-Disposition: attachment; filename*0*=utf-8''%00a",
            b"--b\r\n", b"--b--\r\n", b"--bb\n", b"--bb--\n", b"\r\n", b"\n", b"x", b"--", b"\xff",
        ]
    )
).map(b"".join)  # fmt: skip

MIXED = Message(
    b"Content-Type: multipart/mixed; boundary=outer\r\n\r\n"
    b"The preamble\r\n"
    b"--outer\r\n"
    b'Content-Type: multipart/alternative; boundary="in ner"\r\n\r\n'
    b"--in ner\r\n\r\n"
    b"Plain\r\n"
    b"--in ner \t\r\n"
    b"Content-Type: Text/HTML; charset=ISO-8859-1\r\n"
    b"Content-Transfer-Encoding: Quoted-Printable\r\n\r\n"
    b"<p>caf=E9=\r\n</p>\r\n\r\n"
    b"--in ner--\r\n"
    b"--outer\r\n"
    b"Content-Type: application/pdf; name=old.pdf\r\n"
    b"Content-Disposition: attachment; filename=a.pdf\r\n"
    b"Content-Transfer-Encoding: base64 (of course)\r\n\r\n"
    b"JVBERg==\r\n"
    b"--outer--\r\n"
    b"The epilogue\r\n"
)


def part(*fields: bytes, body: bytes = b"") -> Part:
    (only,) = Message(b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body).parts
    return only


def nested(levels: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d.\r\n\r\n--b%d.\r\n" % (i, i) for i in range(levels)) + b"\r\nIn the middle"


def test_parts_of_nested_multiparts_are_flat_and_in_order() -> None:
    assert [(part.number, part.contentType) for part in MIXED.parts] == [("1.1", "text/plain"), ("1.2", "text/html"), ("2", "application/pdf")]
    assert [part.payload for part in MIXED.parts] == [b"Plain", b"<p>caf\xe9</p>\r\n", b"%PDF"]
    assert MIXED.parts[1].text == "<p>caf\u00e9</p>\r\n"
    assert MIXED.defects == ()


def test_part_has_its_own_header_and_raw_octets() -> None:
    last = MIXED.parts[-1]
    assert last.headers["content-type"] == "application/pdf; name=old.pdf"
    assert last.raw == b"JVBERg==" == MIXED.body[last.start : last.end]
    assert (last.disposition, last.filename) == ("attachment", "a.pdf")
    assert MIXED.parts[0].disposition == ""
    assert MIXED.parts[0].filename is None


def test_plain_message_is_one_part_with_the_headers_of_the_message() -> None:
    message = Message(b"Subject: x\r\n\r\nHello\r\n")
    (only,) = message.parts
    assert only.headers is message.headers
    assert (only.number, only.contentType, only.charset, only.text) == ("1", "text/plain", "", "Hello\r\n")


def test_lf_line_ends_are_read_alike() -> None:
    message = Message(MIXED.content.replace(b"\r\n", b"\n"))
    assert [part.text.strip() for part in message.parts] == ["Plain", "<p>caf\u00e9</p>", "%PDF"]
    assert message.defects == ()


@pytest.mark.parametrize(
    ("field", "contentType", "charset"),
    [
        (b"Content-Type: text/plain; charset=UTF-8", "text/plain", "utf-8"),
        (b"content-type: TEXT/html (yes)", "text/html", ""),
        (b"Content-Type: text", "text/plain", ""),
        (b"Content-Type: text/plain/x; charset=a", "text/plain", "a"),
        (b"Content-Type:", "text/plain", ""),
        (b"Content-Type: message/rfc822", "message/rfc822", ""),
        (b"X: y", "text/plain", ""),
    ],
)
def test_content_type(field: bytes, contentType: str, charset: str) -> None:
    assert (part(field).contentType, part(field).charset) == (contentType, charset)


@pytest.mark.parametrize(
    ("encoding", "raw", "payload"),
    [
        (b"7bit", b"a=\r\nb", b"a=\r\nb"),
        (b"8BIT", b"\xff", b"\xff"),
        (b"BASE64", b"YW\r\nJj", b"abc"),
        (b"base64;", b"YQ", b"a"),
        (b"quoted-printable", b"=C3=A9=\r\nx =  \r\ny_", b"\xc3\xa9x y_"),
        (b"Quoted-Printable (RFC 2045)", b"=3D=zz", b"==zz"),
        (b"x-uuencode", b"begin", b"begin"),
    ],
)
def test_payload_is_decoded(encoding: bytes, raw: bytes, payload: bytes) -> None:
    assert part(b"Content-Transfer-Encoding: " + encoding, body=raw).payload == payload


@pytest.mark.parametrize(
    ("field", "filename"),
    [
        (b"Content-Disposition: attachment; filename=a.txt", "a.txt"),
        (b"Content-Type: image/png; name=b.png", "b.png"),
        (b'Content-Disposition: attachment; filename="=?utf-8?q?caf=C3=A9.txt?="', "caf\u00e9.txt"),
        (b"Content-Disposition: attachment; filename*=utf-8''caf%C3%A9.txt", "caf\u00e9.txt"),
        (b'Content-Disposition: attachment; filename="../../etc/passwd"', "passwd"),
        (b'Content-Disposition: attachment; filename="C:\\temp\\x.doc"', "x.doc"),
        (b"Content-Disposition: attachment; filename*=''a%0D%0A%00b", "a b"),
        (b"Content-Disposition: attachment; filename*=utf-8''fdp.%E2%80%AEexe", "fdp.exe"),
        (b"Content-Disposition: attachment; filename=..", None),
        (b"Content-Disposition: attachment; filename=a/", None),
        (b"Content-Disposition: attachment", None),
    ],
)
def test_filename_is_the_last_component_of_what_is_suggested(field: bytes, filename: str | None) -> None:
    assert part(field).filename == filename


def test_parts_of_a_digest_are_messages() -> None:
    message = Message(
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\ny\r\n--b\r\nContent-Type: text/plain\r\n\r\nz\r\n--b--\r\n"
    )
    assert [part.contentType for part in message.parts] == ["message/rfc822", "text/plain"]
    assert Message(message.parts[0].payload).headers["Subject"] == "x"


def test_part_without_header_or_body_is_empty() -> None:
    message = Message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\nA: b\r\n--b\r\n\r\n--b\r\n\r\n\r\n--b--")
    assert [(list(part.headers), part.payload) for part in message.parts] == [([], b""), ([("A", "b")], b""), ([], b""), ([], b"")]
    assert message.defects == ()


@pytest.mark.parametrize(
    "line", [b"--bb", b"-- b", b"--b x", b" --b", b"x--b", b"--B", b"--b--x", b"--b\r"], ids=repr
)  # fmt: skip
def test_line_that_only_looks_like_a_boundary_is_text(line: bytes) -> None:
    message = Message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + line + b"\r\n--b--\r\n")
    assert [part.payload for part in message.parts] == [line]


def test_outer_boundary_ends_an_inner_multipart() -> None:
    message = Message(
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"
        b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\na\r\n--o\r\n\r\nb\r\n--o--\r\n"
    )
    assert [(part.number, part.payload) for part in message.parts] == [("1.1", b"a"), ("2", b"b")]
    assert message.defects == (Defect("multipart without its last boundary", b"Content-Type: multipart/mixed; boundary=i\r\n"),)


@pytest.mark.parametrize(
    ("content", "meaning", "payloads"),
    [
        (b"Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n", "multipart without a boundary parameter", [b"--b\n\nx\n--b--\n"]),
        (b'Content-Type: multipart/mixed; boundary=" "\n\nx', "multipart without a boundary parameter", [b"x"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\nx\n", "multipart without parts", [b"x\n"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\nx\n--b--\n", "multipart without parts", [b"x\n--b--\n"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n\ny\n", "multipart without its last boundary", [b"x", b"y\n"]),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b", "multipart without its last boundary", [b""]),
    ],
)
def test_broken_multipart_is_reported_and_nothing_is_lost(content: bytes, meaning: str, payloads: list[bytes]) -> None:
    message = Message(content)
    assert [part.payload for part in message.parts] == payloads
    assert message.defects == (Defect(meaning, content[: content.index(b"\n") + 1]),)


def test_nesting_beyond_the_limit_stays_one_part() -> None:
    for levels in (20, 21, 3000):
        message = Message(nested(levels))
        (only,) = message.parts
        assert only.raw.endswith(b"In the middle")
        assert only.contentType == ("text/plain" if levels == 20 else "multipart/mixed")
        assert ("multiparts nested more than 20 deep" in {defect.meaning for defect in message.defects}) == (levels > 20)


@pytest.mark.parametrize("count", [1000, 1001, 20_000])
def test_parts_beyond_the_limit_become_one(count: int) -> None:
    inner = b"--b\r\nA: b\r\n\r\nx\r\n"
    message = Message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inner * count + b"--b--\r\n")
    assert len(message.parts) == min(count, 1001)
    last = message.parts[-1]
    if count > 1000:
        assert message.defects == (Defect("more than 1000 parts", b""),)
        assert (last.number, last.contentType, list(last.headers)) == ("1001", "application/octet-stream", [])
        assert last.payload == inner[5:] + inner * (count - 1001) + b"--b--\r\n"
    else:
        assert message.defects == ()


def test_limit_of_parts_counts_over_all_levels() -> None:
    inner = b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" + b"--c\r\n\r\nx\r\n" * 600 + b"--c--\r\n"
    message = Message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inner * 3 + b"--b--\r\n")
    assert len(message.parts) == 1001
    assert message.parts[-1].number == "2.401"
    assert message.parts[-1].end == len(message.body)


def test_lookalikes_of_boundaries_are_bounded_over_all_levels() -> None:
    start = b"".join(b"Content-Type: multipart/mixed; boundary=%b\n\n--%b\n" % (b"b" * i, b"b" * i) for i in range(1, 5))
    message = Message(start + (b"--" + b"b" * 9 + b"\n") * 60_000)
    assert message.parts[0].raw.endswith(b"--" + b"b" * 9 + b"\n")
    assert "too many lines that look like boundaries" in {defect.meaning for defect in message.defects}


def test_20000_parts_without_an_empty_line_are_read() -> None:
    message = Message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\nA: b\r\n" * 20_000)
    assert message.parts[0].headers["A"] == "b"


@given(st.one_of(st.binary(), LIKE_MIME))
def test_any_octets_have_parts(content: bytes) -> None:
    message = Message(content)
    assert message.parts
    assert len({part.number for part in message.parts}) == len(message.parts)
    end = 0
    for part in message.parts:
        assert end <= part.start <= part.end <= len(message.body)
        end = part.end
        assert part.raw == message.body[part.start : part.end]
        part.text.encode()
        assert isinstance(part.headers, Headers)
        assert part.filename is None or not set(part.filename) & set("/\\\r\n\0")
