"""``rate``: how many connections, messages and recipients in a time, for each address, network or user.

Knows token buckets: each starts with as many tokens as are allowed, and gets them back evenly over the time. Memory is bounded: the keys used last
are remembered, and one that was forgotten begins with a full bucket. Must not know why somebody sends much. Each process counts for itself.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple, cast

from ..model import replies
from .base import Policy, PolicyPlugin

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore, IReactorTime

    from ..model.envelope import Envelope, Recipient, SessionInfo
    from ..model.reply import Reply

_KEYS = 65_536
_RATE = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,5})?([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Rate(NamedTuple):
    """So many in so many seconds.

    Attributes:
        most: how many at once, when there were none for a while.
        seconds: the time in which as many come back.
    """

    most: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Reads ``60/m``, ``100/10m``, ``1000/d``.

        Raises:
            ValueError: it is none of these.
        """
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no rate such as 60/m, 100/10m, 1000/h or 5000/d")
        return cls(int(match[1]), int(match[2] or 1) * _SECONDS[match[3]])


class TokenBuckets:
    """One bucket of tokens for each key.

    Args:
        rate: how many tokens a bucket holds, and in which time it fills.
        clock: the reactor's.
        keys: how many buckets are remembered at most.
    """

    def __init__(self, rate: Rate, clock: IReactorTime, keys: int = _KEYS) -> None:
        self._rate = rate
        self._clock = clock
        self._most = keys
        # What is left, and when that was; the longest unused first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str) -> bool:
        """Takes a token from the bucket of `key`; False if it has none."""
        now = self._clock.seconds()
        most, seconds = self._rate
        tokens, since = self._buckets.pop(key, (float(most), now))
        tokens = min(float(most), tokens + (now - since) * most / seconds)
        taken = tokens >= 1
        self._buckets[key] = (tokens - taken, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return taken


class RatePolicy(Policy):
    """Refuses what comes too fast, for a while: connections by 421, messages and recipients by 452.

    Whatever is asked for counts, also if somebody else refuses it.

    Args:
        clock: the reactor.
        key: whom a session counts for: a text, or None when it is not counted.
        connections: how many; None: any number. Where `key` needs a user these are logins.
        messages: likewise.
        recipients: likewise, each recipient of each message.
        keys: how many addresses, networks or users are remembered.
    """

    def __init__(
        self,
        clock: IReactorTime,
        key: Callable[[SessionInfo], str | None],
        *,
        connections: Rate | None = None,
        messages: Rate | None = None,
        recipients: Rate | None = None,
        keys: int = _KEYS,
    ) -> None:
        self._key = key
        self._connections, self._messages, self._recipients = (
            None if rate is None else TokenBuckets(rate, clock, keys) for rate in (connections, messages, recipients)
        )

    def _ask(self, buckets: TokenBuckets | None, key: str | None, refusal: Reply) -> Reply | None:
        return None if buckets is None or key is None or buckets.take(key) else refusal

    def connect(self, session: SessionInfo) -> Reply | None:
        """Counts the connection."""
        return self._ask(self._connections, self._key(session), replies.RATE_OF_CONNECTIONS)

    def auth(self, session: SessionInfo, user: str) -> Reply | None:
        """Counts the login, where users are what counts."""
        return self._ask(self._connections, user, replies.RATE_OF_CONNECTIONS) if self._key is byUser else None

    def mail(self, session: SessionInfo, envelope: Envelope) -> Reply | None:
        """Counts the message."""
        return self._ask(self._messages, self._key(session), replies.RATE_OF_MESSAGES)

    def rcpt(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Reply | None:
        """Counts the recipient."""
        return self._ask(self._recipients, self._key(session), replies.RATE_OF_RECIPIENTS)


@lru_cache(maxsize=4096)
def network(host: str, ipv4: int, ipv6: int) -> str | None:
    """The network of these prefix lengths that an address is in; None for what is no address, as a client on a unix socket has none."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ip_network((address.packed, ipv4 if address.version == 4 else ipv6), strict=False))


def byAddress(session: SessionInfo) -> str | None:
    """Each IPv4 address counts for itself, and each IPv6 /64, which is the least that a site has."""
    return network(session.peerHost, 32, 64)


def byPrefix(session: SessionInfo) -> str | None:
    """Each IPv4 /24 and IPv6 /48 counts together."""
    return network(session.peerHost, 24, 48)


def byUser(session: SessionInfo) -> str | None:
    """Each user who has authenticated; others are not counted."""
    return session.user


_KEYS_BY_NAME = {"address": byAddress, "prefix": byPrefix, "user": byUser}
_COUNTED = ("connections", "messages", "recipients")


def _make(argument: str, reactor: IReactorCore) -> RatePolicy:
    rates: dict[str, Rate] = {}
    key = "address"
    for item in argument.split(","):
        name, _, value = item.partition("=")
        if name == "per" and value in _KEYS_BY_NAME:
            key = value
        elif name in _COUNTED and name not in rates:
            rates[name] = Rate.parse(value)
        else:
            raise ValueError(f"{item!r} is none of connections=, messages= and recipients= with a rate, per=address, per=prefix and per=user")
    if not rates:
        raise ValueError("it needs a rate, as in rate:messages=100/h")
    return RatePolicy(
        cast("IReactorTime", reactor),
        _KEYS_BY_NAME[key],
        connections=rates.get("connections"),
        messages=rates.get("messages"),
        recipients=rates.get("recipients"),
    )


plugin = PolicyPlugin(
    "rate",
    "bound how much comes in a time",
    "WHAT=N/TIME,...,per=WHOM  WHAT is connections, messages or recipients; N/TIME is 60/m, 100/10m, 1000/h or 5000/d;\n"
    "                          WHOM is address (an IPv4 address or an IPv6 /64, the default), prefix (a /24 or a /48) or user",
    _make,
)
