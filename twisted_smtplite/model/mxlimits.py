"""How patiently and how widely a sender looks for the servers of a domain: every wait and count.

Knows names, units and defaults only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

# RFC 5321 5.1: a sender should try at least two addresses.
_LEAST = {"attempts": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class MXLimits:
    """Waits in seconds. The waits of the dialogue itself are those of `ClientLimits`.

    Raises:
        ValueError: a value is below its least, or not finite; the text names the field.
    """

    attempts: int = 5
    """Addresses that are tried for one message to one domain (RFC 5321 5.1 wants two at least)."""
    hosts: int = 10
    """Hosts of one domain that are looked at, the preferred first."""
    domains: int = 20
    """Domains of one message that are served at the same time."""
    queryTimeout: float = 3
    """For one answer from one name server; it is asked a second time, with three times as long to wait."""
    lookupTimeout: float = 30
    """For one name and one type of record, whatever the name servers do."""
    lookups: int = 50
    """Look-ups at a time."""
    aliases: int = 8
    """CNAME records that are followed for one name."""
    cacheTime: float = 300
    """How long a domain's servers are remembered at most; less where the records say so."""
    cachedDomains: int = 1000
    """Domains that are remembered."""
    backoffTime: float = 60
    """How long an address that could not be reached is left alone; twice as long after each further failure."""
    backoffMost: float = 900
    """How long it is left alone at most."""
    backoffAddresses: int = 10_000
    """Addresses that are remembered for that."""

    def __post_init__(self) -> None:
        for row in fields(self):
            least = _LEAST.get(row.name, 1)
            if not least <= getattr(self, row.name) < inf:
                raise ValueError(f"{row.name} is {getattr(self, row.name)}: it must be at least {least}, and finite")
