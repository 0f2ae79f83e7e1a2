r"""The language of the client's transcripts, and their player.

A file of `tests/transcripts/client` holds dialogues, separated by lines of dashes. Each begins with a remark that names the rule it shows.

    # text             a remark
    ! profile x=1 ...  fields of `ClientProfile`, as Python arguments; also `limits x=1 ...` of `ClientLimits`, `credentials x=1 ...`
    send A -> B C ...  a message is given to the client: sender, recipients, and behind `|` fields of `Envelope` as Python arguments; also
                       `notify={..}`, `orcpt=(..)` and `since=(..)` for each recipient, `unsized`, `once`, `utf8` for what is (not) known of the text
    = text             its text; neighbours are one
    S: text            the server says this line; S| these octets,
                       in one segment
    C: text            the client says this line, at once and in one write with its neighbours; C| these octets; C* a line like this; C. it closes;
                       C! it cuts off
    % tls              the handshake that is due comes to its end
    $ quit             the client is to end; `cancel N` the message is given up, `leave` the server is gone
    + seconds          time passes
    > what             what the client's user hears next: `ready`, `failed Type stage reply`, for a message `address stage reply` for each recipient,
                       or `error Type stage reply`

The escapes are those of `transcript`. The dialogue ends with nothing left unsaid or unheard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from transcript import TranscriptError, matches, unescape
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientLimits, ClientProfile, Credentials, TLSUse
from twisted_smtplite.model.envelope import DeliverBy, Envelope, Recipient, ValidSince
from twisted_smtplite.model.errors import SMTPClientError, Unsendable
from twisted_smtplite.model.results import Delivery, PeerReply, Stage
from twisted_smtplite.wire import clientprotocol

_MARK = re.compile(r"([SC][:|.!*]|[#!=%$+>]|send)(?: (.*))?")
_NAMES = {"TLSUse": TLSUse, "DeliverBy": DeliverBy, "ValidSince": ValidSince, "notify": None}


@dataclass
class Scene:
    """One dialogue."""

    name: str
    title: str = ""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: list[tuple[int, str, str]] = field(default_factory=list)


def _values(text: str) -> dict[str, Any]:
    return eval(f"dict({text})", _NAMES)  # the files are ours


def parse(text: str, path: Path) -> list[Scene]:
    """The dialogues of a file."""
    scenes = []
    start = 1
    for part in re.split(r"^-{3,}\n", text, flags=re.MULTILINE):
        scene = Scene(f"{path.stem}:{start}")
        for number, line in enumerate(part.splitlines(), start):
            match = _MARK.fullmatch(line)
            if match is None and line.strip():
                raise TranscriptError(f"{path}:{number}: no mark: {line!r}")
            if match is None:
                continue
            mark, words = match[1], match[2] or ""
            if mark == "#":
                scene.title = scene.title or words
            elif mark == "!":
                kind, _, values = words.partition(" ")
                scene.settings.setdefault(kind, {}).update(_values(values))
            else:
                scene.steps.append((number, mark, words))
        scenes.append(scene)
        start += part.count("\n") + 1
    return scenes


class _Transport(StringTransport):
    """Remembers how the connection ended."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True


class _Text:
    def __init__(self, octets: bytes, *, unsized: bool, once: bool, utf8: bool = False) -> None:
        self._octets = octets
        self.size = None if unsized else len(octets)
        self.repeatable = not once
        self.utf8 = utf8

    def pieces(self) -> Any:
        rng = Random(len(self._octets))
        at = 0
        while at < len(self._octets):
            size = rng.choice((1, 2, 7, 100_000)) if self.size is not None else 7
            yield self._octets[at : at + size]
            at += size

    def sevenBit(self) -> _Text:
        if b"\xff" in self._octets:
            raise Unsendable(PeerReply(554, "5.6.3", ("no 7-bit form",), local=True), Stage.MAIL)
        return _Text(self._octets.decode("latin-1").encode("ascii", "replace"), unsized=False, once=not self.repeatable)


