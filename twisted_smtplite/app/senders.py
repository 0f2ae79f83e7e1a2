"""What sends the messages of a command: a pool of connections to one server, or to those of the recipients' domains; and what shows their dialogue.

Knows how a command's options become the parts of the client. Must not know messages.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..client.pool import PoolLimits, SMTPPool
from ..model.clientprofile import ClientLimits, TLSUse
from .clientoptions import ClientOptions
from .sending import Sender

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from ..client.content import Content
    from ..client.destination import Destination
    from ..model.envelope import Envelope
    from ..model.results import Delivery
    from ..wire.client import Trace


def makePool(reactor: Any, options: ClientOptions, connections: int, messages: int, trace: Trace | None) -> SMTPPool:
    """The pool that the options ask for.

    Args:
        reactor: the reactor.
        options: parsed.
        connections: at a time, to each server.
        messages: of one connection.
        trace: hears the dialogue, or None.

    """
    limits = PoolLimits(connections=max(connections, 100), connectionsPerDestination=connections, messagesPerConnection=messages)
    return SMTPPool(reactor, hostname=options.hostname, limits=ClientLimits(), poolLimits=limits, trust=options.trust, trace=trace)


class OneServer:
    """Sends everything to one server.

    Args:
        pool: its connections.
        destination: the server.
    """

    def __init__(self, pool: SMTPPool, destination: Destination) -> None:
        self._pool = pool
        self._destination = destination

    def send(self, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        """See `sending.Sender`."""
        return self._pool.send(self._destination, envelope, content)


def throughMX(pool: SMTPPool, tls: TLSUse, reactor: Any) -> Sender:
    """Sends each message to the servers of its recipients' domains.

    Args:
        pool: their connections.
        tls: how each of them is met.
        reactor: the reactor.
    """
    # It takes a while to load, and few need it.
    from ..client.mx import HostPolicy, MailRoutes, MXSender

    # Who sends from here relays for nobody: mail for this host goes to the server on it, and cannot come back.
    routes = MailRoutes(reactor, ownAddresses=frozenset())
    return MXSender(reactor, pool, routes, policy=lambda domain, host: HostPolicy(tls))


class Transcript:
    """Shows a dialogue on standard error, a line for each; of texts how long they are."""

    def __init__(self) -> None:
        self._text = 0

    def __call__(self, side: str, octets: bytes) -> None:
        """Hears what is said; see `wire.client.Trace`."""
        if side == "T":
            self._text += len(octets)
            return
        shown = [f"C: (message text, {self._text} octets)"] if self._text else []
        self._text = 0
        shown += [f"{side}: {_printable(line)}" for line in octets.rstrip(b"\r\n").split(b"\r\n")]
        sys.stderr.write("\n".join(shown) + "\n")


def _printable(line: bytes) -> str:
    """The line as text that does nothing to a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line.decode("utf-8", "replace"))
