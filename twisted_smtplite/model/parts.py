"""The MIME parts of a message (RFC 2046), as a flat list of bounded length.

Knows multipart boundaries, transfer encodings and what a part calls itself. Nothing here raises on any octets; nesting and number of parts are
bounded, so time and memory are linear in the body. Must not know the fields of the message outside MIME.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import NamedTuple

from .headers import Defect, Headers, findEmptyLine
from .parameters import parseParameters
from .text import decodeBase64, decodeQuotedPrintable, decodeText, decodeWords

# Real messages nest three or four levels deep, and hold some tens of parts.
_DEPTH_MAX = 20
_PARTS_MAX = 1000
# Each look at a line that begins like a delimiter costs time, and one line may look so at each level.
_LIKE_DELIMITERS_MAX = 100_000

_TEXT = "text/plain"

# RFC 2046 5.1.1: what may stand behind the boundary on its line; "--" makes it the last.
_DELIMITER_REST = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")
# RFC 2045 5.1: type "/" subtype.
_CONTENT_TYPE = re.compile(r"[!#-'*+.0-9^-~-]+/[!#-'*+.0-9^-~-]+")
# Control characters, and those that turn the direction of text, with which "a\u202efdp.exe" shows as "aexe.pdf".
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Part:
    """One part of a message that holds no further parts: a text, an attachment, an attached message.

    Its payload and text are decoded when first asked for. An attached message (``message/rfc822``) is one part: ``Message(part.payload)`` reads it.

    Attributes:
        number: where it stands, as IMAP counts (RFC 3501 6.4.5): ``"1"``, ``"2.1"``.
        headers: its header section; that of the message when the message is not a multipart.
        start: where its body begins in the body of the message, in octets.
        end: where it ends there.
    """

    def __init__(self, number: str, headers: Headers, body: bytes, start: int, end: int, defaultType: str) -> None:
        self.number = number
        self.headers = headers
        self.start = start
        self.end = end
        self._body = body
        self._defaultType = defaultType

    @cached_property
    def _typed(self) -> tuple[str, dict[str, str]]:
        contentType, parameters = parseParameters(self.headers.get("Content-Type") or self._defaultType)
        # RFC 2045 5.2: what has no type that can be read counts as plain text.
        return (contentType if _CONTENT_TYPE.fullmatch(contentType) else _TEXT), parameters

    @cached_property
    def _disposed(self) -> tuple[str, dict[str, str]]:
        return parseParameters(self.headers.get("Content-Disposition") or "")

    @property
    def contentType(self) -> str:
        """Type and subtype in lower case, ``text/plain`` when not given (RFC 2045 5.2; in a digest ``message/rfc822``)."""
        return self._typed[0]

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the content type, names in lower case."""
        return self._typed[1]

    @property
    def charset(self) -> str:
        """The charset as the sender names it, in lower case, or the empty string. It may be one that nobody knows."""
        return self.parameters.get("charset", "").lower()

    @property
    def disposition(self) -> str:
        """``inline``, ``attachment`` or what else the sender wants (RFC 2183), in lower case; the empty string when not given."""
        return self._disposed[0]

    @property
    def filename(self) -> str | None:
        """The name that the sender suggests for the part's file, or None. Only its last component, without control characters."""
        name = self._disposed[1].get("filename") or self.parameters.get("name", "")
        # RFC 2183 2.3: a receiver must not take a path from it.
        name = _CONTROLS.sub("", re.split(r"[/\\]", decodeWords(name))[-1]).strip()
        return name if name.strip(".") else None

    @property
    def raw(self) -> bytes:
        """The body of the part as it stands, encoded."""
        return self._body[self.start : self.end]

    @cached_property
    def payload(self) -> bytes:
        """The body of the part with base64 or quoted-printable undone (RFC 2045 6); as it stands under any other encoding."""
        encoding, _ = parseParameters(self.headers.get("Content-Transfer-Encoding") or "")
        if encoding == "base64":
            return decodeBase64(self.raw)
        if encoding == "quoted-printable":
            return decodeQuotedPrintable(self.raw)
        return self.raw

    @cached_property
    def text(self) -> str:
        """The payload as text of its charset, as well as can be: unknown charsets are read as UTF-8, or else as ISO-8859-1."""
        return decodeText(self.payload, self.charset)


class Region(NamedTuple):
    """The stretch of a body that one part fills with its header section and its own body."""

    start: int
    end: int
    number: str
    defaultType: str


