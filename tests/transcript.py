r"""The language of the transcripts (the player is `player`).

A file of `tests/transcripts` holds dialogues, separated by lines of dashes. Each begins with a remark that names the rule it shows; the mark
at the start of a line says who speaks:

    # text        a remark
    ! word ...    the setting, before the first step:
                  `limits name=value ...` (fields of `Limits`), `profile name=value ...` (fields of `Profile`; `mechanisms=PLAIN,LOGIN`),
                  `hostname NAME`, `peer ADDRESS`, `delivery verify expand`, `users name:password ...` (who may authenticate),
                  `crowd NUMBER [ADDRESS]` (others that are connected already),
                  `offer KEYWORD ...` (extensions that the delivery honours), `proxies NETWORK ...` and `xclients NETWORK ...` (who is trusted),
                  `policy NAME:ARGUMENT` (as on the command line), `policy says QUESTION VERDICT` (a policy that says to this question of
                  `ISessionPolicy` always the same); may be repeated; `tls starttls` or `tls implicit` (the server has a certificate, and TLS
                  begins on demand or at once)
    C: text       the client sends this line with its CRLF; neighbours travel in one write
    C| text       the client sends these octets and nothing else
    C= text       the client sends these octets, and they arrive in one segment
    % [NAME]      the client does its TLS handshake, and asks for the server of this name; from now on all is said inside TLS
    S: text       the server says this line; `*` stands for any text; `250-*` for all that is left of a reply
    S~ text       one line of the reply, at any place and with any code; followed by `S*` or `250-*`
    S! text       no line of the reply is this; followed likewise
    S* 250 text   all that is left of a reply; each line is this text
    S.            the server closes
    C.            the client is gone
    ? verdict     the delivery's next answer, in the order of its questions; without it the answer is yes (see `verdicts`)
    @ envelope    the last envelope that was completed: `<sender> [body=..] [size=..] [smtputf8] ... -> <recipient> <recipient>`, with a word for
                  each parameter that was given (see `player.describe`)
    @ session ... what was known of its client (see `player.describeSession`)
    = text        a message was delivered whole, and this is it; neighbours are one message
    + seconds     time passes
    $ event       `drain` (the server is stopped), `deaf` (the client stops reading), `hearing` (it reads again)

`C`, `S` and `C|` take a number: `Cx100: RCPT TO:<a@mx.test>`. In all texts but those of `S`, `#` and `!` these escapes are known: `\r \n \t
\0 \\ \xHH` and `\{100*text}`, which is the text that many times. `*` right behind a reply code never stands for an enhanced status code, so each
`S:` line says exactly which codes are given.

The dialogue ends with the client hanging up; then nothing may be left unsaid or undelivered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


class TranscriptError(Exception):
    """A file that is not written in the language of the transcripts."""


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    Attributes:
        line: where it stands in the file.
        mark: who does what: ``C``, ``C=``, ``%``, ``S``, ``S*``, ``S.``, ``C.``, ``?``, ``@``, ``=``, ``+``, ``$``.
        text: what follows the mark, or of ``S`` and ``S*`` the pattern.
        data: the octets of ``C``, ``C=`` and ``=``.
        has: of ``S*``: patterns of lines that the reply must hold.
        hasNot: of ``S*``: patterns of lines that it must not hold.
    """

    line: int
    mark: str
    text: str = ""
    data: bytes = b""
    has: tuple[str, ...] = ()
    hasNot: tuple[str, ...] = ()


@dataclass
class Dialogue:
    """One dialogue of a file."""

    path: Path
    line: int
    title: str = ""
    settings: list[tuple[str, list[str]]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.path.stem}:{self.line}"


_ESCAPE = re.compile(r"\\(?:\{(\d+)\*((?:[^\\}]|\\[^{])*)\}|x([0-9A-Fa-f]{2})|(.?))")
_SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\", "}": b"}"}


def unescape(text: str) -> bytes:
    """The octets that a text with escapes stands for."""
    result, position = b"", 0
    for match in _ESCAPE.finditer(text):
        count, repeated, octet, simple = match.groups()
        result += text[position : match.start()].encode()
        if count is not None:
            result += unescape(repeated) * int(count)
        elif octet is not None:
            result += bytes([int(octet, 16)])
        elif simple in _SIMPLE:
            result += _SIMPLE[simple]
        else:
            raise TranscriptError(f"unknown escape {match[0]}")
        position = match.end()
    return result + text[position:].encode()


