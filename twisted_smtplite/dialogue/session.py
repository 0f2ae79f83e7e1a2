"""The session state machine of an SMTP server (RFC 5321): lines in, replies and questions out.

Knows which command is legal when, and what each does to the transaction. Must not know sockets, time, Twisted or backends: what the rules
alone cannot decide is returned as a question, and `Session.answer` goes on when somebody has decided it. One question is open at a time.

The state is a phase:

    START --EHLO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA--> BODY --end of message--> READY

EHLO, HELO and RSET lead back to READY from anywhere. Each command is a row of `COMMANDS`, which says in which phases it is refused and how.
Every method opens with its refusals; the phase changes only in `answer`, `finish` and `_reset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from ..model import replies
from ..model.envelope import Envelope, Recipient, SessionInfo
from ..model.reply import Reply
from .extensions import Dialect
from .grammar import PathError, PathTooLong, parseHeloName, parseParameters, parsePath, parsePostmaster


class Phase(IntEnum):
    """How far the session is. Integers, so that a row finds its refusal for a phase by index: flags cost as much as a whole command."""

    START = 0
    READY = 1
    MAIL = 2
    RCPT = 3
    BODY = 4


class AskSender(NamedTuple):
    """Is this reverse-path welcome? Answered by None or a Reply."""

    envelope: Envelope


class AskRecipient(NamedTuple):
    """Is this forward-path welcome? Answered by None or a Reply."""

    envelope: Envelope
    recipient: Recipient


class AskData(NamedTuple):
    """Who takes the message? Answered by None when somebody does, or a refusing Reply."""

    envelope: Envelope


class AskVerify(NamedTuple):
    """VRFY. Answered by a Reply, or None when nobody knows."""

    text: str


class AskExpand(NamedTuple):
    """EXPN. Answered by a Reply, or None when nobody knows."""

    text: str


Question: TypeAlias = AskSender | AskRecipient | AskData | AskVerify | AskExpand


class Session:
    """One session's state.

    Attributes:
        info: what is known of the session; shared with backends, written only here.
        envelope: the open transaction, or None.
        verb: the verb of the last command in upper case, or the empty string when it was none that is known.
        phase: how far the session is.
    """

    __slots__ = ("_commands", "_dialect", "_errors", "_newId", "_now", "_question", "_transactions", "envelope", "info", "phase", "verb")

    def __init__(self, info: SessionInfo, dialect: Dialect, newId: Callable[[], str], now: Callable[[], float]) -> None:
        """Args:
        info: what is known of the client so far.
        dialect: limits and extensions of this server.
        newId: gives each transaction its name.
        now: the time, in seconds since the epoch.
        """
        self.info = info
        self.envelope: Envelope | None = None
        self.verb = ""
        self.phase = Phase.START
        self._dialect = dialect
        self._newId = newId
        self._now = now
        self._question: Question | None = None
        self._commands = 0
        self._errors = 0
        self._transactions = 0

    def command(self, line: bytes) -> Reply | Question:
        """Takes a command line without its CRLF. Returns the reply, or the question whose `answer` gives it."""
        self._commands += 1
        if 0 < self._dialect.limits.commands < self._commands:
            return replies.TOO_MANY_COMMANDS
        self.verb = ""
        try:
            # RFC 5321 4.1.1: white space before the CRLF is tolerated.
            text = line.decode().rstrip(" \t")
        except UnicodeDecodeError:
            return self._counted(replies.BAD_CHARACTERS)
        # RFC 5321 4.1.2: control characters are refused; what else Unicode calls unprintable (joiners, say) is part of some people's names.
        if not text.isprintable() and any(c < " " or "\x7f" <= c <= "\x9f" for c in text):
            return self._counted(replies.BAD_CHARACTERS)
        verb, _, argument = text.partition(" ")
        row = COMMANDS.get(verb)
        if row is None:
            # RFC 5321 2.4: verbs are not case sensitive.
            verb = verb.upper()
            row = COMMANDS.get(verb)
            if row is None:
                return self._counted(replies.UNKNOWN_COMMAND)
        self.verb = verb
        result = row.refusals[self.phase]
        if result is None:
            if argument and row.bare:
                result = replies.NO_ARGUMENT_ALLOWED
            else:
                step = row.method(self, argument)
                if not isinstance(step, Reply):
                    self._question = step
                    return step
                result = step
        return self._counted(result)

    def lineTooLong(self) -> Reply:
        """Takes a command line that is too long, once, however long it is (RFC 5321 4.5.3.1.4)."""
        self.verb = ""
        return self._counted(replies.LINE_TOO_LONG)

    def answer(self, verdict: Reply | None) -> Reply:
        """Decides the open question: None or a positive Reply accepts, a 4yz or 5yz Reply refuses. Returns what the client hears."""
        question = self._question
        self._question = None
        if verdict is not None and verdict.code >= 400:
            return self._counted(verdict)
        if isinstance(question, AskRecipient):
            question.envelope.recipients.append(question.recipient)
            self.phase = Phase.RCPT
            return verdict or replies.RECIPIENT_OK
        if isinstance(question, AskSender):
            self.envelope = question.envelope
            self._transactions += 1
            self.phase = Phase.MAIL
            return verdict or replies.SENDER_OK
        if isinstance(question, AskData):
            self.phase = Phase.BODY
            return replies.START_DATA
        return verdict or replies.CANNOT_VERIFY

    def finish(self, reply: Reply) -> Reply:
        """Ends the transaction, once the message was read to its end, with `reply`. Returns what the client hears."""
        self._reset()
        if reply.positive:
            self._errors = 0
        return self._counted(reply)

    def _counted(self, reply: Reply) -> Reply:
        """The reply itself, or the 421 that ends a session with too many errors in a row. Temporary failures are not the client's error."""
        if reply.code < 500:
            return reply
        self._errors += 1
        return replies.TOO_MANY_ERRORS if 0 < self._dialect.limits.errors <= self._errors else reply

    def _reset(self) -> None:
        """Ends the transaction, if one is open."""
        self.envelope = None
        if self.phase is not Phase.START:
            self.phase = Phase.READY

    # The commands, in the order of a session. Each takes its argument, without the space in front.

    def _ehlo(self, argument: str) -> Reply:
        name = parseHeloName(argument, self._dialect.limits)
        if name is None:
            return replies.BAD_HELO
        self._greet(name, extended=True)
        return self._dialect.ehlo(self.info)

    def _helo(self, argument: str) -> Reply:
        name = parseHeloName(argument, self._dialect.limits)
        if name is None:
            return replies.BAD_HELO
        self._greet(name, extended=False)
        return Reply(250, None, self.info.hostname)

    def _greet(self, name: str, *, extended: bool) -> None:
        # RFC 5321 4.1.4: an accepted EHLO or HELO ends an open transaction.
        self.phase = Phase.READY
        self.envelope = None
        self.info.heloName = name
        self.info.extended = extended

    def _mail(self, argument: str) -> Reply | Question:
        limits = self._dialect.limits
        if 0 < limits.transactions <= self._transactions:
            return replies.TOO_MANY_TRANSACTIONS
        if argument[:5].upper() != "FROM:":
            return replies.MAIL_SYNTAX
        try:
            address, rest = parsePath(argument[5:], limits)
        except PathTooLong:
            return replies.SENDER_TOO_LONG
        except PathError:
            return replies.BAD_SENDER
        parameters = parseParameters(rest) if rest else ()
        if parameters is None:
            return replies.MAIL_SYNTAX
        envelope = Envelope(self._newId(), address, parameters, receivedAt=self._now())
        refusal = self._dialect.readMail(parameters, envelope) if parameters else None
        if refusal is not None:
            return refusal
        # RFC 6531 3.5: what is not ASCII needs the client to say so. The whole line was looked at, so parameters count too.
        if not envelope.smtputf8 and not argument.isascii():
            return replies.SENDER_NEEDS_UTF8
        return AskSender(envelope)

    def _rcpt(self, argument: str) -> Reply | Question:
        envelope = self.envelope
        assert envelope is not None, "the table admits RCPT only inside a transaction"
        limits = self._dialect.limits
        if argument[:3].upper() != "TO:":
            return replies.RCPT_SYNTAX
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
        parameters = parseParameters(rest) if rest else ()
        if parameters is None:
            return replies.RCPT_SYNTAX
        recipient = Recipient(address, parameters)
        refusal = self._dialect.readRcpt(parameters, recipient, envelope) if parameters else None
        if refusal is not None:
            return refusal
        if not envelope.smtputf8 and not argument.isascii():
            return replies.RECIPIENT_NEEDS_UTF8
        # RFC 5321 4.5.3.1.10: 452, and those that were accepted stay.
        if len(envelope.recipients) >= limits.recipients:
            return replies.TOO_MANY_RECIPIENTS
        return AskRecipient(envelope, recipient)

    def _data(self, argument: str) -> Question:
        assert self.envelope is not None, "the table admits DATA only with a recipient"
        return AskData(self.envelope)

    def _rset(self, argument: str) -> Reply:
        self._reset()
        return replies.OK

    def _noop(self, argument: str) -> Reply:
        return replies.OK

    def _quit(self, argument: str) -> Reply:
        return replies.GOODBYE

    def _vrfy(self, argument: str) -> Reply | Question:
        return AskVerify(argument) if argument else replies.VRFY_NEEDS_ARGUMENT

    def _expn(self, argument: str) -> Reply | Question:
        if not self._dialect.expands:
            return replies.EXPN_DISABLED
        return AskExpand(argument) if argument else replies.VRFY_NEEDS_ARGUMENT

    def _help(self, argument: str) -> Reply:
        if not argument:
            verbs = " ".join(verb for verb, row in COMMANDS.items() if row.help)
            return Reply(214, "2.0.0", (f"Commands: {verbs}", "HELP and a command tells more"))
        row = COMMANDS.get(argument.upper())
        if row is None or not row.help:
            return replies.NO_HELP
        return Reply(214, "2.0.0", row.help)

    def _obsolete(self, argument: str) -> Reply:
        return replies.NOT_IMPLEMENTED

    def _notSMTP(self, argument: str) -> Reply:
        return replies.NOT_SMTP


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        method: takes the argument; returns a Reply or a Question.
        help: what HELP says of it: syntax, then meaning. Empty: HELP does not list it.
        wrong: the phases in which it is refused, with the reply.
        bare: True if it takes no argument.
        refusals: `wrong` as a tuple with one entry for each phase.
    """

    method: Callable[[Session, str], Reply | Question]
    help: tuple[str, ...] = ()
    wrong: Mapping[Phase, Reply] = field(default_factory=dict)
    bare: bool = False
    refusals: tuple[Reply | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "refusals", tuple(self.wrong.get(phase) for phase in Phase))


# In the message nothing is a command: no row needs an entry for Phase.BODY.
_BEFORE_MAIL = {Phase.START: replies.HELO_FIRST, Phase.READY: replies.MAIL_FIRST}

COMMANDS: dict[str, Command] = {
    "EHLO": Command(Session._ehlo, ("EHLO name", "Opens the session and lists the extensions; ends a transaction")),
    "HELO": Command(Session._helo, ("HELO name", "Opens the session without extensions; ends a transaction")),
    "MAIL": Command(
        Session._mail,
        ("MAIL FROM:<address> [parameters]", "Begins a transaction; <> is the null sender"),
        wrong={Phase.START: replies.HELO_FIRST, Phase.MAIL: replies.NESTED_MAIL, Phase.RCPT: replies.NESTED_MAIL},
    ),
    "RCPT": Command(Session._rcpt, ("RCPT TO:<address> [parameters]", "Adds a recipient; may be repeated"), wrong=_BEFORE_MAIL),
    # RFC 5321 3.3, RFC 2920 3.2: without a valid recipient 503 or 554, never 354.
    "DATA": Command(
        Session._data,
        ("DATA", "Sends the message: lines up to one with a single dot"),
        wrong={**_BEFORE_MAIL, Phase.MAIL: replies.NO_RECIPIENTS},
        bare=True,
    ),
    "RSET": Command(Session._rset, ("RSET", "Ends the transaction, and nothing else"), bare=True),
    "NOOP": Command(Session._noop, ("NOOP [text]", "Does nothing")),
    "QUIT": Command(Session._quit, ("QUIT", "Ends the session"), bare=True),
    "VRFY": Command(Session._vrfy, ("VRFY address", "Asks whether an address is known")),
    "EXPN": Command(Session._expn, ("EXPN list", "Asks for the members of a mailing list")),
    "HELP": Command(Session._help, ("HELP [command]", "Tells about a command")),
    # RFC 5321 4.2.4, Appendix F: known, and not implemented.
    **dict.fromkeys(("SEND", "SOML", "SAML", "TURN"), Command(Session._obsolete)),
    # A browser, or a web page that was made to talk to this port, must not get to say more.
    **dict.fromkeys(("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PRI"), Command(Session._notSMTP)),
}
