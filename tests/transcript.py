r"""The language of the transcripts, and the player that holds a server to them.

A file of `tests/transcripts` holds dialogues, separated by lines of dashes. Each begins with a remark that names the rule it shows; the mark
at the start of a line says who speaks:

    # text        a remark
    ! word ...    the setting, before the first step:
                  `limits name=value ...` (fields of `Limits`), `hostname NAME`, `peer ADDRESS`, `delivery verify expand`,
                  `crowd NUMBER [ADDRESS]` (others that are connected already)
    C: text       the client sends this line with its CRLF; neighbours travel in one write
    C| text       the client sends these octets and nothing else
    S: text       the server says this line; `*` stands for any text; `250-*` for all that is left of a reply
    S~ text       one line of the reply, at any place and with any code; followed by `S*` or `250-*`
    S! text       no line of the reply is this; followed likewise
    S* 250 text   all that is left of a reply; each line is this text
    S.            the server closes
    C.            the client is gone
    ? verdict     the delivery's next answer, in the order of its questions; without it the answer is yes (see `verdictFor`)
    @ envelope    the last envelope that was completed: `<sender> [body=..] [size=..] [smtputf8] -> <recipient> <recipient>`
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
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from stage import Breakage, Refused, Stage, Verdict, Wrong, noFailures, raises, refusal
from twisted.internet.defer import CancelledError, Deferred
from twisted_smtplite.model.envelope import Envelope
from twisted_smtplite.model.limits import BareLineEnds, Limits
from twisted_smtplite.model.reply import Reply


class TranscriptError(Exception):
    """A file that is not written in the language of the transcripts."""


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    Attributes:
        line: where it stands in the file.
        mark: who does what: ``C``, ``S``, ``S*``, ``S.``, ``C.``, ``?``, ``@``, ``=``, ``+``, ``$``.
        text: what follows the mark, or of ``S`` and ``S*`` the pattern.
        data: the octets of ``C`` and ``=``.
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


_MARK = re.compile(r"(?:([CS])(?:x(\d+))?([:|~!*.])|([#!])|([?@=+$]) ?)(?: (.*))?")
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
    elif who == "S" and how != "|":
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


class Play(NamedTuple):
    """One way to play a dialogue: how the input is cut, and how fast the delivery answers."""

    cuts: str
    slow: bool
    leaky: bool = False

    @property
    def name(self) -> str:
        return f"{self.cuts}-{'slow' if self.slow else 'prompt'}{'-leaky' if self.leaky else ''}"


PLAYS = (
    *(Play(cuts, slow) for cuts in ("whole", "bytes", "cuts1", "cuts2") for slow in (False, True)),
    Play("cuts3", slow=True, leaky=True),
)


def _pieces(data: bytes, cuts: str, rng: Random) -> Iterator[bytes]:
    if cuts == "whole":
        places = []
    elif cuts == "bytes":
        places = list(range(1, len(data)))
    else:
        places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 2, 5, 20))))
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        if start < end:
            yield data[start:end]


class Player:
    """Plays one dialogue in one way. The server's unread lines are in `heard`; what happened so far is in `story`."""

    def __init__(self, dialogue: Dialogue, play: Play) -> None:
        self._dialogue = dialogue
        self._play = play
        self._rng = Random(f"{dialogue.name} {play.name}")
        self._step = Step(dialogue.line, "")
        self._story: list[str] = []
        self._read = 0
        self._delivered = 0
        self._closed = False
        self._drained: list[object] = []
        options: dict[str, Any] = {}
        self._crowd: list[str] = []
        for word, values in dialogue.settings:
            if word == "limits":
                options["limits"] = _limits(values)
            elif word in ("hostname", "peer"):
                options[word] = values[0]
            elif word == "delivery":
                options["extras"] = values
            elif word == "crowd":
                self._crowd = [values[1] if len(values) > 1 else "192.0.2.1"] * int(values[0])
            else:
                raise TranscriptError(f"{dialogue.name}: unknown setting {word}")
        self._stage = Stage(slow=play.slow, leaky=play.leaky, rng=self._rng, **options)

    def run(self) -> None:
        """Plays it.

        Raises:
            AssertionError: the server departed from the dialogue; the text tells the story up to there.
        """
        with noFailures(lambda: self._stage.delivery.breakages):
            try:
                for peer in self._crowd:
                    self._stage.join(peer)
                self._stage.connect()
                for self._step in self._dialogue.steps:
                    self._perform(self._step)
                self._finish()
            except AssertionError as error:
                if isinstance(error, Departure):
                    raise
                raise self._departure(f"{error}") from error

    def _perform(self, step: Step) -> None:
        stage = self._stage
        if step.mark in ("C", "C.", "+", "$"):
            self._nothingUnread()
        if step.mark == "C":
            self._send(step.data)
        elif step.mark == "S":
            self._expect(step.text, self._heard())
        elif step.mark == "S*":
            self._expectReply(step)
        elif step.mark == "S.":
            self._expectClose()
        elif step.mark == "C.":
            stage.leave()
        elif step.mark == "?":
            stage.delivery.script.append(verdictFor(step.text, stage))
        elif step.mark == "@":
            self._check(bool(stage.delivery.envelopes), "no envelope was completed")
            given = describe(stage.delivery.envelopes[-1])
            self._check(given == step.text, f"the envelope is    @ {given}")
        elif step.mark == "=":
            self._expectMessage(step.data)
        elif step.mark == "+":
            stage.wait(float(step.text))
        elif step.text == "drain":
            stage.factory.drain().addCallback(self._drained.append)
            stage.settle()
        elif step.text == "deaf":
            self._check(stage.transport.producer is not None, "no producer registered: the server cannot know that nobody reads")
            stage.transport.producer.pauseProducing()
        elif step.text == "hearing":
            stage.transport.producer.resumeProducing()
            stage.settle()
        else:
            raise TranscriptError(f"{self._dialogue.name}: unknown event {step.text}")

    def _send(self, data: bytes) -> None:
        self._story.append(f"  C| {data[:200]!r}{'...' if len(data) > 200 else ''}")
        self._check(not self._closed, "the client speaks behind the end")
        for piece in _pieces(data, self._play.cuts, self._rng):
            self._stage.transport.send(piece)
            if self._rng.random() < 0.5:
                self._stage.settle()
        self._stage.settle()

    def _heard(self) -> str | None:
        """The server's next line, or None when it has said no more."""
        written = self._stage.transport.written
        end = written.find(b"\r\n", self._read)
        if end < 0:
            return None
        line = written[self._read : end].decode("ascii", "backslashreplace")
        self._read = end + 2
        self._story.append(f"  S: {line}")
        return line

    def _expect(self, pattern: str, line: str | None) -> None:
        self._check(line is not None, "the server said nothing")
        assert line is not None
        self._check(matches(pattern, line), f"the server said     S: {line}")

    def _expectReply(self, step: Step) -> None:
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            line = self._heard()
            self._expect(step.text, line and f"{line[:3]} {line[4:]}")
            lines.append(line or "")
        texts = [line[4:] for line in lines]
        for pattern in step.has:
            self._check(any(matches(pattern, each) for each in texts), f"the reply lacks the line {pattern!r}")
        for pattern in step.hasNot:
            self._check(not any(matches(pattern, each) for each in texts), f"the reply has a line {pattern!r}")

    def _expectClose(self) -> None:
        self._nothingUnread()
        self._check(self._stage.transport.closed, "the server did not close")
        self._closed = True
        self._stage.leave()

    def _expectMessage(self, body: bytes) -> None:
        completed = [record for record in self._stage.delivery.messages if record.completed]
        self._check(len(completed) > self._delivered, "no message was delivered")
        given = completed[self._delivered].body
        self._delivered += 1
        self._check(given == body, f"the message is      = {given[:1000]!r}\n  and should be       = {body[:1000]!r}")

    def _nothingUnread(self) -> None:
        line = self._heard()
        self._check(line is None, f"the server also said  S: {line}")

    def _finish(self) -> None:
        stage = self._stage
        self._nothingUnread()
        self._check(self._closed or not stage.transport.closed, "the server closed")
        stage.leave()
        completed = sum(record.completed for record in stage.delivery.messages)
        self._check(completed == self._delivered, f"{completed} messages were delivered, {self._delivered} are in the transcript")
        self._check(not stage.delivery.script, f"{len(stage.delivery.script)} verdicts were not asked for")
        if any(step.text == "drain" for step in self._dialogue.steps):
            self._check(self._drained == [None], "drain() did not fire with the last session")
        stage.assertInvariants()

    def _check(self, truth: bool, complaint: str) -> None:
        if not truth:
            raise self._departure(complaint)

    def _departure(self, complaint: str) -> Departure:
        step, rest = self._step, [line for line in iter(self._heard, None)]
        unread = "".join(f"\n  then                S: {line}" for line in rest[:10])
        place = f"{self._dialogue.path}:{step.line}: {step.mark} {step.text[:200]}"
        story = "\n".join(self._story[-25:])
        return Departure(f"{place}\n  {complaint}{unread}\n({self._play.name}; {self._dialogue.title})\nWhat went before:\n{story}")


