"""Plays a dialogue of `transcript` against a server, in several ways, and tells where the server leaves the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from descriptions import describe, describeSession
from scenery import Scenery
from stage import Stage, noFailures
from transcript import Dialogue, Step, TranscriptError, matches
from verdicts import verdictFor


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
        self._actions: dict[str, Callable[[Step], None]] = {
            "C": self._send,
            "C=": self._sendWhole,
            "C.": self._leave,
            "%": self._encrypt,
            "S": self._expectLine,
            "S*": self._expectReply,
            "S.": self._expectClose,
            "?": self._prepare,
            "@": self._expectEnvelope,
            "=": self._expectMessage,
            "+": self._wait,
            "$": self._happen,
        }
        self._scenery = scenery = Scenery.of(dialogue)
        self._stage = Stage(slow=play.slow, leaky=play.leaky, rng=self._rng, policies=scenery.makePolicies, **scenery.options)

    def run(self) -> None:
        """Plays it.

        Raises:
            AssertionError: the server departed from the dialogue; the text tells the story up to there.
        """
        with noFailures(lambda: self._stage.delivery.breakages):
            try:
                for peer in self._scenery.crowd:
                    self._stage.join(peer)
                self._stage.connect()
                for step in self._dialogue.steps:
                    self._step = step
                    self._perform(step)
                self._finish()
            except AssertionError as error:
                if isinstance(error, Departure):
                    raise
                raise self._departure(f"{error}") from error

    def _perform(self, step: Step) -> None:
        if step.mark in ("C", "C=", "C.", "%", "+", "$"):
            self._nothingUnread()
        self._actions[step.mark](step)
        self._answer()

    def _leave(self, step: Step) -> None:
        self._stage.leave()

    def _wait(self, step: Step) -> None:
        self._stage.wait(float(step.text))

    def _prepare(self, step: Step) -> None:
        self._stage.delivery.script.append(verdictFor(step.text, self._stage))

    def _happen(self, step: Step) -> None:
        transport = self._stage.transport
        if step.text == "drain":
            self._stage.factory.drain().addCallback(self._drained.append)
        elif transport.producer is None:
            raise self._departure("no producer registered: the server cannot know that nobody reads")
        elif step.text == "deaf":
            transport.producer.pauseProducing()
        elif step.text == "hearing":
            transport.producer.resumeProducing()
        else:
            raise TranscriptError(f"{self._dialogue.name}: unknown event {step.text}")
        self._stage.settle()

    def _send(self, step: Step) -> None:
        self._say(step.data, self._play.cuts)

    def _sendWhole(self, step: Step) -> None:
        self._say(step.data, "whole")

    def _say(self, data: bytes, cuts: str) -> None:
        self._story.append(f"  C| {data[:200]!r}{'...' if len(data) > 200 else ''}")
        self._check(not self._closed, "the client speaks behind the end")
        client = self._stage.transport.client
        self._transmit(client.say(data) if client else data, cuts)

    def _transmit(self, octets: bytes, cuts: str) -> None:
        for piece in _pieces(octets, cuts, self._rng):
            self._stage.transport.send(piece)
            if self._rng.random() < 0.5:
                self._stage.settle()
        self._stage.settle()

    def _encrypt(self, step: Step) -> None:
        self._check(self._stage.transport.encrypted, "the server does not speak TLS")
        self._story.append("  C  begins TLS")
        self._stage.beginTLS(step.text)
        self._answer()
        client = self._stage.transport.client
        self._check(client is not None and client.established, "the handshake failed")

    def _answer(self) -> None:
        """What TLS on the client's side has to say: in the handshake, and at the end."""
        client = self._stage.transport.client
        while client is not None and (octets := client.say()):
            self._transmit(octets, self._play.cuts)

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

    def _expectLine(self, step: Step) -> None:
        self._expect(step.text, self._heard())

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

    def _expectClose(self, step: Step) -> None:
        self._nothingUnread()
        self._check(self._stage.transport.closed, "the server did not close")
        self._closed = True
        self._stage.leave()

    def _expectEnvelope(self, step: Step) -> None:
        self._check(bool(self._stage.delivery.envelopes), "no envelope was completed")
        session = self._stage.delivery.session
        given = describeSession(session) if step.text.startswith("session ") and session else describe(self._stage.delivery.envelopes[-1])
        self._check(given == step.text, f"the envelope is     @  {given}")

    def _expectMessage(self, step: Step) -> None:
        completed = [record for record in self._stage.delivery.messages if record.completed]
        self._check(len(completed) > self._delivered, "no message was delivered")
        given = completed[self._delivered].body
        self._delivered += 1
        self._check(given == step.data, f"the message is      =  {given[:1000]!r}\n  and should be       =  {step.data[:1000]!r}")

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
        step, rest = self._step, list(iter(self._heard, None))
        unread = "".join(f"\n  then                S: {line}" for line in rest[:10])
        place = f"{self._dialogue.path}:{step.line}: {step.mark} {step.text[:200]}"
        story = "\n".join(self._story[-25:])
        return Departure(f"{place}\n  {complaint}{unread}\n({self._play.name}; {self._dialogue.title})\nWhat went before:\n{story}")


class Departure(AssertionError):
    """The server left the text of the dialogue."""
