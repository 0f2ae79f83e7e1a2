"""The session state machine of an SMTP or LMTP client (RFC 5321): replies in, commands and events out.

Knows which replies have to come, in which order, and keeps what is to be written. Must not know sockets, time, Twisted or where a text comes from:
whoever drives it writes `output`, does what the events say, and gives it the replies.

    GREETING -> EHLO (HELO) -> STARTTLS -> handshake -> EHLO -> AUTH -> ready
    ready: RSET?  MAIL  RCPT ...  DATA -> text -> its reply       or       MAIL  RCPT ...  BDAT text ...

Replies come in the order of the commands (RFC 2920 3.2), so what each is to stands in a queue. What it leads to is a row of `ROWS`: a function of
`opening` or of `transfer`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..model.clientprofile import ClientLimits, ClientProfile
from ..model.envelope import Envelope, Recipient
from ..model.errors import ConnectionFailed, ProtocolViolation, SMTPClientError
from ..model.results import PeerReply, Stage
from . import opening, transfer
from .clientauth import ClientExchange
from .clientsteps import Awaited, Command, Ended, Event, Failed, Finished, Transaction
from .peer import Peer


class ClientSession:
    """One session's state.

    Args:
        profile: how the client behaves.
        limits: its counts; the waits are for whoever drives the session.
        host: the server's name.
        secure: True inside TLS.
        binding: what SCRAM-PLUS binds to, see `tlsStarted`.

    Attributes:
        output: what is to be written, in order.
        awaited: the replies that have to come.
        peer: what the server has said of itself.
        at: how far the session had come when the reply in hand was asked for.
        ready: True once transactions may begin.
        secure: True inside TLS.
        exchange: the open AUTH exchange, or None: what is said in it is nobody else's business.
        mechanisms: what else could be tried to authenticate by.
        mistrust: why an exchange was broken off.
        current: the transaction whose commands are being sent, or None.
        latest: the one whose MAIL was sent last, or None.
        writing: the one whose text is being sent, or None: nothing else is said meanwhile.
        untidy: True where the server may have a transaction open, so that RSET has to come before the next.
        stale: True where the server has refused that.
        unfinished: the transactions that were given to `submit` and not told of by `Finished`, in order.
    """

    def __init__(self, profile: ClientProfile, limits: ClientLimits, *, host: str = "", secure: bool = False, binding: bytes | None = None) -> None:
        self.profile = profile
        self.limits = limits
        self.host = host
        self.secure = secure
        self.binding = binding
        self.output: list[bytes] = []
        self.awaited: deque[Awaited] = deque([Awaited(Command.GREETING)])
        self.peer = Peer()
        self.at = Stage.GREETING
        self.ready = False
        self.exchange: ClientExchange | None = None
        self.mechanisms: list[str] = []
        self.mistrust = ""
        self.current: Transaction | None = None
        self.latest: Transaction | None = None
        self.writing: Transaction | None = None
        self.untidy = False
        self.stale = False
        self.unfinished: dict[Transaction, None] = {}
        self._queue: OrderedDict[Transaction, None] = OrderedDict()
        self._events: list[Event] = []
        self._count = 0
        self._quitting = False
        self._over = False

    # For whoever drives the session.

    @property
    def usable(self) -> bool:
        """True while `submit` may be called: the server is ready, and takes more transactions (RFC 9422 4.1)."""
        most = self.peer.messagesMost
        return self.ready and not self._quitting and not self._over and (most is None or self._count < most)

    @property
    def pipelining(self) -> bool:
        """True if commands need not wait for replies (RFC 2920)."""
        return self.profile.pipelining and "PIPELINING" in self.peer.extensions

    @property
    def listening(self) -> bool:
        """True while a reply has to come before anything more is said, be it a piece of a text."""
        return bool(self.awaited) and (not self.pipelining or self._chunksAhead)

    @property
    def stage(self) -> Stage:
        """How far the session has come: what the next reply is to."""
        return ROWS[self.awaited[0].command].stage if self.awaited else Stage.DATA

    @property
    def wait(self) -> float:
        """Seconds that the next reply may take (RFC 5321 4.5.3.2); those of a block of text where none is awaited."""
        return float(getattr(self.limits, ROWS[self.awaited[0].command].wait if self.awaited else "blockTimeout"))

    @property
    def busy(self) -> bool:
        """True while something has to come or to be sent."""
        return bool(self.awaited or self.writing or self._queue)

    def groups(self, recipients: Sequence[Recipient]) -> list[list[int]]:
        """The recipients of a message, as indices, in as many groups as it takes transactions (RFC 5321 4.5.3.1.8, RFC 9422 4.2, 4.3)."""
        if len(recipients) == 1:
            return [[0]]
        most = self.peer.recipientsMost or self.limits.recipients
        domainsMost = self.peer.domainsMost or len(recipients)
        groups: list[list[int]] = []
        domains: set[str] = set()
        for index, recipient in enumerate(recipients):
            domain = recipient.address.domain.lower()
            if not groups or len(groups[-1]) >= most or (len(domains) >= domainsMost and domain not in domains):
                groups.append([])
                domains = set()
            groups[-1].append(index)
            domains.add(domain)
        return groups

    def submit(self, envelope: Envelope, recipients: Sequence[Recipient], size: int | None) -> Transaction:
        """Takes a message for some recipients of its envelope. Its turn comes after those taken before; `advance` begins it.

        Args:
            envelope: what is sent.
            recipients: at most as many as `groups` puts together.
            size: octets of the text, or None.

        Raises:
            Unsendable: this server cannot take it; the session goes on.
        """
        assert self.usable, "transactions can begin"
        transaction = Transaction(envelope, recipients, size)
        transfer.prepare(self, transaction)
        self._count += 1
        self.unfinished[transaction] = None
        self._queue[transaction] = None
        return transaction

    def advance(self) -> Sequence[Event]:
        """Puts into `output` what may be said now. Returns what is to be done."""
        while self.ready and self.writing is None and not self._over:
            if self.current is None and not self._next():
                break
            if self.current is not None and not transfer.advance(self, self.current):
                break
        if self._quitting and self.ready and not self.busy and not self._over:
            self._over = True
            self.say(b"QUIT\r\n", Awaited(Command.QUIT))
        events, self._events = self._events, []
        return events

    def reply(self, reply: PeerReply) -> Sequence[Event]:
        """Takes a reply. Returns what is to be done."""
        if not self.awaited:
            self._uncalled(reply)
        else:
            awaited = self.awaited.popleft()
            row = ROWS[awaited.command]
            self.at = row.stage
            transaction = awaited.transaction
            if transaction is not None:
                transaction.open -= 1
                transaction.answered = True
            row.take(self, awaited, reply)
            if reply.code == 421 and not self._over:
                # RFC 5321 4.2.3: it is closing the connection.
                self.fail(ConnectionFailed(reply, self.at))
            if transaction is not None:
                transfer.settle(self, transaction)
        return self.advance()

    def tlsStarted(self, binding: bytes | None = None) -> Sequence[Event]:
        """The handshake is done: whatever was said before is forgotten (RFC 3207 4.2).

        Args:
            binding: the data of ``tls-server-end-point`` (RFC 5929 4) that SCRAM-PLUS binds to, or None.
        """
        self.secure = True
        self.binding = binding
        self.peer = Peer()
        opening.hello(self)
        return self.advance()

    def chunk(self, size: int, *, last: bool) -> None:
        """Announces the next octets of a text whose size is not known; after the last one `textSent` is due."""
        assert self.writing is not None, "a text is being sent"
        self.output.append(b"BDAT %d LAST\r\n" % size if last else b"BDAT %d\r\n" % size)
        if not last:
            self.expect(Awaited(Command.CHUNK, self.writing))

    def textSent(self) -> Sequence[Event]:
        """The text was written whole, with what ends it."""
        assert self.writing is not None, "a text was being sent"
        transfer.endText(self, self.writing)
        return self.advance()

    def quit(self) -> Sequence[Event]:
        """Ends the session when nothing is open any more (RFC 5321 4.1.1.10)."""
        self._quitting = True
        return self.advance()

    def halt(self) -> None:
        """Says nothing more, and begins nothing. Replies are still taken."""
        self._over = True

    def withdraw(self, transaction: Transaction) -> bool:
        """Takes a transaction back. Returns False where it has begun: then only the end of the connection ends it."""
        if transaction not in self._queue:
            return False
        del self._queue[transaction]
        self._count -= 1
        del self.unfinished[transaction]
        return True

    def lost(self, reply: PeerReply) -> Sequence[Transaction]:
        """The connection is gone, or given up. Returns the transactions that had not begun: nobody has heard of these.

        Those that had are told of by the events of `advance`.

        Args:
            reply: a local one that says why.
        """
        self._over = True
        strange: list[Transaction] = []
        for transaction in list(self.unfinished):
            if not (transaction.sent or transaction.answered):
                strange.append(transaction)
                continue
            stages = (ROWS[each.command].stage for each in self.awaited if each.transaction is transaction)
            stage = Stage.TEXT if transaction.sent else next(stages, Stage.DATA if transaction.asked else self.at)
            transaction.decideAll(stage, reply)
            self._events.append(Finished(transaction))
        self.unfinished.clear()
        self.awaited.clear()
        self._queue.clear()
        self.writing = self.current = None
        return strange

    # For the functions of `opening` and `transfer`.

    def say(self, line: bytes, awaited: Awaited) -> None:
        """Writes a command, whose reply is awaited from now on."""
        self.output.append(line)
        self.expect(awaited)

    def expect(self, awaited: Awaited) -> None:
        """One more reply has to come, behind the others."""
        if awaited.transaction is not None:
            awaited.transaction.open += 1
        self.awaited.append(awaited)

    def expectFirst(self, replies: Sequence[Awaited]) -> None:
        """These replies have to come, before the others."""
        behind = list(self.awaited)
        self.awaited.clear()
        for awaited in replies:
            self.expect(awaited)
        self.awaited.extend(behind)

    def tell(self, event: Event) -> None:
        """Has something done."""
        self._events.append(event)

    def fail(self, error: SMTPClientError) -> None:
        """The session cannot go on."""
        if self._over:
            return
        self._over = True
        error.host = self.host
        if not isinstance(error, ProtocolViolation) and error.reply.code != 421 and self.writing is None:
            # RFC 5321 4.1.1.10: a client says so before it leaves.
            self.output.append(b"QUIT\r\n")
        self._events.append(Failed(error))

    def violated(self, awaited: Awaited, reply: PeerReply) -> None:
        """A reply that means nothing where it came."""
        why = PeerReply(451, "4.5.0", (f"{awaited.command.name} was answered by: {reply}",), local=True)
        if awaited.transaction is not None:
            awaited.transaction.decideAll(self.at, why)
        self.fail(ProtocolViolation(why, self.at))

    def ended(self) -> None:
        """QUIT was answered."""
        self._events.append(Ended())

    @property
    def _chunksAhead(self) -> bool:
        """True while as many chunks are on their way as may be: one more than the server has taken, up to a limit. A refused one refuses them all."""
        text = self.writing
        return text is not None and text.chunked and text.size is None and text.open >= min(text.taken + 1, self.limits.pipelinedChunks)

    def _next(self) -> bool:
        """Begins the next transaction, if there is one, and few enough are without an answer (RFC 1047)."""
        if not self._queue or len(self.unfinished) - len(self._queue) >= self.limits.pipelinedMessages:
            return False
        if self.listening:
            return False
        transaction, _ = self._queue.popitem(last=False)
        if not transaction.left:
            transfer.close(self, transaction)
            return True
        if self.untidy:
            self.untidy = False
            transaction.begun = True
            self.say(b"RSET\r\n", Awaited(Command.RSET))
        self.current = transaction
        return True

    def _uncalled(self, reply: PeerReply) -> None:
        """A reply that nothing asked for: goodbye, or nonsense."""
        if reply.code == 421:
            self.fail(ConnectionFailed(reply, Stage.MAIL))
        else:
            if self.writing is not None and reply.code >= 400:
                # In the middle of a text it is too early, but clear what it is to. The text cannot be ended any more.
                self.writing.decideAll(Stage.DATA, reply)
            text = f"a reply to nothing: {reply}"
            self.fail(ProtocolViolation(PeerReply(451, "4.5.0", (text,), local=True), self.stage))


def _quitReply(session: ClientSession, awaited: Awaited, reply: PeerReply) -> None:
    session.ended()


class Row(NamedTuple):
    """What belongs to a command.

    Attributes:
        stage: where its reply decides.
        wait: the field of `ClientLimits` that says how long it may take.
        take: what the reply leads to.
    """

    stage: Stage
    wait: str
    take: Callable[[ClientSession, Awaited, PeerReply], None]


ROWS: dict[Command, Row] = {
    Command.GREETING: Row(Stage.GREETING, "greetingTimeout", opening.greeted),
    Command.EHLO: Row(Stage.HELLO, "helloTimeout", opening.extendedHello),
    Command.HELO: Row(Stage.HELLO, "helloTimeout", opening.plainHello),
    Command.STARTTLS: Row(Stage.TLS, "handshakeTimeout", opening.startTLS),
    Command.AUTH: Row(Stage.AUTH, "helloTimeout", opening.authReply),
    Command.CANCEL: Row(Stage.AUTH, "helloTimeout", opening.cancelled),
    Command.RSET: Row(Stage.MAIL, "mailTimeout", transfer.reset),
    Command.MAIL: Row(Stage.MAIL, "mailTimeout", transfer.senderReply),
    Command.RCPT: Row(Stage.RCPT, "rcptTimeout", transfer.recipientReply),
    Command.DATA: Row(Stage.DATA, "dataTimeout", transfer.dataReply),
    Command.CHUNK: Row(Stage.DATA, "blockTimeout", transfer.chunkReply),
    Command.TEXT: Row(Stage.TEXT, "finalTimeout", transfer.textReply),
    Command.EACH: Row(Stage.TEXT, "finalTimeout", transfer.eachReply),
    Command.QUIT: Row(Stage.TEXT, "quitTimeout", _quitReply),
}
"""What can be awaited."""
