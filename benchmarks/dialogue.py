"""The server without a network: one session on a transport that goes nowhere, fed as a client would.

Knows what a read of each workload looks like. Must not know how anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock

from twisted_smtplite.delivery.null import NullDelivery
from twisted_smtplite.interfaces import ISessionObserver
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.server import SMTPServer

HELLO = b"EHLO load.test\r\n"
MAIL = b"MAIL FROM:<sender@load.test>\r\n"
RCPT = b"RCPT TO:<user0@load.test>\r\n"
DATA = b"DATA\r\n"
_HEADER = b"From: <sender@load.test>\r\nTo: <user0@load.test>\r\nSubject: load\r\n\r\n"
_LINE = b"The quick brown fox jumps over the lazy dog, and the dog does not even mind\r\n"
BODY = _HEADER + _LINE * 12 + b".\r\n"
LOCKSTEP = (MAIL, RCPT, DATA, BODY)
PIPELINED = (BODY + MAIL + RCPT + DATA,)
# As much as one read brings while a body comes.
PLAIN_CHUNK = (_LINE * 900)[:65_536]
STUFFED_CHUNK = ((_LINE * 9 + b".." + _LINE[1:]) * 90)[:65_536]


class Nowhere:
    """A transport that counts what is written and drops it."""

    disconnecting = False

    def __init__(self) -> None:
        self.written = 0
        self.last = b""

    def write(self, data: bytes) -> None:
        """Drops it."""
        self.written += len(data)
        self.last = data

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Never full."""

    def unregisterProducer(self) -> None:
        """Never was full."""

    def pauseProducing(self) -> None:
        """Nothing comes by itself."""

    def resumeProducing(self) -> None:
        """Nothing comes by itself."""

    def loseConnection(self) -> None:
        """Goes on dropping."""


class Dialogue:
    """A session that has said EHLO.

    Attributes:
        transport: what the server writes to.
        feed: gives the server a read.
    """

    def __init__(self, makeObserver: Callable[[IReactorTime], ISessionObserver | None] = lambda reactor: None) -> None:
        """`makeObserver` makes what is told of messages from the session's clock."""
        self.clock = Clock()
        reactor = cast(IReactorTime, self.clock)
        self.factory = SMTPServerFactory(NullDelivery(), reactor, hostname="mx.test", observer=makeObserver(reactor))
        self.transport, self._server = self.connect()
        self.feed = self._server.dataReceived

    def connect(self) -> tuple[Nowhere, SMTPServer]:
        """One more session, after EHLO."""
        server = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40_000))
        assert isinstance(server, SMTPServer)
        transport = Nowhere()
        server.makeConnection(transport)  # type: ignore[arg-type]
        server.dataReceived(HELLO)
        return transport, server

    def connectAndQuit(self) -> None:
        """A session that says EHLO and QUIT."""
        _, server = self.connect()
        server.dataReceived(b"QUIT\r\n")
        server.connectionLost(connectionDone)

    def play(self, reads: Sequence[bytes], times: int) -> None:
        """Feeds `reads` so many times. The last answer must be positive: nothing is measured that did not work."""
        feed = self.feed
        for _ in range(times):
            for read in reads:
                feed(read)
        self.endTurn()
        if self.transport.last[:1] not in (b"2", b"3"):
            raise AssertionError(f"the server said {self.transport.last!r}")

    def endTurn(self) -> None:
        """Lets the server do what it does once for each turn of the reactor."""
        self.clock.advance(0)
