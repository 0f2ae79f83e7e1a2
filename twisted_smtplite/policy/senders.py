"""``senders``: which reverse-paths may send.

Knows patterns of addresses. Must not know who the client is: anybody can write any reverse-path. For users, see `usersenders`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..model import replies
from .base import Policy, PolicyPlugin
from .lists import ADDRESS_HELP, LIST_HELP, AddressPatterns, parseList

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import Envelope, SessionInfo
    from ..model.reply import Reply


class SenderPolicy(Policy):
    """Refuses senders by their address. Reports have none (``<>``) and are refused only by a list of the unwelcome that names it.

    Args:
        patterns: gives the list.
        allow: True admits only who is on it, False refuses who is on it.
    """

    def __init__(self, patterns: Callable[[], AddressPatterns], *, allow: bool) -> None:
        self._patterns = patterns
        self._allow = allow

    def mail(self, session: SessionInfo, envelope: Envelope) -> Reply | None:
        """See the class."""
        # RFC 5321 4.5.5: reports come from <>, and must be able to come.
        if self._allow and envelope.sender.isNull:
            return None
        return None if (envelope.sender in self._patterns()) is self._allow else replies.SENDER_REFUSED


def _make(argument: str, reactor: IReactorCore) -> SenderPolicy:
    allow, patterns = parseList(argument, AddressPatterns, reactor)
    return SenderPolicy(patterns, allow=allow)


plugin = PolicyPlugin("senders", "admit or refuse senders", LIST_HELP + ADDRESS_HELP, _make)
