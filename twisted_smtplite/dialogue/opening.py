"""How a client opens a session: greeting, EHLO, STARTTLS, AUTH; what each reply leads to.

Knows the way to the first transaction (RFC 5321 3.1, 3.2; RFC 3207; RFC 4954). Must not know transactions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.clientprofile import TLSUse
from ..model.errors import AuthenticationFailed, PeerRefused, SMTPClientError, TLSFailed
from ..model.results import PeerReply, Stage
from .clientauth import Channel, ClientExchange, Mistrust, choose
from .clientsteps import Awaited, BeginTLS, Command, Ready
from .peer import Peer

if TYPE_CHECKING:
    from .clientsession import ClientSession

# RFC 5321 3.2, 4.1.4: not recognized, not implemented, or refused in this form.
_NO_EHLO = (500, 501, 502, 504, 550, 555)
# RFC 4954 4, 6: not this mechanism; perhaps another.
_NOT_THIS = (504, 534)


def greeted(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """The greeting (RFC 5321 4.3.1)."""
    if reply.code // 100 == 2:
        hello(session)
    else:
        _refused(session, awaited, reply, PeerRefused)


def hello(session: ClientSession) -> None:
    """Introduces the client, the new way (RFC 5321 4.1.1.1, RFC 2033 4.1)."""
    verb = "LHLO" if session.profile.lmtp else "EHLO"
    session.say(f"{verb} {session.profile.hostname}\r\n".encode(), Awaited(Command.EHLO))


def extendedHello(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """EHLO or LHLO: the extensions; or back to HELO."""
    if reply.code // 100 == 2:
        session.peer = Peer(reply)
        _protect(session)
    elif reply.code in _NO_EHLO and not session.profile.lmtp:
        session.say(f"HELO {session.profile.hostname}\r\n".encode(), Awaited(Command.HELO))
    else:
        _refused(session, awaited, reply, PeerRefused)


def plainHello(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """HELO: a server without extensions."""
    if reply.code // 100 == 2:
        # RFC 5321 4.1.1.1: whatever follows the name is text.
        session.peer = Peer(PeerReply(reply.code, None, reply.lines[:1]))
        _protect(session)
    else:
        _refused(session, awaited, reply, PeerRefused)


def _protect(session: ClientSession) -> None:
    """TLS comes before everything else (RFC 8314 5.2)."""
    use = session.profile.tls
    if session.secure or use is TLSUse.NEVER:
        _authenticate(session)
    elif session.peer.offers("STARTTLS"):
        session.say(b"STARTTLS\r\n", Awaited(Command.STARTTLS))
    elif use is TLSUse.OPPORTUNISTIC:
        _authenticate(session)
    else:
        session.fail(TLSFailed(PeerReply(451, "4.7.4", ("the server does not offer STARTTLS",), local=True), Stage.TLS))


def startTLS(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """STARTTLS (RFC 3207 4)."""
    if reply.code // 100 == 2:
        session.tell(BeginTLS())
    elif session.profile.tls is TLSUse.OPPORTUNISTIC and reply.code != 421:
        _authenticate(session)
    else:
        _refused(session, awaited, reply, TLSFailed)


def _authenticate(session: ClientSession) -> None:
    """AUTH, where the client has something to show."""
    credentials = session.profile.credentials
    if credentials is None:
        session.ready = True
        session.tell(Ready())
        return
    channel = _channel(session)
    session.mechanisms = choose(session.peer.mechanisms, credentials, channel, plaintext=session.profile.plaintextAuth)
    if session.mechanisms:
        _tryMechanism(session)
        return
    offered = " ".join(session.peer.mechanisms)[:200] or "none"
    where = "" if session.secure else "outside TLS "
    text = f"no mechanism that may be used {where}with these credentials; the server offers {offered}"
    session.fail(AuthenticationFailed(PeerReply(534, "5.7.9", (text,), local=True), Stage.AUTH))


def _channel(session: ClientSession) -> Channel:
    return Channel(session.secure, session.host, session.binding, "SCRAM-SHA-256-PLUS" in session.peer.mechanisms)


def _tryMechanism(session: ClientSession) -> None:
    """Begins an exchange with the next mechanism."""
    credentials = session.profile.credentials
    assert credentials is not None, "there is something to show"
    exchange = ClientExchange(session.mechanisms.pop(0), credentials, _channel(session))
    try:
        line = exchange.begin()
    except Mistrust as error:
        _mistrusted(session, error)
        return
    session.exchange = exchange
    session.say(line, Awaited(Command.AUTH))


def authReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """AUTH, or a response in its exchange (RFC 4954 4)."""
    exchange = session.exchange
    assert exchange is not None, "it is a reply to an exchange"
    if reply.code == 334:
        try:
            line = exchange.respond(reply.text)
        except Mistrust as error:
            # RFC 4954 4: "*" breaks the exchange off.
            session.mistrust = str(error)
            session.say(b"*\r\n", Awaited(Command.CANCEL))
        else:
            session.say(line, Awaited(Command.AUTH))
        return
    session.exchange = None
    if reply.code // 100 == 2:
        try:
            exchange.check()
        except Mistrust as error:
            _mistrusted(session, error)
        else:
            session.ready = True
            session.tell(Ready())
    elif reply.code in _NOT_THIS and session.mechanisms:
        _tryMechanism(session)
    else:
        _refused(session, awaited, reply, AuthenticationFailed)


def cancelled(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """The exchange that the client broke off is over."""
    session.exchange = None
    _mistrusted(session, Mistrust(session.mistrust))


def _mistrusted(session: ClientSession, error: Mistrust) -> None:
    session.fail(AuthenticationFailed(PeerReply(535, "5.7.8", (str(error),), local=True), Stage.AUTH))


def _refused(session: ClientSession, awaited: Awaited, reply: PeerReply, error: type[SMTPClientError]) -> None:
    """A 4yz or 5yz reply is an error of this kind; another means nothing where it came."""
    if reply.code >= 400:
        session.fail(error(reply, session.at))
    else:
        session.violated(awaited, reply)
