"""Sends one message over a connection of its own.

Knows the order of things: envelope, connection, message, end. Each has its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from ..model.clientprofile import ClientLimits, Credentials, TLSUse
from ..model.idn import asciiDomain
from .connector import Connector
from .content import Content
from .destination import Destination
from .envelopes import envelopeFor, named

if TYPE_CHECKING:
    from ..model.envelope import DeliverBy, Envelope
    from ..model.results import Delivery
    from ..wire.client import SMTPClient, Trace, Trust
    from .content import Source
    from .envelopes import Recipients, Sender


def sendMessage(
    endpoint: str | Destination | IStreamClientEndpoint,
    message: Source,
    sender: Sender = None,
    recipients: Recipients = None,
    *,
    reactor: Any = None,
    hostname: str = "",
    host: str = "",
    tls: TLSUse | None = None,
    user: str = "",
    password: str | None = None,
    credentials: Credentials | None = None,
    plaintextAuth: bool = False,
    lmtp: bool = False,
    notify: str | Iterable[str] | None = None,
    ret: str | None = None,
    envelopeId: str | None = None,
    requireTLS: bool = False,
    priority: int = 0,
    deliverBy: DeliverBy | None = None,
    holdUntil: float | None = None,
    limits: ClientLimits | None = None,
    trust: Trust | None = None,
    trace: Trace | None = None,
) -> Deferred[Delivery]:
    """Sends a message, and says what became of it.

    ``delivery = await sendMessage("mx.test:25", message)`` is often all that is needed. Bcc fields are never sent, whoever the recipients are
    (RFC 5322 3.6.3); nothing else of the message is changed, but for its line ends.

    Args:
        endpoint: the server: text, see `Destination.of`; a Destination, which then says all that is said here of the connection; or an endpoint.
        message: see `Content.of`.
        sender: the reverse-path, see `envelopeFor`; by default as the message says.
        recipients: one or several, see `envelopeFor`; by default as the message says.
        reactor: by default the one that runs.
        hostname: how to call oneself in EHLO; by default `ownName`.
        host: the server's name, for its certificate, where it is another than in `endpoint`, or not there.
        tls: how to protect the connection. By default see `Destination.of`, where `requireTLS` counts like credentials.
        user: who to authenticate as.
        password: his password.
        credentials: other ways to authenticate, in place of these two.
        plaintextAuth: see `ClientProfile`.
        lmtp: True speaks LMTP.
        notify: see `envelopeFor`.
        ret: see `envelopeFor`.
        envelopeId: see `envelopeFor`.
        requireTLS: see `envelopeFor`.
        priority: see `envelopeFor`.
        deliverBy: see `envelopeFor`.
        holdUntil: see `envelopeFor`.
        limits: every wait and count.
        trust: see `Connector`.
        trace: hears the dialogue, see `Connector`.

    Returns:
        Fires with an outcome for each recipient when the connection is closed, also when all of them were refused. Fails with an
        `SMTPClientError` when it could not even begin (each kind says why, and `temporary` whether a later try makes sense), with ValueError when
        an address or a wish is none, or the message does not say whom it is from or for, and with TypeError or OSError when `message` cannot be
        read; TypeError also for a server or an address that is no such thing. Cancelling it closes the connection.
    """

    async def send() -> Delivery:
        content = Content.of(message)
        origin, targets = named(content, sender, recipients)
        text = content.without("Bcc", "Resent-Bcc")
        envelope = envelopeFor(
            text,
            origin,
            targets,
            notify=notify,
            ret=ret,
            envelopeId=envelopeId,
            requireTLS=requireTLS,
            priority=priority,
            deliverBy=deliverBy,
            holdUntil=holdUntil,
        )
        login = Credentials(user=user, password=password) if credentials is None and (user or password is not None) else credentials
        destination, way = _destination(endpoint, host, tls, login, plaintextAuth, lmtp)
        if requireTLS and tls is None and not destination.tls.verifies:
            destination = replace(destination, tls=TLSUse.REQUIRED)
        connector = Connector(reactor or _running(), hostname=hostname, limits=limits, trust=trust, trace=trace)
        return await _over(lambda: connector(destination, way), envelope, text)

    return Deferred.fromCoroutine(send())


async def _over(connect: Callable[[], Deferred[SMTPClient]], envelope: Envelope, text: Content) -> Delivery:
    """Sends a message over a new connection, and ends that."""
    client = await connect()
    try:
        return await client.send(envelope, text)
    except CancelledError:
        client.abort()
        raise
    finally:
        try:
            await client.quit()
        except CancelledError:
            # It is known what became of the message. Who cannot wait does without a farewell.
            client.abort()


def _destination(
    endpoint: str | Destination | IStreamClientEndpoint,
    host: str,
    tls: TLSUse | None,
    credentials: Credentials | None,
    plaintextAuth: bool,
    lmtp: bool,
) -> tuple[Destination, IStreamClientEndpoint | None]:
    """The destination, and the endpoint if one was given."""
    host = asciiDomain(host)
    if isinstance(endpoint, Destination):
        return endpoint, None
    if isinstance(endpoint, str):
        destination = Destination.of(endpoint, tls=tls, credentials=credentials, plaintextAuth=plaintextAuth, lmtp=lmtp)
        return (replace(destination, host=host, address=destination.host) if host else destination), None
    if not callable(getattr(endpoint, "connect", None)):
        raise TypeError(f"a server is text, a Destination or a client endpoint, not {endpoint!r}")
    usual = TLSUse.OPPORTUNISTIC if credentials is None else TLSUse.REQUIRED
    return Destination(host=host, tls=tls or usual, credentials=credentials, plaintextAuth=plaintextAuth, lmtp=lmtp), endpoint


def _running() -> Any:
    from twisted.internet import reactor

    return reactor
