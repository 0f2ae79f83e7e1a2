"""The text of a message in the queue, read when it is sent and not before.

Knows where the octets are. Must not know how they travel.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..client.content import Content
from ..model.errors import Unsendable
from ..model.results import PeerReply, Stage

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .entries import QueuedMessage, Way

_UNREADABLE = PeerReply(451, "4.3.0", ("The message cannot be read from the queue",), local=True)


class QueuedText(Content):
    """The text of one message.

    Args:
        message: which one.
        find: looks up its octets or its file, see `rows.text`.
        bodies: the directory of the file.
        way: is told how far the text has come.
    """

    repeatable = True

    def __init__(self, message: QueuedMessage, find: Callable[[str], tuple[bytes | None, str | None, bool] | None], bodies: str, way: Way) -> None:
        self._message = message
        self._way = way
        self._find = find
        self._bodies = bodies
        self._loaded: Content | None = None
        self.binary = message.envelope.body == "BINARYMIME"

    @property
    def size(self) -> int:
        """See `Content`. Who sends it asks for that when it has a connection, and nothing of it is on its way."""
        self._way.offered()
        return self._message.size

    @property
    def eightBit(self) -> bool:
        """See `Content`."""
        return self._content().eightBit

    @property
    def utf8(self) -> bool:
        """See `Content`. What was declared as internationalized (RFC 6531) may have nothing of the kind in it."""
        return self._message.envelope.smtputf8 and self._content().utf8

    @property
    def header(self) -> bytes:
        """See `Content`."""
        return self._content().header

    def pieces(self) -> Iterator[bytes | Deferred[bytes]]:
        """See `Content`. Without a file, or out of a database that cannot be read, it fails for now."""
        self._way.begun()
        return self._content().pieces()

    def without(self, *names: str) -> Content:
        """See `Content`."""
        return self._content().without(*names)

    def _whole(self) -> bytes:
        # To be converted, and then sent.
        self._way.offered()
        self._way.begun()
        return self._content()._whole()  # noqa: SLF001 - of the same kind

    def _content(self) -> Content:
        if self._loaded is None:
            try:
                self._loaded = self._load()
            except (OSError, sqlite3.Error) as error:
                raise Unsendable(_UNREADABLE, Stage.DATA) from error
        return self._loaded

    def _load(self) -> Content:
        found = self._find(self._message.id)
        if found is None:
            # It was dropped meanwhile.
            raise FileNotFoundError(self._message.id)
        octets, file, eightBit = found
        if octets is not None:
            return Content.of(octets, binary=self.binary)
        utf8 = None if self._message.envelope.smtputf8 else False
        return Content.of(Path(self._bodies, file or ""), binary=self.binary, size=self._message.size, eightBit=eightBit, utf8=utf8)
