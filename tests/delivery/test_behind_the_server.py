"""Backends behind the real server: what only shows when both sides of the contract meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from driving import quiet
from test_twistedmail import OldDelivery, OldFactory
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.mail import smtp
from twisted.python.failure import Failure

from twisted_smtplite.delivery.callable import CallableDelivery
from twisted_smtplite.delivery.fanout import FanoutDelivery
from twisted_smtplite.delivery.maildir import MaildirDelivery
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.model.reply import Refused, Reply
from twisted_smtplite.wire.factory import SMTPServerFactory


class Client:
    """One connection in memory."""

    def __init__(self, delivery: object) -> None:
        self.server: Any = SMTPServerFactory(delivery, reactor, hostname="mx.test").buildProtocol(None)
        self.transport = StringTransport()
        self.server.makeConnection(self.transport)

    async def say(self, *lines: bytes) -> list[int]:
        """Sends lines and waits for a reply to the last one. Returns the codes of all replies since."""
        self.transport.clear()
        self.server.dataReceived(b"\r\n".join(lines) + b"\r\nNOOP\r\n")
        while True:
            replies = [line for line in self.transport.value().split(b"\r\n") if line[3:4] == b" "]
            if replies and replies[-1].startswith(b"250 2.0.0 OK"):
                return [int(reply[:3]) for reply in replies[:-1]]
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.001, turn.callback, None)
            await turn

    async def send(self, *recipients: bytes, body: bytes = b"Subject: Hello\r\n\r\n..dot") -> list[int]:
        return await self.say(b"EHLO c.test", b"MAIL FROM:<ann@c.test>", *(b"RCPT TO:<%s>" % name for name in recipients), b"DATA", body, b".")


def new(path: Path) -> list[Path]:
    return sorted(path.rglob("new/*"))


@pytest_twisted.ensureDeferred
async def test_all_deliveries_of_a_fan_out_have_the_message(tmp_path: Path) -> None:
    maildir, memory, old = MaildirDelivery(str(tmp_path), reactor, users=True), MemoryDelivery(), OldDelivery()
    client = Client(FanoutDelivery([maildir, memory, old]))
    try:
        body = b"Subject: Hello\r\n\r\n" + (b"x" * 998 + b"\r\n") * 900 + b".."
        assert await client.send(b"ben@mx.test", b"cy@mx.test", body=body) == [250, 250, 250, 250, 354, 250]
    finally:
        maildir.stopService()
    (kept,) = memory.messages
    assert len(new(tmp_path)) == 2
    assert all(path.read_bytes().endswith(kept.content.replace(b"\r\n", b"\n")) for path in new(tmp_path))
    assert [b"\r\n".join([*message.lines[1:], b""]) for message in old.messages] == [kept.content, kept.content]


@pytest_twisted.ensureDeferred
async def test_a_message_that_a_later_member_refuses_is_refused(tmp_path: Path) -> None:
    def refuse(envelope: Any, message: Any) -> None:
        raise Refused(Reply(550, "5.7.1", "Not this one"))

    memory = MemoryDelivery()
    assert await Client(FanoutDelivery([CallableDelivery(refuse), memory])).send(b"ben@mx.test") == [250, 250, 250, 354, 550]
    assert memory.messages == []


@pytest_twisted.ensureDeferred
async def test_deliveries_of_twisted_mail_serve_as_they_are() -> None:
    factory = OldFactory()
    client = Client(factory)
    for _ in range(2):
        assert await client.send(b"ben@mx.test") == [250, 250, 250, 354, 250]
    assert [len(old.messages) for old in factory.made] == [1, 1]
    client = Client(OldDelivery(**{"to cy@mx.test": smtp.SMTPBadRcpt("cy@mx.test")}, slow=True))
    assert await client.send(b"ben@mx.test", b"cy@mx.test") == [250, 250, 250, 550, 354, 250]


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_in_the_middle_of_a_large_message_leaves_nothing(tmp_path: Path) -> None:
    maildir = MaildirDelivery(str(tmp_path), reactor)
    client = Client(maildir)
    await client.say(b"EHLO c.test", b"MAIL FROM:<ann@c.test>", b"RCPT TO:<ben@mx.test>")
    client.server.dataReceived(b"DATA\r\n")
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    await turn
    with capturedLogs() as events:
        for _ in range(6):
            client.server.dataReceived((b"x" * 998 + b"\r\n") * 60)
        client.server.connectionLost(Failure(ConnectionLost()))
        await quiet(maildir)
        maildir.stopService()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert [event for event in events if "log_failure" in event] == []


@pytest_twisted.ensureDeferred
async def test_data_that_a_later_member_has_refused_may_be_sent_again_in_the_same_transaction() -> None:
    class Busy(MemoryDelivery):
        refused = False

        def startMessage(self, session: Any, envelope: Any) -> Any:
            if not self.refused:
                self.refused = True
                return Reply(452, "4.3.1", "Not now")
            return super().startMessage(session, envelope)

    old, busy = OldDelivery(), Busy()
    client = Client(FanoutDelivery([old, busy]))
    start = (b"EHLO c.test", b"MAIL FROM:<ann@c.test>", b"RCPT TO:<ben@mx.test>", b"RCPT TO:<ben@mx.test>", b"RCPT TO:<cy@mx.test>")
    assert await client.say(*start, b"DATA") == [250, 250, 250, 250, 250, 452]
    assert await client.say(b"DATA", b"Subject: Hello", b"", b".") == [354, 250]
    assert len(busy.messages) == 1
    assert [message.lost for message in old.messages] == [1, 1, 1, 0, 0, 0]
    assert [str(message.user) for message in old.messages if message.ended] == ["ben@mx.test", "ben@mx.test", "cy@mx.test"]
