"""The PROXY header: what is read of it, how it may be cut, and what ends the connection."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_smtplite.dialogue.proxy import Endpoint, Header, HeaderReader, ProxyError, TLSFacts, crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
IPV4 = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + struct.pack("!HH", 40000, 25)
IPV6 = bytes.fromhex("20010db8000000000000000000000007") + bytes.fromhex("20010db8000000000000000000000001") + struct.pack("!HH", 1, 65535)
CLIENT, SERVER = Endpoint("192.0.2.7", 40000), Endpoint("198.51.100.1", 25)


def field(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def binary(body: bytes, *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tls(flags: int = 0x07, verify: int = 0, *fields: bytes) -> bytes:
    return field(0x20, struct.pack("!BI", flags, verify) + b"".join(fields))


def read(data: bytes) -> Header:
    """The header, read whole and octet by octet, with more behind it."""
    reader = HeaderReader()
    header = reader.feed(data + b"EHLO x\r\n")
    assert header is not None
    assert reader.rest == b"EHLO x\r\n"
    reader = HeaderReader()
    assert [reader.feed(data[at : at + 1]) for at in range(len(data))] == [None] * (len(data) - 1) + [header]
    assert reader.rest == b""
    return header


@pytest.mark.parametrize(
    ("line", "client", "server"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n", CLIENT, SERVER),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Endpoint("255.255.255.255", 65535), Endpoint("255.255.255.255", 65535)),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", Endpoint("192.0.2.7", 0), Endpoint("198.51.100.1", 0)),
        (b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n", Endpoint("2001:db8::7", 1), Endpoint("::1", 2)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Endpoint("192.0.2.7", 1), Endpoint("::1", 2)),
        (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", *[Endpoint("ffff:" * 7 + "ffff", 65535)] * 2),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", None, None),
        (b"PROXY UNKNOWN \x00\xff anything\r\n", None, None),
    ],
)
def test_a_line_tells_both_ends(line: bytes, client: Endpoint | None, server: Endpoint | None) -> None:
    assert read(line) == Header(client, server)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25 \r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 025\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 040000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 25\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 25\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 25\r\n",
        b"PROXY TCP4 mx.test mx.test 1 25\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY tcp4 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n\r\n",
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        b"PROXY UNKNOWN" + b" " * 94,
        b"proxy UNKNOWN\r\n",
        b"EHLO client.test\r\n",
        b"\x16\x03\x01",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n",
    ],
)
def test_anything_else_is_an_error(line: bytes) -> None:
    with pytest.raises(ProxyError):
        HeaderReader().feed(line)


def test_a_line_of_107_octets_is_taken_and_no_longer_one_waited_for() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert len(line) == 107
    assert read(line) == Header()
    assert HeaderReader().feed(line[:-1]) is None
    with pytest.raises(ProxyError):
        HeaderReader().feed(line[:-2] + b"x\r")


def test_a_stranger_is_known_by_the_first_octet_that_does_not_fit() -> None:
    reader = HeaderReader()
    assert reader.feed(b"PRO") is None
    with pytest.raises(ProxyError):
        reader.feed(b"B")


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (binary(IPV4), Header(CLIENT, SERVER)),
        (binary(IPV6, family=0x21), Header(Endpoint("2001:db8::7", 1), Endpoint("2001:db8::1", 65535))),
        (binary(bytes(10) + b"\xff\xff\xc0\x00\x02\x07" + IPV6[16:], family=0x21), Header(Endpoint("192.0.2.7", 1), Endpoint("2001:db8::1", 65535))),
        (binary(bytes(216), family=0x31), Header(Endpoint("", 0), Endpoint("", 0))),
        (binary(b"", family=0x00), Header()),
        (binary(b"", family=0x00, command=0x20), Header()),
        # LOCAL: whatever follows is skipped, however strange.
        (binary(b"what", family=0xEE, command=0x20), Header()),
        (binary(IPV4 + field(0x04, bytes(5000)) + field(0xE0, b"own")), Header(CLIENT, SERVER)),
        (binary(IPV4 + field(0x01, b"h2") + field(0x02, b"mx.test")), Header(CLIENT, SERVER, authority="mx.test")),
        (binary(IPV4 + field(0x05, b"\x00\xff" * 64)), Header(CLIENT, SERVER, uniqueId=b"\x00\xff" * 64)),
        (
            binary(IPV4 + tls(0x07, 0, field(0x21, b"TLSv1.3"), field(0x23, b"TLS_AES_128_GCM_SHA256"), field(0x22, "Zoë".encode()))),
            Header(CLIENT, SERVER, TLSFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "Zoë")),
        ),
        # A certificate of an earlier connection, of the same TLS session.
        (binary(IPV4 + tls(0x05, 0, field(0x22, b"ann"))), Header(CLIENT, SERVER, TLSFacts("", "", "ann"))),
        # Nobody has verified it; there was none; TLS was not spoken.
        (binary(IPV4 + tls(0x07, 1, field(0x22, b"ann"))), Header(CLIENT, SERVER, TLSFacts())),
        (binary(IPV4 + tls(0x01, 0, field(0x22, b"ann"))), Header(CLIENT, SERVER, TLSFacts())),
        (binary(IPV4 + tls(0x00, 0, field(0x22, b"ann"))), Header(CLIENT, SERVER)),
    ],
)
def test_a_binary_header_tells_its_facts(data: bytes, header: Header) -> None:
    assert read(data) == header


@pytest.mark.parametrize(
    "data",
    [
        binary(IPV4, command=0x11),
        binary(IPV4, command=0x22),
        binary(IPV4, family=0x12),
        binary(IPV4, family=0x10),
        binary(IPV4, family=0x41),
        binary(IPV4[:-1]),
        binary(IPV4, family=0x21),
        binary(bytes(215), family=0x31),
        binary(IPV4 + b"\x04"),
        binary(IPV4 + b"\x04\x00"),
        binary(IPV4 + b"\x04\x00\x02x"),
        binary(IPV4 + field(0x03, b"\0\0\0\0")),
        binary(IPV4 + field(0x03, b"")),
        binary(IPV4 + field(0x05, bytes(129))),
        binary(IPV4 + field(0x02, b"mx\r\n.test")),
        binary(IPV4 + field(0x02, b"\xff")),
        binary(IPV4 + field(0x02, b"x" * 256)),
        binary(IPV4 + field(0x20, b"\x01\0\0\0")),
        binary(IPV4 + tls(0x01, 0, b"\x21\x00\x09TLS")),
        binary(IPV4 + tls(0x07, 0, field(0x22, b"ann\nbob"))),
    ],
)
def test_a_bad_binary_header_is_an_error(data: bytes) -> None:
    with pytest.raises(ProxyError):
        HeaderReader().feed(data)


def test_a_wrong_version_is_known_before_the_header_is_whole() -> None:
    with pytest.raises(ProxyError):
        HeaderReader().feed(SIGNATURE + b"\x31")


def test_the_longest_header_is_taken_and_no_octet_more() -> None:
    header = binary(IPV4 + field(0x04, bytes(65535 - 12 - 3)))
    reader = HeaderReader()
    assert reader.feed(header[:-1]) is None
    assert reader.feed(header[-1:] + b"EHLO") == Header(CLIENT, SERVER)
    assert reader.rest == b"EHLO"


def test_a_checksum_is_verified() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    facts = field(0x02, b"mx.test") + field(0x03, bytes(4)) + field(0x04, b"xx")
    data = binary(IPV4 + facts)
    at = data.index(field(0x03, bytes(4))) + 3
    good = data[:at] + crc32c(data).to_bytes(4, "big") + data[at + 4 :]
    assert read(good).authority == "mx.test"
    for spoilt in (16, at, len(good) - 1):
        with pytest.raises(ProxyError):
            HeaderReader().feed(good[:spoilt] + bytes([good[spoilt] ^ 1]) + good[spoilt + 1 :])


_noise = st.binary(max_size=60)
_starts = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x20" + IPV4, SIGNATURE + b"\x21"])


@settings(max_examples=300, deadline=None)
@given(_starts, _noise, st.integers(0, 80))
def test_noise_is_a_header_or_an_error_however_it_is_cut(start: bytes, noise: bytes, cut: int) -> None:
    def told(*pieces: bytes) -> object:
        reader = HeaderReader()
        got = b""
        for piece in pieces:
            try:
                header = reader.feed(piece)
            except ProxyError:
                return "error"
            got += piece
            if header is not None:
                assert got.endswith(reader.rest)
                return header
        return None

    data = start + noise
    assert told(data) == told(data[:cut], data[cut:])
