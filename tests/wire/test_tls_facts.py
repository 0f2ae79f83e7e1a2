"""What TLS tells about a client, and what it does not."""

from __future__ import annotations

import smtplib
import socket
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import pytest_twisted
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from OpenSSL import SSL
from tlsstage import AUTHORITY, STRANGERS, Client, Creator, Serve, Server, trusting
from twisted.internet.error import ConnectionDone

from twisted_smtplite.wire.tls import admitUnverified, endPoint, failureText, identity

# -- What it tells.


async def present(serve: Serve, certificate: trustme.LeafCert | None, mode: int, callback: Any = None) -> Server:
    server = serve(Creator(mode, callback), implicit=True)

    def play(port: int) -> None:
        with smtplib.SMTP_SSL("localhost", port, context=trusting(certificate), timeout=10) as client:
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    return server


@pytest.mark.parametrize("mode", [SSL.VERIFY_PEER, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT])
@pytest_twisted.ensureDeferred
async def test_who_a_verified_certificate_names_is_known(mode: int, serve: Serve) -> None:
    server = await present(serve, AUTHORITY.issue_cert("ann@client.test"), mode)
    assert [session.certificate for session in server.observer.known] == ["ann@client.test"]


@pytest.mark.parametrize("certificate", [None, STRANGERS.issue_cert("ann@client.test")], ids=["none", "a stranger's"])
@pytest_twisted.ensureDeferred
async def test_without_a_verified_certificate_a_client_is_anybody(certificate: trustme.LeafCert | None, serve: Serve) -> None:
    server = await present(serve, certificate, SSL.VERIFY_PEER, admitUnverified)
    assert [session.certificate for session in server.observer.known] == [None]


@pytest.mark.parametrize("certificate", [None, STRANGERS.issue_cert("ann@client.test")], ids=["none", "a stranger's"])
@pytest_twisted.ensureDeferred
async def test_where_a_verified_certificate_is_required_there_is_no_session_without(certificate: trustme.LeafCert | None, serve: Serve) -> None:
    server = serve(Creator(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT), implicit=True)

    def play(port: int) -> bytes:
        with Client(port) as client:
            client.handshake(trusting(certificate))
            return client.rest()

    assert await server.talk(play) == b""
    (cause,) = server.observer.causes
    assert cause in ("TLS failed: peer did not return a certificate", "TLS failed: certificate verify failed")


@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed_so_what_was_not_verified_stays_so(serve: Serve) -> None:
    server = serve(Creator(SSL.VERIFY_PEER, admitUnverified), implicit=True)
    context = trusting(STRANGERS.issue_cert("ann@client.test"))

    def play(port: int) -> list[bool | None]:
        reused = []
        session = None
        for _ in range(2):
            plain = socket.create_connection(("127.0.0.1", port), 10)
            with context.wrap_socket(plain, server_hostname="mx.test", session=session) as inside:
                inside.recv(1000)
                inside.sendall(b"QUIT\r\n")
                inside.recv(1000)
                reused.append(inside.session_reused)
                session = inside.session
        return reused

    assert await server.talk(play) == [False, False]


# -- Certificates.

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(*extensions: x509.ExtensionType, name: str | None = None, key: Any = KEY, algorithm: Any = hashes.SHA256()) -> x509.Certificate:  # noqa: B008
    subject = x509.Name([] if name is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, algorithm)


MAIL, HOST = x509.RFC822Name("ann@client.test"), x509.DNSName("client.test")


@pytest.mark.parametrize(
    ("names", "common", "expected"),
    [
        ([HOST, MAIL], "Ann", "ann@client.test"),
        ([HOST], "Ann", "client.test"),
        ([], "Ann", "Ann"),
        ([], None, None),
        ([x509.UniformResourceIdentifier("x:y")], "Ann", "Ann"),
    ],
)
def test_a_certificate_names_a_mail_address_or_a_host_or_whatever_it_calls_itself(
    names: list[x509.GeneralName], common: str | None, expected: str | None
) -> None:
    assert identity(certificate(*([x509.SubjectAlternativeName(names)] if names else []), name=common)) == expected


def test_a_certificate_that_is_none_by_the_letter_names_nobody() -> None:
    broken = certificate(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x02\x05\x00"), name="Ann")
    assert identity(broken) is None


@pytest.mark.parametrize(
    ("key", "algorithm", "length"), [(KEY, hashes.SHA384(), 48), (KEY, hashes.SHA256(), 32), (ed25519.Ed25519PrivateKey.generate(), None, 32)]
)
def test_what_scram_binds_to_is_hashed_as_the_certificate_is_signed(key: Any, algorithm: Any, length: int) -> None:
    assert len(endPoint(certificate(name="x", key=key, algorithm=algorithm))) == length


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (SSL.Error([("SSL routines", "", "no shared cipher")]), "TLS failed: no shared cipher"),
        (SSL.Error([("SSL routines", "", "")]), "TLS failed: unknown"),
        (SSL.Error(), "TLS failed"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "TLS failed"),
        (ConnectionDone(), None),
    ],
)
def test_why_tls_failed_is_told_in_the_words_of_openssl(reason: Exception, text: str | None) -> None:
    assert failureText(reason) == text
