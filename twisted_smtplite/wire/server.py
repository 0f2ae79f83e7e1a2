"""The server's protocol: puts the dialogue's rules on a connection and asks the delivery what the rules cannot decide.

Knows commands, order, time, TLS and logins; a message on its way in is the business of `reception`. Must not know a backend, a file or a policy's
reasons. Replies leave in command order because nothing is parsed while a question is open; a plain answer goes through without a Deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ..dialogue.sasl import Check, Conclusion, Login, StoredKeys
from ..dialogue.session import Session
from ..dialogue.steps import (
    AskCredentials,
    AskData,
    AskExpand,
    AskHello,
    AskLogin,
    AskRecipient,
    AskSender,
    AskVerify,
    ChangeClient,
    StartTLS,
    Step,
    TakeChunk,
)
from ..model import replies
from ..model.envelope import SessionInfo
from ..model.reply import Refused, Reply
from .patience import Patience
from .reception import MessageReceiver
from .sending import send
from .tls import failureText, noteFacts, startTLS

if TYPE_CHECKING:
    from ..model.address import Address
    from ..model.envelope import Envelope
    from .factory import Backend, SMTPServerFactory


@implementer(IHandshakeListener)
class SMTPServer(MessageReceiver):
    """One SMTP session (RFC 5321). Made by `SMTPServerFactory.buildProtocol`.

    Attributes:
        info: what is known of the session.
    """

    __slots__ = ("MAX_LENGTH", "_accepted", "_cause", "_draining", "_home", "_login", "_observer", "_subject", "factory")

    def __init__(self, factory: SMTPServerFactory, backend: Backend, info: SessionInfo) -> None:
        session = Session(info, backend.dialect, factory.newId)
        super().__init__(info, backend, session, Patience(factory.reactor, factory.limits, self._runOut), factory.limits)
        self.factory = factory
        self.MAX_LENGTH = backend.dialect.lineLength
        # Who serves this session while nobody has logged in, and the login.
        self._home = backend
        self._login: Login | None = None
        self._observer = factory.observer
        self._accepted = 0
        # The address that the delivery is asked about, for the observer.
        self._subject: Address | None = None
        self._draining = False
        self._cause = "connection lost"

    # The connection.

    def connectionMade(self) -> None:
        """Greets the client; inside TLS once the handshake is done."""
        self.factory.sessionBegins(self)
        # Until its first octet is there, see rawDataReceived.
        self.setRawMode()
        if self._observer is not None:
            self.call(self._observer.sessionStarted, self.info)
        if ISSLTransport.providedBy(self.transport):
            self._patience.expectHandshake()
        else:
            self._greet()

    def handshakeCompleted(self) -> None:
        """TLS is there: by STARTTLS, or from the beginning."""
        if not self.info.tls:
            noteFacts(self.transport, self.info)  # type: ignore[arg-type]
        if self.closing:
            # The last reply had to wait for this.
            return
        self._logOut()
        self._session.tlsStarted()
        # Nothing has been read yet where TLS comes first. The facts may be known all the same: those of the TLS between the client and a proxy.
        if not self.line_mode:
            self._greet()
        else:
            self._patience.expectCommand()

    def _greet(self) -> None:
        self._patience.expectCommand()
        if self.factory.chain is None:
            send(self.transport, self.factory.greeting.wire)
        else:
            self.awaitAnswer(self.factory.chain.ask("connect", self.info), self._admitted)

    def _admitted(self, refusal: Reply | None) -> None:
        """The policies have looked at the connection."""
        if refusal is None:
            self.output.append(self.factory.greeting.wire)
            self.flush()
        else:
            self.say(replies.inPlaceOfGreeting(refusal))

    def cameEarly(self) -> None:
        """Input came that has to wait: where nothing has been read yet, for the greeting."""
        if self.asking and not self.line_mode and self._reader is None:
            self.info.spokeEarly = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client has gone, or the connection was closed: an open question is cancelled, an open message is thrown away."""
        if not self.closing:
            # Nobody has ended it on purpose.
            self._cause = failureText(reason.value) or self._cause
        super().connectionLost(reason)
        self._patience.stop()
        self.forget()
        self.abort(reason.value if isinstance(reason.value, Exception) else ConnectionLost())
        self._logOut()
        # Told first: who waits for the last session to be over may be about to close the log.
        if self._observer is not None:
            self.call(self._observer.sessionEnded, self.info, self._cause, self._accepted)
        self.factory.sessionOver(self)

    def drain(self) -> None:
        """The server stops: ends the session with 421, now or once the message in flight is answered (RFC 5321 3.8)."""
        self._draining = True
        self._endIfDraining()
        self.flush()

    def cutOff(self) -> None:
        """Closes the connection at once, whatever is going on."""
        self.transport.abortConnection()  # type: ignore[attr-defined]

    def soon(self, action: Callable[[], None]) -> None:
        self.factory.reactor.callLater(0, action)

    def situation(self) -> dict[str, Any]:
        return {"session": self.info.id, "stage": self._session.verb}

    def release(self) -> None:
        """Parses on. If the server stops, this is the moment to end the session."""
        self._endIfDraining()
        super().release()

    def _runOut(self, reply: Reply) -> None:
        """Patience has run out."""
        if reply is replies.BACKEND_TIMEOUT:
            self.giveUp(reply)
        elif self.closing or self.stuck or reply is replies.HANDSHAKE_TIMEOUT:
            # Whoever does not read cannot be told.
            if not self.closing:
                self._cause = _cause(reply)
            self.cutOff()
        else:
            self.say(reply)
            self.flush()

    def say(self, reply: Reply) -> None:
        """Gives the next reply; it leaves with the others of this read."""
        self.output.append(reply.wire)
        if reply.closes:
            self._cause = _cause(reply)
            self.abort(Refused(reply) if not reply.positive else ConnectionDone())
            linger = not reply.positive
            if linger or self.stuck or self.info.tls:
                self._patience.expectClose()
            self.close(linger=linger)

    def _endIfDraining(self) -> None:
        if self._draining and not self.receiving and not self.asking and not self.closing:
            self.say(replies.SHUTDOWN)

    def flush(self) -> None:
        """Writes the replies of this read. Where there are any, the client has made progress."""
        output = self.output
        if output:
            patience = self._patience
            patience.since = patience.seconds()
            # As in the class above, without the call: this is done for each read.
            data = output[0] if len(output) == 1 else b"".join(output)
            output.clear()
            send(self.transport, data)

    # Commands.

    def lineReceived(self, line: bytes) -> None:
        """Takes a command, or a response in an AUTH exchange."""
        step = self._session.command(line)
        if isinstance(step, Reply):
            self.hear(step)
        else:
            self._take(step)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Takes a line that is too long."""
        self.hear(self._session.lineTooLong(line))

    def hear(self, reply: Reply) -> None:
        """Gives the reply to a command, and does what follows from the command itself."""
        session = self._session
        if reply.code >= 400 and self._observer is not None and session.verb in ("MAIL", "RCPT", "DATA", "BDAT", "AUTH"):
            self.call(self._observer.commandRefused, self.info, session.verb, self._subject, reply)
        self._subject = None
        given = self._message is not None and session.envelope is None
        if given:
            # RSET, EHLO: a message of which chunks were taken already.
            self.abort(ConnectionAborted())
        self.MAX_LENGTH = session.lineLength
        self.say(reply)
        if given:
            self._endIfDraining()

    def _take(self, step: Step) -> None:
        """Takes a step: asks the delivery what the rules leave open. Most answers are plain: they take the short way, through no Deferred."""
        info = self.info
        answer: Any
        try:
            if isinstance(step, AskRecipient):
                answer = self._backend.delivery.validateTo(info, step.envelope, step.recipient)
            elif isinstance(step, AskSender):
                answer = self._backend.delivery.validateFrom(info, step.envelope)
            elif isinstance(step, AskData):
                self.askForMessage(step.envelope)
                return
            elif isinstance(step, TakeChunk):
                self.takeChunk(step)
                return
            elif isinstance(step, ChangeClient):
                self._changeClient(step.host)
                return
            elif isinstance(step, StartTLS):
                self.interrupt(self._startTLS)
                return
            elif isinstance(step, AskCredentials):
                self._checkCredentials(step.check)
                return
            elif isinstance(step, (AskHello, AskLogin)):
                self._consult(step)
                return
            else:
                answer = self._lookUp(step)
        except Exception:  # noqa: BLE001 - whatever a delivery does wrong, the session goes on
            answer = self.failed(Failure())  # type: ignore[no-untyped-call]
        if answer is None:
            self.output.append(cast(Reply, self._session.answer(None)).wire)
        else:
            self._subject = step.subject if isinstance(step, (AskRecipient, AskSender)) else None
            self.awaitAnswer(answer, self._decided)

    def _lookUp(self, step: AskVerify | AskExpand) -> Any:
        """Asks the delivery what VRFY or EXPN wants to know."""
        backend = self._backend
        if isinstance(step, AskVerify):
            return backend.verifier.verify(self.info, step.text) if backend.verifier else None
        return backend.expander.expand(self.info, step.text) if backend.expander else None

    def _consult(self, step: AskHello | AskLogin) -> None:
        """Asks the policies what they alone decide."""
        chain = self.factory.chain
        assert chain is not None, "such a step is taken only where there are policies"
        if isinstance(step, AskHello):
            self.awaitAnswer(chain.ask("ehlo", self.info, step.name), self._answer)
        else:
            self.awaitAnswer(chain.ask("auth", self.info, step.user), self._credentialsChecked)

    def _changeClient(self, host: str) -> None:
        """The session is to be that of another client. Whoever has authenticated in it does not any more."""
        refusal = self.factory.clientChanged(self, host)
        if refusal is not None:
            self._answer(refusal)
            return
        self._logOut()
        reply = cast(Reply, self._session.answer(None))
        if self.factory.chain is None:
            self.hear(reply)
        else:
            # What is asked of every client that connects.
            self.awaitAnswer(self.factory.chain.ask("connect", self.info), self._clientAdmitted)

    def _clientAdmitted(self, refusal: Reply | None) -> None:
        """The policies have looked at another client. Whom a proxy says to have authenticated logs in like anybody else."""
        chain = self.factory.chain
        assert chain is not None, "policies have answered"
        if refusal is not None or self.info.user is None:
            self._admitted(refusal)
        else:
            self.awaitAnswer(chain.ask("auth", self.info, self.info.user), self._admitted)

    def _decided(self, verdict: object) -> None:
        """The verdict on a sender, a recipient, or what VRFY and EXPN asked."""
        # RFC 5321 4.2.1: 3yz asks for more, which there is not.
        if verdict is not None and (not isinstance(verdict, Reply) or verdict.code // 100 == 3):
            verdict = self.wrong(verdict)
        self._answer(verdict)

    # Who the client is.

    def _checkCredentials(self, check: Check) -> None:
        """Asks whether credentials are good; or, of an exchange that is over, what follows from it."""
        authenticator = self.factory.authenticator
        if isinstance(check, Conclusion):
            self.awaitAnswer(self.call(authenticator.conclude, self.info, check), self._concluded, late=_logOutLate)
        else:
            self.awaitAnswer(self.call(authenticator.check, self.info, check), self._credentialsChecked)

    def _credentialsChecked(self, verdict: object) -> None:
        """What is known of credentials. A checker that failed says nothing about them (RFC 4954 6)."""
        if verdict is not None and not isinstance(verdict, (str, Reply, StoredKeys)):
            verdict = self.wrong(verdict)
        self._answer(replies.AUTH_TEMPORARY if verdict in (replies.LOCAL_ERROR, replies.BACKEND_TIMEOUT) else verdict)

    def _concluded(self, verdict: object) -> None:
        """An exchange is over. A login counts once the client is told of it: until then somebody may refuse it."""
        self._logOut()
        backend, avatar = self._home, None
        if isinstance(verdict, Login):
            self._login = login = verdict
            avatar = login.delivery if login.avatar is None else login.avatar
            if login.delivery is not None:
                backend = self.call(self.factory.backendFor, login.delivery)
            verdict = backend if isinstance(backend, Reply) else None
        self._session.loggedIn = lambda: self._serve(backend, avatar)
        self._credentialsChecked(verdict)

    def _logOut(self) -> None:
        """The session is nobody's again."""
        login, self._login = self._login, None
        if login is not None:
            self._serve(self._home)
            self.call(login.logout)

    def _serve(self, backend: Backend, avatar: object | None = None) -> None:
        """Mail goes to this backend from now on, and the session is that of whom this avatar stands for."""
        self.info.avatar = avatar
        self._backend = backend
        self._session.dialect = backend.dialect

    def _answer(self, verdict: object) -> None:
        step = self._session.answer(verdict)
        if isinstance(step, Reply):
            self.hear(step)
        else:
            self._take(step)

    def _startTLS(self) -> None:
        """Begins TLS. What stands behind STARTTLS in the same read was said in the clear, and is never run (RFC 3207 6)."""
        assert self.factory.tls is not None, "STARTTLS is offered only where there is a certificate"
        if self.clearLineBuffer():
            self.hear(replies.TLS_PIPELINED)
            return
        self.say(replies.READY_FOR_TLS)
        self.flush()
        self._patience.expectHandshake()
        startTLS(self, self.factory.tls, self.factory.reactor)

    # Messages.

    def _firstOctets(self, data: bytes) -> None:
        """Ends what begins with a TLS handshake, before anything in it can pass for a command."""
        if data.startswith(b"\x16"):
            self._cause = "TLS on a plain port"
            self._patience.expectClose()
            self.close(linger=True)
        else:
            self.setLineMode(data)

    def rawDataReceived(self, data: bytes) -> None:
        """Takes the next octets of the text; or the first octets of the session, to see whether it is one."""
        if self._reader is None:
            self._firstOctets(data)
        else:
            self.textReceived(data)

    def messageFinished(self, envelope: Envelope, reply: Reply, outcomes: Sequence[Reply]) -> None:
        if reply.positive:
            self._accepted += 1
        if self._observer is not None:
            self.call(self._observer.messageFinished, self.info, envelope, self._text.size, reply, outcomes)

    def messageOver(self) -> None:
        self._endIfDraining()


def _cause(reply: Reply) -> str:
    """Why a session ended, for observers."""
    return "quit" if reply is replies.GOODBYE else reply.lines[0]


def _logOutLate(verdict: object) -> None:
    """A login that came too late: its session is over."""
    if isinstance(verdict, Login):
        verdict.logout()
