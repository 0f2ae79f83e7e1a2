"""A message on its way in: from the answer to DATA or BDAT to its outcome.

Knows readers of text, the message object that takes it, and chunks. Must not know commands, policies or how a session is greeted and ended: that
is `server`, which stands on this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectionLost

from ..dialogue.body import ChunkReader, DotReader, Text, Waste
from ..dialogue.outcome import fold, perRecipient
from ..dialogue.session import Session
from ..dialogue.steps import TakeChunk
from ..interfaces import IMessage
from ..model import replies
from ..model.envelope import SessionInfo
from ..model.limits import BareLineEnds, Limits
from ..model.reply import Refused, Reply
from .asking import AskingLineReceiver
from .patience import Patience

if TYPE_CHECKING:
    from ..model.envelope import Envelope
    from .factory import Backend

# Stands where no message has begun.
_NO_TEXT = Text(Limits())


class MessageReceiver(AskingLineReceiver):
    """A session as far as it takes messages.

    The reader reads up to the end of the text, or of a chunk, which may be the last; it is complete when that end was seen.

    Attributes:
        info: what is known of the session.
    """

    __slots__ = (
        "_backend", "_chunk", "_complete", "_last", "_limits", "_message", "_patience", "_reader", "_refusal", "_session", "_text", "info",
    )  # fmt: skip

    def __init__(self, info: SessionInfo, backend: Backend, session: Session, patience: Patience, limits: Limits) -> None:
        super().__init__()
        self.info = info
        self._backend = backend
        self._session = session
        self._patience = patience
        self._limits = limits
        if limits.bareLineEnds is BareLineEnds.NORMALISE:
            # A bare CR or LF becomes two octets, and no piece may become longer than `IMessage` promises.
            self.CHUNK = self.CHUNK // 2
        # What is known of the text, who reads it, who takes it, and why nobody takes it any more.
        self._text = _NO_TEXT
        self._reader: DotReader | ChunkReader | None = None
        self._message: IMessage | None = None
        self._refusal: Reply | None = None
        # The first chunk, while it is asked who takes its message.
        self._chunk: TakeChunk | None = None
        self._last = False
        self._complete = False

    def say(self, reply: Reply) -> None:
        """Gives the next reply."""
        raise NotImplementedError

    def hear(self, reply: Reply) -> None:
        """Gives the reply to a command."""
        raise NotImplementedError

    def messageFinished(self, envelope: Envelope, reply: Reply, outcomes: Sequence[Reply]) -> None:
        """Called with the outcome of a message, before it is said."""
        raise NotImplementedError

    def messageOver(self) -> None:
        """Called when nothing is left of a message or a chunk, and it has been said."""
        raise NotImplementedError

    def waiting(self) -> None:
        self._patience.expectAnswer()

    def answered(self) -> None:
        if self._reader is None or self._complete:
            self._patience.expectCommand()
        else:
            self._patience.expectMoreText()

    @property
    def receiving(self) -> bool:
        """True while a message is on its way in, also between its chunks."""
        return self._message is not None or self._reader is not None

    def askForMessage(self, envelope: Envelope) -> None:
        """Asks the delivery who takes the message."""
        self.awaitAnswer(self.call(self._backend.delivery.startMessage, self.info, envelope), self._messageStarted, late=throwAway)

    def _messageStarted(self, message: object) -> None:
        """The delivery has answered DATA, or the first BDAT."""
        refusal = None
        if message is None or isinstance(message, (str, Reply)):
            refusal = message if isinstance(message, Reply) and not message.positive else self.wrong(message)
        chunk = self._chunk
        if chunk is not None:
            # BDAT is answered when its chunk was read.
            if refusal is None:
                self._session.answer(None)
            self._readChunk(chunk._replace(refusal=refusal), cast(IMessage, message))
            return
        reply = cast(Reply, self._session.answer(refusal))
        if refusal is not None:
            self.hear(reply)
            return
        self.output.append(reply.wire)
        self._patience.expectText()
        self._open(cast(IMessage, message))
        self._read(DotReader(self._text), last=True)
        self._giveTrace()

    def takeChunk(self, chunk: TakeChunk) -> None:
        """BDAT arrived: its chunk is part of the message, or is read and thrown away."""
        if chunk.refusal is None and self._message is None:
            assert chunk.envelope is not None, "BDAT without a transaction is refused"
            self._chunk = chunk
            self.askForMessage(chunk.envelope)
        else:
            self._readChunk(chunk, self._message)

    def _readChunk(self, chunk: TakeChunk, message: IMessage | None) -> None:
        """Reads a chunk, for the message or for nobody."""
        first, self._chunk = self._chunk is not None, None
        if chunk.refusal is not None:
            self._text = Waste(self._limits)
            self._refusal = chunk.refusal
        elif first:
            self._open(cast(IMessage, message), binary=chunk.envelope is not None and chunk.envelope.body == "BINARYMIME")
        # RFC 2033 4.3: a message that nobody takes ends with its last chunk too, with a reply for each recipient.
        last = chunk.last and (first or chunk.refusal is None)
        reader = ChunkReader(self._text, chunk.size, last=last)
        self._patience.expectMoreText()
        self._read(reader, last=last)
        if first and chunk.refusal is None:
            self._giveTrace()
        if not chunk.size:
            # Nothing comes that would have it read.
            piece, _ = reader.feed(b"")
            self.setLineMode()
            if self.asking:
                # The trace header is still being taken, and before it there was no text.
                self._complete = True
            else:
                self._complete = True
                self._deliver(piece)

    def _open(self, message: IMessage, *, binary: bool = False) -> None:
        """A message begins."""
        self._message = message
        self._text = Text(self._limits, binary=binary)
        self._refusal = None

    def _read(self, reader: DotReader | ChunkReader, *, last: bool) -> None:
        """What comes now goes to the reader; with `last` its end is that of the message."""
        self._reader = reader
        self._last = last
        self._complete = False
        self.setRawMode()

    def _giveTrace(self) -> None:
        """Begins the message with the trace header that the delivery wants on top."""
        trace = self.call(self._backend.delivery.receivedHeader, self.info, self._session.envelope)
        if isinstance(trace, Reply):
            self._refuse(trace)
        elif trace:
            self._deliver(trace)

    def textReceived(self, data: bytes) -> None:
        """Takes the next octets of the text."""
        reader = self._reader
        assert reader is not None, "text comes where somebody reads it"
        piece, rest = reader.feed(data)
        if rest is None:
            self._patience.textCame(len(data))
        else:
            self.setLineMode(rest)
            self._complete = True
        self._deliver(piece)

    def _deliver(self, piece: bytes) -> None:
        """Hands a piece to the message; goes on when it was taken."""
        if self._text.refusal is not None:
            self._refuse(self._text.refusal)
        taken = None
        if piece and self._message is not None:
            taken = self.call(self._message.dataReceived, piece)
        if taken is not None:
            self.awaitAnswer(taken, self._taken)
        elif self._complete:
            self._taken(None)

    def _taken(self, refusal: object) -> None:
        """The message has taken a piece, or failed to."""
        if refusal is not None and isinstance(refusal, Reply):
            self._refuse(refusal if not refusal.positive else self.wrong(refusal))
        if self._complete:
            self._reader = None
            if self._last:
                self._endOfMessage()
            else:
                self._endOfChunk()

    def _endOfChunk(self) -> None:
        """A chunk is here that was not the last, or was refused (RFC 3030 2)."""
        self._patience.expectCommand()
        refusal = self._text.refusal or self._refusal
        reply = replies.CHUNK_OK if refusal is None else self._session.chunkRefused(refusal)
        if reply is not None:
            self.hear(reply)
        self.messageOver()

    def _endOfMessage(self) -> None:
        """All of the message is here: asks for its outcome, unless it was refused on the way."""
        message, self._message = self._message, None
        if message is None:
            # What is wrong with the text is told before what was wrong with taking it: only that is the same however the text was cut.
            self._finished(self._text.refusal or self._refusal)
        else:
            self.awaitAnswer(self.call(message.eomReceived), self._finished)

    def _finished(self, outcome: Any) -> None:
        """The outcome is known: the transaction is over."""
        envelope = self._session.envelope
        assert envelope is not None, "an outcome belongs to a message"
        try:
            outcomes = perRecipient(outcome, len(envelope.recipients))
        except (TypeError, ValueError):
            outcomes = perRecipient(self.wrong(outcome), len(envelope.recipients))
        reply = fold(outcomes)
        said = self._session.finish(outcomes, reply)
        self._patience.expectCommand()
        self.messageFinished(envelope, reply, outcomes)
        for line in said:
            self.say(line)
        self.messageOver()

    def _refuse(self, reply: Reply) -> None:
        """Nobody takes the message any more; its rest is read all the same."""
        if self._refusal is None:
            self._refusal = reply
        self.abort(Refused(reply))

    def abort(self, reason: Exception) -> None:
        """Lets go of the message, if there is one that was not completed."""
        message, self._message = self._message, None
        if message is not None:
            self.call(throwAway, message, reason)


def throwAway(message: object, reason: Exception | None = None) -> None:
    """A message that will not be completed; without a reason, because it was started too late: nobody will send it."""
    if message is not None and not isinstance(message, Reply):
        cast(IMessage, message).connectionLost(reason or ConnectionLost())
