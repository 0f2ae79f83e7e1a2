"""Whom a client trusts, where that is not whom the platform trusts.

Knows files of certificates. Must not know who is connected to.
"""

# Twisted has no types for what is called here.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates

from ..wire.clienttls import Verified

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator


def trustIn(path: str) -> Callable[[str], IOpenSSLClientConnectionCreator]:
    """What makes the TLS side of a connection to a host, trusting the authorities in a PEM file and no others.

    Raises:
        ValueError: it cannot be read, or there are none in it.
    """
    try:
        found = x509.load_pem_x509_certificates(Path(path).expanduser().read_bytes())
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError("there are no PEM certificates in it") from error
    roots = trustRootFromCertificates([Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in found])
    options = CertificateOptions(trustRoot=roots)
    return lambda host: Verified(host, options)
