"""SASL on the server's side (RFC 4422): mechanisms as small objects without I/O, found by name.

Knows what each mechanism says and in which order. Must not know SMTP, base64, or where passwords are kept: what has to be looked up is a `Check`,
answered from outside. A mechanism is one exchange: it is made for it and thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from ..model.envelope import SessionInfo


class Challenge(NamedTuple):
    """Octets for the client, whose response is the next step."""

    data: bytes


class Success(NamedTuple):
    """The client is who it says it is."""

    user: str


class Failure(NamedTuple):
    """It is not, or it said something that the mechanism does not know."""


@dataclass(frozen=True, slots=True)
class Password:
    """Is this the user's password? Answered by the user's name, or None."""

    user: str
    password: str
    actAs: str = ""
    """Whom the user wants to act for; the empty string for himself (RFC 4616 2)."""

    def __repr__(self) -> str:
        return f"Password({self.user!r}, ...)"


Check: TypeAlias = Password
"""What a mechanism has to have looked up."""
Next: TypeAlias = Challenge | Success | Failure | Check


class Mechanism(Protocol):
    """One exchange."""

    def start(self, initial: bytes | None) -> Next:
        """Begins, with the client's initial response if it sent one.

        Raises:
            InitialResponseUnexpected: the server speaks first in this mechanism, and the client already did.
        """

    def step(self, response: bytes) -> Next:
        """Takes the response to a challenge."""

    def answer(self, value: object) -> Next:
        """Takes the answer to a check."""


class InitialResponseUnexpected(Exception):
    """The client sent an initial response where the server speaks first (RFC 4954 4)."""


class Plain:
    """PLAIN (RFC 4616)."""

    def __init__(self, session: SessionInfo) -> None:
        pass

    def start(self, initial: bytes | None) -> Next:
        """The client speaks first; without an initial response it is asked by an empty challenge."""
        return Challenge(b"") if initial is None else self.step(initial)

    def step(self, response: bytes) -> Next:
        """[authzid] NUL authcid NUL passwd, in UTF-8, each of up to 255 octets (RFC 4616 2)."""
        parts = response.split(b"\0")
        if len(parts) != 3 or any(len(part) > 255 for part in parts) or not parts[1] or not parts[2]:
            return Failure()
        try:
            actAs, user, password = (part.decode() for part in parts)
        except UnicodeDecodeError:
            return Failure()
        return Password(user, password, actAs)

    def answer(self, value: object) -> Next:
        """The checker's word is final."""
        return Success(value) if isinstance(value, str) else Failure()


MECHANISMS: dict[str, Callable[[SessionInfo], Mechanism]] = {"PLAIN": Plain}
