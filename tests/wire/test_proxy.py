"""What stands in front of a factory for the sake of proxies, where the transcripts cannot look: its ends, its bounds, and TLS behind the header."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest_twisted
from actors import ScriptedDelivery, StrictTransport
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.networks import Networks
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.proxy import ProxiedEndpoint, ProxyFactory

PROXY = IPv4Address("TCP", "192.0.2.1", 1)
HEADER = b"PROXY TCP4 203.0.113.9 198.51.100.1 40000 25\r\n"


class Nobody(Factory):
    """Serves nobody."""

    noisy = False

    def buildProtocol(self, addr: Any) -> None:
        return None


def connected(factory: ProxyFactory, address: Any = PROXY) -> StrictTransport:
    transport = StrictTransport()
    protocol = factory.buildProtocol(address)
    assert isinstance(protocol, Protocol)
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return transport


def behind(inner: Any, clock: Clock, *networks: str, **limits: Any) -> ProxyFactory:
    factory = ProxyFactory(inner, Networks(networks or ("192.0.2.1",)), clock, Limits(**limits))
    factory.doStart()
    return factory


def test_whoever_waits_with_the_header_is_not_waited_for_when_the_server_stops() -> None:
    clock = Clock()
    factory = behind(Nobody(), clock)
    transport = connected(factory)
    factory.doStop()
    assert transport.disconnected and clock.getDelayedCalls() == [] and not factory.waiting
    # What was under way all the same is dropped.
    transport.disconnected = False
    transport.protocol.dataReceived(HEADER)  # type: ignore[union-attr]
    assert not transport.disconnected


def test_no_more_connections_wait_for_a_header_than_there_may_be() -> None:
    factory = behind(Nobody(), Clock(), connections=1)
    transport = connected(factory)
    assert factory.buildProtocol(PROXY) is None
    transport.hangUp()
    assert factory.buildProtocol(PROXY) is not None


def test_a_client_that_the_factory_does_not_serve_is_cut_off() -> None:
    factory = behind(Nobody(), Clock())
    transport = connected(factory)
    transport.send(HEADER)
    assert transport.disconnected and not factory.waiting


def test_a_proxy_on_a_unix_socket_is_trusted_where_that_is_said() -> None:
    clock = Clock()
    inner = SMTPServerFactory(ScriptedDelivery(clock), clock, hostname="mx.test")
    factory = behind(inner, clock, "unix")
    transport = connected(factory, UNIXAddress(None))
    transport.send(HEADER[:20])
    assert transport.written == b""
    transport.send(HEADER[20:])
    assert transport.written.startswith(b"220 ")
    assert transport.protocol.info.peerHost == "203.0.113.9"  # type: ignore[union-attr]
    stranger = connected(behind(inner, clock), UNIXAddress(None))
    assert stranger.written.startswith(b"220 ")


def _certificate() -> PrivateCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.test")])
    now = datetime.now(timezone.utc)
    day = timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair = KeyPair.load(pem, 1)
    return PrivateCertificate.fromCertificateAndKeyPair(Certificate.loadPEM(made.public_bytes(serialization.Encoding.PEM)), pair)


def _talk(port: int, header: bytes) -> bytes:
    """Sends the header, and says EHLO inside TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        plain.sendall(header)
        with context.wrap_socket(plain) as client:
            file = client.makefile("rwb")
            greeting = bytes(file.readline())
            file.write(b"EHLO client.test\r\nQUIT\r\n")
            file.flush()
            return greeting + bytes(file.read())


def _binary(facts: bytes) -> bytes:
    body = socket.inet_aton("203.0.113.9") + socket.inet_aton("198.51.100.1") + bytes((0x9C, 0x40, 0, 25)) + facts
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(body).to_bytes(2, "big") + body


@pytest_twisted.ensureDeferred
async def test_tls_comes_behind_the_header(tmp_path: Path) -> None:
    ended: list[Any] = []
    clock: Any = reactor
    server = SMTPServerFactory(ScriptedDelivery(Clock()), clock, hostname="mx.test", observer=_Observer(ended))
    certificate = _certificate()
    options = CertificateOptions(privateKey=certificate.privateKey.original, certificate=certificate.original)
    endpoint = ProxiedEndpoint(serverFromString(reactor, "tcp:0:interface=127.0.0.1"), ["127.0.0.1"], clock)
    listening = await endpoint.listen(TLSMemoryBIOFactory(options, False, server, clock=clock))
    port = listening.getHost().port
    for header in (HEADER, _binary(b""), _binary(b"\x20\x00\x0f\x01\0\0\0\0\x21\0\x07TLSv1.0")):
        heard = await deferToThread(_talk, port, header)
        assert heard.startswith(b"220 mx.test ") and b"\r\n221 " in heard and b"STARTTLS" not in heard
    await listening.stopListening()
    await server.drain()
    assert [(info.peerHost, info.peerPort) for info in ended] == [("203.0.113.9", 40000)] * 3
    # The last client spoke TLS with the proxy, which speaks it anew with us: what counts is the client's.
    assert [info.tlsVersion for info in ended] == ["TLSv1.3", "TLSv1.3", "TLSv1.0"]


class _Observer:
    def __init__(self, ended: list[Any]) -> None:
        self._ended = ended

    def sessionStarted(self, session: Any) -> None: ...

    def sessionEnded(self, session: Any, cause: str, messages: int) -> None:
        self._ended.append(session)
