"""The ports of the command line: where each listens, and what is spoken there.

Knows the options that ask for ports, and the profile of each kind. Must not know what listens, nor certificates.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString

from ..model.profile import Profile
from .quantity import parseCount
from .rows import Row

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore, IStreamServerEndpoint

DEFAULT_PORT = 2525
DEFAULT_INTERFACE = "127.0.0.1"
_COLON = re.compile(r"(?<!\\):")


class Kind(Enum):
    """What is spoken on a port; the value is for the log."""

    SMTP = ""
    """Mail comes in from anybody."""
    SUBMISSION = "submission"
    """Mail is handed in by users (RFC 6409)."""
    LMTP = "LMTP"
    """Mail comes from a mail server of one's own (RFC 2033)."""


class Service(NamedTuple):
    """What a port is for.

    Attributes:
        kind: what is spoken.
        tls: True where TLS begins with the connection (RFC 8314 3).
    """

    kind: Kind
    tls: bool = False

    @property
    def text(self) -> str:
        """For the log, behind the address; empty for plain SMTP."""
        words = [self.kind.value] * bool(self.kind.value) + ["TLS"] * self.tls
        return f" for {' with '.join(words)}" if words else ""


class Port(NamedTuple):
    """One port.

    Attributes:
        name: the option that asks for it, with its value.
        service: what it is for.
        make: makes the endpoint; raises whatever the parsers of endpoint strings raise.
    """

    name: str
    service: Service
    make: Callable[[IReactorCore], IStreamServerEndpoint]


ROWS = (
    Row("port", "N", f"TCP port; 0 takes a free one, and the log names it (default {DEFAULT_PORT}, or none where another port is asked for)"),
    Row("interface", "ADDRESS", f"address for all options that name a port; 0.0.0.0 or :: means all (default {DEFAULT_INTERFACE}: this computer)"),
    Row(
        "listen",
        "ENDPOINT",
        "a server endpoint string of Twisted, such as tcp:25, tcp6:25:interface=\\:\\:1, unix:/run/smtp.sock:mode=660 (660 is the default "
        "mode) or systemd:domain=INET:name=smtp; may be repeated, as may the others",
    ),
    Row("tls-port", "N", "TCP port where TLS begins with the connection, usually 465; a submission port where the server has any"),
    Row("listen-tls", "ENDPOINT", "the same as an endpoint"),
    Row("submission", "", "make --port and --listen submission ports: users hand in mail there, and must authenticate (RFC 6409)"),
    Row("submission-port", "N", "TCP port for submission beside --port, usually 587"),
    Row("listen-submission", "ENDPOINT", "the same as an endpoint"),
    Row("lmtp-port", "N", "TCP port for LMTP, from a mail server of yours; not 25 (RFC 2033)"),
    Row("listen-lmtp", "ENDPOINT", "the same as an endpoint"),
)
"""The options of this file."""

NUMBERED = ("port", "tls-port", "submission-port", "lmtp-port")
"""Those whose value is a port."""

ENDPOINTS = ("listen", "listen-tls", "listen-submission", "listen-lmtp")
"""Those whose value is an endpoint string; they may be repeated."""


def parsePort(text: str) -> int:
    """A port number.

    Raises:
        ValueError: it is none; a sentence.
    """
    port = parseCount(text)
    if port > 65535:
        raise ValueError("a port is at most 65535")
    return port


def parseLMTPPort(text: str) -> int:
    """A port number for LMTP.

    Raises:
        ValueError: it is none; a sentence.
    """
    if parsePort(text) == 25:
        # RFC 2033 5: what arrives there speaks SMTP, and a fault would lose mail.
        raise ValueError("LMTP is never spoken on port 25")
    return parsePort(text)


def checkLMTPEndpoint(endpoint: str) -> None:
    """Refuses TCP port 25.

    Raises:
        ValueError: it is that; a sentence.
    """
    kind, *arguments = _COLON.split(endpoint)
    port = next((argument for argument in arguments if argument.startswith("port=")), arguments[0] if arguments else "")
    if kind.startswith("tcp") and port.removeprefix("port=").isdecimal():
        parseLMTPPort(port.removeprefix("port="))


def services(options: Mapping[str, Any], endpoints: Mapping[str, Sequence[str]]) -> dict[str, Service]:
    """What each option that asks for a port is for."""
    main = Kind.SUBMISSION if options["submission"] else Kind.SMTP
    submits = options["submission"] or options["submission-port"] is not None or endpoints["listen-submission"]
    # RFC 8314 3.3: TLS from the beginning is for submission; mail servers among themselves use STARTTLS.
    inside = Service(Kind.SUBMISSION if submits else main, tls=True)
    submission, lmtp = Service(Kind.SUBMISSION), Service(Kind.LMTP)
    return {
        "port": Service(main),
        "listen": Service(main),
        "tls-port": inside,
        "listen-tls": inside,
        "submission-port": submission,
        "listen-submission": submission,
        "lmtp-port": lmtp,
        "listen-lmtp": lmtp,
    }


def portsOf(options: Mapping[str, Any], endpoints: Mapping[str, Sequence[str]]) -> list[Port]:
    """All ports that are asked for, in the order of the help.

    Args:
        options: parsed.
        endpoints: the values of the options of `ENDPOINTS`.
    """
    purpose = services(options, endpoints)
    interface = options["interface"]
    ports: list[Port] = []
    for numbered, listed in zip(NUMBERED, ENDPOINTS, strict=True):
        if options[numbered] is not None:
            kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
            make = partial(_numbered, kind, options[numbered], interface)
            ports.append(Port(f"--{numbered} {options[numbered]} on {interface}", purpose[numbered], make))
        ports += [Port(f"--{listed} {text}", purpose[listed], partial(_parsed, text)) for text in endpoints[listed]]
    return ports


def _numbered(kind: Callable[..., IStreamServerEndpoint], port: int, interface: str, reactor: IReactorCore) -> IStreamServerEndpoint:
    return kind(reactor, port, interface=interface)


def _parsed(text: str, reactor: IReactorCore) -> IStreamServerEndpoint:
    return cast("IStreamServerEndpoint", serverFromString(reactor, withSocketMode(text)))


def withSocketMode(endpoint: str) -> str:
    """The endpoint string, with mode 660 for a unix socket that names none: Twisted's own default lets every user of the computer in."""
    kind, *arguments = _COLON.split(endpoint)
    named = any(argument.startswith("mode=") for argument in arguments)
    positional = len([argument for argument in arguments if "=" not in argument]) > 1
    return endpoint if kind != "unix" or named or positional else f"{endpoint}:mode=660"


def profileOf(kind: Kind, options: Mapping[str, Any]) -> Profile:
    """The choices of a port of this kind."""
    submission = kind is Kind.SUBMISSION
    return Profile(
        lmtp=kind is Kind.LMTP,
        submission=submission,
        requireTLS=bool(options["require-tls"]),
        # RFC 6409 4.3: who hands in mail must be known.
        requireAuth=submission,
    )
