"""TLS as clients begin it: which certificates count, and under which name.

Knows Twisted's TLS. Must not know SMTP.
"""

# Twisted's TLS layer is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from zope.interface import implementer

from ..model.idn import asciiDomain
from ..model.networks import isAddress
from .tls import endPoint
from .verification import Verification

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from twisted.protocols.tls import TLSMemoryBIOProtocol

Trust: TypeAlias = Callable[[str], IOpenSSLClientConnectionCreator]
"""Makes TLS for one connection to a server of that name, whose certificate has to verify and to name it; what is made may have an attribute
`refusal`, which says why that was not so."""


def platformTrust(host: str) -> IOpenSSLClientConnectionCreator:
    """Trusts the authorities that this machine trusts, as it did when the process first asked: to read them takes ten milliseconds."""
    return Verified(host, _platformOptions())


@implementer(IOpenSSLClientConnectionCreator)
class Verified:
    """Takes a certificate that verifies and names the server; of another it remembers why it is not taken. For one connection.

    Args:
        host: the server's name or address.
        options: whom to trust.
    """

    def __init__(self, host: str, options: CertificateOptions) -> None:
        self._host = host
        self._options = options
        self._verification = Verification(host)

    @property
    def refusal(self) -> str:
        """Why the certificate was not taken, as a sentence; empty while there is nothing against it."""
        return self._verification.refusal

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = _connection(self._options.getContext(), self._host)
        connection.set_verify(SSL.VERIFY_PEER, self._verification.look)
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class AnyCertificate:
    """Encrypts, and takes whatever certificate the server shows: better than nothing (RFC 7435), and no protection from who stands in between.

    Args:
        host: the server's name, which it is told (RFC 6066 3); empty for none.
    """

    def __init__(self, host: str) -> None:
        self._host = host

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return _connection(_context(), self._host)


def binding(transport: TLSMemoryBIOProtocol) -> bytes | None:
    """What SCRAM-PLUS binds to: the data of ``tls-server-end-point`` (RFC 5929 4)."""
    certificate: X509 | None = transport.getHandle().get_peer_certificate()
    return endPoint(certificate.to_cryptography()) if certificate is not None else None


@lru_cache(maxsize=1)
def _platformOptions() -> CertificateOptions:
    return CertificateOptions(trustRoot=ssl.platformTrust())


@lru_cache(maxsize=1)
def _context() -> SSL.Context:
    return CertificateOptions(verify=False).getContext()


def _connection(context: SSL.Context, host: str) -> SSL.Connection:
    connection = SSL.Connection(context, None)
    if host and not isAddress(host):
        # RFC 6066 3: a name, and never an address.
        connection.set_tlsext_host_name(asciiDomain(host).encode())
    return connection
