"""TLS on a connection: putting it there, and what it tells about the peer.

Knows Twisted's TLS. Must not know SMTP, nor where certificates come from.
"""

# Twisted's TLS layer is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

if TYPE_CHECKING:
    from ..model.envelope import SessionInfo
    from .lines import PatientLineReceiver


def startTLS(protocol: PatientLineReceiver, creator: IOpenSSLServerConnectionCreator, reactor: IReactorTime) -> None:
    """Puts a TLS layer under a connected protocol, which from now on talks to its peer through that.

    Not `transport.startTLS`: that one takes its clock from the global reactor, which need not be the one that runs.
    """
    raw = protocol.transport
    factory = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(type(protocol)), clock=reactor)
    raw.unregisterProducer()  # type: ignore[attr-defined]
    layer = factory.protocol(factory, protocol, False)
    raw.protocol = layer  # type: ignore[attr-defined]
    layer.makeConnection(raw)
    protocol.transport = layer
    layer.registerProducer(protocol, True)


def noteFacts(transport: TLSMemoryBIOProtocol, info: SessionInfo) -> None:
    """Writes down what a finished handshake tells of the peer."""
    connection = transport.getHandle()
    info.tlsVersion = connection.get_protocol_version_name()
    info.tlsCipher = connection.get_cipher_name() or ""
    serverName = connection.get_servername()
    info.serverName = serverName.decode("ascii", "replace") if serverName else None
    certificate = connection.get_peer_certificate()
    # OpenSSL has verified it: an unverified one ends the handshake.
    info.certificate = certificate.get_subject().CN if certificate is not None else None
    own = connection.get_certificate()
    info.channelBinding = _endPoint(own) if own is not None else None


def _endPoint(certificate: object) -> bytes:
    """The data of tls-server-end-point (RFC 5929 4.1): the certificate's hash, by its signature's algorithm, but SHA-256 for MD5 and SHA-1."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    parsed: x509.Certificate = certificate.to_cryptography()  # type: ignore[attr-defined]
    algorithm = parsed.signature_hash_algorithm
    name = algorithm.name if algorithm is not None else "sha256"
    return hashlib.new("sha256" if name in ("md5", "sha1") else name, parsed.public_bytes(Encoding.DER)).digest()
