"""The values of Content-Type and Content-Disposition: a word and its parameters (RFC 2045 5.1, RFC 2183 2, RFC 2231).

Knows quotes, comments, continuations and extended values, and the sloppy spellings that are common. Nothing here raises on any text, and all of it
takes time and memory linear in it. Must not know which parameters there are.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .text import decodeText

# What the value is cut into: quoted strings (the last may lack its end), open parentheses, semicolons, and the text between.
_PIECE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[(;]|[^"(;]+', re.DOTALL)
# RFC 5322 3.2.2: comments nest, and a backslash takes the meaning from the character after it.
_IN_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)', re.DOTALL)
# RFC 2045 5.1: any printable ASCII but the tspecials.
_TOKEN = re.compile(r"[!#-'*+.0-9A-Z^-~-]+")
# RFC 2231 3, 4: name*0, name*1*, ... are sections of one value, name* is one that has a single section; a star at the end marks it encoded.
_SECTION = re.compile(r"([^*]+)\*(?:([0-9]{1,4})(\*)?)?")


class _Segment(NamedTuple):
    """What stands between two semicolons: with each comment made a space, and as it stands."""

    bare: str
    whole: str


def parseParameters(text: str) -> tuple[str, dict[str, str]]:
    """Reads ``text/plain; charset="utf-8"``.

    Returns:
        The word before the first semicolon in lower case, and the parameters: names in lower case, values with quotes, comments and the encodings
        of RFC 2231 undone. Of parameters with one name the first counts; segments that are none are skipped.
    """
    first, *segments = _segments(text)
    word, *unparted = first.bare.split(None, 1) or [""]
    # A semicolon that was forgotten after the word, as in "text/plain charset=utf-8".
    segments[:0] = [_Segment(part, part) for part in unparted]
    parameters: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for segment in segments:
        name, equals, _ = segment.bare.partition("=")
        name = name.strip().lower()
        if not equals or not name:
            continue
        value = _value(segment)
        section = _SECTION.fullmatch(name)
        if section is None:
            parameters.setdefault(name, value)
        else:
            extended = section[2] is None or section[3] is not None
            sections.setdefault(section[1], {}).setdefault(int(section[2] or 0), (value, extended))
    # The plain form beside the extended one is for programs that know no better.
    parameters |= {name: _join(numbered) for name, numbered in sections.items() if 0 in numbered}
    return word.lower(), parameters


def _segments(text: str) -> list[_Segment]:
    """Cuts `text` at the semicolons that stand outside quotes and comments."""
    segments: list[_Segment] = []
    bare: list[str] = []
    whole: list[str] = []
    commentsEnd = True
    at = 0
    while piece := _PIECE.match(text, at):
        at = piece.end()
        if piece[0] == "(" and commentsEnd:
            at = _commentEnd(text, piece.start())
            if at:
                bare.append(" ")
                whole.append(text[piece.start() : at])
                continue
            # A comment without end is none, and then no later parenthesis needs to be followed to the end of the text again.
            commentsEnd = False
            at = piece.end()
        if piece[0] == ";":
            segments.append(_Segment("".join(bare), "".join(whole)))
            bare, whole = [], []
        else:
            bare.append(piece[0])
            whole.append(piece[0])
    segments.append(_Segment("".join(bare), "".join(whole)))
    return segments


def _commentEnd(text: str, start: int) -> int:
    """The index behind the comment that begins at `start`, or 0 when it does not end."""
    depth = 0
    for mark in _IN_COMMENT.finditer(text, start):
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth -= 1
            if not depth:
                return mark.end()
    return 0


def _value(segment: _Segment) -> str:
    """The value behind the equals sign."""
    value = segment.bare.partition("=")[2].strip()
    if quoted := _QUOTED.match(value):
        # Only quotes and backslashes need a backslash before them. Senders that leave it out write "C:\docs\a.txt", and mean it.
        return re.sub(r'\\(["\\])', r"\1", quoted[1])
    # RFC 2045 5.1: quotes belong around anything but a token. Where they are missing the text is meant as it stands: a parenthesis is no comment.
    return value if _TOKEN.fullmatch(value) else segment.whole.partition("=")[2].strip()


def _join(sections: dict[int, tuple[str, bool]]) -> str:
    """Joins the sections 0, 1, ... of a value, up to the first that is missing (RFC 2231 3, 4)."""
    value, extended = sections[0]
    charset = ""
    if extended and value.count("'") >= 2:
        # RFC 2231 4: charset'language'text, in the first section only.
        charset, _, value = value.split("'", 2)
    octets = [_sectionOctets(value, extended)]
    while len(octets) in sections:
        octets.append(_sectionOctets(*sections[len(octets)]))
    return decodeText(b"".join(octets), charset)


def _sectionOctets(value: str, extended: bool) -> bytes:
    octets = value.encode("utf-8", "replace")
    return unquote_to_bytes(octets) if extended else octets
