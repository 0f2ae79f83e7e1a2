"""The options for TLS: which certificates, and what is asked of clients.

Knows their values and what goes together. Must not know ports, nor what is done with the certificates.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python import usage

from .certificates import Certificates, ClientCertificates, UnusableAuthority, sourcesIn
from .rows import Row
from .selfsigned import selfSigned, stateDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorCore

_log = Logger(namespace="smtplite")
_CHOICES = tuple(choice.value for choice in ClientCertificates)

ROWS = (
    Row(
        "certificate",
        "PEM",
        "offer TLS with this certificate: a file with it and its chain, or a directory of such files; may be repeated: the client is shown the one "
        "for the name that it asks for, else the first. New files are noticed, also at SIGHUP",
    ),
    Row("private-key", "PEM", "its private key, where that is not in the same file; repeated, one for each --certificate in turn"),
    Row("self-signed", "", "offer TLS with a certificate that the server makes itself, for development"),
    Row("self-signed-directory", "DIR", "where that is kept (default smtplite in the user's state directory, ~/.local/state)"),
    Row("require-tls", "", "refuse mail until the session is encrypted; not for a server that receives mail from the internet (RFC 3207 4)"),
    Row("client-certificates", "|".join(_CHOICES), "ask clients for a certificate; request serves those without one too (default none)"),
    Row("client-ca", "PEM", "the authorities that sign the certificates of clients"),
)
"""The options of this file."""

REPEATED = ("certificate", "private-key")
"""Those that may be repeated."""

FLAGS = ("self-signed", "require-tls")
"""Those without a value."""


class TLSOptions(usage.Options):
    """The part of the options that is about TLS.

    Attributes:
        certificates: the values of ``--certificate``.
        privateKeys: the values of ``--private-key``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.certificates: list[Path] = []
        self.privateKeys: list[Path] = []

    def opt_certificate(self, path: str) -> None:
        """Adds a certificate."""
        self.certificates.append(Path(path).expanduser())

    def opt_private_key(self, path: str) -> None:
        """Adds the key of a certificate."""
        self.privateKeys.append(Path(path).expanduser())

    @property
    def offersTLS(self) -> bool:
        """True if there is a certificate."""
        return bool(self.certificates or self["self-signed"])

    def checkTLS(self) -> None:
        """Checks what goes together.

        Raises:
            usage.UsageError: something does not; one sentence.
        """
        asked = self["client-certificates"]
        if asked not in (None, *_CHOICES):
            raise usage.UsageError(f"--client-certificates {asked}: it must be {', '.join(_CHOICES[:-1])} or {_CHOICES[-1]}")
        if self.certificates and self["self-signed"]:
            raise usage.UsageError("--self-signed makes a certificate where there is none: leave it out, or --certificate")
        if self.privateKeys and not self.certificates:
            raise usage.UsageError("--private-key goes with --certificate")
        if self["self-signed-directory"] is not None and not self["self-signed"]:
            raise usage.UsageError("--self-signed-directory goes with --self-signed")
        if self["require-tls"] and not self.offersTLS:
            raise usage.UsageError("--require-tls needs a certificate: --certificate, or --self-signed for development")
        if (asked in (None, "none")) is not (self["client-ca"] is None):
            raise usage.UsageError("--client-ca and --client-certificates request or require go together")
        if self["client-ca"] is not None and not self.offersTLS:
            raise usage.UsageError("--client-certificates needs a certificate of the server too: --certificate, or --self-signed for development")


def makeCertificates(options: TLSOptions, reactor: IReactorCore) -> Certificates | None:
    """The certificates that are asked for, or None.

    Raises:
        ValueError: one cannot be used; the text is a sentence with the option in it.
    """
    if not options.offersTLS:
        return None
    paths, keys = options.certificates, options.privateKeys
    if options["self-signed"]:
        paths = [_selfSigned(options)]
    # Absolute now: twistd changes its directory when it goes to the background.
    paths, keys = [path.absolute() for path in paths], [key.absolute() for key in keys]
    files = sum(not path.is_dir() for path in paths)
    if keys and len(keys) != files:
        raise ValueError(f"--private-key: there are {len(keys)} for {files} --certificate files; none is needed where the key is in the same file")
    authority = None if options["client-ca"] is None else Path(options["client-ca"]).expanduser().absolute()
    try:
        return Certificates(sourcesIn(paths, keys), reactor, ClientCertificates(options["client-certificates"] or "none"), authority)
    except UnusableAuthority as error:
        raise ValueError(f"--client-ca {error}") from error
    except ValueError as error:
        raise ValueError(f"--certificate: {error}") from error


def _selfSigned(options: Mapping[str, Any]) -> Path:
    given = options["self-signed-directory"]
    directory = (stateDirectory() if given is None else Path(given).expanduser()).absolute()
    try:
        whole, public = selfSigned(directory, options["hostname"] or socket.gethostname())
    except OSError as error:
        raise ValueError(f"--self-signed: no certificate can be kept in {directory}: {error.strerror}") from error
    _log.info("The certificate is {file}, signed by nobody else: for development. To trust it: curl --cacert {file}", file=str(public))
    return whole
