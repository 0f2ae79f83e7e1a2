"""Certificates of the server: where they come from, which one a client is shown, and how they are renewed."""

from __future__ import annotations

import errno
import os
import signal
import socket
import ssl
from collections.abc import Callable, Generator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from twisted.internet import reactor as globalReactor
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from twisted_smtplite.app.certificates import Certificates, ClientCertificates, Source, makeContexts, namesOf, sourcesIn
from twisted_smtplite.app.service import SMTPService
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.tls import implicitTLS

reactor: Any = globalReactor
AUTHORITY = trustme.CA()
ISSUED: dict[tuple[str, ...], trustme.LeafCert] = {}


def issue(*names: str) -> trustme.LeafCert:
    """A certificate for these names; making keys takes time, so the same one for the same names."""
    return ISSUED.setdefault(names, AUTHORITY.issue_cert(*names))


def write(path: Path, certificate: trustme.LeafCert, key: Path | None = None) -> Path:
    """Writes a certificate with its key, or the key elsewhere; newer than whatever was there."""
    path.parent.mkdir(exist_ok=True)
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    # The chain in front: a key is found wherever it stands.
    path.write_bytes(chain + (certificate.private_key_pem.bytes() if key is None else b""))
    if key is not None:
        key.write_bytes(certificate.private_key_pem.bytes())
    return path


def certificatesOf(*paths: Path, keys: tuple[Path, ...] = (), clock: Any = None, **options: Any) -> Certificates:
    return Certificates(sourcesIn(paths, keys), clock or reactor, **options)


Serve = Callable[[Certificates], int]


