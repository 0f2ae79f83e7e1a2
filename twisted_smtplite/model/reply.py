"""A reply: what the server says to a command, as a value that cannot be malformed.

Knows the form of replies (RFC 5321 4.2) and of enhanced status codes (RFC 3463 2, RFC 2034 4). Must not know any command,
backend or transport. The replies that smtplite itself gives are in `replies`; a backend makes its own with `Reply`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# RFC 5321 4.5.3.1.5: a reply line is at most 512 octets with its CRLF.
_LINE_MAX = 512
# RFC 5321 4.2: the first digit is 2 to 5, the second 0 to 5.
_CODE_FIRST = range(2, 6)
_CODE_SECOND = range(6)
# RFC 3463 2: class 2, 4 or 5; subject and detail of one to three digits without leading zeros.
_ENHANCED = re.compile(r"([245])\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})")
# RFC 5321 4.2: textstring = 1*(%d09 / %d32-126).
_TEXT = re.compile(r"[\t -~]*")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to one command, e.g. ``Reply(550, "5.1.1", "No such user")``.

    Attributes:
        code: the three digit basic code, 200 to 559.
        enhanced: the enhanced status code, of the same class as `code`. Left empty it becomes ``"2.0.0"``, ``"4.0.0"`` or ``"5.0.0"``;
            None gives a reply without one (RFC 2034 4: only the greeting, HELO, EHLO and 3yz replies).
        text: what people read, printable ASCII; a tuple of strings gives a reply of several lines.
        closes: True when the server closes the connection after this reply. 221 and 421 always do (RFC 5321 4.2.2).
        wire: the octets on the wire, made once.

    Raises:
        ValueError: the codes are out of range or of different classes, or the text holds what a reply cannot (CR, LF, other controls,
            non-ASCII: RFC 5321 4.2, RFC 6531 3.7.4).
    """

    code: int
    enhanced: str | None = ""
    text: str | tuple[str, ...] = ""
    closes: bool = False
    wire: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        digit = self.code // 100
        if digit not in _CODE_FIRST or self.code // 10 % 10 not in _CODE_SECOND:
            raise ValueError(f"reply code {self.code}: the first digit must be 2 to 5 and the second 0 to 5")
        if self.enhanced == "":
            object.__setattr__(self, "enhanced", None if digit == 3 else f"{digit}.0.0")
        if self.code in (221, 421):
            object.__setattr__(self, "closes", True)
        if self.enhanced is not None:
            match = _ENHANCED.fullmatch(self.enhanced)
            if match is None or int(match[1]) != digit:
                raise ValueError(f"enhanced status code {self.enhanced!r} does not fit reply code {self.code}")
        for line in self.lines:
            if _TEXT.fullmatch(line) is None:
                raise ValueError(f"reply text {line!r}: only printable ASCII and tab can be sent")
        object.__setattr__(self, "wire", self._render())

    @property
    def lines(self) -> tuple[str, ...]:
        """The text as a tuple of at least one line."""
        return (self.text,) if isinstance(self.text, str) else (self.text or ("",))

    @property
    def positive(self) -> bool:
        """True for 2yz and 3yz: the command was accepted."""
        return self.code < 400

    def _render(self) -> bytes:
        # RFC 2034 4: the enhanced code stands at the start of each line of the reply.
        prefix = "" if self.enhanced is None else self.enhanced + " "
        room = _LINE_MAX - len("250-\r\n") - len(prefix)
        texts = [piece for line in self.lines for piece in _fold(line, room)]
        last = len(texts) - 1
        return "".join(f"{self.code}{' ' if i == last else '-'}{prefix}{text}\r\n" for i, text in enumerate(texts)).encode("ascii")

    def __str__(self) -> str:
        """One line for logs: the codes and the text."""
        return " ".join(part for part in (str(self.code), self.enhanced, *self.lines) if part)


def _fold(line: str, room: int) -> list[str]:
    """Cuts `line` into pieces of at most `room` characters, at a space where there is one."""
    pieces = []
    while len(line) > room:
        cut = line.rfind(" ", 1, room + 1)
        if cut < 0:
            pieces.append(line[:room])
            line = line[room:]
        else:
            pieces.append(line[:cut])
            line = line[cut + 1 :]
    if line or not pieces:
        pieces.append(line)
    return pieces


class Refused(Exception):
    """Raised by a backend, or a rule, to refuse a command or a message with a reply of its own.

    ``raise Refused(Reply(550, "5.1.1", "No such user"))``. A cause (``raise ... from error``) goes to the log and never to the client.

    Attributes:
        reply: a 4yz or 5yz Reply.

    Raises:
        ValueError: the reply is a positive one.
    """

    def __init__(self, reply: Reply) -> None:
        if reply.positive:
            raise ValueError(f"a refusal needs a 4yz or 5yz reply, not {reply}")
        super().__init__(reply)
        self.reply = reply
