"""The wire trace: everything but texts and secrets, and nothing changes on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from twisted_smtplite.app.wiretrace import WireTrace

PEER = IPv4Address("TCP", "192.0.2.7", 4321)


class Server(Protocol):
    """Does nothing by itself."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True


class Factory(ServerFactory):
    """Stands for the server's factory."""

    def __init__(self) -> None:
        self.protocol = Server  # type: ignore[assignment]
        self.drained: Deferred[None] = Deferred()

    def drain(self) -> Deferred[None]:
        return self.drained


class Session:
    """One traced connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, peer: Any = PEER) -> None:
        events: list[Any] = []
        self.events = events
        monkeypatch.setattr("twisted_smtplite.app.wiretrace._log", Logger(namespace="smtplite.wire", observer=events.append))  # type: ignore[arg-type]
        self.transport = StringTransport(peerAddress=peer)
        self.wrapper: Any = WireTrace(Factory()).buildProtocol(peer)  # type: ignore[arg-type]
        self.wrapper.makeConnection(self.transport)
        self.server = self.wrapper.wrappedProtocol

    def client(self, data: bytes) -> None:
        self.wrapper.dataReceived(data)

    def says(self, data: bytes) -> None:
        self.server.transport.write(data)

    def trace(self) -> list[str]:
        return [formatEvent(event).removeprefix("192.0.2.7:4321 ") for event in self.events]


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Session:
    return Session(monkeypatch)


def test_both_sides_are_traced_and_nothing_is_changed(it: Session) -> None:
    it.says(b"220 mx.test\r\n")
    it.client(b"EHLO a\r\nNOOP\x00\r\n")
    it.server.transport.writeSequence([b"250 ", b"OK\r\n"])
    server = it.server
    it.wrapper.connectionLost(Failure(ConnectionDone()))
    assert it.trace() == [r"S: b'220 mx.test\r\n'", r"C: b'EHLO a\r\nNOOP\x00\r\n'", r"S: b'250 OK\r\n'", "closed"]
    assert (server.heard, it.transport.value(), server.lost) == (b"EHLO a\r\nNOOP\x00\r\n", b"220 mx.test\r\n250 OK\r\n", True)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 1000])
def test_the_text_of_a_message_is_counted_and_not_shown(it: Session, size: int) -> None:
    it.client(b"DATA\r\n")
    it.says(b"250 OK\r\n354 Go\r\n")
    text = b"Subject: private\r\n\r\n..\r\n.\r\n"
    for start in range(0, len(text), size):
        it.client(text[start : start + size])
    it.client(b"QUIT\r\n")
    assert it.trace()[2:] == [f"C: (message text, {len(text)} octets)", r"C: b'QUIT\r\n'"]
    assert it.server.heard == b"DATA\r\n" + text + b"QUIT\r\n"


def test_commands_behind_a_text_are_shown(it: Session) -> None:
    it.says(b"354 Go\r\n")
    it.client(b".\r\nNOOP\r\n")
    assert it.trace()[1:] == ["C: (message text, 3 octets)", r"C: b'NOOP\r\n'"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_chunks_of_a_message_are_not_shown(it: Session, size: int) -> None:
    sent = b"BDAT 9\r\nprivate\r\nbdat 4 LAST\r\nmineQUIT\r\n"
    for start in range(0, len(sent), size):
        it.client(sent[start : start + size])
    assert "".join(line.removeprefix("C: b'").removesuffix("'") for line in it.trace()) == r"BDAT 9\r\nbdat 4 LAST\r\nQUIT\r\n"
    assert it.server.heard == sent


def test_a_text_that_is_cut_off_is_counted(it: Session) -> None:
    it.says(b"354 Go\r\n")
    it.client(b"abc")
    it.says(b"421 Timeout\r\n")
    assert it.trace()[1:] == ["C: (message text, 3 octets)", r"S: b'421 Timeout\r\n'"]


def test_secrets_are_not_shown(it: Session) -> None:
    it.client(b"NOOP\r\nau")
    it.client(b"th  plain AGEA")
    it.client(b"Yg==\r\n")
    it.says(b"334 VXNlcm5hbWU6\r\n")
    it.client(b"c2VjcmV0\r\n")
    it.says(b"235 2.7.0 OK\r\n")
    it.client(b"RSET\r\n")
    assert it.trace() == [
        r"C: b'NOOP\r\n'",
        "C: b'auth  plain (11 octets)'",
        r"S: b'334 VXNlcm5hbWU6\r\n'",
        "C: b'(secret)'",
        r"S: b'235 2.7.0 OK\r\n'",
        r"C: b'RSET\r\n'",
    ]


def test_what_a_hasty_client_sends_behind_auth_or_data_is_not_shown(it: Session) -> None:
    it.client(b"AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n")
    it.client(b"data\r\nSubject: private\r\n\r\n.\r\n")
    it.client(b"DATA\r\n")
    it.client(b"AUTH PLAIN " + b"x" * 1000)
    it.client(b"x" * 1001)
    it.client(b"y\r\n")
    it.client(b"NOOP\r\n")
    assert it.trace() == [
        "C: b'AUTH LOGIN (22 octets)'",
        "C: b'data (25 octets)'",
        r"C: b'DATA\r\n'",
        "C: b'AUTH PLAIN (1001 octets)'",
        "C: b'(secret)'",
        "C: b'(secret)'",
        r"C: b'NOOP\r\n'",
    ]


def test_what_the_client_had_not_ended_is_shown_when_it_leaves(it: Session) -> None:
    it.client(b"NOO")
    it.wrapper.connectionLost(Failure(ConnectionDone()))
    assert it.trace() == ["C: b'NOO'", "closed"]


def test_commands_are_shown_again_after_a_text_that_never_came(it: Session) -> None:
    it.says(b"354 Go\r\n")
    it.says(b"421 Timeout\r\n")
    it.client(b"NOOP\r\n")
    assert it.trace()[2:] == [r"C: b'NOOP\r\n'"]


def test_long_reads_are_cut_short(it: Session) -> None:
    it.client(b"x" * 1003)
    assert it.trace() == [f"C: b'{'x' * 1000}' (and 3 octets)"]


def test_a_client_on_a_unix_socket_is_called_unix(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Session(monkeypatch, UNIXAddress(None))
    it.says(b"220 x\r\n")
    assert it.trace() == [r"unix S: b'220 x\r\n'"]


def test_a_connection_that_the_factory_refuses_is_refused() -> None:
    factory = Factory()
    factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    assert WireTrace(factory).buildProtocol(PEER) is None  # type: ignore[arg-type]


def test_draining_is_the_factorys_business() -> None:
    factory = Factory()
    assert WireTrace(factory).drain() is factory.drained  # type: ignore[arg-type]
