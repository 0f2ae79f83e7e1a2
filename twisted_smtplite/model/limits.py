"""Every size, count and wait of the server, in one place.

Knows units, defaults and the least that the RFC allows. The command line makes an option of each field that carries one, so a new limit is a
new row here and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from math import inf
from typing import Any


class BareLineEnds(Enum):
    """What to do with a message that holds a bare CR, a bare LF or a NUL (RFC 5321 2.3.8, 4.1.1.4).

    In no case do such octets end a message or a line of the dialogue.
    """

    REFUSE = "refuse"
    """Answer 550 5.6.0 after the end of the message and deliver nothing."""
    NORMALISE = "normalise"
    """Deliver it with each bare CR or LF made CRLF and each NUL removed."""


def _limit(default: float, option: str, unit: str, meaning: str, *, least: float = 0) -> Any:
    """A field of `Limits`: its default, the name of its option, its unit, what it bounds, and the least value that is allowed."""
    return field(default=default, metadata={"option": option, "unit": unit, "meaning": meaning, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a server. Sizes are octets, waits are seconds; 0 switches a limit off where its meaning says so.

    Raises:
        ValueError: a value is below the least that RFC 5321 4.5.3 (or sense) allows, or not finite; the text names the field.
    """

    messageSize: int = _limit(52_428_800, "max-size", "octets", "largest message (RFC 1870); 0: no limit")
    recipients: int = _limit(1000, "max-recipients", "count", "recipients of one message (RFC 5321 4.5.3.1.8)", least=100)
    recipientDomains: int = _limit(0, "max-recipient-domains", "count", "different domains among the recipients of one message; 0: no limit")
    commandLine: int = _limit(512, "max-command-line", "octets", "command line with CRLF; extensions add theirs (4.5.3.1.4)", least=512)
    textLine: int = _limit(1_048_576, "max-text-line", "octets", "line of a message with CRLF (4.5.3.1.6); 0: no limit")
    localPart: int = _limit(64, "max-local-part", "octets", "local part of an address (4.5.3.1.1)", least=64)
    domain: int = _limit(255, "max-domain", "octets", "domain of an address (4.5.3.1.2)", least=255)
    path: int = _limit(256, "max-path", "octets", "path with its brackets (4.5.3.1.3)", least=256)
    receivedFields: int = _limit(100, "max-received", "count", "Received fields before a message counts as looping (6.3)", least=100)

    errors: int = _limit(20, "max-errors", "count", "refused commands before 421 ends the session; 0: no limit")
    commands: int = _limit(1_000_000, "max-commands", "count", "commands of one session; 0: no limit")
    transactions: int = _limit(100_000, "max-transactions", "count", "mail transactions of one session; 0: no limit")
    connections: int = _limit(20_000, "max-connections", "count", "connections at a time; 0: no limit")
    connectionsPerAddress: int = _limit(500, "max-connections-per-address", "count", "connections of one client address; 0: no limit")

    commandTimeout: float = _limit(300, "command-timeout", "seconds", "wait for the next command (RFC 5321 4.5.3.2.7: at least 300); 0: no limit")
    dataStartTimeout: float = _limit(120, "data-start-timeout", "seconds", "wait for the first octet after 354 (4.5.3.2.4); 0: no limit")
    dataTimeout: float = _limit(180, "data-timeout", "seconds", "wait for the next octet of a message (4.5.3.2.5); 0: no limit")
    handshakeTimeout: float = _limit(30, "handshake-timeout", "seconds", "wait for a TLS handshake, or a PROXY header, to end", least=1)
    backendTimeout: float = _limit(540, "backend-timeout", "seconds", "wait for the delivery's answer before 451 (4.5.3.2.6); 0: no limit")
    policyTimeout: float = _limit(60, "policy-timeout", "seconds", "wait for the answer of a policy before it counts as failed; 0: no limit")
    closeTimeout: float = _limit(10, "close-timeout", "seconds", "wait for the client to take the last reply before it is cut off", least=1)
    sessionTime: float = _limit(86_400, "session-time", "seconds", "length of a session; 0: no limit")
    drainTime: float = _limit(30, "drain-time", "seconds", "wait for messages in flight when the server stops")
    minimumRate: float = _limit(16, "min-rate", "octets/s", "slowest message body, over the rate window; 0: no limit")
    rateWindow: float = _limit(60, "rate-window", "seconds", "span over which the rate of a message body is measured", least=1)

    authFailures: int = _limit(10, "max-auth-failures", "count", "failed logins of one client address before 421; 0: no limit")
    authAddresses: int = _limit(10_000, "max-auth-addresses", "count", "client addresses whose failed logins are remembered", least=1)
    authWindow: float = _limit(900, "auth-window", "seconds", "how long the failed logins of an address count, from the last one", least=1)
    authDelay: float = _limit(1, "auth-delay", "seconds", "wait before a failed login is told, doubled by each further one; 0: none")
    authDelayMost: float = _limit(30, "max-auth-delay", "seconds", "longest wait before a failed login is told")
    hashing: int = _limit(2, "max-hashing", "count", "passwords that are hashed at the same time", least=1)

    deliverByLeast: int = _limit(0, "deliver-by-least", "seconds", "shortest time in which a message can be asked to be delivered (RFC 2852)")
    holdTime: int = _limit(604_800, "max-hold", "seconds", "longest time that a message can be asked to be held (RFC 4865)", least=1)

    bareLineEnds: BareLineEnds = BareLineEnds.REFUSE
    """What to do with bare CR, bare LF and NUL in a message."""
    lenientPaths: bool = False
    """Admit paths without angle brackets, and spaces after the colon of ``FROM:`` and ``TO:`` (RFC 5321 3.3 forbids both)."""

    def __post_init__(self) -> None:
        for row in fields(self):
            least = row.metadata.get("least")
            # Written so that a value which is not a number (nan) is refused too, and one that no timer can wait for.
            if least is not None and not least <= getattr(self, row.name) < inf:
                raise ValueError(f"{row.name} is {getattr(self, row.name)}: it must be at least {least}, and finite")
