"""``sqlite:PATH``: all mail in one database, safe on the disk before the client hears 250.

Knows how a message becomes rows. Must not know the dialogue.

All messages that end together are one transaction, written ahead and synced once. What is larger than 256 KiB streams into a file of the directory
``PATH.bodies``, which is synced before the rows that name it are committed: a file without rows does not count, and is cleared when no process
uses the database any more and one starts to.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..interfaces import IMessage
from ..model.message import Message
from .base import AcceptingDelivery, DeliveryPlugin
from .databasestoring import DatabaseMessage, DatabaseStorage
from .durable import absolute
from .sqliteschema import INBOX, MIGRATIONS, bodiesOf

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..model.envelope import Envelope, Parameter, SessionInfo

_HEAD = 64 * 1024
"""Octets in which the header fields of the summary are looked for."""
_SUMMARY = 1000
"""Characters that are kept of a header field."""
_MESSAGE = """INSERT INTO message (mailbox, queueId, sender, parameters, peer, helo, protocol, user, receivedAt, storedAt, size,
    subject, fromField, toField, dateField, messageId) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class SQLiteDelivery(AcceptingDelivery, DatabaseStorage["_SQLiteMessage"]):
    """Stores messages in a database, for an inbox to show.

    See `Storage` for what it does as a service. Several processes may store in one database. A message on its way in holds 256 KiB of memory
    or a little more, whatever its size.

    Args:
        path: the database; it is made when missing, for its owner alone.
        reactor: the reactor.
    """

    def __init__(self, path: str, reactor: IReactorCore) -> None:
        path = absolute(path)
        super().__init__(path, bodiesOf(path), MIGRATIONS, reactor)

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage:
        """A message that is written when it ends, and while it arrives when it is large."""
        return _SQLiteMessage(self, session, envelope)


class _SQLiteMessage(DatabaseMessage):
    """One message on its way into the database."""

    headLength = _HEAD

    def __init__(self, delivery: SQLiteDelivery, session: SessionInfo, envelope: Envelope) -> None:
        super().__init__(delivery, envelope)
        # The session goes on, and its values change.
        self._session = (session.peerHost, session.heloName, session.protocol, session.user)

    def write(self, connection: sqlite3.Connection, now: float) -> None:
        """Makes rows of the message."""
        envelope, headers = self.envelope, Message(self.head).headers
        summary = [_clean(headers.decoded(name, "") or "")[:_SUMMARY] for name in ("Subject", "From", "To", "Date", "Message-ID")]
        peer, helo, protocol, user = self._session
        known = (INBOX, envelope.id, _clean(str(envelope.sender)), _asJSON(envelope.parameters), peer, _clean(helo), protocol, user and _clean(user))
        number = connection.execute(_MESSAGE, (*known, envelope.receivedAt, now, self.size, *summary)).lastrowid
        recipients = enumerate(envelope.recipients)
        rows = [(number, position, _clean(str(recipient.address)), _asJSON(recipient.parameters)) for position, recipient in recipients]
        connection.executemany("INSERT INTO recipient (message, position, address, parameters) VALUES (?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO content (message, octets, file) VALUES (?, ?, ?)", (number, self.content, self.file))


def _clean(text: str) -> str:
    """Text that can be stored: charsets of strangers decode to halves of characters too."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _asJSON(parameters: Sequence[Parameter]) -> str:
    return json.dumps(parameters) if parameters else "[]"


def _make(argument: str, reactor: IReactorCore) -> SQLiteDelivery:
    delivery = SQLiteDelivery(argument or "mail.sqlite", reactor)
    # Now somebody is there to read what is wrong. When mail comes nobody is. Not kept open: the process may fork before it serves.
    try:
        delivery.prepare()
    except (OSError, sqlite3.Error) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"no mail can be stored in {delivery.path}: {cause}") from error
    finally:
        delivery.close()
    return delivery


plugin = DeliveryPlugin(
    "sqlite",
    "store messages in a database, safe before they are accepted",
    "PATH  the database, ./mail.sqlite when left out; large messages are files in PATH.bodies",
    _make,
)
