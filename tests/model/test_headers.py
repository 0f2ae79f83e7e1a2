from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model.headers import Defect, Field, Headers

LIKE_HEADERS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"Subject", b"a", b"\xff", b"\0", b"=?utf-8?q?=0A?="])).map(
    b"".join
)

TRACE = Headers(b"Received: from a.test\r\n\tby b.test; now\r\nReceived: from c.test by a.test\r\nSubject: Hello\r\n  there\r\nX-Empty:\r\n")


def test_fields_are_found_in_any_case() -> None:
    assert TRACE["subject"] == TRACE["SUBJECT"] == "Hello  there"
    assert "sUBJECT" in TRACE
    assert "Date" not in TRACE
    assert 1 not in TRACE


def test_missing_field_is_none_as_in_the_email_package() -> None:
    assert TRACE["Date"] is None
    assert TRACE.get("Date", "never") == "never"
    assert TRACE.getAll("Date") == []
    assert TRACE.decoded("Date") is None
    assert TRACE.decoded("Date", "never") == "never"
    assert TRACE.rawField("Date") == b""


def test_repeated_fields_keep_their_order() -> None:
    assert TRACE["Received"] == "from a.test\tby b.test; now"
    assert TRACE.getAll("received") == ["from a.test\tby b.test; now", "from c.test by a.test"]


def test_iteration_gives_names_as_written_and_values_in_order() -> None:
    assert list(TRACE) == [
        ("Received", "from a.test\tby b.test; now"),
        ("Received", "from c.test by a.test"),
        ("Subject", "Hello  there"),
        ("X-Empty", ""),
    ]
    assert len(TRACE) == 4


def test_raw_field_keeps_its_folds() -> None:
    assert TRACE.rawField("subject") == TRACE.fields[2].raw == b"Subject: Hello\r\n  there\r\n"


@pytest.mark.parametrize(
    ("raw", "name", "octets", "defect"),
    [
        (b"Subject: a\r\n", "Subject", b"a", ""),
        (b"Subject: a\n", "Subject", b"a", ""),
        (b"Subject: a", "Subject", b"a", ""),
        (b"Subject:a \t\r\n", "Subject", b"a", ""),
        (b"Subject:\r\n a\r\n", "Subject", b"a", ""),
        (b"Subject: a\r\n \r\n b\r\n", "Subject", b"a  b", ""),
        (b"a:b:c\r\n", "a", b"b:c", ""),
        (b"!#~: x\r\n", "!#~", b"x", ""),
        (b"Subject \t: a\r\n", "Subject", b"a", "white space before the colon"),
        (b"Subject: a\rBcc: b\r\n", "Subject", b"a Bcc: b", "bare CR"),
        (b"Subject: a\r\r\n", "Subject", b"a", "bare CR"),
        (b"no colon\r\n", "", b"no colon", "not a header field"),
        (b"two words: x\r\n", "", b"two words: x", "not a header field"),
        (b": x\r\n", "", b": x", "not a header field"),
        (b"caf\xc3\xa9: x\r\n", "", b"caf\xc3\xa9: x", "not a header field"),
        (b"a\0b: x\r\n", "", b"a\0b: x", "not a header field"),
        (b" x: y\r\n", "", b"x: y", "continuation without a field"),
        (b"\tx\r\n", "", b"x", "continuation without a field"),
        (b"", "", b"", "not a header field"),
    ],
)
def test_field(raw: bytes, name: str, octets: bytes, defect: str) -> None:
    field = Field.parse(raw)
    assert (field.raw, field.name, field.octets, field.defect) == (raw, name, octets, defect)


@pytest.mark.parametrize(
    ("raw", "value", "decoded"),
    [
        (b"S: caf\xc3\xa9\r\n", "caf\u00e9", "caf\u00e9"),
        (b"S: caf\xe9\r\n", "caf\u00e9", "caf\u00e9"),
        (b"S: =?utf-8?q?caf=C3=A9?=\r\n =?utf-8?q?_noir?=\r\n", "=?utf-8?q?caf=C3=A9?= =?utf-8?q?_noir?=", "caf\u00e9 noir"),
        (b"S: =?nothing?q?caf=E9?=\r\n", "=?nothing?q?caf=E9?=", "caf\u00e9"),
        (b"S: =?utf-8?q?a=0D=0ABcc:_b?=\r\n", "=?utf-8?q?a=0D=0ABcc:_b?=", "a Bcc: b"),
    ],
)
def test_value_and_decoded_value(raw: bytes, value: str, decoded: str) -> None:
    headers = Headers(raw)
    assert headers["S"] == value
    assert headers.decoded("S") == headers.fields[0].decoded == decoded


def test_malformed_lines_stay_in_place_and_are_reported() -> None:
    headers = Headers(b" early\r\nFrom a@b.test Mon\r\nFrom: a@b.test\r\njunk\r\n more junk\r\nTo : c\r\nSubject: x")
    assert [field.name for field in headers.fields] == ["", "", "From", "", "To", "Subject"]
    assert list(headers) == [("From", "a@b.test"), ("To", "c"), ("Subject", "x")]
    assert headers.defects == (
        Defect("continuation without a field", b" early\r\n"),
        Defect("not a header field", b"From a@b.test Mon\r\n"),
        Defect("not a header field", b"junk\r\n more junk\r\n"),
        Defect("white space before the colon", b"To : c\r\n"),
    )
    assert len(headers) == 3


def test_no_fields_at_all() -> None:
    headers = Headers(b"")
    assert headers.fields == ()
    assert headers.defects == ()
    assert list(headers) == []
    assert not len(headers)


@given(st.one_of(st.binary(), LIKE_HEADERS))
def test_any_octets_are_read_and_kept(raw: bytes) -> None:
    headers = Headers(raw)
    assert b"".join(field.raw for field in headers.fields) == raw
    assert all(field.raw for field in headers.fields)
    for name, value in headers:
        assert headers.getAll(name)
        assert not set(value) & set("\r\n")
    for field in headers.fields:
        assert not set(field.decoded) & set("\r\n")
        assert bool(field.defect) >= (not field.name)


@given(st.lists(st.tuples(st.from_regex(r"[!-9;-~]+", fullmatch=True), st.text(st.characters(exclude_categories=("Cs", "Cc"))))))
def test_well_formed_fields_come_back(pairs: list[tuple[str, str]]) -> None:
    headers = Headers(b"".join(f"{name}: {value}\r\n".encode() for name, value in pairs))
    assert list(headers) == [(name, value.strip(" \t")) for name, value in pairs]
    assert headers.defects == ()


@pytest.mark.parametrize("line", [b"X-A: b\r\n", b"junk\r\n", b"A:\n"])
def test_20000_fields_are_read(line: bytes) -> None:
    headers = Headers(line * 20_000)
    assert len(headers.fields) == 20_000
    assert len(headers) + len(headers.defects) == 20_000


def test_endless_fold_is_one_field() -> None:
    headers = Headers(b"Subject: a\r\n" + b" \r\n" * 100_000)
    assert headers["Subject"] == "a"
