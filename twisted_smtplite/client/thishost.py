"""Which addresses are this host's own.

Knows how to ask the system, without a packet on the wire. Must not know what follows from it.
"""

from __future__ import annotations

import socket

from ..model.networks import Networks

# To connect to one of these is to connect to oneself.
_ALWAYS = Networks(("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"))
_ANY_PORT = 9


class ThisHost:
    """The addresses that lead to this host: ``address in ThisHost()``. Those that only others know, as in front of a NAT, are not among them."""

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and (address in _ALWAYS or _isLocal(address))


def _isLocal(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: the system looks up from where it would be. That is the same address only if it is one of its own.
            probe.connect((address, _ANY_PORT))
            source: str = probe.getsockname()[0]
            return source == address
    except OSError:
        return False