class ClientPlayer:
    """Plays one dialogue."""

    def __init__(self, scene: Scene, cuts: str, monkeypatch: Any) -> None:
        self._scene = scene
        self._cuts = cuts
        self._rng = Random(scene.name + cuts)
        self._clock = Clock()
        self._heard: list[str] = []
        self._read = 0
        self._messages: list[Deferred[Delivery]] = []
        self._waiting: list[tuple[str, bytes]] = []
        profile = {"hostname": "client.test", "tls": TLSUse.NEVER, **scene.settings.get("profile", {})}
        if "credentials" in scene.settings:
            profile["credentials"] = Credentials(**scene.settings["credentials"])
        limits = ClientLimits(**scene.settings.get("limits", {}))
        monkeypatch.setattr(clientprotocol, "startTLS", lambda protocol, creator, reactor, client: None)
        monkeypatch.setattr(clientprotocol, "binding", lambda transport: None)
        self._client = clientprotocol.SMTPClient(
            self._clock,
            ClientProfile(**profile),
            limits,
            host="mx.test",
            trust=lambda host: None,
            trace=None,  # type: ignore[arg-type,return-value]
        )
        self._client.opened.addCallbacks(self._ready, self._failed)
        self._transport = _Transport()
        self._client.makeConnection(self._transport)

    def play(self) -> None:
        steps = self._scene.steps
        at = 0
        while at < len(steps):
            number, mark, words = steps[at]
            joined = ("S:", "S|") if mark in ("S:", "S|") else ("C:", "C|") if mark in ("C:", "C|") else (mark,) if mark == "=" else ()
            octets = self._octets(mark, words)
            while joined and at + 1 < len(steps) and steps[at + 1][1] in joined:
                at += 1
                octets += self._octets(*steps[at][1:])
            at += 1
            try:
                self._step(mark, words, octets, steps[at] if at < len(steps) else None)
            except AssertionError as error:
                raise AssertionError(f"line {number}: {error}") from None
        assert self._unread() == b"", f"the client also said {self._unread()!r}"
        assert not self._heard, f"the user also heard {self._heard}"
        self._client.connectionLost(Failure(ConnectionDone()))
        assert not self._clock.getDelayedCalls(), "no timer is left"

    def _octets(self, mark: str, words: str) -> bytes:
        return unescape(words) + (b"\r\n" if mark in ("S:", "C:") else b"") if mark in ("S:", "S|", "C:", "C|", "=") else b""

    def _step(self, mark: str, words: str, octets: bytes, following: tuple[int, str, str] | None) -> None:
        if mark == "send":
            self._waiting.append((words, b""))
            if following is None or following[1] != "=":
                self._sendAll()
        elif mark == "=":
            self._waiting[-1] = (self._waiting[-1][0], octets)
            self._sendAll()
        elif mark in ("S:", "S|"):
            assert self._unread() == b"", f"the client said {self._unread()!r}"
            for piece in self._pieces(octets) if mark == "S:" else [octets]:
                self._client.dataReceived(piece)
        elif mark in ("C:", "C|", "C*"):
            said = self._unread()
            same = said == octets if mark != "C*" else said.endswith(b"\r\n") and matches(words, said[:-2].decode())
            assert same, f"the client said\n  {said!r}\nnot\n  {octets!r}"
            self._read += len(said)
        elif mark == "%":
            self._client.handshakeCompleted()
        elif mark == "+":
            self._clock.advance(float(words))
        elif mark == "$":
            self._happen(*words.split())
        elif mark in ("C.", "C!"):
            assert (self._transport.disconnecting, self._transport.aborted) == (True, mark == "C!"), "the client did not end like this"
        else:
            assert self._heard, f"the user heard nothing, not {words!r}"
            heard = self._heard.pop(0)
            assert matches(words, heard), f"the user heard {heard!r}"

    def _happen(self, what: str, which: str = "0") -> None:
        if what == "quit":
            self._client.quit()
        elif what == "cancel":
            self._messages[int(which)].cancel()
        elif what == "abort":
            self._client.abort()
        else:
            assert what == "leave", what
            self._client.connectionLost(Failure(ConnectionDone()))

    def _pieces(self, data: bytes) -> list[bytes]:
        if self._cuts == "whole":
            return [data]
        if self._cuts == "bytes":
            return [data[i : i + 1] for i in range(len(data))]
        places = sorted(self._rng.randrange(len(data) + 1) for _ in range(5))
        return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]

    def _unread(self) -> bytes:
        return self._transport.value()[self._read :]

    def _sendAll(self) -> None:
        while self._client.usable and self._waiting:
            self._send(*self._waiting.pop(0))

    def _send(self, words: str, octets: bytes) -> None:
        route, _, more = words.partition(" | ")
        sender, _, recipients = route.partition(" -> ")
        values = _values(more)
        each = {name: values.pop(key, None) for name, key in (("notify", "notify"), ("originalRecipient", "orcpt"), ("validSince", "since"))}
        text = _Text(octets, unsized=values.pop("unsized", False), once=values.pop("once", False), utf8=values.pop("utf8", False))
        envelope = Envelope("X", _address(sender), recipients=[Recipient(_address(word), **each) for word in recipients.split()], **values)
        deferred = self._client.send(envelope, text)  # type: ignore[arg-type]
        self._messages.append(deferred)
        deferred.addCallbacks(self._delivered, lambda failure: self._heard.append(f"error {_describe(failure)}"))

    def _ready(self, client: object) -> None:
        self._heard.append("ready")
        self._sendAll()

    def _failed(self, failure: Failure) -> None:
        self._heard.append(f"failed {_describe(failure)}")

    def _delivered(self, delivery: Delivery) -> None:
        self._heard += [f"{outcome.recipient.address} {outcome.stage.value} {outcome.reply}" for outcome in delivery.outcomes]


def _address(text: str) -> Address:
    local, _, domain = text.strip("<>").rpartition("@")
    return Address(local, domain)


def _describe(failure: Failure) -> str:
    error = failure.value
    if isinstance(error, SMTPClientError):
        return f"{type(error).__name__} {error.stage.value} {error.reply}"
    return type(error).__name__
