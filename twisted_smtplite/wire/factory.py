"""The server's factory: one for each service, shared by its sessions.

Knows how many sessions there are and may be, what they share, and how they end together. Must not know a backend: the delivery is adapted to
the interfaces once, here.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IOpenSSLServerConnectionCreator, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from zope.interface import implementer

from ..dialogue.dialect import Dialect
from ..dialogue.extensions import EXTENSIONS
from ..dialogue.sasl import Check, Conclusion
from ..interfaces import (
    IAuthenticator,
    IExpandList,
    IExtendDialogue,
    IHonourExtensions,
    IMessageDelivery,
    IMessageDeliveryFactory,
    ISessionObserver,
    IVerifyAddress,
)
from ..model import replies
from ..model.envelope import SessionInfo
from ..model.limits import Limits
from ..model.networks import Networks
from ..model.profile import Profile
from ..model.reply import Refused, Reply

# For its effect: deliveries written for twisted.mail adapt to our interfaces.
from . import twistedmail as _twistedmail  # noqa: F401
from .chain import Chain, ConsultedDelivery
from .guarding import guarded
from .proxy import ClientAddress
from .server import SMTPServer
from .submission import SubmissionDelivery

_log = Logger(namespace="smtplite")


class Backend(NamedTuple):
    """A delivery, and what comes with it.

    Attributes:
        delivery: who is asked, and who takes messages.
        verifier: who answers VRFY, or None.
        expander: who answers EXPN, or None.
        dialect: the limits and extensions of sessions with this delivery.
    """

    delivery: IMessageDelivery
    verifier: IVerifyAddress | None
    expander: IExpandList | None
    dialect: Dialect


def nobodyIsKnown(session: SessionInfo, check: Check) -> None:
    """The answer of a server without users."""


@implementer(IAuthenticator)
class FunctionAuthenticator:
    """A function that says who clients are.

    Args:
        function: does what `IAuthenticator.check` does.
    """

    def __init__(self, function: Callable[[SessionInfo, Check], Any]) -> None:
        self.check = function

    def conclude(self, session: SessionInfo, conclusion: Conclusion) -> None:
        """Things take their course."""


class TurnedAway(Protocol):
    """A connection that is not served: it hears one reply and ends (RFC 5321 3.1)."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def connectionMade(self) -> None:
        """Says it."""
        assert self.transport is not None, "a connection has a transport"
        if ISSLTransport.providedBy(self.transport):
            # Nothing can be said before a handshake, and nobody would wait for that.
            self.transport.abortConnection()
        else:
            self.transport.write(self._reply.wire)
            self.transport.loseConnection()


