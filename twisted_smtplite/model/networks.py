"""IP addresses, lists of networks, and whether a client is in one of them.

Knows IPv4 and IPv6, and clients on a unix socket. Must not know what being in a list means.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


class Networks:
    """Networks, given as text: ``192.0.2.0/24``, ``2001:db8::/32``, a single address, or ``unix`` for clients on unix sockets.

    Raises:
        ValueError: a text is none of these; it says which.
    """

    __slots__ = ("_networks", "_unix", "contains")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        names = tuple(texts)
        self._unix = "unix" in names
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(name) for name in names if name != "unix")
        # The same few proxies come again and again.
        self.contains = lru_cache(maxsize=256)(self._contains)

    def __str__(self) -> str:
        return ", ".join([*map(str, self._networks), *(["unix"] if self._unix else [])])

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, host: str) -> bool:
        return bool(self) and self.contains(host)

    def _contains(self, host: str) -> bool:
        """True if the client at this address (as text; empty for a unix socket) is in the list."""
        if not host:
            return self._unix
        try:
            address = ip_address(host)
        except ValueError:
            return False
        # A socket that serves both families shows IPv4 clients so.
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def isAddress(host: str) -> bool:
    """True for an IPv4 or IPv6 address, False for a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