@pytest.fixture
def serve() -> Generator[Serve, None, None]:
    services: list[SMTPService] = []

    def serve(certificates: Certificates) -> int:
        from twisted.internet.endpoints import TCP4ServerEndpoint

        factory = SMTPServerFactory(MemoryDelivery(), reactor, hostname="mx.test", tls=certificates)
        service = SMTPService(factory, [], certificates)
        service.serve(factory, [TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")], around=implicitTLS(factory, certificates, reactor))  # type: ignore[arg-type]
        service.startService()
        services.append(service)
        return service.addresses[0].port  # type: ignore[attr-defined,no-any-return]

    yield serve
    for service in services:
        pytest_twisted.blockon(service.stopService())


def shown(port: int, name: str) -> list[str]:
    """The names of the certificate that a client is shown who asks for this one."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.check_hostname = False
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=name) as inside:
        assert inside.recv(4) == b"220 "
        certificate = inside.getpeercert(binary_form=True)
        assert certificate is not None
        return namesOf(x509.load_der_x509_certificate(certificate))


# -- Where they come from.


def test_it_makes_connections_for_twisted(tmp_path: Path) -> None:
    assert verifyObject(IOpenSSLServerConnectionCreator, certificatesOf(write(tmp_path / "a.pem", issue("a.test"))))


def test_the_key_stands_in_the_same_file_or_in_one_of_its_own(tmp_path: Path) -> None:
    certificatesOf(write(tmp_path / "a.pem", issue("a.test")))
    key = tmp_path / "b.key"
    certificatesOf(write(tmp_path / "b.pem", issue("b.test"), key), keys=(key,))


def test_a_directory_has_as_many_as_there_are_files_in_it(tmp_path: Path) -> None:
    write(tmp_path / "d" / "b.pem", issue("b.test"))
    write(tmp_path / "d" / "a.crt", issue("a.test"), tmp_path / "d" / "a.key")
    (tmp_path / "d" / "README").write_text("")
    first = write(tmp_path / "first.pem", issue("first.test"), tmp_path / "first.key")
    sources = sourcesIn([first, tmp_path / "d"], [tmp_path / "first.key"])()
    assert sources == [Source(first, tmp_path / "first.key"), Source(tmp_path / "d/a.crt", tmp_path / "d/a.key"), Source(tmp_path / "d/b.pem")]
    assert list(makeContexts(sources, ClientCertificates.NONE, None).named) == ["first.test", "a.test", "b.test"]


def mangled(path: Path, kind: str) -> tuple[Path, ...]:
    """Files that cannot be used: the certificate, and its key where that is elsewhere."""
    a, b = issue("a.test"), issue("b.test")
    key = path.with_suffix(".key")
    write(path, a, None if kind == "chain" else key)
    if kind == "certificate":
        path.write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    elif kind == "chain":
        path.write_bytes(a.private_key_pem.bytes())
    elif kind == "no key":
        return (path,)
    elif kind == "key":
        key.write_text("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    elif kind == "other key":
        key.write_bytes(b.private_key_pem.bytes())
    elif kind == "password":
        plain = load_pem_private_key(a.private_key_pem.bytes(), None)
        key.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    elif kind == "kind of key":
        key.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    elif kind == "missing":
        path.unlink()
    return path, key


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("certificate", r"a\.pem: there is no certificate in it that can be read"),
        ("chain", r"a\.pem: there is no certificate in it that can be read"),
        ("no key", r"a\.pem: there is no private key in it"),
        ("key", r"a\.key: the private key cannot be read: .+"),
        ("other key", r"a\.pem: key values mismatch; .+"),
        ("password", r"a\.key: the private key has a password, and a server cannot be asked for it"),
        ("kind of key", r"a\.key: the private key is of a kind that a server cannot use"),
        ("missing", r"a\.pem: No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_sentence(kind: str, sentence: str, tmp_path: Path) -> None:
    path, *keys = mangled(tmp_path / "a.pem", kind)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/{sentence}$"):
        certificatesOf(path, keys=tuple(keys))


def test_an_empty_directory_is_no_certificate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^there is no certificate$"):
        certificatesOf(tmp_path)


def test_a_certificate_without_names_is_for_any_name() -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.test")])
    now = datetime.now(timezone.utc)
    from cryptography.hazmat.primitives.hashes import SHA256

    assert namesOf(x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(key, SHA256())) == []


# -- Which one.


@pytest_twisted.ensureDeferred
async def test_a_client_is_shown_the_certificate_for_the_name_it_asks_for(serve: Serve, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{index}.pem", issue(name)) for index, name in enumerate(("first.test", "*.wild.test", "Second.test"))]
    port = serve(certificatesOf(*paths))
    for asked, expected in {
        "first.test": "first.test",
        "SECOND.test": "second.test",
        "a.wild.test": "*.wild.test",
        "b.a.wild.test": "first.test",
        "wild.test": "first.test",
        "unknown.test": "first.test",
        "127.0.0.1": "first.test",
    }.items():
        assert await deferToThread(shown, port, asked) == [expected], asked


@pytest_twisted.ensureDeferred
async def test_tls_1_1_is_refused(serve: Serve, tmp_path: Path) -> None:
    port = serve(certificatesOf(write(tmp_path / "a.pem", issue("a.test"))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")

    def play() -> None:
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", port), 10) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)

    await deferToThread(play)


@pytest.mark.parametrize(
    ("asked", "presented", "outcome"),
    [
        (ClientCertificates.NONE, "ann@client.test", "served"),
        (ClientCertificates.REQUEST, None, "served"),
        (ClientCertificates.REQUEST, "ann@client.test", "served"),
        (ClientCertificates.REQUEST, "a stranger's", "served"),
        (ClientCertificates.REQUIRE, "ann@client.test", "served"),
        (ClientCertificates.REQUIRE, None, "refused"),
        (ClientCertificates.REQUIRE, "a stranger's", "refused"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_clients_are_asked_for_certificates_as_was_chosen(
    asked: ClientCertificates, presented: str | None, outcome: str, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.cert_pem.bytes())
    authority = None if asked is ClientCertificates.NONE else tmp_path / "ca.pem"
    # For a name of its own: what is asked does not depend on which certificate is shown.
    paths = [write(tmp_path / f"{name}.pem", issue(name)) for name in ("first.test", "second.test")]
    port = serve(certificatesOf(*paths, clients=asked, authority=authority))

    def play() -> str:
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        if presented is not None:
            (issue(presented) if "@" in presented else trustme.CA().issue_cert("ann@client.test")).configure_cert(context)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="second.test") as inside:
            try:
                return "served" if inside.recv(4) == b"220 " else "refused"
            except (ssl.SSLError, ConnectionError):
                return "refused"

    assert await deferToThread(play) == outcome


@pytest.mark.parametrize(("content", "cause"), [("", "there are no PEM certificates in it"), (None, "No such file or directory")])
def test_authorities_that_cannot_be_read_are_named(content: str | None, cause: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pem", issue("a.test"))
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/ca\.pem: {cause}"):
        certificatesOf(path, clients=ClientCertificates.REQUEST, authority=tmp_path / "ca.pem")


# -- Renewal.


@pytest.fixture
def clock() -> Any:
    clock: Any = MemoryReactorClock()
    clock.callFromThread = lambda function: clock.callLater(0, function)
    return clock


def inUse(certificates: Certificates) -> list[str]:
    return list(certificates._contexts.named)


def test_a_changed_file_is_read_within_ten_seconds_and_one_that_is_not_stays(tmp_path: Path, clock: Any) -> None:
    certificates = certificatesOf(write(tmp_path / "a.pem", issue("a.test")), clock=clock)
    certificates.startService()
    contexts = certificates._contexts
    clock.advance(10)
    assert certificates._contexts is contexts
    write(tmp_path / "a.pem", issue("b.test"))
    with capturedLogs() as events:
        clock.advance(10)
    assert inUse(certificates) == ["b.test"]
    assert [event["names"] for event in events] == ["b.test"]
    certificates.stopService()
    assert clock.getDelayedCalls() == []


def test_a_new_file_in_a_directory_counts_too(tmp_path: Path, clock: Any) -> None:
    write(tmp_path / "d" / "a.pem", issue("a.test"))
    certificates = certificatesOf(tmp_path / "d", clock=clock)
    write(tmp_path / "d" / "b.pem", issue("b.test"))
    certificates.look()
    assert inUse(certificates) == ["a.test", "b.test"]


@pytest.mark.parametrize("harm", ["torn", "gone", "directory gone"])
def test_a_broken_file_is_logged_once_and_the_old_certificate_stays_until_it_is_mended(harm: str, tmp_path: Path, clock: Any) -> None:
    path = write(tmp_path / "d" / "a.pem", issue("a.test"))
    certificates = certificatesOf(tmp_path / "d" if harm == "directory gone" else path, clock=clock)
    certificates.startService()
    if harm == "torn":
        path.write_bytes(path.read_bytes()[:300])
    elif harm == "gone":
        path.unlink()
    else:
        path.unlink()
        path.parent.rmdir()
    with capturedLogs() as events:
        for _ in range(5):
            clock.advance(10)
    (event,) = events
    assert event["log_level"].name == "error"
    assert event["cause"].startswith(str(path.parent))
    assert inUse(certificates) == ["a.test"]
    write(path, issue("b.test"))
    clock.advance(10)
    assert inUse(certificates) == ["b.test"]
    certificates.stopService()


def test_a_directory_that_may_not_be_read_is_named_and_later_leaves_things_as_they_are(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d" / "a.pem", issue("a.test"))
    certificates = certificatesOf(tmp_path / "d", clock=clock)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # Not by its mode, which means nothing to the superuser.
    monkeypatch.setattr(Path, "iterdir", refuse)
    with capturedLogs() as events:
        certificates.look()
        certificates.look()
    assert [event["cause"] for event in events] == [f"{tmp_path}/d: Permission denied"]
    assert inUse(certificates) == ["a.test"]
    with pytest.raises(ValueError, match=rf"^{tmp_path}/d: Permission denied$"):
        certificatesOf(tmp_path / "d")


@pytest.mark.parametrize("harm", ["a fault of the program", "a directory above that cannot be searched"])
def test_the_files_are_looked_at_again_whatever_came_of_the_last_look(harm: str, tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.pem", issue("a.test"))
    certificates = certificatesOf(path, clock=clock)
    certificates.startService()
    with monkeypatch.context() as harmed, capturedLogs() as events:
        write(path, issue("b.test"))
        if harm == "a fault of the program":
            harmed.setattr("twisted_smtplite.app.certificates.namesOf", Mock(side_effect=ZeroDivisionError))
        else:
            for place, name in ((os, "stat"), (Path, "read_bytes")):
                harmed.setattr(place, name, Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
        for _ in range(3):
            clock.advance(10)
    assert len(events) == 1
    assert inUse(certificates) == ["a.test"]
    write(path, issue("c.test"))
    clock.advance(10)
    assert inUse(certificates) == ["c.test"]
    certificates.stopService()


def test_sighup_reads_the_files_at_once_even_if_they_look_the_same(tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {signal.SIGHUP: signal.SIG_DFL}

    def handle(number: int, handler: Any) -> Any:
        before, handlers[number] = handlers[number], handler
        return before

    monkeypatch.setattr(signal, "getsignal", handlers.get)
    monkeypatch.setattr(signal, "signal", handle)
    certificates = certificatesOf(write(tmp_path / "a.pem", issue("a.test")), clock=clock)
    certificates.startService()
    contexts = certificates._contexts
    handlers[signal.SIGHUP](signal.SIGHUP, None)
    assert certificates._contexts is contexts
    clock.advance(0)
    assert certificates._contexts is not contexts
    certificates.stopService()
    assert handlers[signal.SIGHUP] is signal.SIG_DFL


def test_a_reactor_in_a_thread_of_its_own_hears_of_no_signals(tmp_path: Path, clock: Any) -> None:
    path = write(tmp_path / "a.pem", issue("a.test"))
    certificates = certificatesOf(path, clock=clock)
    before = signal.getsignal(signal.SIGHUP)
    failures: list[Exception] = []

    def run() -> None:
        try:
            certificates.startService()
            write(path, issue("b.test"))
            clock.advance(10)
            certificates.stopService()
        except Exception as error:  # noqa: BLE001 - this thread has nobody to raise it to
            failures.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert failures == []
    assert inUse(certificates) == ["b.test"]
    assert signal.getsignal(signal.SIGHUP) is before


def test_a_worker_whose_supervisor_takes_care_of_sighup_leaves_it_alone(tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    monkeypatch.setattr(signal, "signal", lambda number, handler: pytest.fail("it was set"))
    certificates = certificatesOf(write(tmp_path / "a.pem", issue("a.test")), clock=clock)
    certificates.startService()
    certificates.stopService()


@pytest_twisted.ensureDeferred
async def test_a_session_goes_on_with_the_certificate_it_began_with(serve: Serve, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pem", issue("a.test"))
    certificates = certificatesOf(path)
    port = serve(certificates)
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)

    def begin() -> ssl.SSLSocket:
        inside = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="a.test")
        assert inside.recv(100).startswith(b"220 ")
        return inside

    def goOn(inside: ssl.SSLSocket) -> bytes:
        with inside:
            inside.sendall(b"NOOP\r\n")
            return inside.recv(100)

    inside = await deferToThread(begin)
    write(path, issue("b.test"))
    certificates.look()
    assert (await deferToThread(goOn, inside)).startswith(b"250 ")
    assert await deferToThread(shown, port, "a.test") == ["b.test"]
