"""A text on its way out: its pieces put on the wire as fast as the peer takes them.

Knows dots, chunks, and when to stop for a while. Must not know replies or where the text comes from.
"""

# Twisted's Failure is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..dialogue.stuffing import Stuffer
from ..model.errors import Unsendable
from ..model.results import PeerReply, Stage
from .outgoing import Text

if TYPE_CHECKING:
    from ..dialogue.clientsession import ClientSession
    from ..dialogue.clientsteps import Transaction

# Octets that are written in one go, so that a text that comes from memory leaves others their turn.
_BURST = 262_144


class TextFeed:
    """Sends one text.

    Args:
        transaction: whose text it is.
        text: where it comes from.
        session: announces chunks.
        write: takes octets to send.
        finished: called at the end: with None when the text was sent whole, else with why that cannot be.
        later: has something done in the next turn of the reactor.
    """

    __slots__ = (
        "_finished",
        "_held",
        "_later",
        "_left",
        "_paused",
        "_pieces",
        "_running",
        "_session",
        "_stuffer",
        "_waiting",
        "_write",
        "transaction",
    )

    def __init__(
        self,
        transaction: Transaction,
        text: Text,
        session: ClientSession,
        write: Callable[[bytes], None],
        finished: Callable[[Failure | None], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self.transaction = transaction
        self._session = session
        self._write = write
        self._finished = finished
        self._later = later
        self._stuffer = None if transaction.chunked else Stuffer()
        # What is still to come of a chunk whose size was announced.
        self._left = transaction.size if transaction.chunked else None
        # The piece that may be the last: the last chunk says that it is.
        self._held = b""
        self._paused = False
        self._running = False
        self._waiting: Deferred[bytes] | None = None
        self._pieces: Iterator[bytes | Deferred[bytes]] | None = text.pieces()

    def pause(self) -> None:
        """The peer does not take what it was sent."""
        self._paused = True

    def resume(self) -> None:
        """The peer takes more."""
        self._paused = False
        self.run()

    def stop(self) -> None:
        """Nothing more of it is wanted."""
        pieces, self._pieces = self._pieces, None
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.addErrback(lambda failure: None)
            waiting.cancel()
        close = getattr(pieces, "close", None)
        if close is not None:
            close()

    def run(self) -> None:
        """Sends what can be sent now."""
        if self._running:
            return
        self._running = True
        burst = 0
        try:
            while self._pieces is not None and not self._paused and self._waiting is None:
                if burst >= _BURST:
                    self._later(self.run)
                    break
                piece = next(self._pieces, None)
                if piece is None:
                    self._end()
                elif isinstance(piece, Deferred):
                    self._await(piece)
                else:
                    burst += len(piece)
                    self._take(piece)
        except Exception:  # noqa: BLE001 - whatever goes wrong with the text, its message must not be taken
            self.stop()
            self._finished(Failure())
        finally:
            self._running = False

    def _await(self, piece: Deferred[bytes]) -> None:
        self._waiting = piece
        piece.addCallbacks(self._came, self._failed)

    def _came(self, piece: bytes) -> None:
        self._waiting = None
        if self._pieces is None:
            return
        try:
            self._take(piece)
        except Unsendable:
            self._failed(Failure())
        else:
            self.run()

    def _failed(self, failure: Failure) -> None:
        self._waiting = None
        if self._pieces is not None:
            self.stop()
            self._finished(failure)

    def _take(self, piece: bytes) -> None:
        if self._stuffer is not None:
            self._write(self._stuffer.take(piece))
        elif self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise _changed(self._session.host)
            self._write(piece)
        else:
            if self._held:
                self._session.chunk(len(self._held), last=False)
                self._write(self._held)
            self._held = piece

    def _end(self) -> None:
        self._pieces = None
        if self._stuffer is not None:
            self._write(self._stuffer.end())
        elif self._left is None:
            self._session.chunk(len(self._held), last=True)
            self._write(self._held)
        elif self._left:
            raise _changed(self._session.host)
        self._finished(None)


def _changed(host: str) -> Unsendable:
    return Unsendable(PeerReply(451, "4.6.0", ("the text has changed its size while it was sent",), local=True), Stage.DATA, host)
