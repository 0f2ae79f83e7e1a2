"""Where mail is sent to, and how one goes there: a value that names connections which can stand for each other.

Knows how destinations are written, and the ports and the protection that are usual. Must not know how a connection comes about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from ..model.clientprofile import ClientProfile, Credentials, TLSUse
from ..model.idn import asciiDomain

# RFC 8314 3.3, RFC 6409 3.1: the ports of submission with TLS from the beginning, and without. The last is usual for LMTP, which may not use 25.
_SMTP, _SUBMISSIONS, _SUBMISSION, _LMTP = 25, 465, 587, 24

# An IPv6 address in brackets, or a host; and a port.
_HOST_AND_PORT = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:/\s]+))(?::([0-9]{1,5}))?")
_FORMS = "HOST:PORT, [IPV6]:PORT, unix:/path or a client endpoint description does"
_DESCRIPTION = re.compile(r"([A-Za-z0-9]+):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A server. Two that are equal may share connections.

    Attributes:
        host: its name, in ASCII: for its certificate, for texts and, without `address` or `endpoint`, to be looked up. May be an IP address; empty
            where there is none, as behind a unix socket.
        port: its TCP port.
        address: what to connect to in place of the name, usually an IP address.
        endpoint: a client endpoint description of Twisted, where that says how to connect; it must not put TLS on.
        tls: how the connection is protected.
        credentials: for AUTH, or None.
        plaintextAuth: see `ClientProfile`.
        lmtp: True where LMTP is spoken.
        chunking: see `ClientProfile`; False where a server offers it and gets it wrong, as for `pipelining`.
        pipelining: see `ClientProfile`.
    """

    host: str
    port: int = _SMTP
    address: str = ""
    endpoint: str = ""
    tls: TLSUse = TLSUse.OPPORTUNISTIC
    credentials: Credentials | None = None
    plaintextAuth: bool = False
    lmtp: bool = False
    chunking: bool = True
    pipelining: bool = True

    @classmethod
    def of(
        cls, text: str, *, tls: TLSUse | None = None, credentials: Credentials | None = None, plaintextAuth: bool = False, lmtp: bool = False
    ) -> Destination:
        """Reads ``HOST``, ``HOST:PORT``, ``[2001:db8::1]:PORT``, ``unix:/path``, ``tls:HOST:PORT`` or another client endpoint description.

        Args:
            text: what to read. Where it names no port that is 465 with `TLSUse.IMPLICIT`, 24 with LMTP, 587 with credentials, else 25.
            tls: how to protect the connection. By default `TLSUse.IMPLICIT` for ``tls:`` and port 465; `TLSUse.REQUIRED` with credentials, so that
                nobody else gets to see them; `TLSUse.NEVER` for a unix socket, which is no network; else `TLSUse.OPPORTUNISTIC`.
            credentials: see the class.
            plaintextAuth: see the class; implied by a unix socket.
            lmtp: see the class.

        Raises:
            ValueError: it is none of these; its text is a sentence for the user.
        """
        local = text.startswith("unix:")
        host, port, endpoint, implicit = _parsed(text)
        if tls is None:
            if implicit or port == _SUBMISSIONS:
                tls = TLSUse.IMPLICIT
            elif local:
                tls = TLSUse.NEVER
            else:
                tls = TLSUse.REQUIRED if credentials is not None else TLSUse.OPPORTUNISTIC
        elif implicit and tls is not TLSUse.IMPLICIT:
            raise ValueError(f"{text!r} begins with TLS, and so cannot be connected to with TLS {tls.value}")
        if port is None:
            usual = _LMTP if lmtp else _SUBMISSION if credentials is not None else _SMTP
            port = _SUBMISSIONS if tls is TLSUse.IMPLICIT else usual
        return cls(host=host, port=port, endpoint=endpoint, tls=tls, credentials=credentials, plaintextAuth=plaintextAuth or local, lmtp=lmtp)

    def profile(self, hostname: str) -> ClientProfile:
        """The choices for a connection to it, by a client that calls itself `hostname`."""
        return ClientProfile(
            hostname=hostname,
            tls=self.tls,
            credentials=self.credentials,
            plaintextAuth=self.plaintextAuth,
            lmtp=self.lmtp,
            chunking=self.chunking,
            pipelining=self.pipelining,
        )

    @property
    def where(self) -> str:
        """What is connected to, for people: ``mx.test:25``, ``[2001:db8::1]:25``, ``mx.test [192.0.2.1]:25`` or the path of a socket."""
        if self.endpoint.startswith("unix:"):
            return _arguments(self.endpoint.removeprefix("unix:"))[0].removeprefix("path=")
        if self.address not in ("", self.host):
            return f"{self.host} [{self.address}]:{self.port}"
        return str(self)

    def __str__(self) -> str:
        if self.endpoint:
            return self.endpoint
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parsed(text: str) -> tuple[str, int | None, str, bool]:
    """The host, the port if it is named, the endpoint description if there is one, and whether it begins with TLS."""
    found = _hostAndPort(text, text)
    if found is not None:
        return (*found, "", False)
    match = _DESCRIPTION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} names no server: {_FORMS}")
    kind, rest = match[1].lower(), match[2]
    if kind == "tls":
        # The layer of TLS is ours, so that the name is verified and what failed is said.
        found = _hostAndPort(rest, text)
        if found is None:
            raise ValueError(f"{text!r}: behind tls: come a host and a port alone")
        return (*found, "", True)
    if kind == "ssl":
        raise ValueError(f"{text!r}: ssl: does not verify names; write tls:HOST:PORT")
    # It takes a while to load.
    from twisted.internet.endpoints import clientFromString

    try:
        # Nothing is connected yet: it only shows whether there is such an endpoint.
        clientFromString(None, text)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{text!r} names no server: {_FORMS}") from error
    host = _arguments(rest)[0] if kind == "tcp" else ""
    return ("" if "=" in host else host), None, text, False


def _arguments(described: str) -> list[str]:
    """What a description says behind the kind of the endpoint; a backslash makes a colon part of it."""
    return [each.replace("\0", ":") for each in described.replace("\\:", "\0").split(":")]


def _hostAndPort(text: str, whole: str) -> tuple[str, int | None] | None:
    """A host, and a port if it is named; None if it is something else."""
    if _isIPv6(text):
        return text, None
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        return None
    if match[1] is not None and not _isIPv6(match[1]):
        raise ValueError(f"{match[1]!r} is no IPv6 address")
    port = int(match[3]) if match[3] is not None else None
    if port is not None and not 0 < port < 65_536:
        raise ValueError(f"{whole!r}: a port is a number from 1 to 65535")
    try:
        return match[1] or asciiDomain(match[2]), port
    except ValueError as error:
        raise ValueError(f"{whole!r} names no server: {error}") from error


def _isIPv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
