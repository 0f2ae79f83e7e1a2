"""A message without octets above 127, for a server without 8BITMIME (RFC 6152 3).

Knows MIME: which part may be encoded, and how. What is ASCII stays octet for octet, and so do header fields, but for the transfer encoding of what
was encoded and of what it is in. A signature over the body (RFC 6376 5.3) does not survive: who signs should have encoded before. Must not know who
the message is for.
"""

from __future__ import annotations

import binascii
from base64 import encodebytes

from ..model.headers import Headers
from ..model.parts import Part, Walk
from .flow import headerEnd, unsendable

LARGEST = 67_108_864
"""Octets of the largest message that is converted: it is held in memory a few times over."""

# Real messages nest three or four levels deep.
_DEPTH_MAX = 20
_ASCII = bytes(range(128))
# RFC 2045 6.1: what we can undo. A part without a field is 7bit, in theory.
_KNOWN_ENCODINGS = ("", "7bit", "8bit", "binary", "quoted-printable", "base64")
_ENCODING = "content-transfer-encoding"


def sevenBit(text: bytes) -> bytes:
    """Converts a message.

    Args:
        text: the message, with CRLF line ends.

    Raises:
        Unsendable: it cannot be converted: a signature forbids it (5.6.2), its parts cannot be told apart (5.6.5), its header fields are in UTF-8
            (5.6.9), or something in it must not be encoded (5.6.3).
    """
    converted = _entity(text, "text/plain", 0, whole=True)
    if not converted.isascii():
        raise unsendable("5.6.3", "The message holds octets above 127 between its parts")
    return converted


def _entity(entity: bytes, defaultType: str, depth: int, *, whole: bool) -> bytes:
    """A message (`whole`), or a part of one, with its header section."""
    if entity.isascii():
        return entity
    end = headerEnd(entity)
    if end < 0 or depth > _DEPTH_MAX:
        raise unsendable("5.6.5", "The message holds octets above 127, and its structure is broken")
    section, body = entity[:end], entity[end + 2 :]
    if not section.isascii():
        raise unsendable("5.6.9", "The message has header fields in UTF-8, which this server does not take")
    part = Part("", Headers(section), body, 0, len(body), defaultType)
    kind = part.contentType
    if kind in ("multipart/signed", "multipart/encrypted"):
        # RFC 1847 2.1: what is signed must not be changed.
        raise unsendable("5.6.2", "The message is signed, so that its octets above 127, which this server does not take, cannot be converted")
    if kind.startswith("multipart/"):
        section, body = _relabelled(part), _multipart(part, body, depth)
    elif kind in ("message/rfc822", "message/news"):
        # RFC 2046 5.2.1: a message in a message is not encoded itself, only what is in it.
        section, body = _relabelled(part), _entity(body, "text/plain", depth + 1, whole=True)
    elif kind.startswith("message/") and not kind.startswith("message/global"):
        # RFC 2046 5.2.2: nor are the others. Those of RFC 6532 3.7 may be.
        raise unsendable("5.6.3", f"The message holds octets above 127 in a part of type {kind}, which cannot be encoded")
    else:
        section, body = _leaf(part, whole=whole)
    return b"".join((section, b"\r\n", body))


def _multipart(multipart: Part, body: bytes, depth: int) -> bytes:
    """The body of a multipart."""
    walk = Walk(body)
    pieces = []
    at = 0
    for region in walk.regionsIn(multipart, ""):
        pieces.append(body[at : region.start])
        pieces.append(_entity(body[region.start : region.end], region.defaultType, depth + 1, whole=False))
        at = region.end
    if walk.defects:
        raise unsendable("5.6.5", f"The message holds octets above 127, and its structure is broken: {walk.defects[0].meaning}")
    return b"".join((*pieces, body[at:]))


def _leaf(part: Part, *, whole: bool) -> tuple[bytes, bytes]:
    """Header section and body of a part that holds no others, encoded."""
    encoding = (part.headers.get(_ENCODING) or "").strip().lower()
    if encoding not in _KNOWN_ENCODINGS:
        raise unsendable("5.6.3", f"The message holds octets above 127 in a part with the transfer encoding {encoding}")
    payload = part.payload
    label, encoded = "quoted-printable", b""
    # Three octets for each above 127, or four for each three.
    if part.contentType.startswith("text/") and len(payload.translate(None, _ASCII)) * 6 < len(payload):
        encoded = binascii.b2a_qp(payload, istext=True)
        # Without a line end in the text there is none to learn from.
        encoded = encoded.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if not encoded or b"=\r\n--" in encoded:
        # The new beginning of a line might be taken for a boundary.
        label, encoded = "base64", encodebytes(payload).replace(b"\n", b"\r\n")
    section = _withField(part.headers, _ENCODING, f"Content-Transfer-Encoding: {label}\r\n", add=True)
    if whole:
        section = _asMime(Headers(section), payload)
    return section, encoded


def _relabelled(part: Part) -> bytes:
    """The header section of a part whose body has become 7bit (RFC 2045 6.4), where it says something else."""
    return _withField(part.headers, _ENCODING, "Content-Transfer-Encoding: 7bit\r\n", add=False)


def _asMime(headers: Headers, payload: bytes) -> bytes:
    """The header section of a message that is to be a MIME message, and perhaps was none."""
    if "mime-version" in headers:
        return headers.raw
    added = b"MIME-Version: 1.0\r\n"
    if "content-type" not in headers:
        try:
            payload.decode("utf-8")
            charset = b"utf-8"
        except UnicodeDecodeError:
            # RFC 1428 3: nobody knows.
            charset = b"unknown-8bit"
        added += b"Content-Type: text/plain; charset=" + charset + b"\r\n"
    return headers.raw + added


def _withField(headers: Headers, name: str, line: str, *, add: bool) -> bytes:
    """The header section with `line` in place of the field of that name, or with `add` behind all when there is none."""
    pieces = []
    for field in headers.fields:
        if field.name.lower() != name:
            pieces.append(field.raw)
        elif line:
            pieces.append(line.encode())
            line = ""
    return b"".join((*pieces, line.encode() if add else b""))