class Departure(AssertionError):
    """The server left the text of the dialogue."""


def describe(envelope: Envelope) -> str:
    """An envelope as the `@` mark has it."""
    words = [f"<{envelope.sender}>"]
    words += [f"body={envelope.body}"] * (envelope.body != "7BIT")
    words += [f"size={envelope.size}"] * (envelope.size is not None)
    words += ["smtputf8"] * envelope.smtputf8
    return " ".join([*words, "->", *(f"<{recipient.address}>" for recipient in envelope.recipients)])


def _limits(values: list[str]) -> Limits:
    kinds = {row.name: row.type for row in fields(Limits)}
    given: dict[str, Any] = {}
    for value in values:
        name, _, text = value.partition("=")
        if name == "bareLineEnds":
            given[name] = BareLineEnds(text)
        elif name == "lenientPaths":
            given[name] = text == "true"
        else:
            given[name] = (int if kinds[name] == "int" else float)(text)
    return Limits(**given)


def verdictFor(text: str, stage: Stage) -> Verdict:
    """What a `?` line means.

    ``ok``, a reply (``550 5.1.1 No such user``), ``refuse REPLY`` (raised), ``close REPLY`` (a reply that closes), ``raise`` (any other exception),
    ``id TEXT`` (the queue id), ``each VERDICT | VERDICT`` (one per recipient), ``never``, ``wait SECONDS VERDICT``, ``stubborn SECONDS VERDICT`` (like
    wait, but it does not let itself be cancelled), ``breaks [REPLY]`` (on startMessage: the message fails while it is read), ``wrong [VERDICT]``
    (an answer of the wrong type, or one that does not fit here).
    """
    word, _, rest = text.partition(" ")
    if word == "ok":
        return lambda: None
    if word.isdigit():
        reply = refusal(text)
        return lambda: reply
    if word == "refuse":
        return raises(lambda: Refused(refusal(rest)))
    if word == "close":
        plain = refusal(rest)
        return lambda: Reply(plain.code, plain.enhanced, plain.text, closes=True)
    if word == "raise":
        return raises(Breakage)
    if word == "id":
        return lambda: rest
    if word == "each":
        outcomes = [verdictFor(each.strip(), stage)() for each in rest.split("|")]
        return lambda: outcomes
    if word == "never":
        return lambda: stage.delivery.waits(None)
    if word == "wait":
        seconds, _, then = rest.partition(" ")
        later = verdictFor(then, stage)
        return lambda: stage.delivery.waits(float(seconds)).addCallback(lambda _: later())
    if word == "stubborn":
        seconds, _, then = rest.partition(" ")
        return lambda: Deferred.fromCoroutine(_stubborn(stage, float(seconds), verdictFor(then, stage)))
    if word == "breaks":
        failure = Refused(refusal(rest)) if rest else Breakage()
        return lambda: failure
    if word == "wrong":
        answer = verdictFor(rest, stage)() if rest else object()
        return lambda: Wrong(answer)
    raise TranscriptError(f"unknown verdict {text!r}")


async def _stubborn(stage: Stage, seconds: float, then: Verdict) -> Any:
    late: Deferred[None] = Deferred()
    stage.clock.callLater(seconds, late.callback, None)
    try:
        await stage.delivery.waits(seconds)
    except CancelledError:
        # Not among the delivery's open questions: nobody waits for this one any more.
        await late
    return then()
