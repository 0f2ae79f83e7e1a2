"""The client's protocol: puts the dialogue's rules on a connection, sends texts, and tells what became of each message.

Knows messages, time and TLS. Must not know where connections come from (`client`), nor what a text is made of. Several messages may be on their way:
what each waits for is the session's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ..dialogue.clientsession import ClientSession
from ..dialogue.clientsteps import BeginTLS, Ended, Event, Failed, Finished, Ready, SendText, StopText, Transaction
from ..dialogue.replyreader import MalformedReply, ReplyReader
from ..model.clientprofile import ClientLimits, ClientProfile, TLSUse
from ..model.envelope import Envelope
from ..model.errors import ConnectionFailed, ProtocolViolation, SMTPClientError, TLSFailed
from ..model.results import Delivery, PeerReply, Stage
from .clienttls import AnyCertificate, Trust, binding
from .lines import PatientLineReceiver
from .outbox import Outbox, OutgoingMessage
from .outgoing import Text
from .textfeed import TextFeed
from .tls import failureText, startTLS

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator

Trace: TypeAlias = Callable[[str, bytes], None]
"""Hears the dialogue: ``"S"`` and octets of the server, ``"C"`` and commands, ``"T"`` and octets of a text. Secrets are left out."""

# Octets gathered before they are written.
_GATHER = 65_536


def local(code: int, enhanced: str, text: str) -> PeerReply:
    """A reply that no peer gave."""
    return PeerReply(code, enhanced, (text,), local=True)


@implementer(IHandshakeListener)
class SMTPClient(PatientLineReceiver):
    """One connection to a server. Made by `client.connect`.

    Attributes:
        host: the server's name.
        where: what was connected to, see `SMTPClientError`.
        opened: fires with this when the dialogue stands; fails with an `SMTPClientError`.
    """

    delimiter = b"\r\n"

    def __init__(
        self,
        reactor: IReactorTime,
        profile: ClientProfile,
        limits: ClientLimits,
        *,
        host: str,
        where: str = "",
        trust: Trust,
        trace: Trace | None,
    ) -> None:
        super().__init__()
        self.host = host
        self.where = where
        self.MAX_LENGTH = limits.replyLine - 2
        self.opened: Deferred[SMTPClient] = Deferred(self._openingCancelled)
        self._reactor: Any = reactor
        self._profile = profile
        self._trust = trust
        self._creator: IOpenSSLClientConnectionCreator | None = None
        self._trace = trace
        self._session = ClientSession(profile, limits, host=host)
        self.output = self._session.output
        self._reader = ReplyReader(limits.replyLines)
        self._limits = limits
        self._outbox = Outbox(self._session, host, where)
        self._feed: TextFeed | None = None
        self._events: deque[Event] = deque()
        self._acting = False
        self._choked = False
        self._shaking = False
        self._gathered = 0
        self._timer: IDelayedCall | None = None
        self._deadline = 0.0
        self._parting = ""
        self._over = False
        self._gone = False
        self._whenEnded: list[Deferred[None]] = []

    # What senders call.

    @property
    def extensions(self) -> dict[str, str]:
        """What the server offers: keywords in upper case, and the text behind them."""
        return dict(self._session.peer.extensions)

    @property
    def usable(self) -> bool:
        """True while `send` may be called."""
        return self._session.usable and not self._over

    @property
    def pending(self) -> int:
        """How many messages were given to `send` and are not finished."""
        return self._outbox.pending

    def send(self, envelope: Envelope, content: Text) -> Deferred[Delivery]:
        """Sends a message. May be called again before that is done: they go out in order, as close together as the server allows.

        Returns:
            A Deferred of an outcome for each recipient, whatever the server says. It fails with `Unsendable` when the message cannot go to this
            server, and the session goes on; with `ConnectionFailed` when the connection ended before anything of it was answered, so that it
            may safely be sent elsewhere. Cancelling it ends the connection, unless the message had not begun, once those that were sent whole have
            their answers.
        """
        deferred: Deferred[Delivery] = Deferred(lambda _: self._cancelled(message))
        if not self.usable:
            no = local(451, "4.4.2", "the connection takes no more messages")
            deferred.errback(ConnectionFailed(no, Stage.MAIL, self.host, self.where))
            return deferred
        message = OutgoingMessage(envelope, content, deferred)
        try:
            self._outbox.add(message)
        except Exception as error:  # noqa: BLE001 - a text that cannot be looked at is no reason to raise where a Deferred is expected
            self._outbox.withdraw(message)
            if isinstance(error, SMTPClientError):
                error.host, error.where = self.host, self.where
            deferred.errback(error)
            return deferred
        self._act(self._session.advance())
        return deferred

    def quit(self) -> Deferred[None]:
        """Ends the session once the messages are sent. The Deferred fires when the connection is closed, and does not fail."""
        ended = self.whenEnded()
        if not self._over:
            self._act(self._session.quit())
        return ended

    def abort(self) -> None:
        """Closes the connection at once."""
        self._end(local(451, "4.4.2", "the connection was given up"))
        self._cut()

    def whenEnded(self) -> Deferred[None]:
        """Fires when the connection is closed."""
        deferred: Deferred[None] = Deferred()
        if self._gone:
            deferred.callback(None)
        else:
            self._whenEnded.append(deferred)
        return deferred

    # The connection.

    def connectionMade(self) -> None:
        """The server speaks first; where TLS comes before that, the client begins the handshake."""
        if self._profile.tls is TLSUse.IMPLICIT:
            self._encrypt()
        else:
            self._expect()

    def handshakeCompleted(self) -> None:
        """TLS is there: by STARTTLS, or from the beginning."""
        if self._over or self.transport.disconnecting:  # type: ignore[attr-defined]
            # Twisted 24 and 25 look at the certificate's name last: they end the connection, and call this all the same.
            return
        self._shaking = False
        self._expect()
        facts = binding(self.transport)  # type: ignore[arg-type]
        if self._profile.tls is TLSUse.IMPLICIT:
            self._session.secure = True
            self._session.binding = facts
        else:
            self._act(self._session.tlsStarted(facts))

    def _parse(self, data: bytes) -> None:
        super()._parse(data)
        # Once for all replies that came together.
        if not (self._deadline or self._over):
            self._expect()

    def lineReceived(self, line: bytes) -> None:
        """Takes a line of a reply."""
        if self._trace is not None:
            self._trace("S", line + b"\r\n")
        try:
            reply = self._reader.line(line)
        except MalformedReply as error:
            self._violated(str(error))
            return
        if reply is not None:
            self._deadline = 0.0
            held = self._feed is not None and self._session.listening
            events = self._session.reply(reply)
            if events or self._session.exchange is not None:
                self._act(events)
            if held and self._feed is not None:
                # The next chunk has waited for this.
                self._feed.run()

    def lineLengthExceeded(self, line: bytes) -> None:
        """A reply that does not end."""
        self._violated(f"a reply line of more than {self.MAX_LENGTH} octets")

    def soon(self, action: Callable[[], None]) -> None:
        """Has `action` done in the next turn of the reactor."""
        self._reactor.callLater(0, action)

    def pauseProducing(self) -> None:
        """The transport's buffer is full. Replies are read all the same, or both sides might wait for each other (RFC 2920 3.1)."""
        self._choked = True
        if self._feed is not None:
            self._feed.pause()

    def resumeProducing(self) -> None:
        """The server has taken what it was sent."""
        self._choked = False
        if self._feed is not None:
            self._feed.resume()

    def flush(self) -> None:
        """Writes all gathered output at once."""
        self._gathered = 0
        if self._trace is not None and self.output:
            self._traceCommands(self._trace)
        super().flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        super().connectionLost(reason)
        refusal = getattr(self._creator, "refusal", "")
        why = f"TLS failed: {refusal}" if refusal else failureText(reason.value)
        self._end(local(451, "4.7.5" if why else "4.4.2", why or "the server has closed the connection"))
        self._gone = True
        self._dropTimer()
        whenEnded, self._whenEnded = self._whenEnded, []
        for deferred in whenEnded:
            deferred.callback(None)

    # What the session wants done.

    def _act(self, events: Sequence[Event]) -> None:
        """Does what is to be done, then writes what is to be said. What follows from it meanwhile is done behind it, not in the middle."""
        self._events.extend(events)
        if self._acting:
            return
        self._acting = True
        try:
            while self._events:
                self._do(self._events.popleft())
        finally:
            self._acting = False
        if self._over:
            return
        if not (self._deadline or self._parsing):
            self._expect()
        # What is said in an AUTH exchange leaves while it is known to be that, see `_traceCommands`.
        if not self._parsing or self._session.exchange is not None:
            self.flush()

    def _do(self, event: Event) -> None:
        if isinstance(event, Finished):
            if self._outbox.finished(event.transaction):
                self._act(self._session.advance())
            if self._parting:
                self._partIfDone()
        elif isinstance(event, SendText):
            self._sendText(event.transaction)
        elif isinstance(event, StopText):
            self._stopText()
        elif isinstance(event, Ready):
            self.opened.callback(self)
        elif isinstance(event, BeginTLS):
            self.interrupt(self._encrypt)
        elif isinstance(event, Failed):
            self._fail(event.error)
        else:
            assert isinstance(event, Ended), "there is nothing else"
            self._end(local(451, "4.4.2", "the session is over"))
            self._leave()

    def _encrypt(self) -> None:
        """Begins the handshake. What the server has said behind its reply to STARTTLS did not come through TLS: nobody knows from whom."""
        if self.clearLineBuffer() or not self._reader.between:
            self._violated("something was said between STARTTLS and TLS")
            return
        self._shaking = True
        self._expect()
        try:
            self._creator = self._trust(self.host) if self._profile.tls.verifies else AnyCertificate(self.host)
            startTLS(self, self._creator, self._reactor, client=True)
        except Exception as error:  # noqa: BLE001 - a name that no certificate can have, or trust that cannot be read
            self._fail(TLSFailed(local(451, "4.7.5", f"TLS cannot begin: {error}"), Stage.TLS, self.host))

    def _sendText(self, transaction: Transaction) -> None:
        message = self._outbox.messageOf(transaction)
        self._feed = feed = TextFeed(transaction, message.text, self._session, self._writeText, self._textEnded, self._textHalted, self.soon)
        if self._choked:
            feed.pause()
        feed.run()

    def _writeText(self, octets: bytes) -> None:
        if self._trace is not None:
            self.flush()
            self._trace("T", octets)
        self.output.append(octets)
        self._gathered += len(octets)
        if self._gathered >= _GATHER or self._trace is not None:
            self._gathered = 0
            super().flush()

    def _textHalted(self) -> None:
        """RFC 5321 4.5.3.2.5: the wait is for each block. What there is of it goes out, however long the next may take."""
        self._expect()
        self.flush()

    def _textEnded(self, failure: Failure | None) -> None:
        feed, self._feed = self._feed, None
        self._deadline = 0.0
        if failure is None:
            self._act(self._session.textSent())
            return
        # RFC 5321 4.1.1.4: a text that cannot go on must not end, or half of it would be delivered.
        assert feed is not None, "it has just ended"
        message = self._outbox.messageOf(feed.transaction)
        self._outbox.forget(message)
        self._part("the connection was given up: another message's text broke off")
        if not message.deferred.called:
            # None of those who have just been told has cancelled it.
            message.deferred.errback(failure)

    def _part(self, why: str) -> None:
        """The connection is to be given up. Nothing more is said; but what was sent whole has its answer first, or nobody knows what became of it."""
        self._parting = self._parting or why
        self._stopText()
        self._session.halt()
        self._partIfDone()
        if not (self._over or self._deadline):
            self._expect()

    def _partIfDone(self) -> None:
        if not (self._over or self._outbox.awaiting):
            self._end(local(451, "4.4.2", self._parting))
            self._cut()

    def _stopText(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.stop()

    def _cancelled(self, message: OutgoingMessage) -> None:
        """Nobody waits for this message any more."""
        if self._outbox.withdraw(message):
            return
        self._outbox.forget(message)
        self._part("the connection was given up")

    def _openingCancelled(self, opened: Deferred[SMTPClient]) -> None:
        opened.errback(CancelledError())
        self.abort()

    # The end.

    def _violated(self, text: str) -> None:
        self._fail(ProtocolViolation(local(451, "4.5.0", text), self._session.stage, self.host))

    def _fail(self, error: SMTPClientError) -> None:
        """The session cannot go on."""
        self._end(error.reply, error)
        if isinstance(error, ProtocolViolation):
            self._cut()
        else:
            self._leave()

    def _end(self, reply: PeerReply, error: SMTPClientError | None = None) -> None:
        """Tells everybody who waits how it ended, once."""
        if self._over:
            return
        stage = Stage.TLS if self._shaking else self._session.stage
        ready = self._session.ready
        self._over = True
        self._dropTimer()
        self._stopText()
        strange = self._session.lost(reply)
        # Who was told of what came before these may have ended it all; nothing else is to be done any more.
        queued = [event for event in self._events if isinstance(event, Finished)]
        self._events.clear()
        for event in [*queued, *self._session.advance()]:
            assert isinstance(event, Finished), "nothing else is left to do"
            self._outbox.finished(event.transaction)
        self._outbox.giveUp(strange, reply)
        if error is None:
            error = (TLSFailed if self._shaking else ConnectionFailed)(reply, stage, self.host)
        if not ready and not self.opened.called:
            error.where = self.where
            self.opened.errback(error)

    def _leave(self) -> None:
        """Closes the connection when the server has taken what it was sent, and its part in ending TLS; but does not wait for that for ever."""
        self._timer = self._reactor.callLater(self._limits.quitTimeout, self._cut)
        self.close()

    def _cut(self) -> None:
        self._dropTimer()
        self.transport.abortConnection()  # type: ignore[attr-defined]

    # Time.

    def _expect(self) -> None:
        """Something has happened: the next thing has its own time. The timer itself is looked at lazily, so that this costs little."""
        waits = self._shaking or self._session.awaited or self._feed is not None
        wait = self._limits.handshakeTimeout if self._shaking else self._session.wait
        self._deadline = self._reactor.seconds() + wait if waits else 0.0
        timer = self._timer
        if waits and (timer is None or timer.getTime() > self._deadline):
            if timer is not None:
                timer.cancel()
            self._timer = self._reactor.callLater(wait, self._look)

    def _dropTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        left = self._deadline - self._reactor.seconds()
        if not self._deadline:
            return
        if left > 0:
            self._timer = self._reactor.callLater(left, self._look)
            return
        awaited = self._session.awaited
        if self._shaking:
            what = "the handshake"
        elif awaited:
            what = f"the reply to {awaited[0].command.name}"
        else:
            what = "the text" if self._feed is not None and self._feed.waiting is not None else "the server to take the text"
        self._end(local(451, "4.4.2", f"timed out waiting for {what}"))
        self._cut()

    def _traceCommands(self, trace: Trace) -> None:
        for octets in self.output:
            trace("C", octets if self._session.exchange is None else _withoutSecrets(octets))


def _withoutSecrets(line: bytes) -> bytes:
    """A line of an AUTH exchange as others may see it: the mechanism, but no response (RFC 4954 4)."""
    words = line.rstrip().split(b" ")
    if words[0] == b"AUTH":
        return b" ".join([*words[:2], *[b"***"] * (len(words) - 2)]) + b"\r\n"
    return line if words == [b"*"] else b"***\r\n"
