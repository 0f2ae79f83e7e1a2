"""twisted.mail's ESMTP server on a loopback port of the system's choice; it discards what it receives.

A PEM file as the last argument: TLS from the beginning.
"""

# Twisted has no types for what is called here.
# mypy: allow-untyped-calls

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import defer, endpoints, reactor
from twisted.mail.interfaces import IMessageDelivery, IMessageSMTP
from twisted.mail.smtp import ESMTP, SMTPFactory
from zope.interface import implementer


@implementer(IMessageSMTP)
class Discarded:
    """A message that goes nowhere."""

    def lineReceived(self, line: bytes) -> None:
        """One more line."""

    def eomReceived(self) -> defer.Deferred[None]:
        """The message is complete."""
        return defer.succeed(None)

    def connectionLost(self) -> None:
        """The message will not be completed."""


@implementer(IMessageDelivery)
class Discard:
    """Accepts everything."""

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        """The trace header."""
        return b"Received: by mx.test"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        """Any sender is welcome."""
        return origin

    def validateTo(self, user: Any) -> Any:
        """Any recipient is welcome."""
        return Discarded


class Factory(SMTPFactory):
    """ESMTP sessions that share one delivery."""

    protocol = ESMTP
    domain = b"mx.test"

    def buildProtocol(self, address: Any) -> Any:
        """A new session."""
        protocol = SMTPFactory.buildProtocol(self, address)
        protocol.delivery = Discard()
        protocol.host = self.domain
        return protocol


secured = f"ssl:0:backlog=1024:interface=127.0.0.1:privateKey={sys.argv[-1]}:certKey={sys.argv[-1]}"
description = secured if len(sys.argv) > 2 else "tcp:0:backlog=1024:interface=127.0.0.1"
endpoints.serverFromString(reactor, description).listen(Factory())
reactor.run()
