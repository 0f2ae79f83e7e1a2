"""Parts of a server that break their contract: what they do wrong is logged, and hurts neither the session nor the server's accounts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
from actors import RecordedMessage, StrictTransport
from misbehaving import MESSAGE, RCPT, Delivery, Message, Server, broken, codes
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import alsoProvides, implementer

from twisted_smtplite.dialogue.extensions import Extension
from twisted_smtplite.interfaces import IExtendDialogue, IMessageDelivery, IMessageDeliveryFactory
from twisted_smtplite.model.envelope import Envelope, SessionInfo
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Refused, Reply
from twisted_smtplite.wire.tls import implicitTLS


@pytest.fixture
def logged() -> Generator[list[LogEvent], None, None]:
    """The errors that are logged."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"].name in ("error", "critical"):
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


class BrokenObserver:
    """Raises whatever it is told."""

    sessionStarted = sessionRefused = messageFinished = commandRefused = sessionEnded = staticmethod(broken)


# Observers.


def test_an_observer_that_raises_costs_no_reply_and_no_message(logged: list[LogEvent]) -> None:
    server = Server(observer=BrokenObserver(), limits=Limits(connectionsPerAddress=1))
    client = server.connect()
    refused = server.connect()
    client.send(b"MAIL FROM:<early@client.test>\r\n" + MESSAGE + b"QUIT\r\n")
    assert codes(client) == [b"220", b"503", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert codes(refused) == [b"421"]
    client.hangUp()
    assert server.factory.sessions == 0
    assert [record.over for record in server.delivery.messages] == [1]
    assert len(logged) == 5


def test_an_observer_that_raises_leaves_no_late_answer_unsaid(logged: list[LogEvent]) -> None:
    server = Server(observer=BrokenObserver())
    outcome: Deferred[None] = Deferred()
    server.delivery.end = lambda: outcome
    client = server.connect()
    client.send(MESSAGE + b"NOOP\r\n")
    outcome.callback(None)
    assert codes(client)[-2:] == [b"250", b"250"]


def test_the_end_of_a_session_is_told_before_the_server_counts_as_drained() -> None:
    events = []

    class Observer(BrokenObserver):
        sessionStarted = staticmethod(lambda *arguments: None)
        sessionEnded = staticmethod(lambda *arguments: events.append("ended"))

    server = Server(observer=Observer())
    client = server.connect()
    server.factory.drain().addCallback(lambda _: events.append("drained"))
    client.hangUp()
    assert events == ["ended", "drained"]


# Answers.


def unstoppable() -> Deferred[Any]:
    """A Deferred whose canceller raises, as one does that closes what is closed already."""
    return Deferred(broken)


def test_a_canceller_that_raises_does_not_keep_the_session_in_the_accounts(logged: list[LogEvent]) -> None:
    for question in ("recipient", "take", "end"):
        server = Server()
        setattr(server.delivery, question, unstoppable)
        client = server.connect()
        client.send(MESSAGE)
        client.hangUp()
        assert server.factory.sessions == 0, question
        assert not server.clock.getDelayedCalls(), question
        assert all(record.over == 1 for record in server.delivery.messages), question
    assert len(logged) == 3


def test_a_canceller_that_raises_does_not_keep_the_client_waiting(logged: list[LogEvent]) -> None:
    server = Server()
    server.delivery.recipient = unstoppable
    client = server.connect()
    client.send(RCPT + b"NOOP\r\n")
    server.clock.advance(server.factory.limits.backendTimeout)
    assert codes(client)[-2:] == [b"451", b"250"]


@pytest.mark.parametrize("outcome", [["queued"], [250], (True,), b"x", {"b@mx.test": None}, 7, [Reply(250), Reply(250)]], ids=repr)
@pytest.mark.parametrize("late", [False, True])
def test_an_outcome_that_the_contract_does_not_know_is_a_451(logged: list[LogEvent], outcome: object, late: bool) -> None:
    server = Server()
    answer: Deferred[object] = Deferred()
    server.delivery.end = lambda: answer if late else outcome
    client = server.connect()
    client.send(MESSAGE + b"NOOP\r\n")
    if late:
        answer.callback(outcome)
    assert codes(client)[-2:] == [b"451", b"250"]
    assert len(logged) == 1


def test_a_message_that_cannot_be_told_of_its_loss_does_not_keep_the_session_in_the_accounts(logged: list[LogEvent]) -> None:
    class Forgetful:
        def dataReceived(self, chunk: bytes) -> None: ...

    server = Server()
    server.delivery.begin = lambda record: Forgetful()
    client = server.connect()
    client.send(RCPT + b"DATA\r\nx")
    client.hangUp()
    assert server.factory.sessions == 0
    assert len(logged) == 1


# Deliveries for each session.


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (RuntimeError("broken"), b"421 4.3.0 "),
        (Refused(Reply(450, "4.7.1", "Later")), b"421 4.7.1 Later"),
        (Refused(Reply(550, "5.7.1", "No")), b"554 5.7.1 No"),
    ],
    ids=repr,
)
def test_a_client_for_whom_no_delivery_can_be_made_is_turned_away(logged: list[LogEvent], error: Exception, reply: bytes) -> None:
    @implementer(IMessageDeliveryFactory)
    class Broken:
        def getMessageDelivery(self, session: SessionInfo) -> IMessageDelivery:
            raise error

    server = Server(Broken())
    client = server.connect()
    assert client.written.startswith(reply)
    assert client.closed
    assert server.factory.sessions == 0
    assert len(logged) == isinstance(error, RuntimeError)


