"""Our own server in this process, as one among the others.

Knows the boxes that all of them have. Must not know who sends.
"""

from __future__ import annotations

import time
from typing import Any

import pytest_twisted
from listener import PATIENCE, Listener, pause
from mailserver import BOXES, MailServer, Ports
from twisted.internet.defer import ensureDeferred
from zope.interface import implementer

from twisted_smtplite.delivery.memory import MemoryDelivery, ReceivedMessage
from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Reply


class Boxes(MemoryDelivery):
    """Keeps what comes for who has a box, and for ``full``, whose own outcome is that it is."""

    def validateTo(self, session: Any, envelope: Any, recipient: Any) -> Any:
        known = recipient.address.localPart in (*BOXES, "jörg", "full")
        return None if known else Reply(550, "5.1.1", "No such mailbox")

    def startMessage(self, session: Any, envelope: Any) -> Any:
        return _Message(super().startMessage(session, envelope), [recipient.address.localPart for recipient in envelope.recipients])


@implementer(IMessage)
class _Message:
    def __init__(self, message: Any, names: list[str]) -> None:
        self._names = names
        self.dataReceived = message.dataReceived
        self.connectionLost = message.connectionLost
        self._complete = message.eomReceived

    def eomReceived(self) -> list[Reply | None]:
        self._complete()
        return [Reply(452, "4.2.2", "The box is full") if name == "full" else None for name in self._names]


class OwnServer(MailServer):
    """Its bare port has no TLS. Reports that are asked for it promises and does not make: what was asked is to be seen in the envelope."""

    name = "ours"
    mechanisms = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")

    @classmethod
    def whyNot(cls) -> str | None:
        return None

    def __init__(self) -> None:
        super().__init__()
        self.delivery = Boxes()
        self._listeners: tuple[Listener, ...] = ()

    def start(self) -> None:
        profile = Profile(mechanisms=self.mechanisms)
        common: dict[str, Any] = {"delivery": self.delivery, "limits": Limits(messageSize=16 * 1024 * 1024), "offer": ("DSN",)}
        starttls = Listener(profile=profile, **common)
        implicit = Listener(profile=profile, implicit=True, **common)
        bare = Listener(secure=False, **common)
        self._listeners = (starttls, implicit, bare)
        self.ports = Ports(*(each.port for each in self._listeners))

    def stop(self) -> None:
        super().stop()
        for listener in self._listeners:
            pytest_twisted.blockon(ensureDeferred(listener.stop()))

    def kept(self, name: str, token: bytes) -> list[ReceivedMessage]:
        """The messages for a user that hold a token."""
        messages = (each for each in self.delivery.messages if name in [recipient.address.localPart for recipient in each.envelope.recipients])
        return [each for each in messages if token in each.content]

    def stored(self, name: str, token: bytes) -> list[bytes]:
        return [each.content for each in self.kept(name, token)]

    async def message(self, name: str, token: bytes) -> bytes:
        end = time.monotonic() + PATIENCE
        while not (kept := self.kept(name, token)):
            assert time.monotonic() < end, self.delivery.messages
            await pause()
        (message,) = kept
        return message.content
