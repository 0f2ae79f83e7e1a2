"""The client's side of TLS without a socket: what it says and hears in words, and the octets that travel for them."""

from __future__ import annotations

import ssl
from functools import cache

from tlsstage import Creator


@cache
def certified() -> Creator:
    """The server's certificate, made once for all the tests."""
    return Creator()


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TLSClient:
    """One side of one TLS connection. It begins with the first `say`.

    Args:
        serverName: whom it asks for (SNI), if anybody.

    Attributes:
        established: True once the handshake is done.
        over: True once the server has ended TLS, or either side has failed.
    """

    def __init__(self, serverName: str = "") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context().wrap_bio(self._incoming, self._outgoing, server_hostname=serverName or None)
        self._unsaid = b""
        self._heard = b""
        self.established = False
        self.over = False

    def say(self, data: bytes = b"") -> bytes:
        """The octets to send, with `data` in them as soon as the handshake is done. Without data: what TLS itself has to say."""
        self._unsaid += data
        self._goOn()
        return self._outgoing.read()

    def hear(self, octets: bytes) -> bytes:
        """What the server says in these octets. An answer to them may be due, see `say`."""
        self._incoming.write(octets)
        self._goOn()
        heard, self._heard = self._heard, b""
        return heard

    def _goOn(self) -> None:
        if self.over:
            return
        try:
            if not self.established:
                self._tls.do_handshake()
                self.established = True
            if self._unsaid:
                self._tls.write(self._unsaid)
                self._unsaid = b""
            while piece := self._tls.read(65_536):
                self._heard += piece
            self.over = True
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            # The rest has not come yet.
            pass
        except ssl.SSLError:
            self.over = True
