"""A peer's replies, line by line (RFC 5321 4.2): what a client hears, made a value.

Knows the form of replies and of enhanced status codes. Must not know which command a reply is to.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..model.results import PeerReply

# RFC 5321 4.2: *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF; the first digit is 2 to 5.
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
# RFC 2034 4: class, subject and detail, and a space.
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class MalformedReply(Exception):
    """A peer has said what is no reply; the text says why, for people."""


class ReplyReader:
    """Puts the lines of a reply together.

    Args:
        lines: how many a reply may have.
    """

    __slots__ = ("_code", "_lines", "_most")

    def __init__(self, lines: int) -> None:
        self._most = lines
        self._code = b""
        self._lines: list[bytes] = []

    @property
    def between(self) -> bool:
        """True while no reply is half read."""
        return not self._lines

    def line(self, line: bytes) -> PeerReply | None:
        """Takes a line without its CRLF. Returns the reply when it is whole.

        Raises:
            MalformedReply: this is no reply, or it has too many lines.
        """
        if not self._lines and line[3:4] != b"-":
            return _whole(line)
        code, sign, text = _parts(line)
        if self._lines and code != self._code:
            # RFC 5321 4.2.1: the code is the same in all lines.
            raise MalformedReply(f"a reply with two codes, {self._code.decode()} and {code.decode()}")
        self._code = code
        self._lines.append(text)
        if sign == b"-":
            if len(self._lines) >= self._most:
                raise MalformedReply(f"a reply of more than {self._most} lines")
            return None
        lines, self._lines = self._lines, []
        return _reply(int(code), lines)


# Most replies have one line, and a server says the same ones all the time.
@lru_cache(maxsize=64)
def _whole(line: bytes) -> PeerReply:
    code, _, text = _parts(line)
    return _reply(int(code), [text])


def _parts(line: bytes) -> tuple[bytes, bytes, bytes]:
    """The code, what stands behind it, and the text."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise MalformedReply(f"not a reply: {line[:80]!r}")
    code, sign, text = match.groups(b"")
    return code, sign, text


def _reply(code: int, octets: list[bytes]) -> PeerReply:
    lines = [_UNPRINTABLE.sub(" ", line.decode(errors="replace")).strip() for line in octets]
    match = _ENHANCED.match(lines[0])
    # RFC 2034 4: the classes agree.
    if match is None or int(match[1]) != code // 100:
        return PeerReply(code, None, tuple(lines))
    enhanced = match[0]
    return PeerReply(code, enhanced, tuple(line.removeprefix(enhanced).lstrip() for line in lines))