_MARK = re.compile(r"(?:([CS])(?:x(\d+))?([:|~!*.=])|([#!])|([?@=+$%]) ?)(?: (.*))?")
_RULE = re.compile(r"-{3,}")


def parse(text: str, path: Path) -> list[Dialogue]:
    """The dialogues of a file.

    Raises:
        TranscriptError: it is malformed; the text names file and line.
    """
    dialogues = [Dialogue(path, 1)]
    for number, line in enumerate(text.splitlines(), 1):
        if _RULE.fullmatch(line):
            dialogues.append(Dialogue(path, number + 1))
        elif line.strip():
            try:
                _parseLine(dialogues[-1], number, line)
            except ValueError as error:
                raise TranscriptError(f"{path}:{number}: {error}") from None
            except TranscriptError as error:
                raise TranscriptError(f"{path}:{number}: {error}") from None
    for dialogue in dialogues:
        dialogue.steps = list(_joined(dialogue))
        if not dialogue.title or not dialogue.steps:
            raise TranscriptError(f"{path}:{dialogue.line}: a dialogue needs a remark and a step")
    return dialogues


def _parseLine(dialogue: Dialogue, number: int, line: str) -> None:
    match = _MARK.fullmatch(line)
    if match is None:
        raise TranscriptError(f"no mark: {line!r}")
    who, count, how, heading, sign, text = match.groups(default="")
    if heading == "#":
        dialogue.title = dialogue.title or text
    elif heading:
        if dialogue.steps:
            raise TranscriptError("a setting behind the first step")
        word, *values = text.split()
        dialogue.settings.append((word, values))
    elif sign:
        data = unescape(text) if sign == "=" else b""
        dialogue.steps.append(Step(number, sign, text.strip(), data))
    elif who == "C" and how in (":", "|"):
        data = unescape(text) + (b"\r\n" if how == ":" else b"")
        dialogue.steps.append(Step(number, "C", text, data * int(count or 1)))
    elif (who, how) == ("C", "="):
        dialogue.steps.append(Step(number, "C=", text, unescape(text)))
    elif who == "S" and how not in ("|", "="):
        mark = "S" if how == ":" else "S" + how
        if how == ":" and re.fullmatch(r"\d{3}-\*", text):
            mark, text = "S*", f"{text[:3]} *"
        dialogue.steps.extend([Step(number, mark, text)] * int(count or 1))
    elif (who, how) == ("C", "."):
        dialogue.steps.append(Step(number, "C."))
    else:
        raise TranscriptError(f"no mark: {line!r}")


def _joined(dialogue: Dialogue) -> Iterator[Step]:
    """Joins neighbouring `C`, neighbouring `=`, and `S~`, `S!` with the `S*` behind them."""
    waiting: list[Step] = []
    previous = ""
    for step, after in zip(dialogue.steps, [*dialogue.steps[1:], None], strict=False):
        following = after.mark if after else ""
        if step.mark in ("S~", "S!"):
            if following not in ("S~", "S!", "S*"):
                raise TranscriptError(f"{dialogue.path}:{step.line}: {step.mark} must be followed by S*")
            waiting.append(step)
        elif step.mark == "S*":
            has = tuple(each.text for each in waiting if each.mark == "S~")
            hasNot = tuple(each.text for each in waiting if each.mark == "S!")
            yield Step(step.line, "S*", step.text, b"", has, hasNot)
            waiting = []
        elif step.mark in ("C", "=") and step.mark == following:
            waiting.append(step)
        elif step.mark in ("C", "="):
            first = waiting[0] if waiting else step
            yield Step(first.line, step.mark, first.text, b"".join(each.data for each in (*waiting, step)))
            waiting = []
        elif step.mark == "?" and previous == "C":
            raise TranscriptError(f"{dialogue.path}:{step.line}: a verdict stands before the whole write")
        else:
            yield step
        previous = step.mark


def matches(pattern: str, line: str) -> bool:
    """True if a server's line is what the pattern says."""
    # A `*` right behind the code is free text, and an enhanced status code is not free.
    expression = re.sub(r"^(\d{3}[ -])\\\*", r"\1(?!\\d\\.\\d+\\.\\d+ ).*", re.escape(pattern).replace(r"\ ", " ").replace(r"\-", "-"))
    return re.fullmatch(expression.replace(r"\*", ".*"), line) is not None