def walkParts(headers: Headers, body: bytes) -> tuple[tuple[Part, ...], tuple[Defect, ...]]:
    """Finds the parts of a message.

    Args:
        headers: the header section of the message.
        body: its body.

    Returns:
        The parts in order, at least one, and what is wrong with their structure. A multipart that is nested too deep, or cannot be taken apart,
        stays one part. When there are too many parts, all that is left of the body becomes a last one, an ``application/octet-stream``.
    """
    walk = Walk(body)
    whole = Part("1", headers, body, 0, len(body), _TEXT)
    parts = walk.leaves(walk.regionsIn(whole, "")) or [whole]
    return tuple(parts), tuple(walk.defects)


class Walk:
    """Takes one body apart, and counts what has to be bounded over the whole of it."""

    def __init__(self, body: bytes) -> None:
        self.defects: list[Defect] = []
        self._body = body
        self._likeDelimiters = 0

    def leaves(self, regions: list[Region]) -> list[Part]:
        """The parts in `regions`, and in theirs, that hold no further parts."""
        parts: list[Part] = []
        waiting = regions[::-1]
        while waiting:
            region = waiting.pop()
            if len(parts) == _PARTS_MAX:
                self.defects.append(Defect(f"more than {_PARTS_MAX} parts", b""))
                parts.append(Part(region.number, Headers(b""), self._body, region.start, len(self._body), "application/octet-stream"))
                break
            part = self.partAt(region)
            inner = self.regionsIn(part, region.number + ".")
            waiting += inner[::-1]
            if not inner:
                parts.append(part)
        return parts

    def partAt(self, region: Region) -> Part:
        """The part in `region`. Without an empty line it is all header section, as a message is."""
        start, end, number, defaultType = region
        # The octet before it ends the delimiter line.
        emptyLine = findEmptyLine(self._body, start - 1, end) or (end, end)
        return Part(number, Headers(self._body[start : emptyLine[0]]), self._body, emptyLine[1], end, defaultType)

    def regionsIn(self, part: Part, prefix: str) -> list[Region]:
        """The regions of the parts that `part` holds, numbered from `prefix`; none when it is no multipart or cannot be taken apart."""
        if not part.contentType.startswith("multipart/"):
            return []
        # RFC 2046 5.1.1: a boundary does not end in white space.
        boundary = part.parameters.get("boundary", "").rstrip().encode("utf-8")
        spans: list[tuple[int, int]] = []
        meaning = ""
        if not boundary:
            meaning = "multipart without a boundary parameter"
        elif prefix.count(".") >= _DEPTH_MAX:
            meaning = f"multiparts nested more than {_DEPTH_MAX} deep"
        else:
            spans, meaning = self._spans(part.start, part.end, b"--" + boundary)
        if meaning:
            self.defects.append(Defect(meaning, part.headers.rawField("Content-Type")))
        # RFC 2046 5.1.5: in a digest a part is a message unless it says otherwise.
        defaultType = "message/rfc822" if part.contentType == "multipart/digest" else _TEXT
        return [Region(start, end, f"{prefix}{i}", defaultType) for i, (start, end) in enumerate(spans, 1)]

    def _spans(self, start: int, end: int, delimiter: bytes) -> tuple[list[tuple[int, int]], str]:
        """Cuts a stretch of the body at the lines that are `delimiter` (RFC 2046 5.1.1). The line end before one belongs to it.

        Returns:
            Start and end of what stands between them, no more than can be used; and what is wrong with it, or the empty string.
        """
        body = self._body
        spans: list[tuple[int, int]] = []
        opened = -1
        at = body.find(delimiter, start, end)
        while at >= 0 and len(spans) <= _PARTS_MAX and self._likeDelimiters < _LIKE_DELIMITERS_MAX:
            self._likeDelimiters += 1
            behind = at + len(delimiter)
            atLineStart = at == start or body[at - 1 : at] == b"\n"
            if atLineStart and (line := _DELIMITER_REST.match(body, behind, end)):
                if opened >= 0:
                    lineEnd = 2 if body[at - 2 : at] == b"\r\n" else 1
                    spans.append((opened, max(opened, at - lineEnd)))
                if line[1]:
                    return spans, "" if spans else "multipart without parts"
                opened = line.end()
            at = body.find(delimiter, behind, end)
        if opened >= 0:
            spans.append((opened, end))
        if at >= 0:
            # Too many parts are reported where they are counted.
            return spans, "" if len(spans) > _PARTS_MAX else "too many lines that look like boundaries"
        return spans, "multipart without its last boundary" if spans else "multipart without parts"
