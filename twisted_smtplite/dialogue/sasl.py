"""What SASL mechanisms are made of on the server's side (RFC 4422): challenges, checks, and the row that describes a mechanism.

Knows values only. Must not know SMTP, base64, or where passwords are kept. The mechanisms themselves are in `mechanisms`.

A mechanism is a generator that lives for one exchange. It yields a `Challenge` and is sent the client's response; it yields a `Check` and is sent
what somebody outside knows; it returns the name of the user who has authenticated, or None. `respond` and `lookUp` do both with a type.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..model.envelope import SessionInfo


class Challenge(NamedTuple):
    """Octets for the client, whose response is the next step."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Password:
    """Is this the user's password? Answered by the user's name, or None."""

    user: str
    password: str
    actAs: str = ""
    """Whom the user wants to act for; the empty string for himself (RFC 4616 2)."""

    def __repr__(self) -> str:
        return f"Password({self.user!r}, ...)"


@dataclass(frozen=True, slots=True)
class Digest:
    """Is this the keyed MD5 digest of the challenge under the user's password? Answered by the user's name, or None (RFC 2195 2)."""

    user: str
    challenge: bytes
    digest: str
    """Thirty-two hexadecimal digits, lower case."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What is kept of this user's password for SCRAM? Answered by `StoredKeys`, or None."""

    user: str
    mechanism: str
    """The name of the mechanism without ``-PLUS``."""


@dataclass(frozen=True, slots=True)
class Token:
    """Whose is this OAuth 2.0 bearer token? Answered by the user's name, or None (RFC 7628 3.1)."""

    user: str
    """Whom the client says it is, or the empty string."""
    token: str

    def __repr__(self) -> str:
        return f"Token({self.user!r}, ...)"


@dataclass(frozen=True, slots=True)
class External:
    """May the owner of this certificate act as that user? Answered by the user's name, or None (RFC 4422 Appendix A)."""

    certificate: str
    actAs: str
    """Whom the client wants to be; the empty string for whom the certificate stands for."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The exchange is over. Nobody is asked who the client is any more: this is the time to slow it down, or to find out what it may do.

    Answered by None when things may take their course; by a 4yz or 5yz Reply in place of what they would lead to; where somebody has authenticated
    also by a `Login`.
    """

    mechanism: str
    user: str | None
    """Who has authenticated, or None."""


class Login(NamedTuple):
    """What a user gets for the rest of the session.

    Attributes:
        delivery: where his mail goes: provides, or adapts to, `IMessageDelivery`; None for where everybody's goes.
        logout: called once, when the session no longer is that user's.
        avatar: what policies find in `SessionInfo.avatar`; None for the delivery.
    """

    delivery: object | None
    logout: Callable[[], object] = lambda: None
    avatar: object | None = None


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """What a server keeps of a password for SCRAM (RFC 5802 3)."""

    salt: bytes
    storedKey: bytes
    serverKey: bytes
    iterations: int

    def __repr__(self) -> str:
        return "StoredKeys(...)"


Check: TypeAlias = Password | Digest | Keys | Token | External | Conclusion
"""What has to be looked up."""
Steps: TypeAlias = Generator[Challenge | Check, object, str | None]


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One mechanism.

    Attributes:
        run: begins an exchange: takes the session, and the names of all mechanisms that are offered to it.
        rfc: where it is specified, for the documentation.
        asks: the checks that it may yield.
        serverFirst: True if the server speaks first, so that there is no initial response (RFC 4954 4).
        revealing: True if it shows the password to whoever listens, so that it belongs inside TLS (RFC 4954 4).
        byName: True if it is weak, and offered only by who names it.
        fits: True if a session can use it at all.
        installed: True if what it needs besides Python is there.
    """

    run: Callable[[SessionInfo, Collection[str]], Steps]
    rfc: str
    asks: type[Check]
    serverFirst: bool = False
    revealing: bool = False
    byName: bool = False
    fits: Callable[[SessionInfo], bool] = lambda session: True
    installed: Callable[[], bool] = lambda: True


def respond(challenge: bytes) -> Generator[Challenge | Check, object, bytes]:
    """Challenges the client; returns its response."""
    response = yield Challenge(challenge)
    assert isinstance(response, bytes), "a challenge is answered by the client"
    return response


def lookUp(check: Check) -> Generator[Challenge | Check, object, str | None]:
    """Has something checked; returns the user's name, or None for any other answer."""
    answer = yield check
    return answer if isinstance(answer, str) else None
