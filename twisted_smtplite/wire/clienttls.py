"""TLS as clients begin it: which certificates count, and under which name.

Knows Twisted's TLS. Must not know SMTP.
"""

# Twisted's TLS layer is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeAlias

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from zope.interface import implementer

from .tls import endPoint

if TYPE_CHECKING:
    from OpenSSL.crypto import X509
    from twisted.protocols.tls import TLSMemoryBIOProtocol

Trust: TypeAlias = Callable[[str], IOpenSSLClientConnectionCreator]
"""Makes the client side of TLS to a server of that name, whose certificate has to verify and to name it."""


def platformTrust(host: str) -> IOpenSSLClientConnectionCreator:
    """Trusts the authorities that this machine trusts (RFC 7817 3: wildcards only as a whole left label)."""
    return optionsForClientTLS(host)


@implementer(IOpenSSLClientConnectionCreator)
class AnyCertificate:
    """Encrypts, and takes whatever certificate the server shows: better than nothing (RFC 7435), and no protection from who stands in between.

    Args:
        host: the server's name, which it is told (RFC 6066 3); empty for none.
    """

    def __init__(self, host: str) -> None:
        self._name = b"" if _isAddress(host) else host.encode("idna")

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(_context(), None)
        if self._name:
            connection.set_tlsext_host_name(self._name)
        return connection


def binding(transport: TLSMemoryBIOProtocol) -> bytes | None:
    """What SCRAM-PLUS binds to: the data of ``tls-server-end-point`` (RFC 5929 4)."""
    certificate: X509 | None = transport.getHandle().get_peer_certificate()
    return endPoint(certificate.to_cryptography()) if certificate is not None else None


@lru_cache(maxsize=1)
def _context() -> SSL.Context:
    return CertificateOptions(verify=False).getContext()


def _isAddress(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return not host
    return True
