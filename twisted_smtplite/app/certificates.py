"""The certificates of a server: read from PEM files, chosen by the name that the client asks for, and renewed while the server runs.

Knows files, X.509 and OpenSSL's contexts. Must not know SMTP. A context cannot be changed once it was used, so new files make new contexts; a
session keeps the one it began with.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.application.internet import TimerService
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorFromThreads, IReactorTime
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

from ..wire.tls import admitUnverified

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore
    from twisted.protocols.tls import TLSMemoryBIOProtocol

_log = Logger(namespace="smtplite")
_LOOK_EVERY = 10.0
"""Seconds between two looks at the files."""
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class ClientCertificates(Enum):
    """What is asked of clients inside TLS."""

    NONE = "none"
    """Nothing."""
    REQUEST = "request"
    """A certificate; who has none, or one that cannot be verified, is served as anybody is."""
    REQUIRE = "require"
    """A certificate that can be verified: without it there is no session."""


class Source(NamedTuple):
    """Where one certificate is.

    Attributes:
        certificate: a PEM file, the server's own certificate first, then its chain.
        key: the file of its private key; None where that stands in the same file.
    """

    certificate: Path
    key: Path | None = None

    @property
    def files(self) -> list[Path]:
        """All of them."""
        return [self.certificate] if self.key is None else [self.certificate, self.key]


Sources = Callable[[], "list[Source]"]


def sourcesIn(paths: Sequence[Path], keys: Sequence[Path]) -> Sources:
    """What the options name, as a function that looks anew each time: a directory may get more.

    Args:
        paths: PEM files; or directories, whose ``*.pem`` and ``*.crt`` files are meant, each with its key inside, or beside it as ``NAME.key``.
        keys: one for each of the files in `paths`, in their order; or none where the key stands in the same file.
    """

    def look() -> list[Source]:
        keyOf = iter(keys)
        sources: list[Source] = []
        for path in paths:
            # Not Path.is_dir: it raises where a directory above cannot be searched.
            if os.path.isdir(path):  # noqa: PTH112 - as said
                sources += _sourcesIn(path)
            else:
                sources.append(Source(path, next(keyOf, None)))
        return sources

    return look


def _sourcesIn(directory: Path) -> list[Source]:
    try:
        files = set(directory.iterdir())
    except OSError as error:
        raise ValueError(f"{directory}: {error.strerror}") from error
    keys = {file.with_suffix("") for file in files if file.suffix == ".key"}
    certificates = sorted(file for file in files if file.suffix in (".pem", ".crt"))
    return [Source(file, file.with_suffix(".key") if file.with_suffix("") in keys else None) for file in certificates]


class Contexts(NamedTuple):
    """One generation of contexts.

    Attributes:
        default: for clients that ask for no name, or for one that is not ours.
        named: for those that do, by name in lower case; ``*.`` in front of it stands for any one label.
    """

    default: SSL.Context
    named: Mapping[str, SSL.Context]

    def choose(self, connection: SSL.Connection) -> None:
        """Gives a connection the context for the name that its client asks for (RFC 6066 3)."""
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower().rstrip(".")
        context = self.named.get(name) or self.named.get("*." + name.partition(".")[2])
        if context is not None:
            connection.set_context(context)


def makeContexts(sources: Iterable[Source], clients: ClientCertificates, authority: Path | None) -> Contexts:
    """Reads all files.

    Raises:
        ValueError: a file cannot be used; the text is a sentence that names it.
    """
    default: SSL.Context | None = None
    named: dict[str, SSL.Context] = {}
    for source in sources:
        chain, key = _load(source)
        context = _makeContext(source, chain, key, clients, authority)
        default = default or context
        for name in namesOf(chain[0]):
            named.setdefault(name, context)
    if default is None:
        raise ValueError("there is no certificate")
    contexts = Contexts(default, named)
    default.set_tlsext_servername_callback(contexts.choose)
    return contexts


def namesOf(certificate: x509.Certificate) -> list[str]:
    """The host names that a certificate is for, in lower case."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _load(source: Source) -> tuple[list[x509.Certificate], crypto.PKey]:
    content = _read(source.certificate)
    chain = _certificatesOf(source.certificate, content)
    file = source.key or source.certificate
    match = _KEY.search(content if source.key is None else _read(source.key))
    if match is None:
        raise ValueError(f"{file}: there is no private key in it")
    try:
        key = load_pem_private_key(match[0] + b"\n", None)
    except TypeError:
        raise ValueError(f"{file}: the private key has a password, and a server cannot be asked for it") from None
    except Exception as error:
        raise ValueError(f"{file}: the private key cannot be read: {error}") from error
    try:
        return chain, crypto.PKey.from_cryptography_key(key)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{file}: the private key is of a kind that a server cannot use") from None