# Chunks.


def refusals() -> Iterable[Callable[[RecordedMessage], Any]]:
    reply = Reply(452, "4.3.1", "No room")
    return (lambda record: reply), (lambda record: succeed(reply))


@pytest.mark.parametrize("begin", refusals(), ids=["prompt", "late"])
@pytest.mark.parametrize("text", [b"BDAT 3 LAST\r\nabc", b"BDAT 0 LAST\r\n"])
def test_with_LMTP_a_last_chunk_has_a_reply_for_each_recipient_also_when_nobody_takes_the_message(
    begin: Callable[[RecordedMessage], Any], text: bytes
) -> None:
    # RFC 2033 4.3: the client counts on them.
    server = Server(profile=Profile(lmtp=True))
    server.delivery.begin = begin
    client = server.connect()
    client.send(RCPT.replace(b"EHLO", b"LHLO") + b"RCPT TO:<c@mx.test>\r\n" + text + b"NOOP\r\n")
    assert codes(client) == [b"220", b"250", b"250", b"250", b"250", b"452", b"452", b"250"]


def test_no_piece_is_longer_than_promised_however_much_has_waited() -> None:
    server = Server()
    sizes: list[int] = []
    begun: Deferred[Any] = Deferred()
    server.delivery.begin = lambda record: begun

    class Measuring(Message):
        def dataReceived(self, chunk: bytes) -> Any:
            sizes.append(len(chunk))
            return super().dataReceived(chunk)

    record = RecordedMessage(Envelope("E", None))  # type: ignore[arg-type]
    client = server.connect()
    client.send(RCPT + b"BDAT 200000 LAST\r\n" + b"x" * 65_000)
    client.send(b"x" * 65_536)
    client.send(b"x" * 65_536)
    begun.callback(Measuring(server.delivery, record))
    client.deliver()
    client.send(b"x" * (200_000 - 65_000 - 2 * 65_536) + b"NOOP\r\n")
    assert codes(client)[-2:] == [b"250", b"250"]
    assert sum(sizes) == 200_000
    assert max(sizes) <= 65_664


# The server stops.


def test_a_server_that_stops_does_not_wait_for_a_message_that_its_client_gave_up() -> None:
    for more in (b"RSET\r\n", b"EHLO client.test\r\n"):
        server = Server()
        client = server.connect()
        client.send(RCPT + b"BDAT 3\r\nabc")
        server.drain()
        assert not client.closed
        client.send(more)
        assert codes(client)[-2:] == [b"250", b"421"]
        client.hangUp()
        assert [record.over for record in server.delivery.messages] == [1]


def test_a_server_that_stops_does_not_wait_for_a_message_whose_chunk_was_refused() -> None:
    server = Server()
    client = server.connect()
    client.send(RCPT + b"BDAT 3\r\nabcBDAT 3\r\n")
    server.drain()
    server.delivery.take = broken
    client.send(b"abc")
    assert codes(client)[-2:] == [b"451", b"421"]


def test_a_server_that_a_part_of_it_stops_says_first_what_it_was_about_to_say() -> None:
    class Observer(BrokenObserver):
        sessionStarted = sessionEnded = staticmethod(lambda *arguments: None)
        messageFinished = staticmethod(lambda *arguments: stop("messageFinished"))

    def stop(place: str) -> None:
        if place == where:
            server.factory.drain()

    for where in ("recipient", "take", "end", "messageFinished"):
        for late in (False, True):
            server = Server(observer=Observer())
            outcome: Deferred[None] = Deferred()
            for question in ("recipient", "take", "end"):
                setattr(server.delivery, question, lambda question=question: stop(question))
            if late:
                server.delivery.end = lambda outcome=outcome: stop("end") or outcome  # type: ignore[misc]
            client = server.connect()
            client.send(MESSAGE)
            server.clock.advance(0)
            outcome.callback(None)
            server.clock.advance(0)
            assert codes(client) == [b"220", b"250", b"250", b"250", b"354", b"250", b"421"], (where, late)


