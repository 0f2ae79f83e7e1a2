from __future__ import annotations

import base64
import encodings
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model.text import _CODECS, decodeBase64, decodeQuotedPrintable, decodeText, decodeWords


@pytest.mark.parametrize(
    ("octets", "charset", "text"),
    [
        (b"caf\xc3\xa9", "", "caf\u00e9"),
        (b"caf\xe9", "", "caf\u00e9"),
        (b"caf\xc3\xa9", "US-ASCII", "caf\u00e9"),
        (b"caf\xc3\xa9", "UTF-8", "caf\u00e9"),
        (b"caf\xe9", "utf8", "caf\ufffd"),
        (b"caf\xe9", "ISO-8859-1", "caf\u00e9"),
        (b"caf\xe9", " iso_8859-1 ", "caf\u00e9"),
        (b"\x80", "windows-1252", "\u20ac"),
        (b"\x81", "windows-1252", "\ufffd"),
        (b"\xc4", "koi8-u", "\u0434"),
        (b"\xa1", "windows-874", "\u0e01"),
        (b'\x1b$B$"\x1b(B', "ISO-2022-JP", "\u3042"),
        (b"\x82\xa0", "x-sjis", "\u3042"),
        (b"\xe0", "iso-8859-8-i", "\u05d0"),
        (b"+IKw-", "utf-7", "\u20ac"),
        (b"+2AA-", "utf-7", "\ufffd"),
        (b"caf\xc3\xa9", "x-unknown", "caf\u00e9"),
        (b"caf\xe9", "unknown-8bit", "caf\u00e9"),
        (b"a", "\u00fc\0;", "a"),
        # Names that Python knows, and mail must not use.
        (b"\\x41", "unicode_escape", "\\x41"),
        (b"a-b", "punycode", "a-b"),
        (b"YQ==", "base64", "YQ=="),
        (b"a", "undefined", "a"),
    ],
)
def test_text_of_a_charset(octets: bytes, charset: str, text: str) -> None:
    assert decodeText(octets, charset) == text


@pytest.mark.parametrize("octets", [bytes(range(256)), b"\x1b$B\xff~{+\x80", b"+2AA-+", b"\xff\xfe\x00\xd8", b""], ids=repr)
def test_every_charset_decodes_any_octets(octets: bytes) -> None:
    for codec in sorted(set(_CODECS.values())):
        decodeText(octets, codec).encode("utf-8")


@given(st.binary(), st.one_of(st.text(), st.sampled_from(sorted(_CODECS))))
def test_text_never_raises(octets: bytes, charset: str) -> None:
    decodeText(octets, charset).encode("utf-8")


def test_unknown_charsets_leave_nothing_behind() -> None:
    before = len(encodings._cache)
    for i in range(100):
        decodeText(b"a", f"charset-{i}")
    assert len(encodings._cache) == before


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("plain", "plain"),
        ("=?utf-8?Q?caf=C3=A9?=", "caf\u00e9"),
        ("=?UTF-8?b?Y2Fmw6k=?=", "caf\u00e9"),
        ("=?iso-8859-1*en?q?caf=E9_au_lait?=", "caf\u00e9 au lait"),
        # RFC 2047 8: the examples of white space.
        ("(=?ISO-8859-1?Q?a?=)", "(a)"),
        ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
        ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
        ("(=?ISO-8859-1?Q?a?=  \t =?ISO-8859-1?Q?b?=)", "(ab)"),
        ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
        ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
        # Not as the RFC wants it, but as senders do.
        ("=?utf-8?B?w7w?= =?utf-8?B?w6k?=", "\u00fc\u00e9"),
        ("=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=", "\u00e9"),
        ("=?utf-8?Q?two words?=", "two words"),
        ("=?utf-8?Q?what??=", "what?"),
        ("a=?utf-8?Q?b?=c", "abc"),
        ("=?x-none?Q?caf=E9?=", "caf\u00e9"),
        ("=?utf-8?Q??=", ""),
        ("caf\u00e9 =?utf-8?Q?\u00e9?=", "caf\u00e9 \u00e9"),
        # What is no encoded word stays.
        ("=?utf-8?Q?open", "=?utf-8?Q?open"),
        ("=?utf-8?X?a?=", "=?utf-8?X?a?="),
        ("=??Q?a?=", "=??Q?a?="),
        ("=?utf-8?Q?a?= =?utf-8?Q?open", "a =?utf-8?Q?open"),
        # What is encoded cannot begin a new line.
        ("=?utf-8?Q?a=0D=0ABcc:_b?=", "a Bcc: b"),
        ("=?utf-8?B?YQpiDWM=?=", "a b c"),
    ],
)
def test_encoded_words(text: str, decoded: str) -> None:
    assert decodeWords(text) == decoded


@given(
    st.one_of(st.text(), st.lists(st.sampled_from(["=?", "?=", "?", "Q", "b", "utf-8", "=0A", " ", "\t", "=", "x", "\u00e9", "YWJj"])).map("".join))
)
def test_encoded_words_never_raise_and_stay_on_one_line(text: str) -> None:
    decoded = decodeWords(text)
    assert "\r" not in decoded
    assert "\n" not in decoded


@pytest.mark.parametrize(
    ("octets", "decoded"),
    [
        (b"", b""),
        (b"YWJj", b"abc"),
        (b"YW\r\nJj\r\n", b"abc"),
        (b"YWI=", b"ab"),
        (b"YWI", b"ab"),
        (b"YQ", b"a"),
        (b"YWJjZ", b"abc"),
        (b"Y", b""),
        (b"Y!W*J\xffj", b"abc"),
        (b"YQ==\r\n-- \r\nA footer", b"a"),
        (b"====", b""),
    ],
)
def test_base64(octets: bytes, decoded: bytes) -> None:
    assert decodeBase64(octets) == decoded


@given(st.binary(), st.integers(1, 80))
def test_base64_of_any_line_length(content: bytes, width: int) -> None:
    encoded = base64.b64encode(content)
    assert decodeBase64(b"\r\n".join(encoded[i : i + width] for i in range(0, len(encoded), width))) == content


@given(st.binary())
def test_base64_never_raises(octets: bytes) -> None:
    decodeBase64(octets)


@pytest.mark.parametrize(
    ("octets", "decoded"),
    [
        (b"caf=C3=A9", b"caf\xc3\xa9"),
        (b"caf=c3=a9", b"caf\xc3\xa9"),
        (b"one=\r\nline", b"oneline"),
        (b"one= \t\r\nline", b"oneline"),
        (b"one=\nline=", b"oneline"),
        (b"two \t\r\nlines \nno more  ", b"two\r\nlines\nno more"),
        (b"a  b=20\r\n", b"a  b \r\n"),
        (b"a_b=3Dc=zz", b"a_b=c=zz"),
        (b"\xff", b"\xff"),
    ],
)
def test_quoted_printable(octets: bytes, decoded: bytes) -> None:
    assert decodeQuotedPrintable(octets) == decoded


@given(st.binary())
def test_quoted_printable_never_raises_and_undoes_the_standard_encoder(octets: bytes) -> None:
    decodeQuotedPrintable(octets)
    assert decodeQuotedPrintable(quopri.encodestring(octets.replace(b"\r", b""))) == octets.replace(b"\r", b"")


def test_long_runs_of_space_are_decoded() -> None:
    octets = b" " * 1_000_000 + b"x"
    assert decodeQuotedPrintable(octets) == octets
