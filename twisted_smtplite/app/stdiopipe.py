"""``sendmail -bs``: joins standard input and output to a connection, octet for octet.

Knows both ends. Must not know what is said: the program at one end and the server at the other speak SMTP.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint

_QUIT = b"QUIT\r\n"


@implementer(IHalfCloseableProtocol)
class _Program(Protocol):
    """Standard input and output.

    Attributes:
        server: the other end.
        ended: fires when this one is closed.
    """

    server: _Server
    ended: Deferred[None]
    _tail = b""

    def dataReceived(self, data: bytes) -> None:
        """Passes on what the program says."""
        self._tail = (self._tail + data)[-len(_QUIT) :]
        self.server.passOn(data)

    def readConnectionLost(self) -> None:
        """The program will say no more, but may hear the rest."""
        # A server that has been told QUIT closes by itself. To one that has not, this is the end, and many drop their replies then.
        if self._tail.upper() != _QUIT:
            self.server.noMore()

    def writeConnectionLost(self) -> None:
        """The program does not hear any more."""
        self.connectionLost()

    def passOn(self, data: bytes) -> None:
        """Tells the program what the server says."""
        cast(Any, self.transport).write(data)

    def noMore(self) -> None:
        """The server is gone; what it has said last is still told."""
        cast(Any, self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """All is said and done."""
        cast(Any, self.server.transport).loseConnection()
        if not self.ended.called:
            self.ended.callback(None)


class _Server(Protocol):
    """The connection.

    Attributes:
        program: the other end.
        failure: how it broke, or None.
    """

    program: _Program
    failure: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Passes on what the server says."""
        self.program.passOn(data)

    def passOn(self, data: bytes) -> None:
        """Tells the server what the program says."""
        cast(Any, self.transport).write(data)

    def noMore(self) -> None:
        """Tells the server that the program will say no more."""
        cast(Any, self.transport).loseWriteConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        self.failure = None if reason.check(ConnectionDone) else reason
        self.program.noMore()


async def join(endpoint: IStreamClientEndpoint, reactor: Any) -> None:
    """Connects, and passes octets in both directions until both ends have closed.

    Raises:
        Exception: no connection came about, or it broke.
    """
    program, server = _Program(), _Server()
    program.server, server.program = server, program
    program.ended = Deferred()
    await endpoint.connect(Factory.forProtocol(lambda: server))
    output, connection = StandardIO(program, reactor=reactor), cast(Any, server.transport)
    # Who does not read holds the other up.
    output.registerProducer(connection, True)
    connection.registerProducer(output, True)
    await program.ended
    if server.failure is not None:
        server.failure.raiseException()
