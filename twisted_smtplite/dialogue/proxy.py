"""The header that a proxy sends in front of a connection: PROXY protocol, versions 1 and 2 (HAProxy's specification).

Knows both forms, and what they tell of the client. Must not know who is trusted to send one, nor how long to wait for it. The header is read
octet by octet if need be, is never guessed to be there, and never kept longer than its own length says: 107 octets, or 65,551.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

# 2.1: the longest line with its CRLF. 2.2: the twelve octets that no other protocol begins with.
_LINE_MAX = 107
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = len(_SIGNATURE) + 4
_WORD = b"PROXY "
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
# 2.2: the octets of the addresses of each family and transport: unspecified; stream over IPv4, IPv6 and unix sockets. There is no datagram here.
_ADDRESSES = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}
# 2.2: what else it may tell.
_AUTHORITY, _CRC32C, _UNIQUE_ID, _SSL = 0x02, 0x03, 0x05, 0x20
_SSL_VERSION, _SSL_COMMON_NAME, _SSL_CIPHER = 0x21, 0x22, 0x23
_CLIENT_SSL, _CLIENT_CERTIFICATE = 0x01, 0x06
_UNIQUE_ID_MAX = 128


class ProxyError(Exception):
    """What the peer sent is no PROXY header, or a bad one; the text says why."""


class Endpoint(NamedTuple):
    """One end of the client's connection to the proxy.

    Attributes:
        host: the IP address as text; empty for a unix socket.
        port: the port, 0 for a unix socket.
    """

    host: str
    port: int


class TLSFacts(NamedTuple):
    """What the proxy tells of the TLS that the client spoke with it.

    Attributes:
        version: the protocol, e.g. ``"TLSv1.3"``, or empty.
        cipher: the cipher suite, or empty.
        commonName: whom the client's certificate names, if it had one that the proxy has verified, or None.
    """

    version: str = ""
    cipher: str = ""
    commonName: str | None = None


class Header(NamedTuple):
    """What a PROXY header tells.

    Attributes:
        client: where the client is; None when the header says nothing of it (UNKNOWN, LOCAL): the peer itself is the client.
        server: where the client connected to, or None likewise.
        tls: what is known of the client's TLS, or None when it spoke in the clear.
        authority: the name that the client asked for (SNI), or None.
        uniqueId: by which the proxy knows the connection; empty when it has no name.
    """

    client: Endpoint | None = None
    server: Endpoint | None = None
    tls: TLSFacts | None = None
    authority: str | None = None
    uniqueId: bytes = b""


_NOTHING = Header()


class HeaderReader:
    """Reads one header, however the network cut it.

    Attributes:
        rest: once the header is there, the octets behind it: they are the client's.
    """

    __slots__ = ("_data", "rest")

    def __init__(self) -> None:
        self._data = b""
        self.rest = b""

    def feed(self, data: bytes) -> Header | None:
        """Takes the next octets. Returns the header, or None while it is not whole.

        Raises:
            ProxyError: there is no header, or it is malformed. Known as early as it can be.
        """
        data = self._data = self._data + data
        for beginning, read in ((_SIGNATURE, self._binary), (_WORD, self._line)):
            if data[: len(beginning)] == beginning:
                return read(data)
            if beginning.startswith(data):
                return None
        raise ProxyError(f"no PROXY header: {data[:20]!r}")

    def _line(self, data: bytes) -> Header | None:
        """Version 1: a line of text (2.1)."""
        end = data.find(b"\r\n", 0, _LINE_MAX)
        if end < 0:
            if len(data) >= _LINE_MAX:
                raise ProxyError("a PROXY line that is too long")
            return None
        line, self.rest = data[: end + 2], data[end + 2 :]
        # 2.1: behind UNKNOWN everything is ignored.
        return _NOTHING if re.match(rb"PROXY UNKNOWN[ \r]", line) else _parseLine(line)

    def _binary(self, data: bytes) -> Header | None:
        """Version 2 (2.2)."""
        if len(data) > len(_SIGNATURE) and data[12] not in (0x20, 0x21):
            raise ProxyError(f"a PROXY header of unknown version or command: {data[12]:#04x}")
        if len(data) < _FIXED:
            return None
        length = _FIXED + int.from_bytes(data[14:16], "big")
        if len(data) < length:
            return None
        header, self.rest = data[:length], data[length:]
        # 2.2: LOCAL is the proxy's own connection, such as a health check; the rest of the block is skipped.
        return _NOTHING if data[12] == 0x20 else _parseBinary(header)


def _parseLine(line: bytes) -> Header:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ProxyError(f"a malformed PROXY line: {line!r}")
    family, *hosts = match.group(1, 2, 3)
    ports = match.group(4, 5)
    # 2.1: no leading zeros.
    if any(int(port) > 65535 or port != b"%d" % int(port) for port in ports):
        raise ProxyError(f"a malformed port in a PROXY line: {line!r}")
    kind = IPv4Address if family == b"4" else IPv6Address
    try:
        client, server = (Endpoint(_text(kind(host.decode())), int(port)) for host, port in zip(hosts, ports, strict=True))
    except AddressValueError:
        raise ProxyError(f"a malformed address in a PROXY line: {line!r}") from None
    return Header(client, server)


def _text(address: IPv4Address | IPv6Address) -> str:
    """The address as a socket would give it."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _parseBinary(header: bytes) -> Header:
    size = _ADDRESSES.get(header[13])
    if size is None or len(header) < _FIXED + size:
        raise ProxyError(f"a PROXY header of unknown family, or too short for it: {header[13]:#04x}")
    addresses, more = header[_FIXED : _FIXED + size], header[_FIXED + size :]
    facts: dict[int, bytes] = {}
    at = _FIXED + size
    for kind, value in _fields(more):
        at += 3
        # Of the whole header, with the checksum itself as zeros.
        if kind == _CRC32C and value != crc32c(header[:at] + bytes(4) + header[at + 4 :]).to_bytes(4, "big"):
            raise ProxyError("a PROXY header with a wrong checksum")
        facts.setdefault(kind, value)
        at += len(value)
    client, server = _endpoints(header[13], addresses)
    authority = facts.get(_AUTHORITY)
    uniqueId = facts.get(_UNIQUE_ID, b"")
    if len(uniqueId) > _UNIQUE_ID_MAX:
        raise ProxyError("a PROXY header with a unique id that is too long")
    return Header(client, server, _tls(facts.get(_SSL)), _word(authority) if authority else None, uniqueId)