def test_a_server_that_starts_again_before_the_last_client_has_left_does_not_end_new_ones() -> None:
    server = Server()
    outcome: Deferred[None] = Deferred()
    server.delivery.end = lambda: outcome
    former = server.connect()
    former.send(MESSAGE)
    drained: list[Any] = []
    server.drain().addCallback(drained.append)
    server.factory.doStart()
    new = server.connect()
    server.clock.advance(server.factory.limits.drainTime)
    assert (former.disconnected, new.closed) == (True, False)
    former.hangUp()
    assert drained == [None]
    new.send(b"NOOP\r\n")
    assert codes(new) == [b"220", b"250"]


# TLS.


@implementer(IOpenSSLServerConnectionCreator)
class BrokenCreator:
    """Has no certificate after all."""

    serverConnectionForTLS = staticmethod(broken)


def test_where_TLS_cannot_begin_the_session_ends_and_is_not_kept_in_the_accounts() -> None:
    server = Server(tls=BrokenCreator())
    client = server.connect()
    # What the reactor does with whatever comes out of dataReceived: it logs it, and ends the connection.
    with pytest.raises(RuntimeError, match="broken"):
        client.send(b"EHLO client.test\r\nSTARTTLS\r\n")
    client.hangUp()
    assert server.factory.sessions == 0
    assert not server.clock.getDelayedCalls()


def test_where_TLS_cannot_begin_with_the_connection_there_is_no_session() -> None:
    server = Server()
    listener = implicitTLS(server.factory, BrokenCreator(), server.clock)
    transport = StrictTransport()
    protocol = listener.buildProtocol(transport.getPeer())
    with pytest.raises(RuntimeError, match="broken"):
        protocol.makeConnection(transport)
    assert server.factory.sessions == 0


# Replies that ask for more.


def test_a_backend_that_answers_3yz_is_a_temporary_failure(logged: list[LogEvent]) -> None:
    server = Server()
    more = Reply(354, None, "Go on")
    server.delivery.recipient = lambda: more
    client = server.connect()
    client.send(RCPT)
    assert codes(client)[-1] == b"451"
    server.delivery.recipient = lambda: None
    server.delivery.end = lambda: more
    client.send(MESSAGE)
    assert codes(client)[-1] == b"451"
    assert len(logged) == 2


# Extensions of a delivery.


def extended(extension: Extension) -> Server:
    delivery = Delivery()
    delivery.extensions = [extension]  # type: ignore[attr-defined]
    alsoProvides(delivery, IExtendDialogue)
    return Server(delivery)


@pytest.mark.parametrize("advertise", [broken, lambda session, dialect: "a\r\nb", lambda session, dialect: "\u00e4"])
def test_an_extension_that_cannot_say_what_it_offers_is_not_offered(advertise: Any, logged: list[LogEvent]) -> None:
    client = extended(Extension("XOWN", "", advertise)).connect()
    logged.clear()
    client.send(b"EHLO client.test\r\nNOOP\r\n")
    assert codes(client) == [b"220", b"250", b"250"]
    assert b"XOWN" not in client.written and b"250-SIZE" in client.written
    assert [event["keyword"] for event in logged] == ["XOWN"]


def refuses(*arguments: object) -> None:
    raise Refused(Reply(501, "5.5.4", "No"))


@pytest.mark.parametrize(
    ("parser", "code", "complaints"),
    [
        (lambda *arguments: None, b"250", 0),
        (lambda *arguments: Reply(501, "5.5.4", "No"), b"501", 0),
        (refuses, b"501", 0),
        (broken, b"451", 1),
        (lambda *arguments: 7, b"451", 1),
        (lambda *arguments: Reply(250, "2.0.0", "Yes"), b"451", 1),
    ],
)
def test_a_parameter_that_fails_is_answered_451(parser: Any, code: bytes, complaints: int, logged: list[LogEvent]) -> None:
    client = extended(Extension("XOWN", "", mail={"XM": parser}, rcpt={"XR": parser})).connect()
    client.send(b"EHLO client.test\r\nMAIL FROM:<a@client.test> XM=1\r\nRSET\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test> XR\r\nNOOP\r\n")
    assert codes(client)[2:] == [code, b"250", b"250", code, b"250"]
    assert len(logged) == 2 * complaints
