"""How a client gets a message across: what each reply of a transaction leads to, and what may be sent next.

Knows transactions (RFC 5321 3.3), in groups of commands (RFC 2920), chunks (RFC 3030), and with several replies behind the text (RFC 2033, PRDR).
Must not know how a session is opened.

Commands leave as early as the server allows. With PIPELINING that is MAIL and all RCPT at once, and DATA with them; a small text by BDAT, too, and
then the next transaction behind it. A server without it is asked one thing at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.results import PeerReply, Stage
from .clientsteps import Awaited, Command, Finished, SendText, StopText, Transaction
from .commandlines import mailCommand, rcptCommand, unsendable

if TYPE_CHECKING:
    from .clientsession import ClientSession

_PRDR_BEGINS = 353


def prepare(session: ClientSession, transaction: Transaction) -> None:
    """Writes the commands of a transaction down.

    Raises:
        Unsendable: the server cannot take it.
    """
    envelope, peer = transaction.envelope, session.peer
    recipients = transaction.recipients
    verified = session.secure and session.profile.tls.verifies
    mail = mailCommand(envelope, transaction.size, peer, secure=session.secure, verified=verified, recipients=len(recipients))
    size, lmtp, binary = transaction.size, session.profile.lmtp, envelope.body == "BINARYMIME"
    # RFC 2033 4.3: in LMTP the last chunk has a reply for each recipient, and none where an earlier chunk was refused, with all of them. So a text
    # goes in one chunk or by DATA.
    if binary and lmtp and size is None:
        raise unsendable(554, "5.6.1", "the message is binary and of unknown size, which LMTP has no safe way for")
    transaction.chunked = peer.offers("CHUNKING") and (session.profile.chunking or binary) and not (lmtp and size is None)
    # For the same reason it has to be known who is accepted.
    transaction.eager = transaction.chunked and session.pipelining and not lmtp and size is not None and size <= session.limits.eagerText
    transaction.script.append((Command.MAIL, mail, -1))
    for index, recipient in enumerate(recipients):
        line = rcptCommand(recipient, envelope, peer)
        if isinstance(line, bytes):
            transaction.script.append((Command.RCPT, line, index))
        else:
            transaction.decide(index, Stage.RCPT, line)


def advance(session: ClientSession, transaction: Transaction) -> bool:
    """Sends the next things of a transaction. Returns False when a reply, or the text, has to come first."""
    while transaction.script:
        if session.listening:
            return False
        command, line, index = transaction.script.popleft()
        if command is Command.MAIL:
            session.untidy = True
            session.latest = transaction
        transaction.begun = True
        session.say(line, Awaited(command, transaction, index))
    if transaction.asked:
        return False
    if not transaction.left:
        # Nobody takes it, and that is known before the text was asked for.
        close(session, transaction)
        return True
    if transaction.open and not (transaction.eager or (session.pipelining and not transaction.chunked)):
        return False
    transaction.asked = True
    if transaction.chunked:
        beginText(session, transaction)
    else:
        session.say(b"DATA\r\n", Awaited(Command.DATA, transaction))
    return False


def beginText(session: ClientSession, transaction: Transaction) -> None:
    """The text is due; nothing else is said until it is sent."""
    session.writing = transaction
    if transaction.chunked and transaction.size:
        session.output.append(b"BDAT %d LAST\r\n" % transaction.size)
    session.tell(SendText(transaction))


def endText(session: ClientSession, transaction: Transaction) -> None:
    """The text was sent whole: its replies are awaited."""
    session.writing = None
    transaction.sent = True
    if not transaction.chunked:
        # RFC 5321 4.1.1.4: whatever is said to it, the transaction is over.
        session.untidy = False
    if session.profile.lmtp:
        # RFC 2033 4.2: a reply for each recipient that was accepted, in order.
        for index in transaction.undecided:
            session.expect(Awaited(Command.EACH, transaction, index))
    else:
        session.expect(Awaited(Command.TEXT, transaction))
    close(session, transaction)


def close(session: ClientSession, transaction: Transaction) -> None:
    """Nothing more is sent for this one."""
    transaction.closed = True
    transaction.script.clear()
    if session.current is transaction:
        session.current = None
    settle(session, transaction)


def settle(session: ClientSession, transaction: Transaction) -> None:
    """Tells when all is known about a transaction."""
    if transaction.closed and not transaction.open:
        session.unfinished.pop(transaction, None)
        session.tell(Finished(transaction))


def reset(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """RSET (RFC 5321 4.1.1.5). A server that does not know how may take the next MAIL all the same."""
    session.stale = reply.code // 100 != 2


def senderReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """MAIL."""
    transaction = _of(awaited)
    if reply.code // 100 == 2:
        return
    if reply.code < 400 or (reply.code == 503 and session.stale):
        # Out of sequence behind a refused RSET is no fault of this message.
        session.violated(awaited, reply)
        return
    transaction.decideAll(Stage.MAIL, reply)
    if transaction.script:
        # It was asked one thing at a time, and nothing else is.
        close(session, transaction)


def recipientReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """RCPT. 251 is as good as 250 (RFC 5321 3.4)."""
    if reply.code == 552 and reply.enhanced == "5.5.3":
        # RFC 5321 4.5.3.1.10: too many recipients; as the older standard had it, and temporary all the same.
        reply = reply._replace(code=452, enhanced="4.5.3")
    if reply.code >= 400:
        _of(awaited).decide(awaited.which, Stage.RCPT, reply)
    elif reply.code // 100 != 2:
        session.violated(awaited, reply)


def dataReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """DATA."""
    transaction = _of(awaited)
    if reply.code // 100 == 3:
        if transaction.left:
            beginText(session, transaction)
        else:
            # RFC 2920 3.1: a text that nobody asked for is ended at once.
            session.say(b".\r\n", Awaited(Command.TEXT, transaction))
            session.untidy = False
            close(session, transaction)
    elif reply.code >= 400:
        transaction.decideAll(Stage.DATA, reply)
        close(session, transaction)
    else:
        session.violated(awaited, reply)


def chunkReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """A chunk that is not the last (RFC 3030 2): a refused one is the end of its message."""
    transaction = _of(awaited)
    if reply.code >= 400:
        transaction.decideAll(Stage.DATA, reply)
        if session.writing is transaction:
            session.writing = None
            session.tell(StopText(transaction))
            close(session, transaction)
    elif reply.code // 100 == 2:
        transaction.taken += 1
    else:
        session.violated(awaited, reply)


def textReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """The end of the text: the reply for all."""
    transaction = _of(awaited)
    if reply.code == _PRDR_BEGINS and transaction.prdr is None and transaction.envelope.prdr:
        transaction.prdr = {}
        rest = [Awaited(Command.EACH, transaction, index) for index in transaction.undecided] + [Awaited(Command.TEXT, transaction)]
        session.expectFirst(rest)
        return
    if reply.code // 100 == 3:
        session.violated(awaited, reply)
        return
    if reply.positive and transaction.prdr is not None:
        for index, own in transaction.prdr.items():
            transaction.decide(index, Stage.TEXT, own)
    # draft-hall-prdr: refused for all is refused for each.
    transaction.decideAll(Stage.TEXT, reply)
    if reply.positive and session.latest is transaction:
        session.untidy = False


def eachReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    """The end of the text: the reply for one recipient."""
    transaction = _of(awaited)
    if reply.code // 100 == 3:
        session.violated(awaited, reply)
    elif transaction.prdr is not None:
        transaction.prdr[awaited.which] = reply
    else:
        transaction.decide(awaited.which, Stage.TEXT, reply)
        if reply.positive and session.latest is transaction:
            session.untidy = False


def _of(awaited: Awaited) -> Transaction:
    assert awaited.transaction is not None, "it is a reply to a command of a transaction"
    return awaited.transaction
