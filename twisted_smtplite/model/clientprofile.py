"""How a client behaves towards a server: the choices, and every wait and count.

Knows names, units and defaults only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class TLSUse(Enum):
    """How a client protects its connections."""

    NEVER = "never"
    """In the clear, whatever the server offers."""
    OPPORTUNISTIC = "opportunistic"
    """By STARTTLS where it is offered, with any certificate; else, and where the handshake fails, in the clear (RFC 7435)."""
    ENCRYPTED = "encrypted"
    """By STARTTLS or not at all, with any certificate."""
    REQUIRED = "required"
    """By STARTTLS or not at all, with a certificate that verifies and names the server (RFC 3207 4, RFC 7817)."""
    IMPLICIT = "implicit"
    """TLS from the first octet (RFC 8314 3.3), with a certificate that verifies and names the server."""

    @property
    def verifies(self) -> bool:
        """True where a certificate must verify and name the server."""
        return self in (TLSUse.REQUIRED, TLSUse.IMPLICIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who the client is, and how it can prove that.

    Attributes:
        user: the authentication identity.
        password: the password, or None.
        token: an OAuth 2.0 bearer token (RFC 7628), or a function that returns one, asked anew for each connection; or None.
        actAs: on whose behalf (RFC 4616 2); the empty string for oneself.
        mechanisms: the SASL mechanisms that may be used, the preferred first; the empty tuple leaves the choice to the client: the strongest that
            both know and the credentials are good for.
    """

    user: str = ""
    password: str | None = None
    token: str | Callable[[], str] | None = None
    actAs: str = ""
    mechanisms: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientProfile:
    """The choices. The default is a mail server that passes messages on to others: TLS where it can be had, no login.

    Attributes:
        hostname: how the client calls itself in EHLO, a domain or an address literal (RFC 5321 4.1.4).
        tls: how connections are protected.
        credentials: for AUTH (RFC 4954), or None. With them a server that offers no usable AUTH is an error.
        plaintextAuth: True lets mechanisms that reveal the password run outside TLS.
        lmtp: True speaks LMTP (RFC 2033): LHLO, and a reply for each recipient.
        chunking: False keeps to DATA where the server also offers CHUNKING (RFC 3030).
        pipelining: False waits for each reply where the server also offers PIPELINING (RFC 2920).
    """

    hostname: str
    tls: TLSUse = TLSUse.OPPORTUNISTIC
    credentials: Credentials | None = None
    plaintextAuth: bool = False
    lmtp: bool = False
    chunking: bool = True
    pipelining: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """Waits in seconds, sizes in octets. The waits are those of RFC 5321 4.5.3.2, one for each command, not for a transaction.

    Raises:
        ValueError: a value is negative, zero where something is waited for, or not finite; the text names the field.
    """

    connectTimeout: float = 30
    """For a connection to one address."""
    greetingTimeout: float = 300
    """The first thing that the server says."""
    helloTimeout: float = 300
    """EHLO, HELO, LHLO, and each step of AUTH."""
    handshakeTimeout: float = 60
    """STARTTLS and the handshake."""
    mailTimeout: float = 300
    """Also RSET."""
    rcptTimeout: float = 300
    """Each recipient."""
    dataTimeout: float = 120
    """DATA, until 354."""
    blockTimeout: float = 180
    """For the peer to take the next block of the text, and for BDAT's replies."""
    finalTimeout: float = 600
    """After the end of the text: the peer may have much to do, and one who gives up sends the message twice (RFC 5321 4.5.3.2.6)."""
    quitTimeout: float = 5
    """QUIT: nothing depends on the reply."""
    replyLine: int = 4096
    """A line of a reply with its CRLF: eight times what RFC 5321 4.5.3.1.5 allows."""
    replyLines: int = 256
    """Lines of one reply."""
    recipients: int = 100
    """Recipients of one transaction, where the server does not say how many it takes (RFC 5321 4.5.3.1.8, RFC 9422)."""
    eagerText: int = 65_536
    """Octets of the largest text that is sent together with its MAIL and RCPT, before anybody knows whether they are welcome (RFC 3030 4.2)."""
    pipelinedMessages: int = 8
    """Messages that may be on their way in one connection without an answer: so many may be doubled when it breaks (RFC 1047)."""
    pipelinedChunks: int = 16
    """Chunks of a text of unknown size that may be on their way without an answer: when one is refused so are those behind it (RFC 3030 2)."""

    def __post_init__(self) -> None:
        requirePositive(self)


def requirePositive(limits: DataclassInstance) -> None:
    """Looks at each field of some limits.

    Raises:
        ValueError: one is zero, negative or not finite (nan neither); the text names it.
    """
    for row in fields(limits):
        if not 0 < getattr(limits, row.name) < inf:
            raise ValueError(f"{row.name} is {getattr(limits, row.name)}: it must be more than 0, and finite")
