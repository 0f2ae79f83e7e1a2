"""Drives a delivery as the server does, without a server: what the tests of backends share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from twisted_smtplite.interfaces import IMessage, IMessageDelivery
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.model.reply import Refused, Reply

CONTENT = b"Subject: Hello\r\n\r\n.one dot\r\n..two\r\n\xff\x00 eight bits\r\n" + b"x" * 5000 + b"\r\n\r\n"
LARGE = [b"0123456789" * 6400 + b"\r\n"] * 20
"""More than stores hold in memory, several times."""


def aSession(**changes: Any) -> SessionInfo:
    info = SessionInfo("S1", "mx.test", peerHost="192.0.2.1", peerPort=4321, heloName="client.test", extended=True)
    return replace(info, **changes)


def anAddress(text: str) -> Address:
    local, at, domain = text.rpartition("@")
    return Address(local, domain) if at else Address(domain, "")


def anEnvelope(*recipients: str, sender: str = "ann@client.test") -> Envelope:
    """An envelope as it is when a message begins."""
    return Envelope("E1", anAddress(sender), recipients=[Recipient(anAddress(text)) for text in recipients or ("ben@mx.test",)], receivedAt=1e9)


async def settle(answer: Any) -> Any:
    return await answer if isawaitable(answer) else answer


async def begin(delivery: object, envelope: Envelope | None = None, session: SessionInfo | None = None) -> IMessage:
    """Starts a message and gives it its header."""
    envelope, session = envelope or anEnvelope(), session or aSession()
    adapted = IMessageDelivery(delivery)
    message = await settle(adapted.startMessage(session, envelope))
    assert not isinstance(message, Reply), message
    header = adapted.receivedHeader(session, envelope)
    if header:
        await settle(message.dataReceived(header))
    return message


async def deliver(
    delivery: object, content: bytes | Iterable[bytes] = CONTENT, envelope: Envelope | None = None, session: SessionInfo | None = None
) -> Any:
    """Delivers a whole message, in one chunk or in those given. Returns the outcome."""
    message = await begin(delivery, envelope, session)
    for chunk in [content] if isinstance(content, bytes) else content:
        await settle(message.dataReceived(chunk))
    return await settle(message.eomReceived())


async def quiet(delivery: Any) -> None:
    """Fires when the threads have done all that was asked of them, and what follows from it."""
    threads = delivery._threads()
    idle = 0
    while idle < 3:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
        idle = 0 if threads._unanswered else idle + 1


async def refusalOf(delivery: Any, content: Iterable[bytes], envelope: Envelope | None = None) -> Any:
    """Delivers as the server does: a refusal in the middle ends with connectionLost."""
    message = await begin(delivery, envelope)
    try:
        for chunk in content:
            await settle(message.dataReceived(chunk))
    except Refused as refusal:
        message.connectionLost(refusal)
        await quiet(delivery)
        return refusal.reply
    (outcome,) = await settle(message.eomReceived())
    return outcome


async def breakOff(message: IMessage, content: Sequence[bytes], *, waiting: bool) -> None:
    """The client of a large message leaves behind its second write; or with `waiting` False, during it."""
    writes = 0
    while writes < 2:
        answer: Any = message.dataReceived(content[0])
        if answer is not None:
            writes += 1
            if waiting or writes < 2:
                await answer
    if not waiting:
        answer.addErrback(lambda failure: failure.trap(CancelledError))
        answer.cancel()
    message.connectionLost(Exception("gone"))
