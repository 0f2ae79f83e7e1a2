"""A certificate that the server signs itself: for development, until there is a real one.

Knows X.509 and one directory. Must not know SMTP or TLS. The certificate is made when it is missing, too old, or for another name, and kept: so
clients need to be told only once to trust it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

_LASTS = timedelta(days=365)
_RENEWED_BEFORE = timedelta(days=30)
_ADDRESSES = ("127.0.0.1", "::1")


def stateDirectory() -> Path:
    """Where a program keeps what it should find again: ``$STATE_DIRECTORY`` of systemd, else ``smtplite`` in the user's state directory."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "smtplite"


def selfSigned(directory: Path, hostname: str, now: datetime | None = None) -> tuple[Path, Path]:
    """The certificate that is kept in a directory, or a new one.

    Args:
        directory: where it is kept; made when missing.
        hostname: the server's name; localhost and the loopback addresses are always in it too.
        now: the time.

    Returns:
        The file with the key and the certificate, for the server alone; and one with the certificate, for those who are to trust it.

    Raises:
        OSError: it cannot be stored.
    """
    now = now or datetime.now(timezone.utc)
    whole, public = directory / "self-signed.pem", directory / "self-signed.crt"
    certificate = _kept(whole, hostname, now)
    if certificate is None:
        directory.mkdir(0o700, parents=True, exist_ok=True)
        content, certificate = _make(hostname, now)
        _write(whole, content, 0o600)
    text = certificate.public_bytes(Encoding.PEM)
    if not public.exists() or public.read_bytes() != text:
        _write(public, text, 0o644)
    return whole, public


def _names(hostname: str) -> list[str]:
    # An address literal is no name. RFC 5280 A.1: a common name has 64 characters at most; the names are what clients look at, and may be longer.
    name = hostname or socket.gethostname()
    return [*dict.fromkeys((*([] if name.startswith("[") else [name]), "localhost"))]


def _kept(file: Path, hostname: str, now: datetime) -> x509.Certificate | None:
    """What is kept, if it is still good."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    # not_valid_after_utc is newer than the oldest cryptography that Twisted takes.
    good = certificate.not_valid_after_utc > now + _RENEWED_BEFORE and set(_names(hostname)) <= set(names)
    return certificate if good else None


def _make(hostname: str, now: datetime) -> tuple[bytes, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    names = _names(hostname)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"smtplite at {names[0]}"[:64])])
    others = [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"), False
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LASTS)
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, names), *others]), critical=False)
        # Its own authority, for itself and nothing below it: what a client trusts must be one.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM), certificate


def _write(file: Path, content: bytes, mode: int) -> None:
    """Puts a file in place whole, for whoever starts at the same moment."""
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode)) as new:
        new.write(content)
    temporary.replace(file)
