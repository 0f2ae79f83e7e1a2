"""Failed logins of each address: how many, and what that means for the next one.

Knows addresses, numbers and times. Must not know passwords, users or sessions.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from ..model.limits import Limits


class _Record(NamedTuple):
    failures: int
    last: float
    """When the last one failed, in seconds of the reactor's clock."""


class Guesses:
    """Counts failed logins by address; by /64 with IPv6, where one computer has as many addresses as it likes.

    A failed login is remembered for `Limits.authWindow` after the last one of its address, and not by more than `Limits.authAddresses` addresses:
    then the one that failed the longest time ago is forgotten. A success forgets nothing: whoever owns one account could guess at all others.

    Args:
        clock: the reactor.
        limits: how many, and how long.
    """

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def exhausted(self, address: str) -> bool:
        """True if this address may not try any more for now."""
        return 0 < self._limits.authFailures <= self._count(_network(address))

    def failed(self, address: str) -> float:
        """A login of this address has failed. Returns how long to wait until it is told, in seconds."""
        key = _network(address)
        count = self._count(key) + 1
        # Behind a unix socket is everybody: they are slowed down alike, and not counted.
        if key:
            self._records[key] = _Record(count, self._clock.seconds())
            self._records.move_to_end(key)
            if len(self._records) > self._limits.authAddresses:
                self._records.popitem(last=False)
        # The exponent is bounded too: a float is not without limits.
        return min(self._limits.authDelay * 2.0 ** min(count - 1, 60), self._limits.authDelayMost)

    def _count(self, key: str) -> int:
        record = self._records.get(key)
        if record is None:
            return 0
        if self._clock.seconds() - record.last >= self._limits.authWindow:
            del self._records[key]
            return 0
        return record.failures


def _network(address: str) -> str:
    """What an address is counted as: itself, or with IPv6 the first half of it; the empty string for none."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped) if parsed.ipv4_mapped is not None else parsed.exploded[:19]
    return address
