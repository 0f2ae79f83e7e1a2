"""What each command does: a function that takes the session and the argument, without the space in front.

Knows arguments, and what they mean for the session. Must not know in which phases a command is legal: that is its row in `table`. Every function
opens with its refusals and returns a Reply, or the Step that has to be taken first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model import replies
from ..model.address import Address
from ..model.envelope import Envelope, Recipient
from ..model.reply import Reply
from .authentication import Exchange
from .grammar import PathError, PathTooLong, parseChunk, parseHeloName, parseParameters, parsePath, parsePostmaster
from .steps import AskData, AskExpand, AskHello, AskRecipient, AskSender, AskVerify, Phase, StartTLS, Step, TakeChunk

if TYPE_CHECKING:
    from .session import Session


def ehlo(session: Session, argument: str) -> Reply | Step:
    """EHLO, and LHLO of LMTP (RFC 5321 4.1.1.1)."""
    name = parseHeloName(argument, session.dialect.limits)
    if name is None:
        return replies.BAD_HELO
    return AskHello(name, True) if session.dialect.consulting else session.greet(name, extended=True)


def helo(session: Session, argument: str) -> Reply | Step:
    """HELO."""
    name = parseHeloName(argument, session.dialect.limits)
    if name is None:
        return replies.BAD_HELO
    return AskHello(name, False) if session.dialect.consulting else session.greet(name, extended=False)


def mail(session: Session, argument: str) -> Reply | Step:
    """MAIL (RFC 5321 4.1.1.2)."""
    if argument[:5].upper() != "FROM:":
        return replies.MAIL_SYNTAX
    try:
        address, rest = parsePath(argument[5:], session.dialect.limits)
    except PathTooLong:
        return replies.SENDER_TOO_LONG
    except PathError:
        return replies.BAD_SENDER
    return mailFrom(session, address, rest, ascii_=argument.isascii())


def mailFrom(session: Session, address: Address, rest: str, *, ascii_: bool = True) -> Reply | Step:
    """MAIL whose path was read; `rest` are its parameters."""
    dialect = session.dialect
    if 0 < dialect.limits.transactions <= session.transactions:
        return replies.TOO_MANY_TRANSACTIONS
    parameters = parseParameters(rest) if rest else ()
    if parameters is None:
        return replies.MAIL_SYNTAX
    envelope = Envelope(session.newId(), address, parameters, receivedAt=dialect.now(), forwarded=session.forwarded)
    refusal = dialect.readMail(parameters, envelope, session.info) if parameters else None
    if refusal is not None:
        return refusal
    # RFC 6531 3.5: what is not ASCII needs the client to say so. The whole line is looked at, so parameters count too.
    if not envelope.smtputf8 and not ascii_:
        return replies.SENDER_NEEDS_UTF8
    return AskSender(envelope)


def rcpt(session: Session, argument: str) -> Reply | Step:
    """RCPT (RFC 5321 4.1.1.3)."""
    if argument[:3].upper() != "TO:":
        return replies.RCPT_SYNTAX
    limits = session.dialect.limits
    try:
        address, rest = parsePath(argument[3:], limits)
    except PathTooLong:
        return replies.RECIPIENT_TOO_LONG
    except PathError:
        postmaster = parsePostmaster(argument[3:], limits)
        if postmaster is None:
            return replies.BAD_RECIPIENT
        address, rest = postmaster
    if not address.localPart and not address.domain:
        return replies.NULL_RECIPIENT
    return rcptTo(session, address, rest, ascii_=argument.isascii())


def rcptTo(session: Session, address: Address, rest: str, *, ascii_: bool = True) -> Reply | Step:
    """RCPT whose path was read; `rest` are its parameters."""
    envelope = session.envelope
    assert envelope is not None, "the table admits RCPT only inside a transaction"
    dialect = session.dialect
    parameters = parseParameters(rest) if rest else ()
    if parameters is None:
        return replies.RCPT_SYNTAX
    recipient = Recipient(address, parameters)
    refusal = dialect.readRcpt(parameters, recipient, envelope, session.info) if parameters else None
    if refusal is not None:
        return refusal
    if not envelope.smtputf8 and not ascii_:
        return replies.RECIPIENT_NEEDS_UTF8
    # RFC 5321 4.5.3.1.10: 452, and those that were accepted stay.
    if len(envelope.recipients) >= dialect.limits.recipients or (dialect.limits.recipientDomains and _oneDomainTooMany(session, recipient)):
        return replies.TOO_MANY_RECIPIENTS
    return AskRecipient(envelope, recipient)


def _oneDomainTooMany(session: Session, recipient: Recipient) -> bool:
    """True if the recipient's domain is new to the message, and one more than allowed (RFC 9422 4: RCPTDOMAINMAX)."""
    assert session.envelope is not None, "the table admits RCPT only inside a transaction"
    domains = {known.address.domain.lower() for known in session.envelope.recipients}
    return recipient.address.domain.lower() not in domains and len(domains) >= session.dialect.limits.recipientDomains


