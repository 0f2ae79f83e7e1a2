"""A text on its way out: its pieces put on the wire as fast as the peer takes them.

Knows dots, chunks, and when to stop for a while. Must not know replies or where the text comes from.
"""

# Twisted's Failure is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
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

# Octets that are written in one go, so that a text that comes from memory leaves others their turn; a piece counts for a few more than it has.
_BURST = 262_144
_PIECE = 64
# Octets that are gathered into one chunk while its turn has not come.
_CHUNK = 65_536


class TextFeed:
    """Sends one text.

    Args:
        transaction: whose text it is.
        text: where it comes from.
        session: announces chunks.
        write: takes octets to send.
        finished: called at the end: with None when the text was sent whole, else with why that cannot be.
        halted: called when something else has to happen before more is written.
        later: has something done in the next turn of the reactor.
    """

    __slots__ = (
        "_burst",
        "_finished",
        "_halted",
        "_held",
        "_heldSize",
        "_later",
        "_left",
        "_paused",
        "_pieces",
        "_running",
        "_session",
        "_stuffer",
        "_whole",
        "_write",
        "transaction",
        "waiting",
    )

    def __init__(
        self,
        transaction: Transaction,
        text: Text,
        session: ClientSession,
        write: Callable[[bytes], None],
        finished: Callable[[Failure | None], None],
        halted: Callable[[], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self.transaction = transaction
        self._session = session
        self._write = write
        self._finished = finished
        self._halted = halted
        self._later = later
        self._stuffer = None if transaction.chunked else Stuffer()
        # True where the text is one chunk, whose size was announced.
        self._whole = bool(transaction.chunked and transaction.size)
        # What is still to come, where that is known.
        self._left = transaction.size
        # The piece that may be the last. Where the size was announced the server takes the message when it has that one, so it waits until the text
        # says that it is over; else the last chunk says that it is the last, and pieces whose turn has not come are one chunk.
        self._held: list[bytes] = []
        self._heldSize = 0
        self._paused = False
        self._running = False
        self._burst = 0
        self.waiting: Deferred[bytes] | None = None
        self._pieces: Generator[bytes | Deferred[bytes], None, None] | None = _pieces(text)

    def pause(self) -> None:
        """The peer does not take what it was sent."""
        self._paused = True

    def resume(self) -> None:
        """The peer takes more."""
        self._paused = False
        self.run()

    def stop(self) -> None:
        """Nothing more of it is wanted. Whatever the text makes of that: nobody waits for it any more."""
        pieces, self._pieces = self._pieces, None
        waiting, self.waiting = self.waiting, None
        with suppress(Exception):
            if waiting is not None:
                waiting.addErrback(lambda failure: None)
                waiting.cancel()
        with suppress(Exception):
            if pieces is not None:
                pieces.close()

    def run(self) -> None:
        """Sends what can be sent now."""
        if self._running:
            return
        self._running = True
        self._burst = 0
        try:
            whole = self._send()
        except Exception:  # noqa: BLE001 - whatever goes wrong with the text, its message must not be taken
            self._broke(Failure())
            return
        finally:
            self._running = False
        if whole:
            self._finished(None)
        elif self._pieces is not None:
            self._halted()

    def _send(self) -> bool:
        """Takes pieces as long as something may be written. Returns True when the text was sent whole."""
        session = self._session
        while self._pieces is not None and not self._paused and self.waiting is None and (self._heldSize < _CHUNK or not session.listening):
            if self._burst >= _BURST:
                self._later(self.run)
                break
            try:
                piece = next(self._pieces)
            except StopIteration:
                if session.listening:
                    # The last chunk has its turn later. A generator that has ended ends again.
                    break
                return self._end()
            if isinstance(piece, Deferred):
                self._await(piece)
            elif self._pieces is not None:
                self._take(piece)
        return False

    def _await(self, piece: Deferred[bytes]) -> None:
        self.waiting = piece
        piece.addCallbacks(self._came, self._broke)
        if self._pieces is None:
            # Whoever gave it has also ended it all.
            self.stop()

    def _came(self, piece: bytes) -> None:
        self.waiting = None
        if self._pieces is None:
            return
        try:
            self._take(piece)
        except Exception:  # noqa: BLE001 - as in `run`
            self._broke(Failure())
        else:
            self.run()

    def _broke(self, failure: Failure) -> None:
        self.waiting = None
        if self._pieces is not None:
            self.stop()
            self._finished(failure)

    def _take(self, piece: bytes) -> None:
        self._burst += len(piece) + _PIECE
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise _changed(self._session.host)
        if not piece:
            return
        if self._stuffer is not None:
            self._write(self._stuffer.take(piece))
        elif self._left:
            self._write(piece)
        else:
            if self._held and not self._whole and not self._session.listening:
                self._session.chunk(self._heldSize, last=False)
                self._writeHeld()
            self._held.append(piece)
            self._heldSize += len(piece)

    def _end(self) -> bool:
        if self._left:
            raise _changed(self._session.host)
        if self._stuffer is not None:
            self._write(self._stuffer.end())
        elif not self._whole:
            self._session.chunk(self._heldSize, last=True)
        self._writeHeld()
        self._pieces = None
        return True

    def _writeHeld(self) -> None:
        for piece in self._held:
            self._write(piece)
        self._held.clear()
        self._heldSize = 0


def _pieces(text: Text) -> Generator[bytes | Deferred[bytes], None, None]:
    """Its pieces. That it cannot be read again shows when the first is asked for."""
    yield from text.pieces()


def _changed(host: str) -> Unsendable:
    return Unsendable(PeerReply(451, "4.6.0", ("the text has changed its size while it was sent",), local=True), Stage.DATA, host)
