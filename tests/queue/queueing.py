"""What the tests of the queue share: envelopes, messages on their way in, and turns of the reactor."""

from __future__ import annotations

import stat
from dataclasses import replace
from inspect import isawaitable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.queue.entries import NewReport, QueuedMessage, Room
from twisted_smtplite.queue.store import QueueStore

CONTENT = b"Received: from client.test\r\nSubject: Hello\r\n\r\n.one dot\r\n..two\r\n" + b"x" * 5000 + b"\r\n"
LARGE = CONTENT + b"0123456789" * 30_000 + b"\r\n" + b"\xff" * 90_000 + b"\r\n"
"""More than is held in memory."""


def anAddress(text: str) -> Address:
    local, _, domain = text.rpartition("@")
    return Address(local, domain)


def anEnvelope(name: str = "E1", *recipients: str, sender: str = "ann@client.test", **changes: Any) -> Envelope:
    made = Envelope(name, anAddress(sender), recipients=[Recipient(anAddress(text)) for text in recipients or ("ben@mx.test",)], receivedAt=1e9)
    return replace(made, **changes)


def aReport(name: str, text: bytes = b"Subject: Undelivered\r\n\r\nIt was refused.\r\n") -> NewReport:
    return NewReport(anEnvelope(name, "ann@client.test", sender=""), text)


def room(messages: int) -> Room:
    return Room(messages, 10_000, 1000)


async def settle(answer: Any) -> Any:
    return await answer if isawaitable(answer) else answer


async def put(store: QueueStore, envelope: Envelope | None = None, content: bytes = CONTENT, user: str | None = None) -> Any:
    """Puts a message in, as the server does. Returns the outcome."""
    message = store.newMessage(envelope or anEnvelope(), user)
    for start in range(0, len(content), 65_536):
        await settle(message.dataReceived(content[start : start + 65_536]))
    return await settle(message.eomReceived())


async def take(store: QueueStore, now: float = 1e12, count: int = 100) -> dict[str, QueuedMessage]:
    return {message.id: message for message in await store.due(now, room(count))}


async def text(store: QueueStore, message: QueuedMessage) -> bytes:
    return b"".join([await settle(piece) for piece in store.content(message).pieces()])


async def until(condition: Any) -> None:
    """Turns of the reactor, until the condition holds; the test's own time limit is the end of patience."""
    while not condition():
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.002, turn.callback, None)
        await turn


def bodies(directory: Path) -> list[Path]:
    return sorted((directory / "bodies").iterdir())


def modes(directory: Path) -> set[str]:
    """How the files and directories of a queue can be used, and by whom."""
    return {stat.filemode(path.stat().st_mode) for path in [directory, *directory.rglob("*")]}
