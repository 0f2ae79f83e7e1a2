"""``relay:SERVER`` and ``mx``: the relay on the command line.

Knows which parts make a relay. Must not know what they do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from ..client.connector import ownName
from ..client.destination import Destination
from ..client.mx import MXSender
from ..client.pool import PoolLimits, SMTPPool
from ..client.route import MailRoutes
from ..client.trust import trustIn
from ..delivery.base import DeliveryPlugin
from ..model.clientprofile import ClientLimits, Credentials, TLSUse
from ..model.networks import Networks
from .arguments import Arguments, parseCount, parseFlag, parseHostname, parseNetworks, parsePassword, parseTime
from .limits import RunnerLimits
from .relay import RelayDelivery
from .runner import Runner, Sender, byDomain
from .schedule import Schedule
from .schema import DEFAULT_QUEUE
from .store import QueueStore

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..client.content import Content
    from ..model.envelope import Envelope, Recipient
    from ..model.results import Delivery

_QUEUE_OPTIONS = {
    "queue": "DIR",
    "networks": "NETWORK,NETWORK",
    "hostname": "NAME",
    "lifetime": "TIME",
    "warn-after": "TIME",
    "connections": "COUNT",
}
_SERVER_OPTIONS = {
    "tls": "|".join(use.value for use in TLSUse),
    "user": "NAME",
    "password-file": "FILE",
    "plaintext-auth": "1",
    "ca": "PEM",
    "lmtp": "1",
    **_QUEUE_OPTIONS,
}
_QUEUE_HELP = """queue=DIR          where mail waits, ./queue when left out
networks=NET,NET   clients that need not authenticate: 192.0.2.0/24, 2001:db8::/32, an address, or unix; none when left out
hostname=NAME      how this server calls itself when it sends, and in reports; when left out the computer's
                   name, or its address where that has no domain; --hostname is what it is called when it receives
lifetime=TIME      how long a message is tried, 4d when left out; TIME is a number with s, m, h or d
warn-after=TIME    when its sender is told that it still waits, 4h when left out
connections=COUNT  connections to one server at a time, {connections} when left out"""
_SERVER_HELP = """SERVER?option=value&...  SERVER is HOST, HOST:PORT, [IPV6]:PORT, unix:/path or tls:HOST:PORT
tls=USE            never, opportunistic, encrypted, required (STARTTLS and a good certificate) or implicit; when left out: required with a
                   user, implicit for port 465, never for unix:, else opportunistic
