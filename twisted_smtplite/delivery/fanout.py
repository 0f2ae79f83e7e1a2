"""Several deliveries as one: each gets every message, and the client hears 250 only when all have it.

Knows the contract with backends from both sides, because it stands between the server and the backends. Must not know any backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from ..dialogue.outcome import perRecipient
from ..interfaces import IExpandList, IExtendDialogue, IHonourExtensions, IMessage, IMessageDelivery, IMessageDeliveryFactory, IVerifyAddress
from ..model import replies
from ..model.reply import Refused, Reply

# For its effect: deliveries written for twisted.mail adapt to our interfaces.
from ..wire import twistedmail as _twistedmail  # noqa: F401
from ..wire.asking import settled

if TYPE_CHECKING:
    from zope.interface.interface import InterfaceClass

    from ..dialogue.extensions import Extension
    from ..interfaces import Answer, Outcome, Verdict
    from ..model.envelope import Envelope, Recipient, SessionInfo

_log = Logger(namespace="smtplite")


class FanoutDelivery:
    """Gives every message to several deliveries, in their order. Adapts to `IMessageDelivery`, or to `IMessageDeliveryFactory` if a member does.

    Senders and recipients are welcome when all say so; the first refusal is the answer, and the rest is not asked. At the end of a message each
    delivery is told when the one before it has finished, so that a message that the first cannot keep is not kept by the second either. What a
    delivery has kept for a recipient cannot be taken back when a later one refuses: put the one that refuses most in front.

    The members' `IService` is the application's business: it starts and stops them as it would alone.

    Args:
        members: objects that provide or adapt to `IMessageDelivery` or `IMessageDeliveryFactory`.

    Raises:
        TypeError: a member does neither.
    """

    def __init__(self, members: Iterable[object]) -> None:
        resolved = [_resolved(member) for member in members]
        # Without members that want one for each session, all sessions share one.
        perSession = any(IMessageDeliveryFactory.providedBy(member) for member in resolved)
        self._offer: object = _FanoutFactory(resolved) if perSession else _Fanout(resolved)

    def __conform__(self, interface: InterfaceClass) -> object:
        """What zope.interface asks: this adapts to what it offers, and to all that the offer provides."""
        return self._offer if interface.providedBy(self._offer) else None


def _resolved(member: object) -> Any:
    """The delivery, or the factory of deliveries, that `member` stands for."""
    factory = IMessageDeliveryFactory(member, None)
    return IMessageDelivery(member) if factory is None else factory


@implementer(IMessageDeliveryFactory)
class _FanoutFactory:
    """Members of which some want one for each session."""

    def __init__(self, members: Sequence[Any]) -> None:
        self._members = members

    def getMessageDelivery(self, session: SessionInfo) -> IMessageDelivery:
        """All members for this session, as one."""
        return _Fanout([member.getMessageDelivery(session) if IMessageDeliveryFactory.providedBy(member) else member for member in self._members])


@implementer(IMessageDelivery)
class _Fanout:
    """The members of one session, or of all where none keeps anything per session. Provides what else a member provides.

    Attributes:
        extensions: the rows of all members (`IExtendDialogue`).
        honours: the extensions that all members act on (`IHonourExtensions`): what one of them ignores must not be offered.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        self._members: Sequence[IMessageDelivery] = members
        self.extensions: tuple[Extension, ...] = tuple(row for member in members if IExtendDialogue.providedBy(member) for row in member.extensions)
        acted = [frozenset(member.honours) if IHonourExtensions.providedBy(member) else frozenset[str]() for member in members]
        self.honours: frozenset[str] = frozenset.intersection(*acted)
        for interface in (IVerifyAddress, IExpandList, IExtendDialogue, IHonourExtensions):
            if any(interface.providedBy(member) for member in members):
                alsoProvides(self, interface)

    async def validateFrom(self, session: SessionInfo, envelope: Envelope) -> Verdict:
        """The first refusal; else the first Reply, else None."""
        return await _firstRefusal(member.validateFrom(session, envelope) for member in self._members)

    async def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Verdict:
        """The first refusal; else the first Reply, else None."""
        return await _firstRefusal(member.validateTo(session, envelope, recipient) for member in self._members)

    async def verify(self, session: SessionInfo, text: str) -> Verdict:
        """What the first member that answers VRFY says."""
        return await _firstReply(member.verify(session, text) for member in self._members if IVerifyAddress.providedBy(member))

    async def expand(self, session: SessionInfo, text: str) -> Verdict:
        """What the first member that answers EXPN says."""
        return await _firstReply(member.expand(session, text) for member in self._members if IExpandList.providedBy(member))

    async def startMessage(self, session: SessionInfo, envelope: Envelope) -> IMessage | Reply:
        """Starts all. When one will not, or the client leaves meanwhile, those begun are told that it is over."""
        begun: list[IMessage] = []
        try:
            for member in self._members:
                message: IMessage | Reply = await settled(member.startMessage(session, envelope))
                if isinstance(message, Reply):
                    _abandon(begun, Refused(message))
                    return message
                begun.append(message)
                # Each member puts its own header on its own copy.
                header = member.receivedHeader(session, envelope)
                if header is not None:
                    await settled(message.dataReceived(header))
        except Exception as error:
            _abandon(begun, error)
            raise
        return _FanoutMessage(begun, len(envelope.recipients))

    def receivedHeader(self, session: SessionInfo, envelope: Envelope) -> bytes | None:
        """None: `startMessage` has seen to it."""
        return None


