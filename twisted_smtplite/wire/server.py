"""The server's protocol: puts the dialogue's rules on a connection and asks the delivery what the rules cannot decide.

Knows modes (line, body), order, time and the one open question. Must not know a backend, a file or a policy. Replies leave in command order
because nothing is parsed while a question is open; a plain answer goes through without a Deferred.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..dialogue.body import BodyReader
from ..dialogue.outcome import Outcome, fold, perRecipient
from ..dialogue.session import AskData, AskRecipient, AskSender, AskVerify, Question, Session
from ..interfaces import IMessage
from ..model import replies
from ..model.envelope import SessionInfo
from ..model.reply import Refused, Reply
from .lines import PatientLineReceiver
from .patience import Patience

if TYPE_CHECKING:
    from .factory import Backend, SMTPServerFactory

_log = Logger()


class SMTPServer(PatientLineReceiver):
    """One SMTP session (RFC 5321). Made by `SMTPServerFactory.buildProtocol`.

    Attributes:
        info: what is known of the session.
    """

    __slots__ = (
        "MAX_LENGTH", "_accepted", "_backend", "_body", "_cause", "_complete", "_draining", "_late", "_message", "_observer", "_patience",
        "_pending", "_refusal", "_serial", "_session", "_settle", "factory", "info",
    )  # fmt: skip

    def __init__(self, factory: SMTPServerFactory, backend: Backend, info: SessionInfo) -> None:
        super().__init__()
        self.factory = factory
        self.info = info
        self.MAX_LENGTH = backend.dialect.lineLength
        self._backend = backend
        self._session = Session(info, backend.dialect, factory.newId, factory.now)
        self._patience = Patience(factory.reactor, factory.limits, self._runOut)
        self._observer = factory.observer
        self._accepted = 0
        self._draining = False
        self._cause = "connection lost"
        # The message on its way in: who reads it, who takes it, whether its end was seen, and why nobody takes it any more.
        self._body: BodyReader | None = None
        self._message: IMessage | None = None
        self._complete = False
        self._refusal: Reply | None = None
        # The open question: its answer, what to do with it, and its number, since a late answer to an old question counts no more.
        self._pending: Deferred[Any] | None = None
        self._settle: Callable[[Any], None] = _ignore
        self._serial = 0

    # The connection.

    def connectionMade(self) -> None:
        """Greets the client."""
        # Until its first octet is there, see rawDataReceived.
        self.setRawMode()
        self._patience.expectCommand()
        if self._observer is not None:
            self._observer.sessionStarted(self.info)
        self.transport.write(self.factory.greeting.wire)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client has gone, or the connection was closed: an open message is thrown away, an open question is cancelled."""
        super().connectionLost(reason)
        self._patience.stop()
        self._forget()
        self._abort(reason.value if isinstance(reason.value, Exception) else ConnectionLost())
        self.factory.sessionOver(self)
        if self._observer is not None:
            self._observer.sessionEnded(self.info, self._cause, self._accepted)

    def drain(self) -> None:
        """The server stops: ends the session with 421, now or once the message in flight is answered (RFC 5321 3.8)."""
        self._draining = True
        self._endIfDraining()
        self.flush()

    def cutOff(self) -> None:
        """Closes the connection at once, whatever is going on."""
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def _runOut(self, reply: Reply) -> None:
        """Patience has run out."""
        if reply is replies.BACKEND_TIMEOUT:
            settle = self._settle
            self._forget()
            self._settled(settle, reply)
        elif self.closing or self.stuck:
            # Whoever does not read cannot be told.
            self._cause = _cause(reply)
            self.cutOff()
        else:
            self._say(reply)
            self.flush()

    def _say(self, reply: Reply) -> None:
        """Gives the next reply; it leaves with the others of this read."""
        self.output.append(reply.wire)
        if reply.closes:
            self._cause = _cause(reply)
            self._abort(Refused(reply) if not reply.positive else ConnectionDone())
            self._patience.expectClose()
            self.close(linger=not reply.positive)

    def _endIfDraining(self) -> None:
        if self._draining and self._body is None and self._pending is None and not self.closing:
            self._say(replies.SHUTDOWN)

    # Commands.

    def lineReceived(self, line: bytes) -> None:
        """Takes a command."""
        step = self._session.command(line)
        if isinstance(step, Reply):
            self._hear(step)
        else:
            self._ask(step)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Takes a command that is too long."""
        self._hear(self._session.lineTooLong())

    def _hear(self, reply: Reply) -> None:
        """Gives the reply to a command, and tells the observer if it refuses a step of a transaction."""
        if reply.code >= 400 and self._observer is not None and self._session.verb in ("MAIL", "RCPT", "DATA"):
            self._observer.commandRefused(self.info, self._session.verb, None, reply)
        self._say(reply)

    def _ask(self, question: Question) -> None:
        """Asks the delivery what the rules leave open. Most answers are plain: they take the short way, through no Deferred."""
        backend = self._backend
        info = self.info
        answer: Any
        try:
            if isinstance(question, AskRecipient):
                answer = backend.delivery.validateTo(info, question.envelope, question.recipient)
            elif isinstance(question, AskSender):
                answer = backend.delivery.validateFrom(info, question.envelope)
            elif isinstance(question, AskData):
                self._await(self._call(backend.delivery.startMessage, info, question.envelope), self._messageStarted, late=_throwAway)
                return
            elif isinstance(question, AskVerify):
                answer = backend.verifier.verify(info, question.text) if backend.verifier else None
            else:
                answer = backend.expander.expand(info, question.text) if backend.expander else None
        except Exception:  # noqa: BLE001 - whatever a delivery does wrong, the session goes on
            answer = self._failed(Failure())  # type: ignore[no-untyped-call]
        if answer is None:
            self.output.append(self._session.answer(None).wire)
        else:
            self._await(answer, self._answered)

    def flush(self) -> None:
        """Writes the replies of this read. Where there are any, the client has made progress."""
        if self.output:
            self._patience.since = self._patience.seconds()
            super().flush()

    def _answered(self, verdict: object) -> None:
        """The verdict on a sender, a recipient, or what VRFY and EXPN asked."""
        if verdict is not None and not isinstance(verdict, Reply):
            verdict = self._wrong(verdict)
        self._hear(self._session.answer(verdict))

    # The message.

    def _messageStarted(self, message: object) -> None:
        """The delivery has answered DATA."""
        if message is None or isinstance(message, (str, Reply)):
            refusal = message if isinstance(message, Reply) and not message.positive else self._wrong(message)
            self._hear(self._session.answer(refusal))
            return
        self._say(self._session.answer(None))
        self._message = cast(IMessage, message)
        self._body = BodyReader(self.factory.limits)
        self._complete = False
        self._refusal = None
        self._patience.expectText()
        self.setRawMode()
        envelope = self._session.envelope
        assert envelope is not None, "DATA is asked about only inside a transaction"
        trace = self._call(self._backend.delivery.receivedHeader, self.info, envelope)
        if isinstance(trace, Reply):
            self._chunkTaken(trace)
        elif trace:
            self._give(trace)

    def rawDataReceived(self, data: bytes) -> None:
        """Takes the next octets of the text; or the first octets of the session, to see whether it is one."""
        body = self._body
        if body is None:
            self._firstOctets(data)
            return
        chunk, rest = body.feed(data)
        if body.refusal is not None:
            self._abort(Refused(body.refusal))
        if rest is None:
            self._patience.textCame(len(data))
        else:
            self._complete = True
            self.setLineMode(rest)
        if chunk and self._message is not None:
            self._give(chunk)
        elif rest is not None:
            self._endOfMessage()

    def _firstOctets(self, data: bytes) -> None:
        """Ends what begins with a TLS handshake, before anything in it can pass for a command."""
        if data.startswith(b"\x16"):
            self._cause = "TLS on a plain port"
            self._patience.expectClose()
            self.close(linger=True)
        else:
            self.setLineMode(data)

    def _give(self, chunk: bytes) -> None:
        """Hands a chunk to the message; goes on when it was taken."""
        assert self._message is not None, "a refused message is given nothing"
        self._await(self._call(self._message.dataReceived, chunk), self._chunkTaken)

    def _chunkTaken(self, refusal: object) -> None:
        """The message has taken a chunk, or failed to."""
        if isinstance(refusal, Reply):
            self._refusal = refusal if not refusal.positive else self._wrong(refusal)
            self._abort(Refused(self._refusal))
        if self._complete:
            self._endOfMessage()

    def _endOfMessage(self) -> None:
        """All of the message is here: asks for its outcome, unless it was refused on the way."""
        message, self._message = self._message, None
        if message is not None:
            self._await(self._call(message.eomReceived), self._finished)
            return
        assert self._body is not None, "a message ends only where one has begun"
        self._finished(self._body.refusal or self._refusal)

    def _finished(self, outcome: Outcome) -> None:
        """The outcome is known: one reply, and the transaction is over."""
        envelope = self._session.envelope
        body, self._body = self._body, None
        assert envelope is not None and body is not None, "an outcome belongs to a message"  # noqa: PT018
        try:
            outcomes = perRecipient(outcome, len(envelope.recipients))
        except (TypeError, ValueError):
            outcomes = perRecipient(self._wrong(outcome), len(envelope.recipients))
        reply = self._session.finish(fold(outcomes))
        if reply.positive:
            self._accepted += 1
        self._patience.expectCommand()
        if self._observer is not None:
            self._observer.messageFinished(self.info, envelope, body.size, reply, outcomes)
        self._say(reply)
        self._endIfDraining()

    def _abort(self, reason: Exception) -> None:
        """Lets go of the message, if there is one that was not completed."""
        message, self._message = self._message, None
        if message is not None:
            self._call(message.connectionLost, reason)

    # Calling the delivery, and waiting for it.

    def _call(self, method: Callable[..., Any], *arguments: object) -> Any:
        """Calls into the delivery. What it raises becomes the reply for the client: nothing comes out of here."""
        try:
            return method(*arguments)
        except Exception:  # noqa: BLE001 - whatever a delivery does wrong, the session goes on
            return self._failed(Failure())  # type: ignore[no-untyped-call]

    def _failed(self, failure: Failure) -> Reply:
        """The reply for a delivery that failed."""
        if isinstance(failure.value, Refused):
            return failure.value.reply
        _log.failure("The delivery failed in session {session} at {verb}", failure, session=self.info.id, verb=self._session.verb)
        return replies.LOCAL_ERROR

    def _wrong(self, answer: object) -> Reply:
        """The reply for a delivery that answered what the contract does not know."""
        _log.error("The delivery answered {answer!r} at {verb}, see interfaces", answer=answer, verb=self._session.verb)
        return replies.LOCAL_ERROR

    def _await(self, answer: Any, settle: Callable[[Any], None], late: Callable[[object], None] = lambda answer: None) -> None:
        """Settles a plain answer at once. For a Deferred or a coroutine everything waits, and `settle` is called when it is there.

        Args:
            answer: what the delivery returned.
            settle: what to do with it.
            late: what to do with it when it comes after the question is forgotten.
        """
        if answer is None:
            settle(None)
            return
        if isinstance(answer, CoroutineType):
            answer = Deferred.fromCoroutine(answer)
        if not isinstance(answer, Deferred):
            settle(answer)
            return
        self.hold()
        self._pending = answer
        self._settle = settle
        self._patience.expectAnswer()
        answer.addBoth(self._arrived, self._serial, late)

    def _arrived(self, answer: object, serial: int, late: Callable[[object], None]) -> None:
        """A Deferred has fired."""
        if serial != self._serial:
            if not isinstance(answer, Failure):
                self._call(late, answer)
            return
        settle = self._settle
        self._pending = None
        self._settled(settle, self._failed(answer) if isinstance(answer, Failure) else answer)

    def _settled(self, settle: Callable[[Any], None], answer: object) -> None:
        """Goes on with the answer that everything waited for."""
        self._serial += 1
        if self._body is None or self._complete:
            self._patience.expectCommand()
        else:
            self._patience.expectMoreText()
        settle(answer)
        if self._pending is None:
            self._endIfDraining()
            self.release()

    def _forget(self) -> None:
        """Drops the open question: its answer is cancelled, and belongs to nobody if it comes all the same."""
        self._serial += 1
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()


def _cause(reply: Reply) -> str:
    """Why a session ended, for observers."""
    return "quit" if reply is replies.GOODBYE else reply.lines[0]


def _throwAway(message: object) -> None:
    """A message that was started too late: nobody will send it."""
    if message is not None and not isinstance(message, Reply):
        cast(IMessage, message).connectionLost(ConnectionLost())


def _ignore(answer: object) -> None:
    """No question is open."""
