"""``recipients``: which forward-paths may receive mail.

Knows patterns of addresses. Must not know whether there is a mailbox: that is the delivery's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..model import replies
from .base import Policy, PolicyPlugin
from .lists import ADDRESS_HELP, LIST_HELP, AddressPatterns, parseList

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import Envelope, Recipient, SessionInfo
    from ..model.reply import Reply


class RecipientPolicy(Policy):
    """Refuses recipients by their address.

    Args:
        patterns: gives the list.
        allow: True admits only who is on it, False refuses who is on it.
    """

    def __init__(self, patterns: Callable[[], AddressPatterns], *, allow: bool) -> None:
        self._patterns = patterns
        self._allow = allow

    def rcpt(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """See the class."""
        address = recipient.address
        # RFC 5321 4.5.1: the postmaster of this server is always reached.
        if address.isPostmaster and address.domain.lower() in ("", session.hostname.lower()):
            return None
        return None if (address in self._patterns()) is self._allow else replies.RECIPIENT_REFUSED


def _make(argument: str, reactor: IReactorCore) -> RecipientPolicy:
    allow, patterns = parseList(argument, AddressPatterns, reactor)
    return RecipientPolicy(patterns, allow=allow)


plugin = PolicyPlugin("recipients", "admit or refuse recipients", LIST_HELP + ADDRESS_HELP, _make)
