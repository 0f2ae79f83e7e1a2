"""Framing and flow control: a LineReceiver that is linear in what it reads, writes once per read, and never holds more than one read.

Knows lines, raw mode, and when to stop parsing or reading. Must not know SMTP: client and server sessions both stand on it. What it changes in
LineReceiver: lines are found with an offset instead of a copy of the tail for each; an over-long line is reported once and its tail never
taken for a line; a protocol that waits or closes is not given another line; output is gathered and leaves in one write.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag

from twisted.internet.interfaces import IPushProducer, ISSLTransport, ITCPTransport, ITransport
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from .sending import send


class Hold(IntFlag):
    """Why no more input is parsed at the moment."""

    WAITING = 1
    """The answer to what was read before is still to come."""
    OUTPUT = 2
    """The peer does not read what it was sent."""
    CLOSING = 4
    """The connection is closing: whatever is left is dropped."""
    TURN = 8
    """It has had its turn; others come first."""


# As plain integers: arithmetic on flags costs as much as a command.
_WAITING, _OUTPUT, _CLOSING, _TURN = (int(hold) for hold in Hold)


@implementer(IPushProducer)
class PatientLineReceiver(LineReceiver):
    """A LineReceiver that can be told to wait.

    Subclasses override `lineReceived`, `rawDataReceived` and `lineLengthExceeded`, append to `output`, and return None from all of them.

    Attributes:
        MAX_LENGTH: octets of the longest line without its CRLF.
        CHUNK: octets of raw data that are handed out at a time.
        TURN: how many lines are taken in one turn of the reactor, so that a peer who sends many does not keep the others waiting.
        output: what will be written at the end of this read.
    """

    __slots__ = ("_action", "_discarding", "_holds", "_parsing", "_reading", "_unread", "output")

    delimiter = b"\r\n"
    transport: ITransport
    CHUNK = 65_536
    TURN = 256

    def __init__(self) -> None:
        self.output: list[bytes] = []
        self._unread = b""
        self._holds = 0
        self._parsing = False
        self._reading = True
        self._discarding = False
        self._action: Callable[[], None] | None = None

    def makeConnection(self, transport: ITransport) -> None:
        """Puts the connection under flow control: a peer that does not read what it is sent is not read from either."""
        transport.registerProducer(self, True)  # type: ignore[attr-defined]
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    @property
    def closing(self) -> bool:
        """True once the connection is about to end: nothing that the peer says counts any more."""
        return bool(self._holds & _CLOSING)

    @property
    def stuck(self) -> bool:
        """True while the peer does not read what it was sent."""
        return bool(self._holds & _OUTPUT)

    def dataReceived(self, data: bytes) -> None:
        """Takes what the network brought, and parses as much of it as may be parsed."""
        if self._holds or self._parsing:
            if not self._holds & _CLOSING:
                self._unread += data
                self.cameEarly()
                self._adjustReading()
            return
        self._parse(self._unread + data)

    def _parse(self, data: bytes) -> None:
        """Hands out lines and raw data until the data ends or something holds. What is left waits in `_unread`."""
        offset = 0
        turns = self.TURN
        self._unread = b""
        self._parsing = True
        try:
            while offset < len(data) and not self._holds:
                if self.line_mode:
                    end = data.find(b"\r\n", offset)
                    if end < 0:
                        offset = self._tail(data, offset)
                        break
                    line = data[offset:end]
                    offset = end + 2
                    if self._discarding:
                        self._discarding = False
                    elif len(line) > self.MAX_LENGTH:
                        self.lineLengthExceeded(line)
                    else:
                        self.lineReceived(line)
                    turns -= 1
                    if not turns:
                        self._holds |= _TURN
                        self.soon(self._nextTurn)
                else:
                    end = offset + self.CHUNK
                    self._unread = data[end:] + self._unread
                    self.rawDataReceived(data[offset:end])
                    # What is still to be handed out, and before it what setLineMode gave back.
                    data, self._unread, offset = self._unread, b"", 0
        finally:
            self._parsing = False
        if offset < len(data) and not self._holds & _CLOSING:
            self._unread = data[offset:] + self._unread
        if self.output:
            self.flush()
        if self._action is not None:
            self._interrupt()
        elif self._unread and self._holds:
            # Not only for the memory: a peer may end its side right behind its last command, and is not gone before that is answered.
            self._adjustReading()

    def _interrupt(self) -> None:
        """Does what parsing was interrupted for."""
        action, self._action = self._action, None
        assert action is not None, "there is something to do"
        action()
        self.release()

    def _tail(self, data: bytes, offset: int) -> int:
        """Looks at a line whose end has not come. Returns where what must be kept of it begins."""
        if not self._discarding:
            length = len(data) - offset
            # One octet more may be the CR of a line that is just as long as allowed.
            if length <= self.MAX_LENGTH or (length == self.MAX_LENGTH + 1 and data.endswith(b"\r")):
                return offset
            self._discarding = True
            self.lineLengthExceeded(data[offset : offset + self.MAX_LENGTH])
        # The CR may be half of the line's end.
        return len(data) - 1 if data.endswith(b"\r") else len(data)

    def cameEarly(self) -> None:
        """Called when input came that has to wait for something."""

    def lineReceived(self, line: bytes) -> None:
        """Takes a line without its CRLF."""
        raise NotImplementedError

    def rawDataReceived(self, data: bytes) -> None:
        """Takes octets in raw mode; ends it by `setLineMode` with what it does not want."""
        raise NotImplementedError

    def lineLengthExceeded(self, line: bytes) -> None:
        """Takes notice of an over-long line, once, as soon as it is known to be one; `line` is it, or its beginning."""
        raise NotImplementedError

    def setLineMode(self, extra: bytes = b"") -> None:
        """Ends raw mode; `extra` is parsed as lines, before anything newer."""
        self.line_mode = 1
        self._unread = extra + self._unread
        if not self._parsing:
            self._goOn()

    def setRawMode(self) -> None:
        """What follows the present line goes to `rawDataReceived`."""
        self.line_mode = 0

    def clearLineBuffer(self) -> bytes:
        """Forgets, and returns, what has been read and not parsed."""
        unread, self._unread = self._unread, b""
        return unread

    def hold(self) -> None:
        """Stops parsing until `release`: the answer to the last line or chunk is still to come."""
        self._holds |= _WAITING

    def soon(self, action: Callable[[], None]) -> None:
        """Has `action` done in the next turn of the reactor."""
        raise NotImplementedError

    def interrupt(self, action: Callable[[], None]) -> None:
        """Stops parsing behind the present line, writes what is gathered, then does `action`; `clearLineBuffer` gives it what is left."""
        self._holds |= _WAITING
        self._action = action

    def release(self) -> None:
        """Parses on after `hold`."""
        self._holds &= ~_WAITING
        self._goOn()

    def close(self, *, linger: bool = False) -> None:
        """Writes what is gathered, then closes. Nothing more is parsed, whatever the peer has sent or sends.

        Args:
            linger: only end our side, and let the peer end its own. For a peer that is still sending: input that nobody has read makes the
                kernel reset the connection, and the last words would be lost.
        """
        if self._holds & _CLOSING:
            return
        self._holds |= _CLOSING
        self._unread = b""
        self.flush()
        # A transport with a producer waits for it before it closes.
        self.transport.unregisterProducer()  # type: ignore[attr-defined]
        # RFC 8314 3.4: TLS ends with an alert on either side, so it always lingers; and of itself, once the peer is read from.
        secure = ISSLTransport.providedBy(self.transport)
        linger = linger and not secure and ITCPTransport.providedBy(self.transport)
        if linger or secure:
            self._reading = True
            self.transport.resumeProducing()  # type: ignore[attr-defined]
        if linger:
            self.transport.loseWriteConnection()  # type: ignore[attr-defined]
        else:
            self.transport.loseConnection()

    def flush(self) -> None:
        """Writes all gathered output at once."""
        output = self.output
        if output:
            data = output[0] if len(output) == 1 else b"".join(output)
            output.clear()
            send(self.transport, data)

    def _nextTurn(self) -> None:
        self._holds &= ~_TURN
        self._goOn()

    def _goOn(self) -> None:
        if not self._holds and not self._parsing:
            if self._unread:
                self._parse(self._unread)
            else:
                self.flush()
        self._adjustReading()

    def _adjustReading(self) -> None:
        """Stops reading when what came cannot be parsed yet, so that at most one read waits; starts again when it was."""
        reading = not (self._holds & _OUTPUT or (self._holds & (_WAITING | _TURN) and self._unread))
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()  # type: ignore[attr-defined]
            else:
                self.transport.pauseProducing()  # type: ignore[attr-defined]

    def pauseProducing(self) -> None:
        """The transport's buffer is full: the peer does not read."""
        self._holds |= _OUTPUT
        self._adjustReading()

    def resumeProducing(self) -> None:
        """The peer has read what it was sent."""
        self._holds &= ~_OUTPUT
        self._goOn()

    def stopProducing(self) -> None:
        """The connection is lost; connectionLost tells."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone: whatever is left of its input or output is dropped."""
        self._holds |= _CLOSING
        self._unread = b""
        self.output.clear()
