"""The least that a server on Twisted can do: constant replies, no rules, no limits, no log. What is above it is the work of an SMTP server."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

_REPLIES = {b"EHLO": b"250-floor\r\n250 PIPELINING\r\n", b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}


class Floor(Protocol):
    """Answers each line, and each text."""

    _text = False
    _held = b""

    def connectionMade(self) -> None:
        self.transport.writeSomeData(b"220 floor ESMTP\r\n")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        data = self._held + data
        replies = []
        start = 0
        quits = False
        while True:
            mark = b"\r\n.\r\n" if self._text else b"\r\n"
            end = data.find(mark, start)
            if end < 0:
                break
            replies.append(b"250 ok\r\n" if self._text else _REPLIES.get(data[start : start + 4], b"250 ok\r\n"))
            quits = not self._text and data.startswith(b"QUIT", start)
            self._text = not self._text and data.startswith(b"DATA", start)
            start = end + len(mark)
        # Of a text only what may be a part of its end is kept.
        self._held = data[-4:] if self._text and start < len(data) else data[start:]
        if replies:
            self.transport.writeSomeData(b"".join(replies))  # type: ignore[union-attr]
        if quits:
            self.transport.loseConnection()  # type: ignore[union-attr]


reactor.listenTCP(0, Factory.forProtocol(Floor), backlog=1024, interface="127.0.0.1")  # type: ignore[attr-defined]
reactor.run()  # type: ignore[attr-defined]
