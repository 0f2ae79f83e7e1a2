"""What policies build on: a policy that welcomes everybody, and a plugin made of four values.

Knows the contract only, and no policy. Third-party policies are welcome to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zope.interface import implementer

from ..interfaces import IPolicyPlugin, ISessionPolicy
from ..model import replies

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from ..interfaces import Answer
    from ..model.envelope import Envelope, Recipient, SessionInfo
    from ..model.reply import Reply


@implementer(ISessionPolicy)
class Policy:
    """Welcomes everybody: a subclass overrides the questions that it has something to say to.

    Attributes:
        onFailure: see `ISessionPolicy`; 451.
    """

    onFailure: ClassVar[Reply | None] = replies.LOCAL_ERROR

    def connect(self, session: SessionInfo) -> Answer:
        """Passes the question on."""
        return None

    def ehlo(self, session: SessionInfo, name: str) -> Answer:
        """Passes the question on."""
        return None

    def auth(self, session: SessionInfo, user: str) -> Answer:
        """Passes the question on."""
        return None

    def mail(self, session: SessionInfo, envelope: Envelope) -> Answer:
        """Passes the question on."""
        return None

    def rcpt(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Answer:
        """Passes the question on."""
        return None

    def data(self, session: SessionInfo, envelope: Envelope) -> Answer:
        """Passes the question on."""
        return None

    def endOfData(self, session: SessionInfo, envelope: Envelope) -> Answer:
        """Passes the question on."""
        return None


@implementer(IPolicyPlugin)
@dataclass(frozen=True)
class PolicyPlugin:
    """A plugin that is nothing but its values.

    Attributes:
        name: see `IPolicyPlugin`.
        description: see `IPolicyPlugin`.
        argumentHelp: see `IPolicyPlugin`.
        make: called with the argument and the reactor, see `IPolicyPlugin.makePolicy`.
    """

    name: str
    description: str
    argumentHelp: str
    make: Callable[[str, IReactorCore], object]

    def makePolicy(self, argument: str, reactor: IReactorCore) -> object:
        """Calls `make`."""
        return self.make(argument, reactor)
