"""The wire trace of ``--verbose``: what goes over the wire, a log event for each read and write.

Knows enough SMTP to leave out the text of messages and the secrets of AUTH. Must not change a single octet: it wraps the factory and its
protocols, and the server does not know that it is there.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..wire.factory import SMTPServerFactory

_log = Logger(namespace="smtplite.wire")
# What one event shows of one read or write, in octets.
_SHOWN = 1000
_END_OF_TEXT = b"\r\n.\r\n"
_AUTH = re.compile(rb"(?im)^(AUTH[ \t]+[^\s]+[ \t]+)[^\r\n]+")


class _Tracer(ProtocolWrapper):
    """Traces one connection.

    Attributes:
        _text: None, or what is known of a message on its way in: how many octets of it came.
    """

    _text: int | None = None
    _tail = b""
    _secret = False

    def dataReceived(self, data: bytes) -> None:
        """From the client."""
        commands = data if self._text is None else self._skipText(data)
        if commands:
            self._trace("C", b"(secret)" if self._secret else _AUTH.sub(rb"\1(secret)", commands))
            self._secret = False
        super().dataReceived(data)

    def _skipText(self, data: bytes) -> bytes:
        """Counts the text of a message, and returns what follows its end."""
        window = self._tail + data
        end = window.find(_END_OF_TEXT)
        if end < 0:
            self._text = (self._text or 0) + len(data)
            self._tail = window[-len(_END_OF_TEXT) + 1 :]
            return b""
        rest = window[end + len(_END_OF_TEXT) :]
        self._endText((self._text or 0) + len(data) - len(rest))
        return rest

    def _endText(self, octets: int) -> None:
        self._text = None
        _log.info("{peer} C: (message text, {octets} octets)", peer=self._peer(), octets=octets)

    def write(self, data: bytes) -> None:
        """To the client."""
        if self._text:
            # A reply before the end of the text: it was cut off.
            self._endText(self._text)
        self._trace("S", data)
        # The reply that counts is the last one: replies to pipelined commands travel together.
        last = data[data.rfind(b"\n", 0, -1) + 1 :]
        if last.startswith(b"354"):
            # The CRLF in front of the text: a message may be empty, and then the dot comes first.
            self._text, self._tail = 0, b"\r\n"
        self._secret = last.startswith(b"334")
        super().write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """To the client."""
        self.write(b"".join(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        _log.info("{peer} closed", peer=self._peer())
        super().connectionLost(reason)

    def _trace(self, side: str, data: bytes) -> None:
        more = f" (and {len(data) - _SHOWN} octets)" if len(data) > _SHOWN else ""
        _log.info("{peer} {side}: {data!r}{more}", peer=self._peer(), side=side, data=data[:_SHOWN], more=more)

    def _peer(self) -> str:
        peer = self.getPeer()
        return f"{peer.host}:{peer.port}" if hasattr(peer, "host") else "unix"


class WireTrace(WrappingFactory[_Tracer]):
    """Stands in for an `SMTPServerFactory`, and logs what its connections read and write.

    Args:
        server: the factory.
    """

    noisy = False
    protocol = _Tracer

    def __init__(self, server: SMTPServerFactory) -> None:
        super().__init__(server)
        self._server = server

    def buildProtocol(self, addr: IAddress) -> _Tracer | None:  # type: ignore[override]
        """A traced protocol, or None when the factory refuses the connection."""
        protocol = self._server.buildProtocol(addr)
        return None if protocol is None else _Tracer(self, protocol)

    def drain(self) -> Deferred[None]:
        """Drains the wrapped factory."""
        return self._server.drain()
