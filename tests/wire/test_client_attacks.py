"""The client against servers that lie or stall, texts that do as they please, and users who call it from everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_smtplite.dialogue.clientauth import Channel, ClientExchange, Mistrust
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientLimits, ClientProfile, Credentials, TLSUse
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.errors import AuthenticationFailed, ConnectionFailed, ProtocolViolation, TLSFailed, Unsendable
from twisted_smtplite.model.results import Delivery, Stage
from twisted_smtplite.wire import clientprotocol
from twisted_smtplite.wire.clientprotocol import SMTPClient

_BARE = b"250 mx.test\r\n"
_PIPELINING = b"250-mx.test\r\n250 PIPELINING\r\n"
_CHUNKING = b"250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n"


class _Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class _Text:
    """A text of these pieces; a function among them is called in its turn, and gives the piece."""

    repeatable = True

    def __init__(self, *pieces: Any, size: int | None = None) -> None:
        self._pieces = pieces
        self.size = size if size is not None or not all(isinstance(piece, bytes) for piece in pieces) else sum(map(len, pieces))

    def pieces(self) -> Iterator[Any]:
        for piece in self._pieces:
            yield piece() if callable(piece) else piece

    def sevenBit(self) -> Any:
        raise AssertionError


class _Talk:
    """A client, and what its server hears and says."""

    def __init__(self, hello: bytes = _BARE, *, limits: ClientLimits | None = None, trace: Any = None, **profile: Any) -> None:
        self.clock = Clock()
        chosen = ClientProfile(**{"hostname": "client.test", "tls": TLSUse.NEVER, **profile})
        self.client = SMTPClient(
            self.clock,
            chosen,
            limits or ClientLimits(),
            host="mx.test",
            trust=lambda host: None,  # type: ignore[arg-type,return-value]
            trace=trace,
        )
        self.opened: list[Any] = []
        self.client.opened.addBoth(self.opened.append)
        self.transport = _Transport()
        self.client.makeConnection(self.transport)
        self.say(b"220 mx.test\r\n")
        self.say(hello)
        self.heard()

    def say(self, octets: bytes) -> None:
        self.client.dataReceived(octets)

    def heard(self) -> bytes:
        said = self.transport.value()
        self.transport.clear()
        return said

    def send(self, text: Any, *recipients: str) -> list[Any]:
        """Gives the client a message. What is returned holds how that ended, once it has."""
        results: list[Any] = []
        self.deferred = self.client.send(_envelope(*(recipients or ("b@mx.test",))), text)
        self.deferred.addBoth(results.append)
        return results

    def leave(self) -> None:
        self.client.connectionLost(Failure(ConnectionDone()))
        assert not self.clock.getDelayedCalls(), "no timer is left"


def _envelope(*recipients: str) -> Envelope:
    addresses = [recipient.partition("@") for recipient in recipients]
    return Envelope("X", Address("a", "client.test"), recipients=[Recipient(Address(local, domain)) for local, _, domain in addresses])


def _replies(delivery: Delivery) -> list[str]:
    return [f"{outcome.stage.value} {outcome.reply}" for outcome in delivery.outcomes]


# Servers that stall: whatever is waited for has its time.


def test_more_messages_do_not_give_a_server_that_hangs_more_time() -> None:
    talk = _Talk()
    first = talk.send(_Text(b"x\r\n"))
    for _ in range(6):
        talk.clock.advance(60)
        talk.send(_Text(b"x\r\n"))
    assert isinstance(first[0].value, ConnectionFailed)
    assert talk.transport.aborted


def test_a_text_that_comes_slowly_goes_out_as_it_comes_and_may_take_its_time() -> None:
    talk = _Talk(_PIPELINING)
    pieces: list[Deferred[bytes]] = [Deferred() for _ in range(5)]
    result = talk.send(_Text(*pieces))
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n")
    talk.heard()
    for piece in pieces:
        talk.clock.advance(170)
        piece.callback(b"x\r\n")
        assert talk.heard().startswith(b"x\r\n")
    talk.say(b"250 OK\r\n")
    assert result[0].complete
    talk.leave()


def test_a_text_that_never_comes_is_given_up() -> None:
    talk = _Talk(_PIPELINING)
    never: Deferred[bytes] = Deferred()
    result = talk.send(_Text(never))
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n")
    talk.clock.advance(180)
    assert _replies(result[0]) == ["data 451 4.4.2 timed out waiting for the text"]
    assert not result[0].outcomes[0].uncertain
    assert never.called, "it is told that nobody waits for it"
    assert talk.transport.aborted


@pytest.mark.parametrize("hello", [_BARE, _PIPELINING, _CHUNKING], ids=["bare", "pipelining", "chunking"])
@pytest.mark.parametrize("stage", range(6))
def test_wherever_a_server_falls_silent_every_message_comes_to_an_end(hello: bytes, stage: int) -> None:
    talk = _Talk(hello)
    results = [talk.send(_Text(b"x\r\n")), talk.send(_Text(b"y\r\n" * 30_000))]
    for reply in (b"250 OK\r\n", b"250 OK\r\n", b"354 Go\r\n", b"250-half\r\n", b"250 OK\r\n")[:stage]:
        if not talk.transport.aborted:
            talk.say(reply)
    while not talk.transport.aborted:
        assert talk.clock.getDelayedCalls(), "a timer runs"
        talk.clock.advance(60)
    assert all(results)
    talk.leave()


def test_who_ends_the_session_does_not_wait_for_a_server_that_does_not_let_go() -> None:
    talk = _Talk()
    ended: list[None] = []
    talk.client.quit().addCallback(ended.append)
    talk.say(b"221 Bye\r\n")
    assert talk.transport.disconnecting
    talk.clock.advance(5)
    assert talk.transport.aborted
    talk.leave()
    assert ended


# Servers that say what nobody asked for.


@pytest.mark.parametrize("reply", [b"552 5.3.4 Too large\r\n", b"421 4.3.2 Bye\r\n"])
@pytest.mark.parametrize("hello", [_PIPELINING, _CHUNKING], ids=["data", "chunking"])
def test_a_refusal_in_the_middle_of_a_text_is_its_outcome(reply: bytes, hello: bytes) -> None:
    talk = _Talk(hello)
    result = talk.send(_Text(b"x" * 70_000, Deferred, size=80_000))
    second = talk.send(_Text(b"x"))
    talk.say(b"250 OK\r\n250 OK\r\n" + (b"354 Go\r\n" if hello is _PIPELINING else b""))
    assert not result
    talk.say(reply)
    assert _replies(result[0]) == [f"data {reply.decode().strip()}"]
    assert isinstance(second[0].value, ConnectionFailed)
    assert second[0].value.temporary, "it has nothing to do with that"
    talk.leave()


def test_success_in_the_middle_of_a_text_is_believed_by_nobody() -> None:
    talk = _Talk(_PIPELINING)
    result = talk.send(_Text(b"x" * 70_000, Deferred))
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n250 OK\r\n")
    assert talk.transport.aborted
    assert not result[0].accepted and not result[0].outcomes[0].uncertain


def test_replies_that_come_before_they_are_asked_for_show_no_secret() -> None:
    said: list[bytes] = []
    credentials = Credentials(user="ann", password="secret", mechanisms=("LOGIN",))
    talk = _Talk(
        b"250-mx.test\r\n250 AUTH LOGIN\r\n334 \r\n334 \r\n235 OK\r\n",
        credentials=credentials,
        plaintextAuth=True,
        trace=lambda who, octets: said.append(octets) if who == "C" else None,
    )
    assert talk.opened == [talk.client]
    assert said == [b"EHLO client.test\r\n", b"AUTH LOGIN\r\n", b"***\r\n", b"***\r\n"]
    talk.leave()


def test_a_server_that_says_all_before_it_reads_anything_does_not_fill_the_memory() -> None:
    talk = _Talk(_PIPELINING)
    result = talk.send(_Text(*[b"x" * 65_536] * 100))
    talk.client.pauseProducing()
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n")
    talk.clock.advance(0)
    assert len(talk.heard()) < 65_536
    talk.client.resumeProducing()
    while talk.clock.getDelayedCalls() and not result:
        talk.clock.advance(0)
        if talk.heard().endswith(b"\r\n.\r\n"):
            talk.say(b"250 OK\r\n")
    assert result[0].complete


def test_a_list_of_limits_without_end_is_read_in_no_time() -> None:
    words = b"A " * 2000
    talk = _Talk(b"250-mx.test\r\n" + (b"250-LIMITS " + words + b"\r\n" + b"250-AUTH " + words + b"\r\n") * 120 + b"250 LIMITS RCPTMAX=5\r\n")
    for _ in range(3):
        talk.clock.advance(0)
    assert talk.opened == [talk.client]
    talk.leave()


def test_a_list_of_limits_that_is_malformed_says_nothing() -> None:
    talk = _Talk(b"250-mx.test\r\n250-SIZE 1e30\r\n250 LIMITS MAILMAX=1 RCPT@MAX=1\r\n")
    talk.send(_Text(b"x\r\n"))
    assert talk.client.usable
    assert talk.heard() == b"MAIL FROM:<a@client.test> SIZE=3\r\n"


# Servers with little room.


def test_recipients_for_whom_there_is_no_room_are_tried_again_only_as_long_as_that_leads_on() -> None:
    talk = _Talk(_PIPELINING)
    result = talk.send(_Text(b"x\r\n"), "b@mx.test", "c@mx.test")
    talk.say(b"250 OK\r\n250 OK\r\n552 5.5.3 Enough\r\n354 Go\r\n250 OK\r\n")
    assert not result
    talk.say(b"250 OK\r\n452 4.5.3 Enough for today\r\n503 Nobody\r\n")
    assert _replies(result[0]) == ["text 250 OK", "rcpt 452 4.5.3 Enough for today"]
    assert talk.client.usable
    talk.leave()


def test_a_message_to_nobody_is_an_error() -> None:
    talk = _Talk()
    results: list[Any] = []
    talk.client.send(_envelope(), _Text(b"x\r\n")).addBoth(results.append)
    assert isinstance(results[0].value, Unsendable)
    assert talk.client.usable and talk.client.pending == 0


def test_a_recipient_without_a_domain_smuggles_nothing_in() -> None:
    talk = _Talk(_PIPELINING)
    result = talk.send(_Text(b"x\r\n"), "b> SIZE=1 <x", "postmaster")
    assert talk.heard() == b"MAIL FROM:<a@client.test>\r\nRCPT TO:<postmaster>\r\nDATA\r\n"
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n250 OK\r\n")
    assert _replies(result[0]) == ["rcpt 553 5.1.3 'b> SIZE=1 <x' is no address", "text 250 OK"]


# Texts that do as they please.


def test_of_a_text_that_was_announced_the_last_octets_wait_for_its_end() -> None:
    talk = _Talk(_CHUNKING)
    end: Deferred[bytes] = Deferred()
    result = talk.send(_Text(b"one\r\n", b"two\r\n", end, size=10))
    assert talk.heard().endswith(b"BDAT 10 LAST\r\none\r\n")
    end.callback(b"")
    assert talk.heard() == b"two\r\n"
    talk.say(b"250 OK\r\n250 OK\r\n250 OK\r\n")
    assert result[0].complete
    broken: Deferred[bytes] = Deferred()
    result = talk.send(_Text(b"one\r\n", broken, size=5))
    assert b"one" not in talk.heard()
    broken.errback(OSError("disk"))
    assert isinstance(result[0].value, OSError)
    assert talk.heard() == b""
    talk.leave()


def test_a_text_of_nothing_that_comes_late_is_announced_when_it_has_come() -> None:
    talk = _Talk(_CHUNKING)
    late: Deferred[bytes] = Deferred()
    result = talk.send(_Text(late, size=0))
    assert b"BDAT" not in talk.heard()
    late.callback(b"")
    assert talk.heard() == b"BDAT 0 LAST\r\n"
    talk.say(b"250 OK\r\n250 OK\r\n250 OK\r\n")
    assert result[0].complete


def test_without_pipelining_each_chunk_waits_for_the_reply_to_the_one_before() -> None:
    talk = _Talk(b"250-mx.test\r\n250 CHUNKING\r\n")
    late: Deferred[bytes] = Deferred()
    result = talk.send(_Text(b"one\r\n", b"two\r\n", late, b"four\r\n"))
    talk.say(b"250 OK\r\n")
    talk.heard()
    for expected in (b"BDAT 5\r\none\r\n", b""):
        talk.say(b"250 OK\r\n")
        assert talk.heard() == expected
    late.callback(b"three\r\n")
    assert talk.heard() == b"BDAT 5\r\ntwo\r\n"
    talk.say(b"250 OK\r\n")
    assert talk.heard() == b"BDAT 13 LAST\r\nthree\r\nfour\r\n"
    talk.say(b"250 OK\r\n")
    assert result[0].complete
    talk.leave()


def test_of_a_text_of_unknown_size_few_chunks_are_sent_without_an_answer() -> None:
    talk = _Talk(_CHUNKING, limits=ClientLimits(pipelinedChunks=4))
    octets = b"x" * 65_534 + b"\r\n"
    result = talk.send(_Text(*[octets] * 20, succeed(b"end\r\n")))
    talk.say(b"250 OK\r\n250 OK\r\n")
    said = [talk.heard().count(b"BDAT")]
    while not result:
        talk.say(b"250 OK\r\n")
        said.append(talk.heard().count(b"BDAT"))
    assert result[0].complete
    assert sum(said) == 21
    unanswered = [sum(said[: at + 1]) - at for at in range(len(said))]
    # One, and with each that is taken another, up to the limit.
    assert unanswered[:6] == [1, 2, 3, 4, 4, 4]
    assert max(unanswered) == 4
    talk.leave()


def test_a_text_whose_first_chunk_is_refused_is_not_sent_on() -> None:
    talk = _Talk(_CHUNKING)
    result = talk.send(_Text(*[b"x" * 65_534 + b"\r\n"] * 20, succeed(b"end\r\n")))
    talk.say(b"250 OK\r\n250 OK\r\n")
    assert talk.heard().count(b"BDAT") == 1
    talk.say(b"552 5.3.4 Too large\r\n")
    assert _replies(result[0]) == ["data 552 5.3.4 Too large"]
    assert talk.heard() == b""
    talk.leave()


def test_of_a_text_with_a_refused_chunk_only_what_was_on_its_way_is_refused_too() -> None:
    talk = _Talk(_CHUNKING)
    result = talk.send(_Text(*[b"x" * 65_534 + b"\r\n"] * 20, succeed(b"end\r\n")))
    talk.say(b"250 OK\r\n250 OK\r\n250 OK\r\n250 OK\r\n")
    assert talk.heard().count(b"BDAT") == 1 + 2 + 2
    talk.say(b"552 5.3.4 Too large\r\n")
    assert talk.heard() == b""
    talk.say(b"503 5.5.1 Not now\r\n503 5.5.1 Not now\r\n")
    assert _replies(result[0]) == ["data 552 5.3.4 Too large"]
    again = talk.send(_Text(b"one\r\n"))
    assert talk.heard().startswith(b"RSET\r\nMAIL ")
    talk.say(b"250 OK\r\n" * 4)
    assert again[0].complete
    talk.leave()


def test_small_pieces_that_wait_for_a_reply_become_one_chunk() -> None:
    talk = _Talk(_CHUNKING)
    result = talk.send(_Text(*[b"one\r\n"] * 20_000, succeed(b"end\r\n")))
    talk.say(b"250 OK\r\n250 OK\r\n")
    said = b""
    while not result:
        talk.clock.advance(0)
        said += talk.heard()
        talk.say(b"250 OK\r\n")
    sizes = [int(size) for size in re.findall(rb"BDAT (\d+)", said)]
    assert (sizes[0], sum(sizes)) == (5, 100_005)
    assert len(sizes) < 10
    assert result[0].complete
    talk.leave()


def _raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


class _Unreadable(_Text):
    def pieces(self) -> Iterator[Any]:
        raise OSError("read already")


class _Unsized(_Text):
    @property  # type: ignore[override]
    def size(self) -> int | None:
        raise OSError("gone")

    @size.setter
    def size(self, size: int | None) -> None:
        """Nobody knows."""


@pytest.mark.parametrize("text", [_Unreadable(b"x"), _Text(_raising(OSError("x"))), _Text(succeed(None))], ids=["unreadable", "raises", "no-octets"])
def test_a_text_that_fails_in_any_way_fails_its_message_alone_with_that(text: Any) -> None:
    talk = _Talk(_PIPELINING)
    result = talk.send(text)
    other = talk.send(_Text(b"x\r\n"))
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n")
    assert isinstance(result[0].value, (OSError, TypeError))
    assert isinstance(other[0].value, ConnectionFailed)
    assert talk.transport.aborted
    talk.leave()


def test_a_text_that_cannot_be_looked_at_fails_and_leaves_the_session_alone() -> None:
    talk = _Talk(_PIPELINING)
    result = talk.send(_Unsized(b"x\r\n"))
    assert isinstance(result[0].value, OSError)
    assert talk.client.usable and talk.client.pending == 0 and talk.heard() == b""
    talk.leave()


@pytest.mark.parametrize("how", ["abort", "cancel"])
@pytest.mark.parametrize("then", [b"more\r\n", Deferred], ids=["piece", "deferred"])
def test_a_text_may_end_its_own_message(how: str, then: Any) -> None:
    talk = _Talk(_PIPELINING)

    def end() -> Any:
        if how == "abort":
            talk.client.abort()
        else:
            own.cancel()
        return then if isinstance(then, bytes) else then()

    result = talk.send(_Text(end))
    own = talk.deferred
    other = talk.send(_Text(b"x\r\n"))
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n")
    assert result and other
    assert b"more" not in talk.heard()
    assert talk.transport.aborted
    talk.leave()


def test_a_text_may_come_in_very_many_pieces_that_are_there_at_once() -> None:
    talk = _Talk(_PIPELINING)
    result = talk.send(_Text(*[lambda: succeed(b"x"), b"", b"\r\n"] * 5000))
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n")
    turns = 0
    while not talk.heard().endswith(b"\r\n.\r\n"):
        turns += 1
        assert talk.clock.getDelayedCalls()
        talk.clock.advance(0)
    assert turns, "others have their turn"
    talk.say(b"250 OK\r\n")
    assert result[0].complete


def test_very_many_small_messages_go_out_at_once() -> None:
    talk = _Talk(_CHUNKING, limits=ClientLimits(pipelinedMessages=5000))
    results = [talk.send(_Text(b"x\r\n")) for _ in range(5000)]
    talk.say(b"250 OK\r\n250 OK\r\n250 OK\r\n" + b"250 OK\r\n" * 4 * 4999)
    while talk.clock.getDelayedCalls() and not all(results):
        talk.clock.advance(0)
    assert all(result[0].complete for result in results)
    assert talk.client.pending == 0


# What was sent whole has its answer before a connection is given up.


def _threeInFlight() -> tuple[_Talk, Deferred[bytes], list[list[Any]], list[Deferred[Any]]]:
    """The first is sent whole, the second has begun, the third waits; none is answered."""
    talk = _Talk(_CHUNKING)
    broken: Deferred[bytes] = Deferred()
    results: list[list[Any]] = [talk.send(_Text(b"1\r\n"))]
    sending = [talk.deferred]
    for text in (_Text(broken, size=3), _Text(b"3\r\n")):
        results.append(talk.send(text))
        sending.append(talk.deferred)
    assert talk.heard().endswith(b"BDAT 3 LAST\r\n")
    return talk, broken, results, sending


@pytest.mark.parametrize("how", ["breaks", "cancelled"])
def test_what_was_sent_before_a_text_that_breaks_off_has_its_answer(how: str) -> None:
    talk, broken, results, sending = _threeInFlight()
    if how == "breaks":
        broken.errback(OSError("disk"))
    else:
        sending[1].cancel()
    assert isinstance(results[1][0].value, (OSError, CancelledError))
    assert not (results[0] or results[2] or talk.transport.aborted or talk.client.usable)
    talk.client.quit()
    talk.say(b"250 OK\r\n250 OK\r\n")
    assert not (results[0] or results[2] or talk.transport.aborted)
    talk.say(b"250 Queued\r\n")
    assert _replies(results[0][0]) == ["text 250 Queued"]
    assert isinstance(results[2][0].value, ConnectionFailed)
    assert talk.transport.aborted
    assert talk.heard() == b""
    talk.leave()


@pytest.mark.parametrize("last", [0, 1])
def test_when_nobody_waits_for_an_answer_any_more_the_connection_ends_at_once(last: int) -> None:
    talk, _, results, sending = _threeInFlight()
    sending[1 - last].cancel()
    # The second is not sent whole, so it is not waited for.
    assert talk.transport.aborted is (last == 1)
    sending[last].cancel()
    assert talk.transport.aborted
    assert [len(result) for result in results] == [1, 1, 1]
    talk.leave()


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_usual() -> None:
    talk, broken, results, _ = _threeInFlight()
    broken.errback(OSError("disk"))
    talk.say(b"250 OK\r\n250 OK\r\n")
    talk.clock.advance(599)
    assert not talk.transport.aborted
    talk.clock.advance(2)
    assert talk.transport.aborted
    assert _replies(results[0][0]) == ["text 451 4.4.2 timed out waiting for the reply to TEXT"]
    assert isinstance(results[2][0].value, ConnectionFailed)
    talk.leave()


def test_a_text_that_has_not_begun_when_the_connection_is_given_up_is_not_sent() -> None:
    talk = _Talk(_CHUNKING, limits=ClientLimits(eagerText=3))
    first = talk.send(_Text(b"1\r\n"))
    second = talk.send(_Text(b"longer\r\n"))
    talk.deferred.cancel()
    assert not talk.transport.aborted
    talk.heard()
    talk.say(b"250 OK\r\n250 OK\r\n250 OK\r\n")
    assert first[0].complete
    assert isinstance(second[0].value, CancelledError)
    assert talk.transport.aborted
    assert talk.heard() == b""
    talk.leave()


# Users who call from everywhere.


@pytest.mark.parametrize("how", ["abort", "cancel", "quit", "send", "raise"])
@pytest.mark.parametrize("hello", [_BARE, _PIPELINING, _CHUNKING], ids=["bare", "pipelining", "chunking"])
def test_whoever_hears_of_his_message_may_do_anything_with_the_client(how: str, hello: bytes) -> None:
    talk = _Talk(hello, limits=ClientLimits(eagerText=2))
    results: list[Any] = []
    first = talk.client.send(_envelope("b@mx.test"), _Text(b"1\r\n"))
    second = talk.client.send(_envelope("b@mx.test"), _Text(b"2\r\n"))

    def react(delivery: Any) -> None:
        results.append(delivery)
        if how == "abort":
            talk.client.abort()
        elif how == "cancel":
            second.cancel()
        elif how == "quit":
            talk.client.quit()
        elif how == "send":
            talk.client.send(_envelope("b@mx.test"), _Text(b"3\r\n")).addBoth(results.append)
        else:
            raise ValueError("mine")

    first.addCallback(react).addErrback(lambda failure: failure.trap(ValueError))
    second.addBoth(results.append)
    rounds = 0
    while rounds < 40 and not talk.transport.aborted and not talk.transport.disconnecting:
        rounds += 1
        said = talk.heard()
        for line in said.split(b"\r\n")[:-1]:
            if not talk.transport.aborted and line[:4] in (b"MAIL", b"RCPT", b"RSET", b"DATA", b"QUIT", b".", b"BDAT"):
                talk.say(b"354 Go\r\n" if line == b"DATA" else b"250 OK\r\n")
    assert results[0].complete
    assert len(results) == (3 if how == "send" else 2)
    talk.leave()
    assert talk.client.pending == 0


def test_what_is_known_of_one_message_may_end_the_session_before_the_text_of_the_next() -> None:
    talk = _Talk(_CHUNKING, limits=ClientLimits(pipelinedMessages=1))
    first = talk.send(_Text(b"1\r\n"))
    talk.deferred.addCallback(lambda _: talk.client.abort())
    second = talk.send(_Text(b"2\r\n"))
    talk.heard()
    talk.say(b"250 OK\r\n250 OK\r\n250 OK\r\n")
    assert first[0].complete
    assert isinstance(second[0].value, ConnectionFailed)
    assert b"2\r\n" not in talk.heard()
    talk.leave()


def test_what_is_known_is_told_though_the_message_before_ended_it_all() -> None:
    talk = _Talk(_CHUNKING, limits=ClientLimits(recipients=1, pipelinedMessages=1))
    first = talk.send(_Text(b"1\r\n"))
    talk.deferred.addCallback(lambda _: talk.client.abort())
    second = talk.send(_Text(b"2\r\n"), "\xfc@mx.test", "d@mx.test")
    talk.say(b"250 OK\r\n250 OK\r\n250 OK\r\n")
    assert first[0].complete
    assert [reply[:8] for reply in _replies(second[0])] == ["rcpt 553", "mail 451"]
    talk.leave()


@pytest.mark.parametrize("which", [0, 1])
def test_who_is_told_of_an_end_may_cancel_what_has_ended_with_it(which: int) -> None:
    talk = _Talk(_PIPELINING, limits=ClientLimits(pipelinedMessages=1))
    broken: Deferred[bytes] = Deferred()
    results: list[list[Any]] = [[], [], []]
    sending = [talk.client.send(_envelope("b@mx.test"), _Text(broken if n == 0 else b"x\r\n")) for n in range(3)]
    sending[1].addErrback(lambda failure: (sending[2 * which].cancel(), failure)[1])
    for n in range(3):
        sending[n].addBoth(results[n].append)
    talk.say(b"250 OK\r\n250 OK\r\n354 Go\r\n")
    broken.errback(OSError("disk"))
    assert [len(result) for result in results] == [1, 1, 1]
    assert isinstance(results[2 * which][0].value, CancelledError)
    assert talk.client.pending == 0
    talk.leave()


# Servers with a name that is not theirs.


def test_nothing_is_said_behind_a_handshake_that_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clientprotocol, "startTLS", lambda protocol, creator, reactor, client: None)
    talk = _Talk(b"250-mx.test\r\n250 STARTTLS\r\n", tls=TLSUse.REQUIRED)
    talk.say(b"220 Go\r\n")
    talk.heard()
    talk.transport.disconnecting = True
    talk.client.handshakeCompleted()
    assert talk.heard() == b""
    talk.leave()
    assert isinstance(talk.opened[0].value, TLSFailed)


# Credentials that are not to be had.


def test_a_token_that_cannot_be_had_fails_the_login() -> None:
    exchange = ClientExchange("XOAUTH2", Credentials(user="ann", token=_raising(OSError("no answer"))), Channel(secure=True))
    with pytest.raises(Mistrust, match="no answer"):
        exchange.begin()


def test_a_server_that_never_stops_asking_is_left() -> None:
    talk = _Talk(b"250-mx.test\r\n250 AUTH CRAM-MD5\r\n", credentials=Credentials(user="ann", password="x"), plaintextAuth=True)
    talk.say(b"334 " + b"QUFB" * 900 + b"\r\n")
    for _ in range(10):
        talk.say(b"334 \r\n")
    assert isinstance(talk.opened[0].value, AuthenticationFailed)
    talk.leave()


def test_a_violation_names_its_stage() -> None:
    talk = _Talk(b"\r\n")
    assert isinstance(talk.opened[0].value, ProtocolViolation)
    assert talk.opened[0].value.stage is Stage.HELLO
