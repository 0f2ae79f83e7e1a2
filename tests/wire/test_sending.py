"""Small replies sent at once, over real connections: nothing is lost, doubled or out of order, whatever the kernel takes."""

from __future__ import annotations

import socket
from collections.abc import Generator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from twisted_smtplite.wire.sending import Prompt, send


class Held(Protocol):
    """A connection that the test talks through."""

    def connectionMade(self) -> None:
        self.lost: Deferred[None] = Deferred()
        self.factory.made.callback(self)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


@pytest.fixture
def port() -> Generator[Any, None, None]:
    factory = Factory.forProtocol(Held)
    factory.made = Deferred()  # type: ignore[attr-defined]
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    yield listening
    pytest_twisted.blockon(listening.stopListening())


async def connect(port: Any) -> tuple[socket.socket, Held]:
    client = socket.create_connection(("127.0.0.1", port.getHost().port))
    client.settimeout(10)
    return client, await port.factory.made


@pytest_twisted.ensureDeferred
async def test_a_small_reply_is_there_before_the_reactor_comes_round(port: Any) -> None:
    client, held = await connect(port)
    with client:
        send(held.transport, b"250 OK\r\n")  # type: ignore[arg-type]
        # In this very turn: the reactor has had no chance to do it.
        assert client.recv(100) == b"250 OK\r\n"
    await held.lost


@pytest_twisted.ensureDeferred
async def test_what_stands_on_a_prompt_connection_sends_at_once_and_finds_all_else_of_it(port: Any) -> None:
    client, held = await connect(port)
    with client:
        prompt = Prompt(held.transport)  # type: ignore[arg-type]
        prompt.write(b"250 OK\r\n")
        assert client.recv(100) == b"250 OK\r\n"
        assert ITCPTransport.providedBy(prompt)
        assert prompt.getPeer() == held.transport.getPeer()  # type: ignore[union-attr]
        prompt.loseConnection()
        await held.lost


@pytest_twisted.ensureDeferred
async def test_what_the_kernel_does_not_take_follows_and_keeps_its_order(port: Any) -> None:
    client, held = await connect(port)
    pieces = [bytes([number]) * 1_000_000 for number in range(1, 9)]

    def read() -> bytes:
        data = b""
        while len(data) < 8_000_000:
            data += client.recv(1 << 20)
        return data

    with client:
        for piece in pieces:
            send(held.transport, piece)  # type: ignore[arg-type]
        assert await deferToThread(read) == b"".join(pieces)
    await held.lost


@pytest_twisted.ensureDeferred
async def test_what_was_written_the_usual_way_goes_first(port: Any) -> None:
    client, held = await connect(port)

    def read() -> bytes:
        data = b""
        while len(data) < 2:
            data += client.recv(10)
        return data

    with client:
        held.transport.write(b"1")  # type: ignore[union-attr]
        send(held.transport, b"2")  # type: ignore[arg-type]
        assert await deferToThread(read) == b"12"
    await held.lost


@pytest_twisted.ensureDeferred
async def test_a_peer_that_is_gone_is_no_error(port: Any) -> None:
    client, held = await connect(port)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    for _ in range(3):
        send(held.transport, b"250 OK\r\n")  # type: ignore[arg-type]
    await held.lost
    send(held.transport, b"250 OK\r\n")  # type: ignore[arg-type]


def test_any_other_transport_is_written_to() -> None:
    transport = StringTransport()
    send(transport, b"250 OK\r\n")
    assert transport.value() == b"250 OK\r\n"
