"""Corners of the server that no dialogue reaches: waits that are switched off, a stop that is asked for twice, answers that come too late."""

from __future__ import annotations

from typing import Any

import pytest
from misbehaving import RCPT, Delivery, Server, broken, codes
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import alsoProvides, implementer

from twisted_smtplite.dialogue import xclient
from twisted_smtplite.dialogue.dialect import Dialect
from twisted_smtplite.dialogue.extensions import EXTENSIONS, Extension
from twisted_smtplite.interfaces import IAuthenticator, IExtendDialogue
from twisted_smtplite.model import replies
from twisted_smtplite.model.envelope import SessionInfo
from twisted_smtplite.model.limits import BareLineEnds, Limits
from twisted_smtplite.model.profile import Profile


async def stubborn(answer: object) -> object:
    """Answers when it is told to stop."""
    try:
        await Deferred()
    except CancelledError:
        pass
    return answer


def test_a_mechanism_that_is_not_there_cannot_be_offered() -> None:
    with pytest.raises(ValueError, match="mechanism NTLM: it is unknown"):
        Dialect(Limits(), profile=Profile(mechanisms=("NTLM",)))


def test_two_extensions_cannot_own_one_parameter() -> None:
    mine = Extension("XSIZE", "", mail={"SIZE": lambda value, envelope, limits: None})
    with pytest.raises(ValueError, match="extension XSIZE: another one owns the parameter SIZE"):
        Dialect(Limits(), (*EXTENSIONS, mine))


def test_what_is_offered_is_told_anew_each_hour_and_not_remembered_for_ever() -> None:
    hours = 0
    dialect = Dialect(Limits(), honours=("FUTURERELEASE",), now=lambda: hours * 3600.0)
    told = set()
    for hours in range(60):  # noqa: B007 - the clock reads it
        told.add(dialect.ehlo(SessionInfo("1", "mx.test")).wire)
    assert len(told) == 60


def test_an_extension_of_a_delivery_may_look_at_all_that_is_known_of_the_session() -> None:
    own = Extension("XNAME", "", lambda session, dialect: None if session.heloName == "nobody.test" else f"{session.heloName} {session.peerHost}")
    delivery = Delivery()
    delivery.extensions = [own]  # type: ignore[attr-defined]
    alsoProvides(delivery, IExtendDialogue)
    server = Server(delivery)
    for name, expected in ((b"one.test", [b"250 XNAME one.test 192.0.2.1"]), (b"nobody.test", []), (b"two.test", [b"250 XNAME two.test 192.0.2.1"])):
        client = server.connect()
        client.send(b"EHLO " + name + b"\r\n")
        lines = bytes(client.written).splitlines()
        assert [line for line in lines if b"XNAME" in line] == expected
        assert b"250-PIPELINING" in lines


def test_a_login_that_a_proxy_told_of_stays_until_it_tells_another() -> None:
    info = SessionInfo("1", "mx.test")
    xclient.apply({"LOGIN": "ann"}, info)
    xclient.apply({"NAME": "client.test"}, info)
    assert (info.user, info.mechanism, info.peerName) == ("ann", "XCLIENT", "client.test")


def test_a_stop_may_be_asked_for_twice_and_nobody_new_is_served_meanwhile() -> None:
    server = Server()
    outcome: Deferred[None] = Deferred()
    server.delivery.end = lambda: outcome
    client = server.connect()
    client.send(RCPT + b"DATA\r\n.\r\n")
    over: list[Any] = []
    for _ in range(2):
        server.drain().addCallback(over.append)
    assert codes(server.connect()) == [b"421"]
    assert over == []
    outcome.callback(None)
    assert codes(client)[-2:] == [b"250", b"421"]
    client.hangUp()
    assert over == [None, None]
    assert not server.clock.getDelayedCalls()


def test_without_waits_there_is_no_timer() -> None:
    server = Server(limits=Limits(commandTimeout=0, sessionTime=0))
    client = server.connect()
    assert not server.clock.getDelayedCalls()
    client.send(b"NOOP\r\n")
    assert codes(client) == [b"220", b"250"]


def test_an_empty_message_in_chunks_waits_until_its_trace_header_was_taken() -> None:
    server = Server()
    taken: Deferred[None] = Deferred()
    server.delivery.take = lambda: taken
    server.delivery.receivedHeader = lambda session, envelope: b"Received: x\r\n"  # type: ignore[method-assign]
    client = server.connect()
    client.send(RCPT + b"BDAT 0 LAST\r\nNOOP\r\n")
    assert codes(client)[-1] == b"250"
    assert not server.delivery.messages[0].completed
    taken.callback(None)
    assert server.delivery.messages[0].completed == 1
    assert codes(client)[-2:] == [b"250", b"250"]


def test_a_trace_header_that_fails_refuses_the_message_at_its_end() -> None:
    server = Server()
    server.delivery.receivedHeader = broken  # type: ignore[method-assign]
    client = server.connect()
    client.send(RCPT + b"DATA\r\nx\r\n.\r\n")
    assert codes(client)[-2:] == [b"354", b"451"]


@pytest.mark.parametrize("begin", [b"DATA\r\n", b"BDAT 300000 LAST\r\n"])
@pytest.mark.parametrize("line", [b"\n", b"\r", b"\n\r", b"a\n"])
def test_line_ends_that_are_made_whole_make_no_piece_longer_than_a_message_takes(begin: bytes, line: bytes) -> None:
    server = Server(limits=Limits(bareLineEnds=BareLineEnds.NORMALISE, textLine=0))
    client = server.connect()
    client.send(RCPT + begin)
    text = line * (300_000 // len(line))
    for start in range(0, len(text), 65_536):
        client.send(text[start : start + 65_536])
    if begin.startswith(b"DATA"):
        client.send(b"\r\n.\r\n")
    assert codes(client)[-1] == b"250"
    (message,) = server.delivery.messages
    assert max(map(len, message.chunks)) <= 65_664
    assert message.body.startswith(line.replace(b"\r", b"\n").replace(b"\n", b"\r\n") * 1000)


@pytest.mark.parametrize("answer", [None, replies.LOCAL_ERROR])
def test_a_refusal_that_comes_after_the_client_has_left_is_dropped(answer: object) -> None:
    server = Server()
    server.delivery.begin = lambda record: stubborn(answer)
    client = server.connect()
    client.send(RCPT + b"DATA\r\n")
    client.hangUp()
    assert server.factory.sessions == 0
    assert [record.lost for record in server.delivery.messages] == [[]]


def test_a_conclusion_without_a_login_may_come_too_late() -> None:
    @implementer(IAuthenticator)
    class Authenticator:
        def check(self, session: SessionInfo, check: Any) -> str:
            return str(check.user)

        def conclude(self, session: SessionInfo, conclusion: object) -> Any:
            return stubborn(None)

    server = Server(profile=Profile(mechanisms=("PLAIN",), plaintextAuth=True), authenticate=Authenticator())
    client = server.connect()
    client.send(b"EHLO client.test\r\nAUTH PLAIN AGEAYQ==\r\n")
    client.hangUp()
    assert server.factory.sessions == 0
