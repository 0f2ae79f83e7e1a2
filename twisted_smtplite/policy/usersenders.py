"""``user-senders``: which reverse-paths a user may send by (RFC 6409 6.1).

Knows users by name, patterns of addresses, and avatars that have a say. Must not know how users authenticate; who has not is not asked about:
a port can require it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IReactorTime

from ..interfaces import ISenderRights
from ..model import replies
from .base import Policy, PolicyPlugin
from .lists import AddressPatterns, WatchedFile

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import Envelope, SessionInfo
    from ..model.reply import Reply


class UserSenderPolicy(Policy):
    """Refuses senders that an authenticated user may not use. An avatar that provides `ISenderRights` decides; of the others `allowed` does.

    Args:
        allowed: takes the name of a user, gives what he may use, or None when that is nothing; by default it always is.
    """

    def __init__(self, allowed: Callable[[str], AddressPatterns | None] = lambda user: None) -> None:
        self._allowed = allowed

    def mail(self, session: SessionInfo, envelope: Envelope) -> Reply | Coroutine[Any, Any, Reply | None] | None:
        """See the class."""
        # RFC 6409 3.2: the null reverse-path is nobody's, and is not refused.
        if session.user is None or envelope.sender.isNull:
            return None
        rights: ISenderRights | None = ISenderRights(session.avatar, None)
        if rights is None:
            patterns = self._allowed(session.user)
            return _verdict(patterns is not None and envelope.sender in patterns)
        answer = rights.maySend(envelope.sender)
        return _verdict(answer) if isinstance(answer, bool) else _verdictLater(answer)


def _verdict(may: bool) -> Reply | None:
    return None if may else replies.SENDER_NOT_YOURS


async def _verdictLater(pending: Awaitable[bool]) -> Reply | None:
    return _verdict(await pending)


def parseUsers(lines: Sequence[str]) -> Mapping[str, AddressPatterns]:
    """Reads lines of ``USER ITEM ITEM``. A user may stand on several lines; ``*`` is everybody.

    Raises:
        ValueError: a line has no item, or one that is no pattern.
    """
    items: dict[str, list[str]] = {}
    for line in lines:
        user, *patterns = line.split()
        if not patterns:
            raise ValueError(f"{line!r} names no address")
        items.setdefault(user, []).extend(patterns)
    everybody = items.pop("*", [])
    return {user: AddressPatterns([*patterns, *everybody]) for user, patterns in items.items()} | {"*": AddressPatterns(everybody)}


def _make(argument: str, reactor: IReactorCore) -> UserSenderPolicy:
    if not argument:
        raise ValueError("it needs a file, as in user-senders:/etc/smtplite/senders")
    users = WatchedFile(argument, parseUsers, cast(IReactorTime, reactor))

    def allowed(user: str) -> AddressPatterns:
        known = users()
        # Nobody is called "*": that line is for all.
        return known.get(user) or known["*"]

    return UserSenderPolicy(allowed)


plugin = PolicyPlugin(
    "user-senders",
    "let each user send by his own addresses alone",
    "PATH  a file with a line for each user: USER ITEM ITEM; * is everybody; read again when it changes\n"
    "an ITEM is an address, a domain (mx.test), a domain with all below it (.mx.test), or one of these with * and ?",
    _make,
)