def _endpoints(family: int, addresses: bytes) -> tuple[Endpoint | None, Endpoint | None]:
    if family == 0x00:
        return None, None
    if family == 0x31:
        return Endpoint("", 0), Endpoint("", 0)
    kind, size = (IPv4Address, 4) if family == 0x11 else (IPv6Address, 16)
    hosts = [_text(kind(addresses[at : at + size])) for at in (0, size)]
    ports = [int.from_bytes(addresses[at : at + 2], "big") for at in (2 * size, 2 * size + 2)]
    return Endpoint(hosts[0], ports[0]), Endpoint(hosts[1], ports[1])


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type, length, value fields that `data` is made of.

    Raises:
        ProxyError: the last one is not whole.
    """
    while data:
        end = 3 + int.from_bytes(data[1:3], "big")
        if len(data) < max(end, 3):
            raise ProxyError("a PROXY header whose last field is not whole")
        yield data[0], data[3:end]
        data = data[end:]


def _tls(value: bytes | None) -> TLSFacts | None:
    """What the SSL field tells: flags, the result of the verification, and fields of its own."""
    if value is None:
        return None
    if len(value) < 5:
        raise ProxyError("a PROXY header whose field about TLS is too short")
    if not value[0] & _CLIENT_SSL:
        return None
    facts = dict(_fields(value[5:]))
    # The result is 0 too where there was no certificate to verify.
    verified = value[0] & _CLIENT_CERTIFICATE and not any(value[1:5])
    name = facts.get(_SSL_COMMON_NAME)
    return TLSFacts(_word(facts.get(_SSL_VERSION, b"")), _word(facts.get(_SSL_CIPHER, b"")), _word(name) if verified and name else None)


def _word(value: bytes) -> str:
    """A text field, without what could break a line of a log or a header.

    Raises:
        ProxyError: it holds controls, or is not UTF-8.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable() or len(value) > 255:
        raise ProxyError(f"a PROXY header with a malformed text: {value[:40]!r}")
    return text


def _crcTable() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        for _ in range(8):
            octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)  # noqa: PLW2901 - it is the register
        table.append(octet)
    return tuple(table)


_CRC_TABLE = _crcTable()


def crc32c(data: bytes) -> int:
    """The checksum CRC32C of `data`, with the polynomial of Castagnoli."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
