"""How much the runner does at a time, and how long it waits.

Knows names, units and defaults only. When a message is tried again is the business of `schedule`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerLimits:
    """Counts, waits in seconds, sizes in octets.

    Raises:
        ValueError: a value is negative, zero where that makes no sense, or not finite; the text names the field.
    """

    inFlight: int = 100
    """Transactions at a time. The last quarter is for destinations that have none yet: slow ones never take all."""
    perDestination: int = 20
    """Transactions at a time with one destination."""
    window: int = 1000
    """Messages that are held in memory, waiting or in flight."""
    windowRecipients: int = 10_000
    """Their recipients, likewise."""
    perMessage: int = 1000
    """Of them, those of one message: of a larger one the others follow as these are done."""
    recipients: int = 100
    """Recipients of one transaction (RFC 5321 4.5.3.1.8)."""
    gatherTime: float = 60
    """How long a failure waits for the other recipients of its message, to be told in one report."""
    firstProbe: float = 60
    """A destination that cannot be reached is left alone so long; then one message tries, and the wait doubles each time it fails."""
    longestProbe: float = 1800
    """The longest such wait."""
    retryStore: float = 1
    """When the store fails, it is asked again after this time, which doubles up to a minute."""
    drainTime: float = 30
    """How long transactions in flight may take to end when the runner stops."""
    quoteSize: int = 51_200
    """The largest message that a report returns as a whole."""

    def __post_init__(self) -> None:
        for row in fields(self):
            least = 0 if row.name in ("gatherTime", "drainTime", "quoteSize") else 1e-9
            if not least <= getattr(self, row.name) < inf:
                raise ValueError(f"{row.name} is {getattr(self, row.name)}: it must be {'at least' if not least else 'more than'} 0, and finite")


LONGEST_STORE_RETRY = 60.0
"""Seconds between two attempts to record what is known, at most."""
