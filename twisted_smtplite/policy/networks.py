"""``networks``: which client addresses may connect.

Knows networks and a list of them. Must not know who is behind an address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..model import replies
from ..model.networks import Networks
from .base import Policy, PolicyPlugin
from .lists import LIST_HELP, parseList

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import SessionInfo
    from ..model.reply import Reply


class NetworkPolicy(Policy):
    """Refuses connections by the client's address.

    Args:
        allow: True admits only who is on the list, False refuses who is on it. Clients on a unix socket are on it as ``unix``.
        networks: gives the list.
    """

    def __init__(self, networks: Callable[[], Networks], *, allow: bool) -> None:
        self._networks = networks
        self._allow = allow

    def connect(self, session: SessionInfo) -> Reply | None:
        """See the class."""
        return None if (session.peerHost in self._networks()) is self._allow else replies.NETWORK_REFUSED


def _make(argument: str, reactor: IReactorCore) -> NetworkPolicy:
    allow, networks = parseList(argument, Networks, reactor)
    return NetworkPolicy(networks, allow=allow)


plugin = PolicyPlugin(
    "networks",
    "admit or refuse client addresses",
    LIST_HELP + "\nan ITEM is a network (192.0.2.0/24, 2001:db8::/32), an address, or unix",
    _make,
)
