"""Which certificates a client takes, and what it says of the others."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from twisted_smtplite.client.trust import trustIn
from twisted_smtplite.wire.clienttls import platformTrust
from twisted_smtplite.wire.verification import Verification

_KEY = ec.generate_private_key(ec.SECP256R1())
_DAY = timedelta(days=1)
_NOW = datetime.now(timezone.utc).replace(microsecond=0)


class _Signed:
    """A certificate, by itself or by an authority; all have one key."""

    def __init__(
        self,
        name: str,
        *names: str,
        by: _Signed | None = None,
        since: datetime = _NOW - _DAY,
        until: datetime = _NOW + _DAY,
        isAuthority: bool = False,
    ) -> None:
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        # Without a serial number of its own it would be the certificate of somebody else.
        builder = x509.CertificateBuilder().subject_name(self.subject).issuer_name(by.subject if by else self.subject).public_key(_KEY.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(since).not_valid_after(until)
        builder = builder.add_extension(x509.BasicConstraints(isAuthority, None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
        self.certificate = builder.sign(_KEY, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.RFC822Name(name) if "@" in name else x509.DNSName(name)


_ROOT = _Signed("Root", isAuthority=True)
_STRANGE = _Signed("Nobody's", isAuthority=True)
_OLD = _Signed("Old", by=_ROOT, until=_NOW - timedelta(hours=1), isAuthority=True)


def _shake(creator: Any, shown: _Signed, *between: _Signed) -> str:
    """A handshake with a server that shows this. Returns the refusal."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(crypto.X509.from_cryptography(shown.certificate))
    context.use_privatekey(crypto.PKey.from_cryptography_key(_KEY))
    for each in between:
        context.add_extra_chain_cert(crypto.X509.from_cryptography(each.certificate))
    server = SSL.Connection(context, None)
    server.set_accept_state()
    client: SSL.Connection = creator.clientConnectionForTLS(None)
    client.set_connect_state()
    try:
        for _ in range(4):
            for one, other in ((client, server), (server, client)):
                try:
                    one.do_handshake()
                except SSL.WantReadError:
                    pass
                try:
                    other.bio_write(one.bio_read(65_536))
                except SSL.WantReadError:
                    pass
    except SSL.Error:
        refusal: str = creator.refusal
        assert refusal.startswith("the certificate ")
        return refusal.removeprefix("the certificate ")
    assert creator.refusal == ""
    return ""


@pytest.fixture
def trusting(tmp_path: Path) -> Any:
    (tmp_path / "root.pem").write_bytes(_ROOT.pem)
    return trustIn(str(tmp_path / "root.pem"))


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("mx.test", ("other.test", "mx.test")),
        ("a.mx.test", ("*.mx.test",)),
        ("MX.test", ("mx.test",)),
        ("192.0.2.1", ("192.0.2.1",)),
        ("2001:db8::1", ("2001:db8:0::1",)),
        ("xn--mller-kva.test", ("xn--mller-kva.test",)),
    ],
)
def test_a_certificate_that_verifies_and_names_the_server_is_taken(trusting: Any, host: str, names: tuple[str, ...]) -> None:
    assert _shake(trusting(host), _Signed("x", *names, by=_ROOT)) == ""


@pytest.mark.parametrize(
    ("host", "names", "found"),
    [
        ("mx.test", ("other.test",), "other.test"),
        ("mx.test", ("a.test", "b.test", "192.0.2.1"), "a.test, b.test, 192.0.2.1"),
        ("mx.test", tuple(f"{each}.test" for each in "abcdefg"), "a.test, b.test, c.test, d.test, 3 more"),
        ("a.b.mx.test", ("*.mx.test",), "*.mx.test"),
        ("mx.test", ("*.test",), "*.test"),
        ("192.0.2.1", ("mx.test", "192.0.2.2"), "mx.test, 192.0.2.2"),
        ("mx.test", (), "no host at all"),
        ("mx.test", ("ann@mx.test",), "no host at all"),
        ("mx.test", ("\x1b[31m.test",), "?[31m.test"),
        ("mx.test", ("x" * 200,), "x" * 100),
    ],
)
def test_a_certificate_with_other_names_is_refused_with_them(trusting: Any, host: str, names: tuple[str, ...], found: str) -> None:
    # The common name does not count.
    assert _shake(trusting(host), _Signed(host, *names, by=_ROOT)) == f"is for {found}, not for {host}"


@pytest.mark.parametrize(
    ("shown", "between", "why"),
    [
        (_Signed("x", "mx.test"), [], "is self-signed, and not itself trusted here"),
        (_Signed("x", "mx.test", by=_STRANGE), [_STRANGE], "comes from an authority that is not trusted here: CN=Nobody's"),
        (
            _Signed("x", "mx.test", by=_STRANGE),
            [],
            "comes from CN=Nobody's, which is not trusted here; or the server leaves out a certificate in between",
        ),
        (_Signed("x", "mx.test", by=_ROOT, until=_NOW - _DAY / 2), [], f"has expired: it was valid until {_NOW - _DAY / 2:%Y-%m-%d %H:%M} UTC"),
        (
            _Signed("x", "mx.test", by=_ROOT, since=_NOW + _DAY / 2),
            [],
            f"is not yet valid: it is from {_NOW + _DAY / 2:%Y-%m-%d %H:%M} UTC on",
        ),
        (
            _Signed("x", "mx.test", by=_OLD),
            [_OLD],
            f"of the authority CN=Old has expired: it was valid until {_NOW - timedelta(hours=1):%Y-%m-%d %H:%M} UTC",
        ),
        (_Signed("x", "mx.test", by=_Signed("y", by=_ROOT)), [_Signed("y", by=_ROOT)], "of the authority CN=y does not verify: invalid ca"),
    ],
    ids=["self-signed", "stranger", "incomplete", "expired", "early", "old-authority", "no-authority"],
)
def test_a_certificate_that_does_not_verify_is_refused_with_the_cause(trusting: Any, shown: _Signed, between: list[_Signed], why: str) -> None:
    assert _shake(trusting("mx.test"), shown, *between) == why


def test_a_self_signed_certificate_that_is_trusted_itself_is_taken(tmp_path: Path) -> None:
    own = _Signed("x", "mx.test")
    (tmp_path / "own.pem").write_bytes(own.pem)
    assert _shake(trustIn(str(tmp_path / "own.pem"))("mx.test"), own) == ""


def test_this_machine_does_not_trust_whom_it_does_not_know() -> None:
    assert _shake(platformTrust("mx.test"), _Signed("x", "mx.test", by=_ROOT), _ROOT) == "comes from an authority that is not trusted here: CN=Root"


class _Nonsense:
    def to_cryptography(self) -> Any:
        raise ValueError("it is\nnonsense")


def test_what_cannot_be_read_is_refused() -> None:
    verification = Verification("mx.test")
    assert not verification.look(None, _Nonsense(), 0, 0, 1)  # type: ignore[arg-type]
    assert verification.refusal == "the certificate cannot be read: it is?nonsense"


def test_an_error_without_a_name_is_shown_by_its_number() -> None:
    verification = Verification("mx.test")
    assert not verification.look(None, crypto.X509.from_cryptography(_ROOT.certificate), 9999, 0, 0)  # type: ignore[arg-type]
    assert verification.refusal == "the certificate does not verify: error 9999 of OpenSSL"