def data(session: Session, argument: str) -> Reply | Step:
    """DATA (RFC 5321 4.1.1.4)."""
    assert session.envelope is not None, "the table admits DATA only with a recipient"
    # RFC 3030 3: what has no lines cannot be sent in lines.
    return replies.BINARY_NEEDS_BDAT if session.envelope.body == "BINARYMIME" else AskData(session.envelope)


_BDAT_WRONG = {
    Phase.START: replies.HELO_FIRST,
    Phase.READY: replies.MAIL_FIRST,
    Phase.MAIL: replies.NO_RECIPIENTS,
}


def bdat(session: Session, argument: str) -> Reply | Step:
    """BDAT (RFC 3030 2). Out of order, its chunk is read and thrown away: it must not be taken for commands."""
    refusal = _BDAT_WRONG.get(session.phase)
    if refusal is replies.NO_RECIPIENTS and session.dialect.profile.lmtp:
        refusal = replies.NO_RECIPIENTS_LMTP
    return bdatRefused(session, argument, refusal)


def bdatRefused(session: Session, argument: str, refusal: Reply | None) -> Reply | Step:
    """BDAT whose chunk is to be thrown away, where there is a refusal."""
    chunk = parseChunk(argument)
    # Without a size nobody knows where the chunk ends and commands begin again: the session cannot go on.
    return TakeChunk(session.envelope, *chunk, refusal) if chunk is not None else replies.BDAT_SYNTAX


def rset(session: Session, argument: str) -> Reply:
    """RSET (RFC 5321 4.1.1.5)."""
    session.reset()
    return replies.OK


def noop(session: Session, argument: str) -> Reply:
    """NOOP (RFC 5321 4.1.1.9)."""
    return replies.OK


def quit_(session: Session, argument: str) -> Reply:
    """QUIT (RFC 5321 4.1.1.10)."""
    return replies.GOODBYE


def vrfy(session: Session, argument: str) -> Reply | Step:
    """VRFY (RFC 5321 3.5)."""
    return AskVerify(argument) if argument else replies.VRFY_NEEDS_ARGUMENT


def expn(session: Session, argument: str) -> Reply | Step:
    """EXPN (RFC 5321 3.5)."""
    if not session.dialect.expands:
        return replies.EXPN_DISABLED
    return AskExpand(argument) if argument else replies.VRFY_NEEDS_ARGUMENT


def help_(session: Session, argument: str) -> Reply:
    """HELP (RFC 5321 4.1.1.8)."""
    if not argument:
        verbs = " ".join(verb for verb, row in session.commands.items() if row.help and (session.info.trusted or not row.trusted))
        return Reply(214, "2.0.0", (f"Commands: {verbs}", "HELP and a command tells more"))
    row = session.commands.get(argument.upper())
    if row is None or not row.help or (row.trusted and not session.info.trusted):
        return replies.NO_HELP
    return Reply(214, "2.0.0", row.help)


def starttls(session: Session, argument: str) -> Reply | Step:
    """STARTTLS (RFC 3207 4)."""
    if session.info.tls:
        return replies.TLS_ALREADY
    return StartTLS(replies.READY_FOR_TLS) if session.dialect.profile.startTLS else replies.TLS_UNAVAILABLE


def auth(session: Session, argument: str) -> Reply | Step:
    """AUTH (RFC 4954 4)."""
    if session.info.user is not None:
        return replies.AUTH_ALREADY
    if not session.dialect.profile.mechanisms:
        return replies.AUTH_UNAVAILABLE
    words = argument.split(" ")
    if not words[0] or len(words) > 2:
        return replies.AUTH_SYNTAX
    name = words[0].upper()
    offered = session.dialect.mechanisms(session.info)
    if name not in offered:
        return replies.UNKNOWN_MECHANISM
    session.exchange = Exchange(name, session.info, offered)
    return session.exchange.start(words[1] if len(words) > 1 else "")


def obsolete(session: Session, argument: str) -> Reply:
    """A command that RFC 5321 Appendix F retired."""
    return replies.NOT_IMPLEMENTED


def notSMTP(session: Session, argument: str) -> Reply:
    """A command of another protocol."""
    return replies.NOT_SMTP
