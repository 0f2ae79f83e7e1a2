"""Sessions by the thousand, made of real dialogues and broken at random: nothing raises, nothing grows, and each message ends once.

The seed of a failing session is in the failure: `_session(Random(seed))` says it again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from actors import Breakage, Verdict, raises, refusal
from stage import Stage, assertWellFormed, noFailures
from transcript import parse

from twisted_smtplite.model.limits import BareLineEnds, Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Refused
from twisted_smtplite.wire.server import SMTPServer

sys.path.insert(0, str(Path(__file__).parent / "properties"))
from scripts import BINARY_IN_CHUNKS, COMMANDS, END_OF_TEXT, ENDS, IN_CHUNKS, LOGINS, TEXT, TRANSACTION, chunk

_LIMITS = (
    Limits(),
    Limits(errors=0),
    Limits(errors=0, bareLineEnds=BareLineEnds.NORMALISE, lenientPaths=True),
    Limits(errors=5, messageSize=200, textLine=100, commands=30, transactions=3),
)
_ANN: dict[str, Any] = {"users": {"ann": "secret"}, "xclients": ("192.0.2.0/24",)}
_OFFER = ("DSN", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE", "RRVS", "REQUIRETLS")
_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"profile": Profile(mechanisms=("PLAIN", "LOGIN"), plaintextAuth=True), "offer": _OFFER, **_ANN},
    {"profile": Profile(lmtp=True, mechanisms=("PLAIN",), plaintextAuth=True), **_ANN},
    {"proxies": ("192.0.2.0/24",), "offer": _OFFER},
    {"profile": Profile(requireAuth=True, mechanisms=("PLAIN", "LOGIN"), plaintextAuth=True), **_ANN},
    {"profile": Profile(requireTLS=True, mechanisms=("PLAIN", "LOGIN")), "tls": "starttls", "offer": _OFFER, **_ANN},
    {"profile": Profile(mechanisms=("PLAIN",)), "tls": "implicit", "offer": _OFFER, **_ANN},
)
# What a proxy puts in front of a session.
_HEADERS = (
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4 203.0.113.9 198.51.100.1 40000 25\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14" + bytes(12) + b"\x20\0\x05\1\0\0\0\0",
)
_VERDICTS: tuple[Verdict, ...] = (
    *(lambda: None,) * 6,
    lambda: refusal("550 5.1.1 No"),
    lambda: refusal("451 4.3.0 Later"),
    raises(lambda: Refused(refusal("552 5.2.2 Full"))),
    raises(Breakage),
)
# What the client said in the dialogues of the transcripts, by group; very long ones would only take time.
_SPOKEN = [
    groups
    for path in sorted((Path(__file__).parent / "transcripts").glob("*.smtp"))
    for dialogue in parse(path.read_text(), path)
    if (groups := [step.data for step in dialogue.steps if step.mark == "C"]) and sum(map(len, groups)) < 3000
]
_MAGIC = (b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"\0", b" ", b"<", b">", b":", b"@", b'"', b"\xff", b"x" * 600, b"\r\n.\r\nNOOP\r\n")
# One read of the network, and what is never more than a line or a terminator in front of it.
_MOST_UNREAD = 65_536 + 1024


def _mutated(rng: Random, data: bytes) -> bytes:
    """`data` with a few octets changed, lost, doubled, moved or put in."""
    for _ in range(rng.choice((0, 0, 1, 2, 5))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 8, 40)))
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:start] + data[end:]
        elif kind == 1:
            data = data[:start] + data[start:end] * rng.choice((2, 3, 20)) + data[end:]
        elif kind == 2:
            data = data[:start] + rng.choice(_MAGIC) + data[start:]
        elif kind == 3:
            data = data[:start] + bytes([rng.randrange(256)]) + data[end:]
        else:
            data = data[end:] + data[:start]
    return data


def _chunks(rng: Random) -> Iterator[bytes]:
    """A message in chunks, mostly counted well."""
    yield rng.choice((IN_CHUNKS, IN_CHUNKS, BINARY_IN_CHUNKS))
    for _ in range(rng.randrange(3)):
        text = b"".join(rng.choice(TEXT) + rng.choice(ENDS) for _ in range(rng.randrange(4)))
        yield chunk(text, last=rng.random() < 0.1, miscounted=rng.choice((0,) * 20 + (-1, 1, 50)))
    yield chunk(b"end\r\n" * rng.randrange(2), last=True)


def _script(rng: Random, options: Mapping[str, Any]) -> bytes:
    """What a client says in one session with a server of these options."""
    profile = options.get("profile") or Profile()
    data = _mutated(rng, _words(rng, login=profile.requireAuth))
    if profile.lmtp and rng.random() < 0.9:
        data = data.replace(b"EHLO", b"LHLO").replace(b"HELO", b"LHLO")
    header = rng.choice(_HEADERS) if "proxies" in options else b""
    return (header if rng.random() < 0.9 else _mutated(rng, header)) + data


def _words(rng: Random, *, login: bool) -> bytes:
    parts: list[bytes] = []
    if login:
        parts += [b"EHLO client.test\r\n", rng.choice(LOGINS)]
    for _ in range(rng.randrange(1, 4)):
        kind = rng.randrange(6)
        if kind == 0:
            parts += rng.choice(_SPOKEN)
        elif kind == 1:
            parts += [rng.choice(COMMANDS) + rng.choice(ENDS) for _ in range(rng.randrange(1, 8))]
        elif kind == 2:
            parts += _chunks(rng)
        elif kind == 3:
            parts.append(rng.choice(LOGINS))
        else:
            parts.append(TRANSACTION)
            parts += [rng.choice(TEXT) + rng.choice(ENDS) for _ in range(rng.randrange(5))]
            parts.append(rng.choice(END_OF_TEXT))
    if rng.random() < 0.2:
        rng.shuffle(parts)
    return b"".join(parts)


def _parts(rng: Random, options: Mapping[str, Any]) -> Iterator[bytes]:
    """All that a client says: the way to TLS, where that has to be asked for, in parts of their own."""
    if options.get("tls") == "starttls":
        yield rng.choice((b"", b"EHLO client.test\r\n", b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRSET\r\n", _script(rng, options)))
        yield b"STARTTLS\r\n" + rng.choice((b"",) * 9 + (b"NOOP\r\n",))
    yield _script(rng, options)


def _say(stage: Stage, data: bytes, rng: Random) -> None:
    transport = stage.transport
    if transport.encrypted and transport.client is None and rng.random() < 0.9:
        stage.beginTLS()
    while data and transport.connected:
        size = rng.choice((1, 7, 60, 1000, 70_000))
        if transport.client is not None and rng.random() < 0.02:
            # Not what TLS would have sent.
            transport.send(_mutated(rng, transport.client.say(data[:size])))
        else:
            stage.say(data[:size])
        data = data[size:]
        if rng.random() < 0.3:
            stage.settle()
        if rng.random() < 0.01:
            break


def _session(stage: Stage, options: Mapping[str, Any], rng: Random) -> int:
    """One session. Returns how many messages were completed in it."""
    delivery = stage.delivery
    delivery.messages.clear()
    delivery.envelopes.clear()
    delivery.script.clear()
    delivery.script.extend(rng.choice(_VERDICTS) for _ in range(rng.choice((0, 0, 2, 5))))
    stage.connect()
    transport = stage.transport
    for part in _parts(rng, options):
        _say(stage, part, rng)
        if rng.random() < 0.9:
            stage.settle()
    heard = bytes(transport.written)
    server = getattr(transport.protocol, "wrappedProtocol", transport.protocol)
    unread = server.clearLineBuffer() if isinstance(server, SMTPServer) else b""
    assert len(unread) <= _MOST_UNREAD, f"{len(unread)} octets wait in the server"
    stage.leave()
    stage.assertInvariants()
    assertWellFormed(heard)
    return sum(message.completed for message in delivery.messages)


def _told(stage: Stage, options: Mapping[str, Any], seed: int) -> int:
    try:
        return _session(stage, options, Random(seed))
    except AssertionError as error:
        raise AssertionError(f"the session of seed {seed}: {error}") from error


def _fuzz(sessions: int, seed: int) -> None:
    completed = 0
    for start in range(0, sessions, 100):
        options = _OPTIONS[start // 100 % len(_OPTIONS)]
        stage = Stage(_LIMITS[start // 100 % len(_LIMITS)], slow=start // 400 % 2 == 1, leaky=start // 800 % 2 == 1, **options)
        with noFailures(lambda: stage.delivery.breakages):  # noqa: B023 - it is called before the next turn
            for number in range(start, start + 100):
                completed += _told(stage, options, seed + number)
    # Much of what is said is still mail, or this would test nothing but refusals.
    assert completed > sessions / 8


def test_broken_sessions_break_nothing() -> None:
    _fuzz(1200, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_broken_sessions_break_nothing() -> None:
    _fuzz(100_000, 1000)