class SMTPServerFactory(ServerFactory):
    """Makes a session for each connection.

    ``SMTPServerFactory(delivery, reactor)`` is a complete server to listen with on any stream endpoint.

    Args:
        delivery: provides, or adapts to, `IMessageDelivery` or `IMessageDeliveryFactory`.
        reactor: the reactor that the server runs in; its clock is used.
        hostname: what the server calls itself; by default the host's name.
        limits: the bounds; by default those of `Limits`.
        observer: told of sessions and messages.
        profile: the choices; by default those of `Profile`.
        tls: makes the TLS side of a connection. With it STARTTLS is offered.
        authenticate: says who clients are: an `IAuthenticator`, or a function that does what its `check` does.
        offer: keywords of extensions that are offered although the delivery does not say that it honours them.
        policies: asked in this order before the delivery, see `ISessionPolicy`.
        xclients: the networks from which XCLIENT and XFORWARD are taken, as text: see `Networks`.

    Attributes:
        limits: the bounds of all sessions.
        observer: who is told what happens, or None.
        reactor: the clock.
        greeting: the reply that opens each session.

    Raises:
        ValueError: one of the networks is none.
        TypeError: the delivery neither provides nor adapts to an interface of a delivery; or a policy does not provide `ISessionPolicy`.
    """

    noisy = False

    def __init__(
        self,
        delivery: object,
        reactor: IReactorTime,
        *,
        hostname: str = "",
        limits: Limits | None = None,
        observer: ISessionObserver | None = None,
        profile: Profile | None = None,
        tls: IOpenSSLServerConnectionCreator | None = None,
        authenticate: IAuthenticator | Callable[[SessionInfo, Check], Any] = nobodyIsKnown,
        offer: Collection[str] = (),
        xclients: Collection[str] = (),
        policies: Sequence[object] = (),
    ) -> None:
        self.reactor = reactor
        self.limits = limits or Limits()
        self.observer = observer
        self.tls = tls
        self.profile = replace(profile or Profile(), startTLS=tls is not None)
        self.authenticator = authenticate if IAuthenticator.providedBy(authenticate) else FunctionAuthenticator(authenticate)
        self.offer = frozenset(offer)
        self.chain = Chain(policies, reactor, self.limits.policyTimeout) if policies else None
        self._hostname = hostname or socket.gethostname()
        self.greeting = replies.greeting(self._hostname)
        self.now = time.time
        self._xclients = Networks(xclients)
        # Each session with the address that it is counted for.
        self._sessions: dict[SMTPServer, str] = {}
        self._perAddress: dict[str, int] = {}
        self._drained: list[Deferred[None]] = []
        self._deadline: IDelayedCall | None = None
        self._draining = False
        # Who has to go before it counts as drained. Others may come meanwhile, if it is started again.
        self._leaving: set[SMTPServer] = set()
        self._idPrefix = f"{int(time.time()):x}{os.getpid():x}{os.urandom(2).hex()}".upper()
        self._ids = 0
        self._deliveries: IMessageDeliveryFactory | None = IMessageDeliveryFactory(delivery, None)
        self._backend = None if self._deliveries is not None else self.backendFor(delivery)

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def newId(self) -> str:
        """A name for a session or a transaction: letters and digits, not used before on this host."""
        self._ids += 1
        return f"{self._idPrefix}{self._ids:X}"

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """A session for a new connection, or what turns it away when there are too many (RFC 5321 3.8: 421)."""
        host = getattr(addr, "host", "")
        refusal = self._refusalFor(host)
        if refusal is not None:
            return self._turnAway(host, refusal)
        info = SessionInfo(self.newId(), self._hostname, host, getattr(addr, "port", 0), trusted=host in self._xclients, lmtp=self.profile.lmtp)
        client: object = addr
        if isinstance(client, ClientAddress):
            client.tell(info)
        backend = self._backend
        if backend is None:
            assert self._deliveries is not None, "there is a backend for all sessions, or a factory of them"
            try:
                backend = self.backendFor(self._deliveries.getMessageDelivery(info))
            except Refused as refused:
                return self._turnAway(host, refused.reply)
            except Exception:  # noqa: BLE001 - whatever a delivery does wrong, the server goes on
                _log.failure("No delivery could be made for a session with {peer}", peer=host)
                return self._turnAway(host, replies.LOCAL_ERROR)
        return SMTPServer(self, backend, info)

    def _turnAway(self, host: str, refusal: Reply) -> Protocol:
        reply = replies.inPlaceOfGreeting(refusal)
        if self.observer is not None:
            try:
                self.observer.sessionRefused(host, reply)
            except Exception:  # noqa: BLE001 - likewise
                _log.failure("The observer failed when {peer} was turned away", peer=host)
        return TurnedAway(reply)

    def _count(self, session: SMTPServer, host: str) -> None:
        self._sessions[session] = host
        if host:
            self._perAddress[host] = self._perAddress.get(host, 0) + 1

    def _uncount(self, session: SMTPServer) -> None:
        host = self._sessions.pop(session)
        if host:
            self._perAddress[host] -= 1
            if not self._perAddress[host]:
                del self._perAddress[host]

    def clientChanged(self, session: SMTPServer, host: str) -> Reply | None:
        """Called by a session whose client turns out to be somebody else (XCLIENT): it is counted for that address, or refused as on connecting."""
        if host == self._sessions[session]:
            return None
        if self._tooManyFrom(host):
            return replies.TOO_MANY_FROM_ADDRESS
        self._uncount(session)
        self._count(session, host)
        return None

    def sessionBegins(self, session: SMTPServer) -> None:
        """Called by a session that has got its connection: one that never gets any, since TLS could not begin, is not counted."""
        self._count(session, session.info.peerHost)

    def sessionOver(self, session: SMTPServer) -> None:
        """Called by a session whose connection is gone."""
        self._uncount(session)
        self._leaving.discard(session)
        if self._drained and not self._leaving:
            self._allGone()

    def drain(self) -> Deferred[None]:
        """Ends all sessions: idle ones hear 421 now, those with a message in flight once it is answered.

        After `Limits.drainTime` whoever is left is cut off.

        Returns:
            Fires when no session is left. New connections are turned away meanwhile; who calls this stops listening first.
        """
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        if not self._draining:
            self._draining = True
            self._leaving.update(self._sessions)
            # Not now: it may be a part of the server that calls this, and what its session is about to say comes first.
            self.reactor.callLater(0, self._tell, list(self._sessions))
        if not self._leaving:
            self._allGone()
        elif self._deadline is None:
            self._deadline = self.reactor.callLater(self.limits.drainTime, self._cutOff)
        return drained

    def doStart(self) -> None:
        """Listening begins, perhaps again."""
        self._draining = False
        super().doStart()  # type: ignore[no-untyped-call]

    def _tell(self, sessions: Sequence[SMTPServer]) -> None:
        for session in sessions:
            session.drain()

    def _cutOff(self) -> None:
        self._deadline = None
        for session in list(self._leaving):
            session.cutOff()

    def _allGone(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        drained, self._drained = self._drained, []
        for waiting in drained:
            waiting.callback(None)

    def _refusalFor(self, host: str) -> Reply | None:
        """Why a client at this address is not served, or None."""
        if self._draining:
            return replies.SHUTDOWN
        if 0 < self.limits.connections <= len(self._sessions):
            return replies.TOO_MANY_CONNECTIONS
        return replies.TOO_MANY_FROM_ADDRESS if self._tooManyFrom(host) else None

    def _tooManyFrom(self, host: str) -> bool:
        return bool(host) and 0 < self.limits.connectionsPerAddress <= self._perAddress.get(host, 0)

    def backendFor(self, delivery: object) -> Backend:
        """Adapts a delivery, once for all sessions that use it.

        Raises:
            TypeError: it neither provides nor adapts to the interface of one.
        """
        adapted: IMessageDelivery | None = IMessageDelivery(delivery, None)
        if adapted is None:
            raise TypeError(f"{delivery!r} neither provides nor adapts to IMessageDelivery or IMessageDeliveryFactory")
        if self.chain is not None:
            adapted = ConsultedDelivery(self.chain, adapted)
        if self.profile.submission:
            adapted = SubmissionDelivery(adapted)
        expander = IExpandList(delivery, None)
        extended = IExtendDialogue(delivery, None)
        extensions = (*EXTENSIONS, *map(guarded, extended.extensions)) if extended is not None else EXTENSIONS
        honours = IHonourExtensions(delivery, None)
        dialect = Dialect(
            self.limits,
            extensions,
            profile=self.profile,
            expands=expander is not None,
            honours=self.offer if honours is None else self.offer.union(honours.honours),
            consulting=self.chain is not None,
            now=self.now,
        )
        return Backend(adapted, IVerifyAddress(delivery, None), expander, dialect)