async def _firstRefusal(answers: Iterable[Answer]) -> Verdict:
    """The first refusal among `answers`, each asked for after the one before; else the first Reply, else None."""
    chosen: Verdict = None
    for answer in answers:
        verdict = await settled(answer)
        if verdict is not None and not verdict.positive:
            return verdict
        chosen = chosen or verdict
    return chosen


async def _firstReply(answers: Iterable[Answer]) -> Verdict:
    """The first Reply among `answers`, or None."""
    for answer in answers:
        verdict = await settled(answer)
        if verdict is not None:
            return verdict
    return None


@implementer(IMessage)
class _FanoutMessage:
    """One message on its way to all members."""

    __slots__ = ("_messages", "_recipients")

    def __init__(self, messages: list[IMessage], recipients: int) -> None:
        self._messages = messages
        self._recipients = recipients

    def dataReceived(self, chunk: bytes) -> Deferred[None] | None:
        """Gives the chunk to all; fires when all have taken it."""
        waiting: list[Deferred[None]] = []
        try:
            for message in self._messages:
                answer: Any = message.dataReceived(chunk)
                if answer is not None:
                    waiting.append(Deferred.fromCoroutine(answer) if isinstance(answer, CoroutineType) else answer)
        except Exception:
            # The message is refused by this alone; nobody is left who would look at the others.
            for answer in waiting:
                answer.addErrback(lambda failure: None)
            raise
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        return gatherResults(waiting, consumeErrors=True).addCallbacks(lambda results: None, _cause)

    async def eomReceived(self) -> Outcome:
        """Ends the message at each member in turn; for each recipient the worst outcome counts, of equal ones the first.

        When nobody is left whose message is accepted, the remaining members are told that it is over.
        """
        outcomes = (replies.MESSAGE_OK,) * self._recipients
        for index, message in enumerate(self._messages):
            rest = self._messages[index + 1 :]
            try:
                told = await self._end(message)
            except CancelledError as error:
                _abandon(rest, error)
                raise
            # The first member's words count among equals, not those of the default they are compared with.
            outcomes = tuple(map(_worse, outcomes, told)) if index else told
            if not any(reply.positive for reply in outcomes):
                _abandon(rest, Refused(outcomes[0]))
                break
        return outcomes

    async def _end(self, message: IMessage) -> tuple[Reply, ...]:
        """What one member made of the message, for each recipient. Its mistakes are its own: they are logged and become a 451."""
        try:
            return perRecipient(await settled(message.eomReceived()), self._recipients)
        except Refused as refusal:
            return (refusal.reply,) * self._recipients
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever one member does wrong, the others go on
            _log.failure("A delivery failed at the end of a message")
            return (replies.LOCAL_ERROR,) * self._recipients

    def connectionLost(self, reason: Exception) -> None:
        """Tells all."""
        _abandon(self._messages, reason)


def _worse(one: Reply, other: Reply) -> Reply:
    return other if other.code // 100 > one.code // 100 else one


def _cause(failure: Failure) -> Failure:
    """What went wrong, out of the wrapping of `gatherResults`."""
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


def _abandon(messages: Iterable[IMessage], reason: Exception) -> None:
    """Tells each of the messages that it is over, even if some raise."""
    for message in messages:
        try:
            message.connectionLost(reason)
        except Exception:  # noqa: BLE001, PERF203 - whatever one does wrong, the others are told too
            _log.failure("A delivery failed to throw a message away")