def _certificatesOf(file: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ValueError(f"{file}: there is no certificate in it that can be read") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error


def _makeContext(source: Source, chain: list[x509.Certificate], key: crypto.PKey, clients: ClientCertificates, authority: Path | None) -> SSL.Context:
    own, *above = map(crypto.X509.from_cryptography, chain)
    try:
        # Minimum and ciphers are Twisted's, which follow what is held to be safe; RFC 8996 2: not below TLS 1.2.
        context = CertificateOptions(key, own, extraCertChain=above, raiseMinimumTo=TLSVersion.TLSv1_2).getContext()
    except SSL.Error as error:
        raise ValueError(f"{source.certificate}: {_reason(error)}; are certificate and key of one kind, and strong enough?") from error
    if authority is not None:
        try:
            # OpenSSL does not say why it cannot open a file.
            authority.open("rb").close()
            context.load_verify_locations(str(authority))
            # RFC 8446 4.2.4: so a client with several certificates knows which one to show.
            context.load_client_ca(str(authority).encode())
        except OSError as error:
            raise UnusableAuthority(f"{authority}: {error.strerror}") from error
        except SSL.Error as error:
            raise UnusableAuthority(f"{authority}: there are no PEM certificates in it ({_reason(error)})") from error
    if clients is ClientCertificates.REQUIRE:
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    elif clients is ClientCertificates.REQUEST:
        context.set_verify(SSL.VERIFY_PEER, admitUnverified)
    return context


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words for what is wrong."""
    causes = error.args[0] if error.args else []
    return str(causes[0][-1]) if causes else "OpenSSL does not take it"


class UnusableAuthority(ValueError):
    """The file with the authorities that sign the certificates of clients cannot be used; the text is a sentence that names it."""


@implementer(IOpenSSLServerConnectionCreator)
class Certificates(TimerService):
    """Makes the TLS side of connections, always with the newest certificates.

    As a service it looks at the files every ten seconds, and reads them anew when one has changed or when SIGHUP comes. New files that cannot
    be used are logged, once, and the old certificates stay.

    Args:
        sources: where they are.
        reactor: the reactor.
        clients: what is asked of clients.
        authority: a PEM file with the authorities that sign the certificates of clients, where these are asked for.

    Raises:
        ValueError: a file cannot be used; the text is a sentence that names it.
    """

    def __init__(
        self, sources: Sources, reactor: IReactorCore, clients: ClientCertificates = ClientCertificates.NONE, authority: Path | None = None
    ) -> None:
        super().__init__(_LOOK_EVERY, self.look)
        self.clock = cast(IReactorTime, reactor)
        self._reactor = cast(IReactorFromThreads, reactor)
        self._sources = sources
        self._clients = clients
        self._authority = authority
        self._before: Any = None
        self._seen = self._state()
        self._contexts = makeContexts(sources(), clients, authority)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """The OpenSSL side of one connection. Called by Twisted for each."""
        return SSL.Connection(self._contexts.default, None)

    def look(self) -> None:
        """Reads the files anew if one of them has changed since they were read."""
        if self._state() != self._seen:
            self.reload()

    def reload(self) -> None:
        """Reads the files anew. The certificates stay as they are where that fails."""
        # Before they are read: what changes meanwhile is seen next time.
        self._seen = self._state()
        try:
            self._contexts = makeContexts(self._sources(), self._clients, self._authority)
        except ValueError as error:
            _log.error("The new certificates cannot be used, the old ones stay: {cause}", cause=str(error))
        except Exception:  # noqa: BLE001 - raised to Twisted's timer it would be the last look
            _log.failure("The new certificates cannot be read, the old ones stay")
        else:
            _log.info("New certificates are in use, for {names}", names=", ".join(self._contexts.named) or "any name")

    def _state(self) -> list[tuple[str, object]]:
        """What tells of a change in the files, for the price of a system call each."""
        try:
            files = [file for source in self._sources() for file in source.files]
        except ValueError as error:
            return [("", str(error))]
        return [(str(file), _stamp(file)) for file in files + ([] if self._authority is None else [self._authority])]

    def startService(self) -> None:
        """Begins to watch the files, and for SIGHUP."""
        super().startService()
        # Where the signal is ignored, in a worker, somebody else takes care of it; and only one thread of a process can.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and current_thread() is main_thread():
            self._before = signal.signal(signal.SIGHUP, self._hangUp)

    def stopService(self) -> object:
        """Stops watching."""
        before, self._before = self._before, None
        # Where the process ends, others have taken it.
        if before is not None and signal.getsignal(signal.SIGHUP) == self._hangUp:
            signal.signal(signal.SIGHUP, before)
        return super().stopService()

    def _hangUp(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self.reload)


def _stamp(file: Path) -> object:
    try:
        status = file.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino
