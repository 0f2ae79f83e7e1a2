"""What holds whenever our client talks: to our server, however the network cuts what they say, and to servers that say anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import cutAt, cuts
from stage import Stage, noFailures
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from verdicts import verdictFor

from twisted_smtplite.dialogue.body import DotReader, Text
from twisted_smtplite.dialogue.stuffing import Stuffer
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientLimits, ClientProfile, Credentials, TLSUse
from twisted_smtplite.model.envelope import DeliverBy, Envelope, Recipient, ValidSince
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.results import Delivery
from twisted_smtplite.wire.clientprotocol import SMTPClient

_OFFER = ("DSN", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE", "RRVS")


class _Pieces:
    """A text in pieces that are cut anywhere."""

    repeatable = True

    def __init__(self, octets: bytes, places: list[int], *, sized: bool = True) -> None:
        self._pieces = cutAt(octets, places)
        self.size = len(octets) if sized else None

    def pieces(self) -> Iterator[bytes]:
        return iter(piece for piece in self._pieces if piece)

    def sevenBit(self) -> _Pieces:
        return self


class _Transport(StringTransport):
    def abortConnection(self) -> None:
        self.disconnecting = True


_texts = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"text", b"x" * 300, b"Subject: x", b"a\xff"]), max_size=6).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


@given(_texts, cuts)
def test_a_server_reads_the_text_that_was_stuffed_wherever_it_is_cut(text: bytes, places: list[int]) -> None:
    stuffer = Stuffer()
    octets = b"".join(stuffer.take(piece) for piece in cutAt(text, places) if piece) + stuffer.end()
    reader = DotReader(Text(Limits()))
    read, rest = reader.feed(octets + b"NOOP\r\n")
    assert (read, rest) == (text, b"NOOP\r\n")


@given(st.binary(max_size=60), cuts)
def test_no_text_at_all_ends_before_its_end(text: bytes, places: list[int]) -> None:
    stuffer = Stuffer()
    octets = b"".join(stuffer.take(piece) for piece in cutAt(text, places) if piece)
    for end in (b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n"):
        assert end not in b"\r\n" + octets


_recipients = st.builds(
    Recipient,
    st.builds(
        Address, st.sampled_from(["b", "c", "a b", 'q"x', "+=", "x" * 60]), st.sampled_from(["mx.test", "MX.test", "other.test", "[192.0.2.1]"])
    ),
    notify=st.sampled_from([None, frozenset({"NEVER"}), frozenset({"SUCCESS", "DELAY"})]),
    originalRecipient=st.sampled_from([None, ("rfc822", "a+b@c d"), ("utf-8", "ü\\+=@d"), ("X-400", "/=+")]),
    validSince=st.sampled_from([None, ValidSince(60.0, "C"), ValidSince(0.0, "R")]),
)
_envelopes = st.builds(
    Envelope,
    st.just("X"),
    st.sampled_from([Address("", ""), Address("a", "client.test"), Address("<>", "client.test")]),
    recipients=st.lists(_recipients, min_size=1, max_size=5),
    body=st.sampled_from(["7BIT", "8BITMIME"]),
    smtputf8=st.booleans(),
    ret=st.sampled_from([None, "FULL", "HDRS"]),
    envelopeId=st.sampled_from([None, "a b+=~"]),
    submitter=st.sampled_from([None, "", "ann+x@y"]),
    deliverBy=st.sampled_from([None, DeliverBy(60, "R", trace=True), DeliverBy(-9, "N", trace=False)]),
    priority=st.integers(-9, 9),
    holdUntil=st.sampled_from([None, 86400.0]),
    prdr=st.booleans(),
)
_verdicts = st.sampled_from(["ok"] * 6 + ["550 5.1.1 No", "450 4.2.0 Later"])


def _clientOf(clock: Clock, **profile: Any) -> tuple[SMTPClient, _Transport]:
    chosen = {"hostname": "client.test", "tls": TLSUse.NEVER, **profile}
    client = SMTPClient(
        clock, ClientProfile(**chosen), ClientLimits(recipients=3, eagerText=200), host="mx.test", trust=lambda host: None, trace=None
    )  # type: ignore[arg-type,return-value]
    transport = _Transport()
    client.makeConnection(transport)
    return client, transport


class _Line:
    """Carries what both say to the other, in pieces."""

    def __init__(self, stage: Stage, client: SMTPClient, transport: _Transport, rng: Random) -> None:
        self._stage, self._client, self._transport, self._rng = stage, client, transport, rng
        self._heard = self._said = 0

    def converse(self, turn: Callable[[], None] = lambda: None) -> None:
        """Until nobody says anything more."""
        quiet = 0
        while quiet < 3:
            quiet += 1
            turn()
            self._stage.settle()
            if new := bytes(self._stage.transport.written[self._heard :]):
                piece = self._cut(new)
                self._heard += len(piece)
                self._client.dataReceived(piece)
                quiet = 0
            if new := self._transport.value()[self._said :]:
                piece = self._cut(new)
                self._said += len(piece)
                self._stage.say(piece)
                quiet = 0

    def _cut(self, octets: bytes) -> bytes:
        return octets[: self._rng.choice((1, 3, 50, len(octets)))]


@settings(max_examples=150)
@given(
    messages=st.lists(st.tuples(_envelopes, _texts, cuts, st.booleans()), min_size=1, max_size=3),
    verdicts=st.lists(_verdicts, max_size=12),
    lmtp=st.booleans(),
    chunking=st.booleans(),
    pipelining=st.booleans(),
    slow=st.booleans(),
    seed=st.integers(0, 9),
)
def test_what_the_client_was_told_is_what_the_server_delivered(
    messages: list[tuple[Envelope, bytes, list[int], bool]],
    verdicts: list[str],
    lmtp: bool,
    chunking: bool,
    pipelining: bool,
    slow: bool,
    seed: int,
) -> None:
    rng = Random(seed)
    stage = Stage(
        slow=slow, rng=Random(seed), profile=Profile(lmtp=lmtp, mechanisms=("PLAIN",), plaintextAuth=True), users={"ann": "x"}, offer=_OFFER
    )
    with noFailures(lambda: stage.delivery.breakages):
        stage.delivery.script.extend(verdictFor(text, stage) for text in verdicts)
        stage.connect()
        credentials = Credentials(user="ann", password="x")
        client, transport = _clientOf(Clock(), lmtp=lmtp, chunking=chunking, pipelining=pipelining, credentials=credentials, plaintextAuth=True)
        line = _Line(stage, client, transport, rng)
        deliveries: dict[int, Delivery] = {}
        failures: list[Failure] = []
        waiting = list(enumerate(messages))

        def turn() -> None:
            if client.usable and waiting:
                number, (envelope, text, places, sized) = waiting.pop(0)
                deferred = client.send(envelope, _Pieces(text, places, sized=sized))
                deferred.addCallbacks(lambda delivery: deliveries.__setitem__(number, delivery), failures.append)

        line.converse(turn)
        assert not failures
        assert len(deliveries) == len(messages)
        client.quit()
        line.converse()
        assert stage.transport.closed, "QUIT ends it on both sides"
        stage.leave()
        stage.assertInvariants()
    _compare(messages, deliveries, stage)


def _compare(messages: list[tuple[Envelope, bytes, list[int], bool]], deliveries: dict[int, Delivery], stage: Stage) -> None:
    taken = [message for message in stage.delivery.messages if message.envelope.id in stage.observer.taken]
    expected = [(str(outcome.recipient.address), text) for number, (_, text, _, _) in enumerate(messages) for outcome in deliveries[number].accepted]
    assert sorted(expected) == sorted((str(recipient.address), message.body) for message in taken for recipient in message.envelope.recipients)
    if len(messages) == 1:
        envelope = messages[0][0]
        names = ("sender", "body", "smtputf8", "ret", "envelopeId", "submitter", "deliverBy", "priority", "holdUntil")
        assert all(getattr(message.envelope, name) == getattr(envelope, name) for name in names for message in taken)
        facts = ("address", "notify", "originalRecipient", "validSince")
        told = [tuple(getattr(outcome.recipient, name) for name in facts) for outcome in deliveries[0].accepted]
        assert all(tuple(getattr(each, name) for name in facts) in told for message in taken for each in message.envelope.recipients)


_replies = st.sampled_from(
    [b"220 mx\r\n", b"250 OK\r\n", b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE 9\r\n", b"354 Go\r\n", b"550 No\r\n", b"421 Bye\r\n",
     b"250-x\r\n", b"334 \r\n", b"353 x\r\n", b"999\r\n", b"\r\n", b"\xff\x00\r\n", b"250", b"\n", b"500 5.5.1 What?\r\n", b"235 OK\r\n"]
)  # fmt: skip


@pytest.mark.parametrize("profile", [{}, {"lmtp": True}, {"credentials": Credentials(user="a", password="b"), "plaintextAuth": True}], ids=str)
def test_whatever_a_server_says_each_message_has_an_end(profile: dict[str, Any]) -> None:
    @settings(max_examples=150)
    @given(st.lists(_replies, max_size=25), st.booleans(), st.integers(0, 9))
    def check(said: list[bytes], opened: bool, seed: int) -> None:
        clock = Clock()
        client, transport = _clientOf(clock, **profile)
        rng = Random(seed)
        ends: list[object] = []
        results: list[object] = []
        client.opened.addBoth(ends.append)
        opening = [b"220 mx\r\n", b"250-mx\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n", *([b"235 OK\r\n"] if "credentials" in profile else [])]
        sent = 0
        for data in [*(opening if opened else []), *said]:
            if client.usable and rng.random() < 0.5:
                sent += 1
                client.send(
                    Envelope("X", Address("a", "b"), recipients=[Recipient(Address("c", "d"))], prdr=True),
                    _Pieces(b"x\r\n", [], sized=rng.random() < 0.5),
                ).addBoth(results.append)
            if not transport.disconnecting:
                client.dataReceived(data)
        client.connectionLost(Failure(ConnectionDone()))
        assert len(ends) == 1
        assert len(results) == sent
        assert not clock.getDelayedCalls()

    check()