user=NAME          log in as NAME
password-file=FILE with the password in the first line of FILE
plaintext-auth=1   log in with the password itself, also outside TLS
ca=PEM             trust the authorities in this file and no others
lmtp=1             speak LMTP
"""


class Sending(Sender, Protocol):
    """A sender whose connections can be closed."""

    def hurried(self) -> None:
        """Servers that are left alone, since they could not be reached, may be tried at once."""

    def close(self) -> Deferred[None]:
        """Ends all connections, each after what is on it."""


class _ToDomains:
    """Sends to the servers of each domain, as DNS names them."""

    def __init__(self, pool: SMTPPool, reactor: Any, hostname: str) -> None:
        sender = MXSender(reactor, pool, MailRoutes(reactor, ownNames=(hostname,)))
        self.send = sender.send
        self.hurried = sender.leaveNobodyAlone
        self.close = pool.close


class _ToOneServer:
    """Sends everything to one server."""

    def __init__(self, pool: SMTPPool, server: Destination) -> None:
        self._server = server
        self._pool = pool
        self.close = pool.close

    def send(self, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        """See `Sender`."""
        return self._pool.send(self._server, envelope, content)

    def hurried(self) -> None:
        """See `Sending`: a pool leaves nobody alone."""


class _Emptying:
    """A runner, with the connections that it uses."""

    def __init__(self, runner: Runner, sending: Sending) -> None:
        self._runner = runner
        self._sending = sending

    def start(self) -> None:
        """See `relay.Emptying`."""
        self._runner.start()

    def stop(self) -> Deferred[None]:
        """See `relay.Emptying`."""
        return self._runner.stop().addBoth(lambda result: self._sending.close())


@dataclass(frozen=True)
class _QueueChoices:
    """What ``relay`` and ``mx`` have in common.

    Attributes:
        directory: of the queue.
        networks: whose clients need not authenticate.
        hostname: how this server calls itself.
        schedule: when messages are tried.
        connections: to one server at a time.
    """

    directory: str
    networks: Networks
    hostname: str
    schedule: Schedule
    connections: int

    @classmethod
    def of(cls, arguments: Arguments) -> _QueueChoices:
        """Reads the options of both. Raises ValueError."""
        usual = Schedule()
        return cls(
            arguments.text("queue", DEFAULT_QUEUE),
            arguments.parsed("networks", parseNetworks, Networks()),
            arguments.parsed("hostname", parseHostname, "") or ownName(),
            Schedule(
                lifetime=arguments.parsed("lifetime", parseTime, usual.lifetime),
                delayWarning=arguments.parsed("warn-after", parseTime, usual.delayWarning),
            ),
            arguments.parsed("connections", parseCount, PoolLimits().connectionsPerDestination),
        )

    @property
    def poolLimits(self) -> PoolLimits:
        """For the connections."""
        return PoolLimits(connections=max(self.connections, PoolLimits().connections), connectionsPerDestination=self.connections)

    def delivery(
        self,
        reactor: Any,
        sending: Callable[[], Sending],
        limits: RunnerLimits,
        destination: Callable[[Recipient], str] = byDomain,
        *,
        domainless: bool,
    ) -> RelayDelivery:
        """The relay. Raises ValueError when the queue cannot be used."""
        store = QueueStore(self.directory, reactor)
        # Now somebody is there to read what is wrong. When mail comes nobody is. Not kept open: the process may fork before it serves.
        try:
            store.prepare()
        except (OSError, sqlite3.Error) as error:
            cause = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"option queue={self.directory}: no mail can be kept in {store.directory}: {cause}") from error
        finally:
            store.close()

        def emptying() -> _Emptying:
            sender = sending()
            runner = Runner(
                store,
                sender,
                reactor,
                hostname=self.hostname,
                destination=destination,
                schedule=self.schedule,
                limits=limits,
                hurried=sender.hurried,
            )
            return _Emptying(runner, sender)

        return RelayDelivery(store, emptying, self.networks, domainless=domainless)


def _makeRelay(argument: str, reactor: IReactorCore) -> RelayDelivery:
    server, _, query = argument.partition("?")
    if not server:
        raise ValueError("the server to send to is missing: relay:HOST:PORT")
    arguments = Arguments(query, _SERVER_OPTIONS)
    choices = _QueueChoices.of(arguments)
    destination = Destination.of(
        server,
        tls=arguments.parsed("tls", _parseUse, None),
        credentials=_credentials(arguments),
        plaintextAuth=arguments.parsed("plaintext-auth", parseFlag, False),
        lmtp=arguments.parsed("lmtp", parseFlag, False),
    )
    trust = arguments.parsed("ca", trustIn, None)
    if trust is not None and not destination.tls.verifies:
        raise ValueError(f"option ca goes with tls=required or tls=implicit: with tls={destination.tls.value} no certificate is verified")

    def sending() -> Sending:
        return _ToOneServer(SMTPPool(reactor, hostname=choices.hostname, poolLimits=choices.poolLimits, trust=trust), destination)

    # As much as the connections can carry; there are no others to leave room for.
    most = choices.connections * ClientLimits().pipelinedMessages
    limits = RunnerLimits(
        inFlight=2 * most,
        perDestination=most,
        window=max(RunnerLimits().window, 4 * most),
        windowRecipients=max(RunnerLimits().windowRecipients, 4 * most),
    )
    return choices.delivery(reactor, sending, limits, lambda recipient: str(destination), domainless=True)


def _makeMX(argument: str, reactor: IReactorCore) -> RelayDelivery:
    if argument and not argument.startswith("?"):
        raise ValueError("it takes no server, only options: mx?name=value&name=value")
    choices = _QueueChoices.of(Arguments(argument[1:], _QUEUE_OPTIONS))

    def sending() -> Sending:
        return _ToDomains(SMTPPool(reactor, hostname=choices.hostname, poolLimits=choices.poolLimits), reactor, choices.hostname)

    # A recipient without a domain is at nobody's.
    return choices.delivery(reactor, sending, RunnerLimits(), domainless=False)


def _parseUse(text: str) -> TLSUse | None:
    try:
        return TLSUse(text)
    except ValueError:
        raise ValueError(f"it must be one of {', '.join(use.value for use in TLSUse)}") from None


def _credentials(arguments: Arguments) -> Credentials | None:
    user, password = arguments.text("user"), arguments.parsed("password-file", parsePassword, None)
    if bool(user) != (password is not None):
        raise ValueError("option user goes with option password-file")
    if arguments.text("plaintext-auth") and not user:
        raise ValueError("option plaintext-auth goes with option user")
    return Credentials(user=user, password=password) if user else None


relay = DeliveryPlugin(
    "relay",
    "keep mail safe in a queue, and send it on to a server",
    _SERVER_HELP + _QUEUE_HELP.format(connections=PoolLimits().connectionsPerDestination),
    _makeRelay,
)

mx = DeliveryPlugin(
    "mx",
    "keep mail safe in a queue, and send it on to the servers of its recipients' domains",
    "?option=value&...   as in mx?queue=/var/spool/smtplite; all may be left out\n"
    + _QUEUE_HELP.format(connections=PoolLimits().connectionsPerDestination),
    _makeMX,
)
