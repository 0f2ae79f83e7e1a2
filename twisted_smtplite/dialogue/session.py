"""The session state machine of an SMTP server (RFC 5321): lines in, replies and steps out.

Knows which command is legal when, and what becomes of the transaction. Must not know sockets, time, Twisted or backends: what the rules alone
cannot decide is returned as a step, and `Session.answer` goes on when somebody has decided it. One question is open at a time.

The state is a phase:

    START --EHLO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA--> TEXT --its end--> READY
                                                   RCPT --BDAT--> CHUNKS --BDAT LAST--> READY

EHLO, HELO and RSET lead back to READY from anywhere, STARTTLS to START. Each command is a row of `table.COMMANDS`, which says in which phases it is
refused and how; what it does is a function of `commands`. The phase changes only here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..model import replies
from ..model.address import Address
from ..model.envelope import Envelope, SessionInfo
from ..model.reply import Reply
from . import xclient
from .authentication import LINE_LENGTH, Exchange
from .dialect import Dialect
from .grammar import usualCommand
from .steps import AskCredentials, AskData, AskHello, AskLogin, AskRecipient, AskSender, ChangeClient, Phase, Step, TakeChunk
from .table import Command, commandTable

_USUAL_VERBS = dict.fromkeys(("MAIL FROM", "mail FROM", "mail from"), "MAIL") | dict.fromkeys(("RCPT TO", "rcpt TO", "rcpt to"), "RCPT")
# In lines of this length domain and path cannot be too long.
_SHORT = 250
# A member of an enumeration costs a fifth of a command to look up.
_START, _READY, _MAIL, _RCPT, _TEXT, _CHUNKS = Phase


def _nothing() -> None:
    """Stands where nobody wants to be called."""


class Session:
    """One session's state.

    Attributes:
        info: what is known of the session; shared with backends, written only by the dialogue.
        dialect: the limits, extensions and choices of this server.
        envelope: the open transaction, or None.
        forwarded: what XFORWARD told of the next message, or None.
        told: what XCLIENT told of the client.
        exchange: the open AUTH exchange, or None.
        phase: how far the session is.
        verb: the verb of the last command in upper case, or the empty string when it was none that is known.
        commands: the rows that rule the session now.
        transactions: how many have been begun.
        newId: gives each transaction its name.
        loggedIn: called when the client has authenticated.
    """

    __slots__ = (
        "_count", "_errors", "_question", "commands", "dialect", "envelope", "exchange", "forwarded", "info", "loggedIn", "newId",
        "phase", "told", "transactions", "verb",
    )  # fmt: skip

    def __init__(self, info: SessionInfo, dialect: Dialect, newId: Callable[[], str]) -> None:
        self.info = info
        self.dialect = dialect
        self.envelope: Envelope | None = None
        self.exchange: Exchange | None = None
        self.loggedIn: Callable[[], None] = _nothing
        self.forwarded: Mapping[str, str] | None = None
        self.told: dict[str, str] = {}
        self.phase = _START
        self.verb = ""
        self.commands: dict[str, Command] = commandTable(dialect.profile, encrypted=info.tls, authenticated=False)
        self.transactions = 0
        self.newId = newId
        self._question: Step | None = None
        self._count = 0
        self._errors = 0

    @property
    def lineLength(self) -> int:
        """Octets of the longest line that may come next, without its CRLF."""
        return LINE_LENGTH if self.exchange is not None else self.dialect.lineLength

    def command(self, line: bytes) -> Reply | Step:
        """Takes a line without its CRLF. Returns the reply, or the step whose `answer` gives it."""
        self._count += 1
        limits = self.dialect.limits
        if 0 < limits.commands < self._count:
            return replies.TOO_MANY_COMMANDS
        try:
            text = line.decode()
        except UnicodeDecodeError:
            return self._notALine(line, replies.BAD_CHARACTERS)
        # MAIL or RCPT as most clients send them: one match has checked the characters and read the path, at half the price of the exact way.
        usual = usualCommand(text) if len(text) <= _SHORT and self.exchange is None else None
        if usual is None:
            return self._exactly(line, text)
        command, local, domain, parameters = usual.groups("")
        self.verb = verb = _USUAL_VERBS[command]
        row = self.commands[verb]
        refusal = row.refusals[self.phase]
        if refusal is not None:
            return self._counted(refusal)
        if len(local) > limits.localPart:
            return self._result(row.run(self, text[5:]))
        assert row.path is not None, "MAIL and RCPT have a way for lines whose path was read"
        # What the constructor does, without the function in between.
        step = row.path(self, tuple.__new__(Address, (local, domain)), parameters)
        if isinstance(step, Reply):
            return self._replied(step)
        self._question = step
        return step

    def _exactly(self, line: bytes, text: str) -> Reply | Step:
        """Any line, by the whole grammar."""
        # RFC 5321 4.1.1: white space before the CRLF is tolerated.
        text = text.rstrip(" \t")
        # RFC 5321 4.1.2: control characters are refused; what else Unicode calls unprintable (joiners, say) is part of some people's names.
        if not text.isprintable() and any(c < " " or "\x7f" <= c <= "\x9f" for c in text):
            return self._notALine(line, replies.BAD_CHARACTERS)
        if self.exchange is not None:
            return self._result(self.exchange.respond(text))
        verb, _, argument = text.partition(" ")
        row = self.commands.get(verb)
        if row is None:
            # RFC 5321 2.4: verbs are not case sensitive.
            verb = verb.upper()
            row = self.commands.get(verb)
            if row is None:
                return self._refused(replies.UNKNOWN_COMMAND)
        self.verb = verb
        refusal = row.refusals[self.phase]
        if refusal is not None:
            return self._counted(refusal)
        if argument and row.bare:
            return self._counted(replies.NO_ARGUMENT_ALLOWED)
        return self._result(row.run(self, argument))

    def lineTooLong(self, line: bytes) -> Reply:
        """Takes a line that is too long, once, however long it is (RFC 5321 4.5.3.1.4); `line` is it, or its beginning."""
        # RFC 4954 4: a response that is too long ends the exchange.
        return self._notALine(line, replies.LINE_TOO_LONG if self.exchange is None else replies.AUTH_LINE_TOO_LONG)

    def _notALine(self, line: bytes, reply: Reply) -> Reply:
        """The reply to octets that are no command line. A BDAT among them announces octets that nobody can count: the session cannot go on."""
        return self._refused(replies.BDAT_SYNTAX if line[:4].upper() == b"BDAT" and self.exchange is None else reply)

    def answer(self, verdict: object) -> Reply | Step:
        """Decides the open question.

        Args:
            verdict: None or a positive Reply accepts, a 4yz or 5yz Reply refuses; credentials are answered by what their check says.

        Returns:
            What the client hears, or the next question.
        """
        question = self._question
        self._question = None
        reply = None
        if isinstance(verdict, Reply):
            if verdict.code >= 400:
                self.exchange = None
                return self._counted(verdict)
            reply = verdict
        # The usual questions first.
        if isinstance(question, AskRecipient):
            question.envelope.recipients.append(question.recipient)
            self.phase = _RCPT
            return reply or replies.RECIPIENT_OK
        if isinstance(question, AskSender):
            self.envelope = question.envelope
            self.transactions += 1
            self.phase = _MAIL
            return reply or replies.SENDER_OK
        if isinstance(question, AskData):
            self.phase = _TEXT
            return replies.START_DATA
        if isinstance(question, TakeChunk):
            self.phase = _CHUNKS
            return replies.CHUNK_OK
        if isinstance(question, AskCredentials):
            assert self.exchange is not None, "credentials belong to an exchange"
            return self._result(self.exchange.answer(verdict))
        if isinstance(question, AskHello):
            return self.greet(question.name, extended=question.extended)
        if isinstance(question, ChangeClient):
            return self._clientChanged(question.told)
        if isinstance(question, AskLogin):
            assert self.exchange is not None, "a user is known by an exchange"
            self._authenticated(self.exchange)
            return replies.AUTHENTICATED
        return reply or replies.CANNOT_VERIFY

    def chunkRefused(self, reply: Reply) -> Reply | None:
        """A chunk was read and thrown away: what the client hears. Its message is lost, and chunks that follow belong to none (RFC 3030 2)."""
        chunk = self._question
        # RFC 2033 4.3: the last chunk has a reply for each recipient; where there is none it has no reply.
        if reply is replies.NO_RECIPIENTS_LMTP and isinstance(chunk, TakeChunk) and chunk.last:
            self.reset()
            return None
        if self.phase in (_RCPT, _CHUNKS):
            self.reset()
        return self._counted(reply)

    def finish(self, outcomes: Sequence[Reply], reply: Reply) -> tuple[Reply, ...]:
        """Ends the transaction, once the message was read to its end.

        Args:
            outcomes: one Reply for each recipient, in order.
            reply: what they fold into (`outcome.fold`).

        Returns:
            What the client hears: one reply; or with LMTP one for each recipient; or with PRDR one for each, and one for all.
        """
        envelope = self.envelope
        assert envelope is not None, "a message has an envelope"
        self.reset()
        if reply.positive:
            self._errors = 0
        if self.dialect.profile.lmtp:
            # RFC 2033 4.2: one for each accepted RCPT, in order, also for doubles.
            return tuple(outcomes)
        if envelope.prdr and len(outcomes) > 1:
            return (replies.PRDR_BEGINS, *outcomes, reply)
        return (self._counted(reply),)

    def greet(self, name: str, *, extended: bool) -> Reply:
        """The client has introduced itself (RFC 5321 4.1.4): an open transaction ends. Returns the reply."""
        self.phase = _READY
        self.envelope = None
        self.forwarded = None
        self.info.heloName = name
        self.info.extended = extended
        if self.told:
            xclient.introduce(self.told, self.info)
        return self.dialect.ehlo(self.info) if extended else Reply(250, None, self.info.hostname)

    def reset(self) -> None:
        """Ends the transaction, if one is open."""
        self.envelope = None
        self.forwarded = None
        if self.phase is not _START:
            self.phase = _READY

    def tlsStarted(self) -> None:
        """The session is encrypted from now on: what was said before is forgotten (RFC 3207 4.2)."""
        info = self.info
        info.tls = True
        info.heloName = ""
        info.extended = False
        info.user = info.mechanism = None
        self.told = {}
        self.restart()

    def restart(self) -> None:
        """Goes back to where only the greeting has been said, with the rules for what is known of the client now."""
        self.envelope = None
        self.forwarded = None
        self.exchange = None
        self.phase = _START
        self.commands = commandTable(self.dialect.profile, encrypted=self.info.tls, authenticated=self.info.user is not None)

    def _clientChanged(self, told: Mapping[str, str]) -> Reply:
        """A trusted proxy speaks for another client, who is greeted as if it had just connected."""
        self.told.update(told)
        xclient.apply(told, self.info)
        self.restart()
        return replies.greeting(self.info.hostname)

    def _result(self, step: Reply | Step) -> Reply | Step:
        """What came of a line: a step is remembered until it is answered."""
        if isinstance(step, Reply):
            return self._replied(step)
        self._question = step
        return step

    def _replied(self, reply: Reply) -> Reply | Step:
        """The reply to a line: the end of an AUTH exchange is noted, an error is counted. Others may have a say in who logs in."""
        exchange = self.exchange
        if exchange is not None and reply.code != 334:
            if exchange.user is None:
                self.exchange = None
            elif self.dialect.consulting:
                self._question = AskLogin(exchange.user)
                return self._question
            else:
                self._authenticated(exchange)
        return self._counted(reply)

    def _authenticated(self, exchange: Exchange) -> None:
        """The client is who it says it is: that gives it other commands."""
        self.exchange = None
        self.info.user = exchange.user
        self.info.mechanism = exchange.name
        self.loggedIn()
        self.commands = commandTable(self.dialect.profile, encrypted=self.info.tls, authenticated=True)

    def _refused(self, reply: Reply) -> Reply:
        """The reply to a line that is no command at all. It ends an AUTH exchange."""
        self.verb = ""
        self.exchange = None
        return self._counted(reply)

    def _counted(self, reply: Reply) -> Reply:
        """The reply itself, or the 421 that ends a session with too many errors in a row. Temporary failures are not the client's error."""
        if reply.code < 500:
            return reply
        self._errors += 1
        return replies.TOO_MANY_ERRORS if 0 < self.dialect.limits.errors <= self._errors else reply
