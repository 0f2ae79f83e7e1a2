"""TLS on a connection: putting it there, and what it tells about the peer.

Knows Twisted's TLS and X.509. Must not know SMTP, nor where certificates come from.
"""

# Twisted's TLS layer is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import VerificationError
from twisted.internet.tcp import Client, Server
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from .sending import Prompt

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

    from ..model.envelope import SessionInfo
    from .lines import PatientLineReceiver

_UNVERIFIED = object()
"""The mark of a connection whose peer showed a certificate that could not be verified."""


class PromptTLS(TLSMemoryBIOProtocol):
    """TLS that encrypts and sends what it is given at once. What is said in one read is one write already: there is nothing to wait for."""

    def makeConnection(self, transport: Any) -> None:
        """Begins on top of a connection."""
        super().makeConnection(Prompt(transport) if type(transport) in (Server, Client) else transport)


class PromptTLSFactory(TLSMemoryBIOFactory):
    """Makes `PromptTLS`."""

    protocol = PromptTLS


def implicitTLS(factory: IProtocolFactory, creator: IOpenSSLServerConnectionCreator, reactor: IReactorTime) -> TLSMemoryBIOFactory:
    """A factory to listen with where TLS begins with the connection (RFC 8314 3): what `factory` makes talks inside it."""
    return PromptTLSFactory(creator, False, factory, clock=reactor)


def startTLS(
    protocol: PatientLineReceiver,
    creator: IOpenSSLServerConnectionCreator | IOpenSSLClientConnectionCreator,
    reactor: IReactorTime,
    *,
    client: bool = False,
) -> None:
    """Puts a TLS layer under a connected protocol, which from now on talks to its peer through that. A `client` begins the handshake.

    Not `transport.startTLS`: that one takes its clock from the global reactor, which need not be the one that runs. What wraps the protocol (a trace
    of the wire, say) stays between it and TLS.

    Raises:
        TypeError: what wraps the protocol does not pass on `IHandshakeListener.handshakeCompleted`.
    """
    inner: Any = protocol
    while isinstance(inner.transport, ProtocolWrapper):
        inner = inner.transport
    listener: object = inner
    if not IHandshakeListener.providedBy(listener):
        raise TypeError(f"{inner!r} would not tell the session that TLS is there: it must provide IHandshakeListener")
    raw = inner.transport
    layer = PromptTLS(TLSMemoryBIOFactory(creator, client, Factory.forProtocol(Protocol), clock=reactor), inner, False)
    raw.unregisterProducer()
    # The creator may fail here: then the connection is still the session's, which is to hear of its end.
    layer.makeConnection(raw)
    raw.protocol = layer
    inner.transport = layer
    layer.registerProducer(protocol, True)


def admitUnverified(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
    """For `SSL.Context.set_verify`, where certificates are asked for and not required: one that cannot be verified counts as none."""
    if not ok:
        connection.set_app_data(_UNVERIFIED)
    return True


def noteFacts(transport: TLSMemoryBIOProtocol, info: SessionInfo) -> None:
    """Writes down what a finished handshake tells of the peer."""
    connection: SSL.Connection = transport.getHandle()
    info.tlsVersion = connection.get_protocol_version_name()
    info.tlsCipher = connection.get_cipher_name() or ""
    serverName = connection.get_servername()
    info.serverName = serverName.decode("ascii", "replace") if serverName else None
    certificate = connection.get_peer_certificate()
    # OpenSSL ends the handshake for one that it cannot verify, unless `admitUnverified` keeps it from that.
    verified = certificate is not None and connection.get_app_data() is not _UNVERIFIED
    info.certificate = identity(cast("X509", certificate).to_cryptography()) if verified else None
    own = connection.get_certificate()
    info.channelBinding = endPoint(own.to_cryptography()) if own is not None else None


def identity(certificate: x509.Certificate) -> str | None:
    """Whom a certificate names: its first mail address, else its first host name (RFC 5280 4.2.1.6), else its common name; None if there is none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.RFC822Name), *names.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        found = []
    except ValueError:
        # An authority has signed what is no certificate by the letter: it names nobody.
        return None
    found += [str(each.value) for each in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return found[0] if found else None


def failureText(reason: BaseException | None) -> str | None:
    """How TLS ended a connection, in a few words for the log; None if it was not TLS that did."""
    if isinstance(reason, VerificationError):
        return "TLS failed: the certificate does not name the server"
    if not isinstance(reason, SSL.Error):
        return None
    causes = reason.args[0] if reason.args else []
    return f"TLS failed: {causes[0][-1] or 'unknown'}" if causes and isinstance(causes, list) else "TLS failed"


def endPoint(certificate: x509.Certificate) -> bytes:
    """The data of tls-server-end-point (RFC 5929 4.1): the certificate's hash, by its signature's algorithm, but SHA-256 for MD5 and SHA-1."""
    algorithm = certificate.signature_hash_algorithm
    name = algorithm.name if algorithm is not None else "sha256"
    return hashlib.new("sha256" if name in ("md5", "sha1") else name, certificate.public_bytes(Encoding.DER)).digest()
