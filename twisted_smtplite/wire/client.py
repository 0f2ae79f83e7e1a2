"""Connecting to a server: from an endpoint to a dialogue that stands.

Knows endpoints and the time a connection may take. The protocol is in `clientprotocol`. Must not know DNS, pools or messages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from ..model.clientprofile import ClientLimits, ClientProfile, TLSUse
from ..model.errors import ConnectionFailed, TLSFailed
from ..model.results import Stage
from .clientprotocol import SMTPClient, Trace, local
from .clienttls import Trust, platformTrust

__all__ = ["SMTPClient", "Trace", "Trust", "connect"]


def connect(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    profile: ClientProfile,
    limits: ClientLimits | None = None,
    *,
    host: str = "",
    where: str = "",
    trust: Trust | None = None,
    trace: Trace | None = None,
) -> Deferred[SMTPClient]:
    """Connects, and opens the dialogue: greeting, EHLO, TLS and AUTH as the profile has it.

    Args:
        reactor: the clock.
        endpoint: where to; connects in the clear, also for `TLSUse.IMPLICIT`.
        profile: how the client behaves.
        limits: its waits and counts; the RFC's by default.
        host: the server's name: what its certificate has to show, and what it is told in TLS.
        where: what is connected to, for errors: host and port, or the path of a socket; the name alone when left out.
        trust: makes TLS for a server of a name, where certificates are verified; by default with the authorities that the machine trusts.
        trace: hears the dialogue.

    Returns:
        A Deferred of the client, which takes messages then. It fails with an `SMTPClientError`: `ConnectionFailed`, `PeerRefused`,
        `ProtocolViolation`, `TLSFailed` or `AuthenticationFailed`. Cancelling it closes the connection.
    """
    limits = limits or ClientLimits()
    trust = trust or platformTrust

    def build(chosen: ClientProfile) -> SMTPClient:
        return SMTPClient(reactor, chosen, limits, host=host, where=where, trust=trust, trace=trace)

    return _open(reactor, endpoint, profile, limits, (host, where), build)


@inlineCallbacks
def _open(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    profile: ClientProfile,
    limits: ClientLimits,
    names: tuple[str, str],
    build: Callable[[ClientProfile], SMTPClient],
) -> Generator[Deferred[Any], Any, SMTPClient]:
    client: SMTPClient = yield _reach(reactor, endpoint, limits, names, lambda: build(profile))
    try:
        yield client.opened
        return client
    except TLSFailed:
        if profile.tls is not TLSUse.OPPORTUNISTIC:
            raise
    # RFC 7435 3: no protection that can be had. The connection in which that turned out cannot be used any more.
    clear = replace(profile, tls=TLSUse.NEVER)
    client = yield _reach(reactor, endpoint, limits, names, lambda: build(clear))
    yield client.opened
    return client


@inlineCallbacks
def _reach(
    reactor: Any, endpoint: IStreamClientEndpoint, limits: ClientLimits, names: tuple[str, str], build: Callable[[], SMTPClient]
) -> Generator[Deferred[Any], Any, SMTPClient]:
    """Waits for a connection."""
    factory = Factory.forProtocol(build)
    # The log has better things to tell than that each connection has a factory.
    factory.noisy = False
    attempt = endpoint.connect(factory)
    timer = reactor.callLater(limits.connectTimeout, attempt.cancel)
    try:
        client: SMTPClient = yield attempt
    except Exception as error:
        if isinstance(error, (CancelledError, ConnectingCancelledError)) and timer.active():
            # It was not the timer that gave up.
            raise CancelledError from None
        text = causeOf(error) if timer.active() else "timed out"
        raise ConnectionFailed(local(451, "4.4.1", f"no connection: {text}"), Stage.CONNECT, *names) from error
    finally:
        _stop(timer)
    return client


def causeOf(error: Exception) -> str:
    """Why there is no connection: what the system says, where it has said something. Twisted puts words of its own around that."""
    number = getattr(error, "osError", None)
    return os.strerror(number) if isinstance(number, int) else str(error).rstrip(".") or type(error).__name__


def _stop(timer: IDelayedCall) -> None:
    if timer.active():
        timer.cancel()
