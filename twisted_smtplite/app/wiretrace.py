"""The wire trace of ``--verbose``: what goes over the wire, in a log event for each read and write.

Knows enough SMTP to leave out the text of messages and the secrets of AUTH. Must not change a single octet: it wraps the factory and its
protocols, and the server does not know that it is there.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from .log import peerText

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..wire.factory import SMTPServerFactory

_log = Logger(namespace="smtplite.wire")
# What one event shows, in octets.
_SHOWN = 1000
_END_OF_TEXT = b"\r\n.\r\n"
_CHUNK = re.compile(rb"(?im)^BDAT +([0-9]{1,20})[^\r\n]*\r\n")
# Behind these in one read come secrets, or the text of a message, from a client that does not wait for its turn.
_PRIVATE = re.compile(rb"(?ims)^(AUTH[ \t]+\S+|DATA[ \t]*)(?=\s)(.+)")


@implementer(IHandshakeListener)
class _Tracer(ProtocolWrapper):
    """Traces one connection. The client is shown in whole lines, so that a secret cannot slip by in two halves.

    Attributes:
        _line: the beginning of a line of the client.
        _text: None, or how many octets came of a message on its way in.
        _tail: the last octets of that message.
        _chunk: how many octets are still to come of a chunk of a message.
        _secret: True when the next line is one.
    """

    _line = b""
    _text: int | None = None
    _tail = b""
    _chunk = 0
    _secret = False

    def dataReceived(self, data: bytes) -> None:
        """From the client."""
        lines = self._skipChunks(self._line + (data if self._text is None else self._skipText(data)))
        end = lines.rfind(b"\n") + 1
        if len(lines) - end > _SHOWN:
            end = len(lines)
        self._line = lines[end:]
        self._showClient(lines[:end])
        super().dataReceived(data)

    def handshakeCompleted(self) -> None:
        """TLS is there, below: what is read and written here stays clear text."""
        directlyProvides(self, providedBy(self.transport))
        connection = self.transport.getHandle()  # type: ignore[union-attr]
        _log.info("{peer} {version} {cipher}", peer=self._peer(), version=connection.get_protocol_version_name(), cipher=connection.get_cipher_name())
        # What was typed before is forgotten, as the server does.
        self._line = b""
        self.wrappedProtocol.handshakeCompleted()  # type: ignore[attr-defined]

    def _showClient(self, lines: bytes) -> None:
        if not lines:
            return
        private = _PRIVATE.search(lines)
        if self._secret:
            self._trace("C", b"(secret)")
        elif private and private[2] != b"\r\n":
            self._trace("C", lines[: private.start(2)] + b" (%d octets)" % len(private[2]))
        else:
            self._trace("C", lines)
        self._secret = bool(private or self._secret) and not lines.endswith(b"\n")

    def _skipChunks(self, data: bytes) -> bytes:
        """Returns `data` without the octets that BDAT announced, which are text (RFC 3030 2)."""
        kept = b""
        while data:
            skipped, data = data[: self._chunk], data[self._chunk :]
            self._chunk -= len(skipped)
            command = _CHUNK.search(data)
            end = command.end() if command else len(data)
            self._chunk += int(command[1]) if command else 0
            kept, data = kept + data[:end], data[end:]
        return kept

    def _skipText(self, data: bytes) -> bytes:
        """Counts the text of a message, and returns what follows its end."""
        window = self._tail + data
        end = window.find(_END_OF_TEXT)
        rest = b"" if end < 0 else window[end + len(_END_OF_TEXT) :]
        self._text = (self._text or 0) + len(data) - len(rest)
        self._tail = window[-len(_END_OF_TEXT) + 1 :]
        if end >= 0:
            self._endText()
        return rest

    def _endText(self) -> None:
        if self._text:
            _log.info("{peer} C: (message text, {octets} octets)", peer=self._peer(), octets=self._text)
        self._text = None

    def write(self, data: bytes) -> None:
        """To the client."""
        # A reply before the end of the text: it was cut off.
        self._endText()
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
        self._endText()
        self._showClient(self._line)
        _log.info("{peer} closed", peer=self._peer())
        super().connectionLost(reason)

    def _trace(self, side: str, data: bytes) -> None:
        more = f" (and {len(data) - _SHOWN} octets)" if len(data) > _SHOWN else ""
        _log.info("{peer} {side}: {data!r}{more}", peer=self._peer(), side=side, data=data[:_SHOWN], more=more)

    def _peer(self) -> str:
        peer = self.getPeer()
        return peerText(getattr(peer, "host", ""), getattr(peer, "port", 0))


# Not WrappingFactory[_Tracer]: it was no generic class in the oldest Twisted that we run on.
class WireTrace(WrappingFactory):
    """Stands in for an `SMTPServerFactory`, and logs what its connections read and write.

    Args:
        server: the factory.
    """

    noisy = False
    protocol = _Tracer

    def __init__(self, server: SMTPServerFactory) -> None:
        super().__init__(server)
        self._server = server

    @property
    def sessions(self) -> int:
        """How many sessions the wrapped factory has."""
        return self._server.sessions

    def buildProtocol(self, addr: IAddress) -> _Tracer | None:  # type: ignore[override]
        """A traced protocol, or None when the factory refuses the connection."""
        protocol = self._server.buildProtocol(addr)
        return None if protocol is None else _Tracer(self, protocol)  # type: ignore[arg-type]

    def drain(self) -> Deferred[None]:
        """Drains the wrapped factory."""
        return self._server.drain()
