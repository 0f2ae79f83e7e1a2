"""Whether a server's certificate counts, and in words that help why it does not.

Knows X.509, and what OpenSSL and service_identity find. Must not know who is trusted, nor connections beyond the one that is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

from ..model.networks import isAddress

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

_CODES = SSL.X509VerificationCodes
# Names of a certificate that are shown, and how much of one.
_NAMES = 4
_LENGTH = 100


class Verification:
    """Looks at the certificates of one handshake.

    Args:
        host: the name or the address that the server's has to hold.

    Attributes:
        refusal: why it is not taken, as a sentence; empty while there is nothing against it.
    """

    def __init__(self, host: str) -> None:
        self.refusal = ""
        self._host = host

    def look(self, connection: SSL.Connection, shown: X509, error: int, depth: int, ok: int) -> bool:
        """For `SSL.Connection.set_verify`: called for each certificate, the server's own, of depth 0, last."""
        try:
            certificate = shown.to_cryptography()
            if not ok:
                self.refusal = _fault(certificate, error, depth)
            elif depth == 0:
                self._lookAtNames(certificate)
        except Exception as problem:  # noqa: BLE001 - a certificate can be any nonsense, and what is raised here would get lost in OpenSSL
            self.refusal = _plain(f"the certificate cannot be read: {problem}")
        return not self.refusal

    def _lookAtNames(self, certificate: x509.Certificate) -> None:
        # RFC 7817 3: a wildcard only as the whole first label. Common names do not count, as in Twisted.
        try:
            if isAddress(self._host):
                verify_certificate_ip_address(certificate, self._host)
            else:
                verify_certificate_hostname(certificate, self._host)
        except (VerificationError, CertificateError):
            self.refusal = f"the certificate is for {_names(certificate)}, not for {self._host}"


def _fault(certificate: x509.Certificate, error: int, depth: int) -> str:
    """What is wrong with a certificate, which is the server's own at depth 0, and else that of an authority."""
    which = "the certificate" if depth == 0 else f"the certificate of the authority {_name(certificate.subject)}"
    if error == _CODES.ERR_CERT_HAS_EXPIRED:
        # not_valid_after_utc is newer than the oldest cryptography that Twisted takes.
        return f"{which} has expired: it was valid until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if error == _CODES.ERR_CERT_NOT_YET_VALID:
        return f"{which} is not yet valid: it is from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
    if error == _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "the certificate is self-signed, and not itself trusted here"
    if error == _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return f"the certificate comes from an authority that is not trusted here: {_name(certificate.subject)}"
    if error in (_CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT, _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE):
        return f"{which} comes from {_name(certificate.issuer)}, which is not trusted here; or the server leaves out a certificate in between"
    return f"{which} does not verify: {_meaning(error)}"


def _meaning(error: int) -> str:
    """An error of OpenSSL without words of ours."""
    names = [name for name in vars(_CODES) if name.startswith("ERR_") and getattr(_CODES, name) == error]
    return names[0].removeprefix("ERR_").replace("_", " ").lower() if names else f"error {error} of OpenSSL"


def _names(certificate: x509.Certificate) -> str:
    """Which hosts a certificate is for."""
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no host at all"
    found = [*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))]
    shown = [_plain(each) for each in found[:_NAMES]] + ([f"{len(found) - _NAMES} more"] if len(found) > _NAMES else [])
    return ", ".join(shown) or "no host at all"


def _name(name: x509.Name) -> str:
    return _plain(name.rfc4514_string()) or "nobody"


def _plain(text: str) -> str:
    """What somebody else has written, on one line that is no order to a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)[:_LENGTH]
