"""What plugins implement: the contract between the server and everything that is not the server.

Read this file to write a backend. Knows names and promises only. Each method says when it is called, and in which order; all of them are
called in the reactor's thread. Where a return type is `Answer`, a method may

- accept, by returning None;
- choose the reply, by returning a `Reply` (4yz and 5yz refuse);
- refuse, by raising `Refused`;
- do any of these later, by returning a Deferred or a coroutine.

Any other exception is logged with its traceback, and the client hears ``451 4.3.0`` and no detail. A plain value costs nothing extra; prefer it.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorCore

    from .dialogue.extensions import Extension
    from .dialogue.sasl import Check, Conclusion
    from .model.address import Address
    from .model.envelope import Envelope, Recipient, SessionInfo
    from .model.reply import Reply

    Verdict: TypeAlias = Reply | None
    Answer: TypeAlias = Verdict | Deferred[Verdict] | Coroutine[Any, Any, Verdict]
    Outcome: TypeAlias = Reply | str | Sequence[Reply | None] | None
    OutcomeAnswer: TypeAlias = Outcome | Deferred[Outcome] | Coroutine[Any, Any, Outcome]
    MessageAnswer: TypeAlias = "IMessage | Reply | Deferred[IMessage | Reply] | Coroutine[Any, Any, IMessage | Reply]"


class IMessageDelivery(Interface):
    """Where mail goes: asked about each sender and recipient, then given the message.

    Per transaction the calls come in this order, one at a time, each after the answer to the one before: `validateFrom` once, `validateTo` once
    for each RCPT, `startMessage` if a recipient was accepted; and again at the next DATA if it was refused, since the transaction goes on. One
    object serves all sessions (see `IMessageDeliveryFactory` for one each).
    """

    def validateFrom(session: SessionInfo, envelope: Envelope) -> Answer:
        """MAIL arrived: is this reverse-path welcome? (RFC 5321 3.3)

        Args:
            session: what is known of the client.
            envelope: the new transaction; `sender` and the parameters of MAIL are set, `recipients` is empty.
        """

    def validateTo(session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Answer:
        """RCPT arrived: is this forward-path welcome? (RFC 5321 3.3)

        Args:
            session: what is known of the client.
            envelope: the transaction; `recipients` holds those accepted before this one.
            recipient: the one in question.
        """

    def startMessage(session: SessionInfo, envelope: Envelope) -> MessageAnswer:
        """DATA arrived with at least one recipient: make ready to take the message.

        Returns:
            An `IMessage`, or a 4yz or 5yz Reply (or raise Refused), or a Deferred or coroutine of these. The client hears 354 when it is there.
        """

    def receivedHeader(session: SessionInfo, envelope: Envelope) -> bytes | None:
        """The trace header to put on top of the message (RFC 5321 4.4), called after `startMessage`.

        Returns:
            Whole header fields that end in CRLF, given to the message as its first chunk; or None for none.
            `twisted_smtplite.dialogue.trace.receivedField` makes the usual one.
        """


class IMessage(Interface):
    """One message on its way in. Made by `IMessageDelivery.startMessage`.

    Exactly one of `eomReceived` and `connectionLost` is called, once, and nothing after it.
    """

    def dataReceived(chunk: bytes) -> Deferred[None] | None:
        """Takes the next 1 to 65,664 octets of the message: dots un-stuffed, line ends CRLF, the terminator left out.

        Returns:
            None, or a Deferred: nothing more is read from the client until it fires. When it fails, or when this method raises, the message is
            refused after its end (`Refused` chooses the reply, else 451) and `connectionLost` is called.
        """

    def eomReceived() -> OutcomeAnswer:
        """The message is complete. A success is a promise: the message survives a crash (RFC 5321 6.1).

        Returns:
            None: accepted. A Reply: accepted or refused with it. A str: accepted, and shown to the client as the queue id. A sequence with a
            Reply or None for each of `envelope.recipients`, in order: each one's own outcome. Or a Deferred or coroutine of these. When the
            client leaves meanwhile a Deferred is cancelled; a message that is past stopping may finish.
            Outcomes of several recipients fold into one reply: if any accepted the message the answer is 250, and the refused ones are logged;
            if none did, the first 4yz, else the first 5yz.
        """

    def connectionLost(reason: Exception) -> None:
        """The message will not be completed: throw away what was begun.

        Args:
            reason: `Refused` with what the client hears (too large, bare line ends, a failed chunk ...), or how the connection ended.
        """


class IMessageDeliveryFactory(Interface):
    """For backends that keep something per session: one delivery for each."""

    def getMessageDelivery(session: SessionInfo) -> IMessageDelivery:
        """A client connected: the delivery for its session, asked for once, before the greeting."""


class IVerifyAddress(Interface):
    """A delivery that also provides this answers VRFY; without it the answer is 252 (RFC 5321 3.5)."""

    def verify(session: SessionInfo, text: str) -> Answer:
        """VRFY `text` arrived. 250 needs the full mailbox in the text (RFC 5321 3.5.2); None answers 252."""


class IExpandList(Interface):
    """A delivery that also provides this answers EXPN, and EXPN is then advertised; without it the answer is 502 (RFC 5321 3.5)."""

    def expand(session: SessionInfo, text: str) -> Answer:
        """EXPN `text` arrived: a 250 Reply with one member a line; None answers 252."""


class IExtendDialogue(Interface):
    """A delivery that also provides this adds ESMTP extensions: keywords, with the parameters of MAIL and RCPT that come with them."""

    extensions: Sequence[Extension] = Attribute(
        "The `twisted_smtplite.dialogue.extensions.Extension` rows. Their parameters appear in `Envelope.parameters`, `Recipient.parameters`."
    )


class IHonourExtensions(Interface):
    """A delivery that also provides this acts on extensions that mean nothing unless somebody does; these are then offered."""

    honours: Collection[str] = Attribute(
        "Their EHLO keywords: of DSN, REQUIRETLS, DELIVERBY, MT-PRIORITY, FUTURERELEASE and RRVS those that the delivery acts on."
    )


class IAuthenticator(Interface):
    """Says who clients are. `twisted_smtplite.auth.authenticator.Authenticator` is one over checkers of twisted.cred."""

    def check(session: SessionInfo, check: Check) -> object:
        """A mechanism of AUTH wants something checked. Called any number of times in an exchange.

        Args:
            session: what is known of the client.
            check: see `twisted_smtplite.dialogue.sasl`; each kind says what answers it.

        Returns:
            The answer, None when there is none, or a 4yz or 5yz Reply, which ends the exchange; or a Deferred or coroutine of these. When this
            fails, the client hears ``454 4.7.0``.
        """

    def conclude(session: SessionInfo, conclusion: Conclusion) -> object:
        """An exchange has come to an end; the client has not heard yet of it. Not called when the client gave up.

        Returns:
            None; a 4yz or 5yz Reply, which the client hears instead; where somebody has authenticated also a `Login` with an avatar of his own; or
            a Deferred or coroutine of these.
        """


class ISenderRights(Interface):
    """An avatar that also provides this, or adapts to it, says by which addresses its user may send; the policy `user-senders` asks it."""

    def maySend(sender: Address) -> bool | Deferred[bool] | Coroutine[Any, Any, bool]:
        """MAIL arrived in a session of this user: is this reverse-path his? Not asked about the null one (RFC 6409 3.2).

        Returns:
            True or False, or a Deferred or coroutine of these.
        """


class IDeliveryPlugin(IPlugin):
    """How a delivery is found and named on the command line: ``--delivery NAME:ARGUMENT``.

    Offer one as a twisted plugin (an object in a module of ``twisted/plugins/``) or through the entry-point group
    ``twisted_smtplite.deliveries`` (the entry point names the object or a class without arguments).
    """

    name: str = Attribute("What stands before the colon: lower case letters, digits, hyphens.")
    description: str = Attribute("One line for --list-deliveries.")
    argumentHelp: str = Attribute("What may stand after the colon, a line for each form; empty when it takes none.")

    def makeDelivery(argument: str, reactor: IReactorCore) -> object:
        """Makes the delivery. Called before the server listens; must not block for long.

        Args:
            argument: the text after the colon, empty when there was none.
            reactor: the reactor that the server will run in.

        Returns:
            An object that provides, or adapts to, `IMessageDelivery` or `IMessageDeliveryFactory`. When it also provides
            `twisted.application.service.IService` it is started before the server listens and stopped after it.

        Raises:
            ValueError: the argument cannot be used; its text is the sentence that the user reads.
        """


class ISessionPolicy(Interface):
    """Says who is welcome, before the delivery is asked. `twisted_smtplite.policy.base.Policy` welcomes everybody; subclasses say what is not.

    A server asks its policies in order, one at a time, and the first refusal counts: nobody behind it is asked. None passes the question on,
    a 4yz or 5yz Reply (returned or raised in `Refused`) refuses, and a Deferred or a coroutine does either later. Policies never accept for others:
    a positive Reply is a mistake. A policy that raises anything else, or does not answer within `Limits.policyTimeout`, has failed: the client
    hears `onFailure`, and the log tells once per cause and hour.

    What a policy finds out it may leave for the policies behind it, and for the delivery: in `SessionInfo.results` what is true of the session, in
    `Envelope.results` what is true of the message. Both are mappings; use your plugin's name as the key. `Envelope.addField` puts a header
    field on top of the message, up to and including `data`: later the message is on its way.
    """

    onFailure: Reply | None = Attribute("What the client hears when this policy fails, usually 451; None passes the question on.")

    def connect(session: SessionInfo) -> Answer:
        """A client connected (inside TLS: after the handshake). The greeting waits; `SessionInfo.spokeEarly` tells if the client did not.

        A refusal is said in place of the greeting and closes: as 421 when it is 4yz, as 554 when it is 5yz (RFC 5321 3.1, 4.3.2).
        """

    def ehlo(session: SessionInfo, name: str) -> Answer:
        """EHLO, HELO or LHLO with `name` arrived; after a refusal the session is what it was before (RFC 5321 4.1.1.1). May come again."""

    def auth(session: SessionInfo, user: str) -> Answer:
        """The credentials of `user` are good: may this session act for him? `SessionInfo.user` is set when all say yes.

        Also asked, behind `connect`, when a trusted proxy says that its client is `user` (XCLIENT): then it is set already, and a refusal closes.
        """

    def mail(session: SessionInfo, envelope: Envelope) -> Answer:
        """MAIL arrived, see `IMessageDelivery.validateFrom`."""

    def rcpt(session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Answer:
        """RCPT arrived, see `IMessageDelivery.validateTo`."""

    def data(session: SessionInfo, envelope: Envelope) -> Answer:
        """DATA, or the first BDAT, arrived with at least one recipient."""

    def endOfData(session: SessionInfo, envelope: Envelope) -> Answer:
        """The text is complete, and the delivery has not been told: the last moment to refuse it."""


class IContentPolicy(ISessionPolicy):
    """A policy that looks at the text of messages."""

    def startMessage(session: SessionInfo, envelope: Envelope) -> IContentReader | None:
        """The delivery takes a message: who reads along? None when this message does not matter. Must not answer later."""


class IContentReader(Interface):
    """Reads one message along with the delivery. Exactly one of `endOfData` and `connectionLost` is called, once, and nothing after it."""

    def dataReceived(chunk: bytes) -> Deferred[None] | None:
        """The next 1 to 65,664 octets exactly as the client sent them, without trace header and added fields; see `IMessage.dataReceived`.

        Raises:
            Refused: the message is refused; its rest is not shown to anybody.
        """

    def endOfData() -> Answer:
        """The text is complete: asked just before the `ISessionPolicy.endOfData` of the policy that made this reader."""

    def connectionLost(reason: Exception) -> None:
        """The message will not be completed, or somebody before this policy refused it."""


class IPolicyPlugin(IPlugin):
    """How a policy is found and named on the command line: ``--policy NAME:ARGUMENT``.

    Offer one as a twisted plugin (an object in a module of ``twisted/plugins/``) or through the entry-point group
    ``twisted_smtplite.policies`` (the entry point names the object or a class without arguments).
    """

    name: str = Attribute("What stands before the colon: lower case letters, digits, hyphens.")
    description: str = Attribute("One line for --list-policies.")
    argumentHelp: str = Attribute("What may stand after the colon, a line for each form; empty when it takes none.")

    def makePolicy(argument: str, reactor: IReactorCore) -> object:
        """Makes the policy. Called before the server listens; must not block for long.

        Args:
            argument: the text after the colon, empty when there was none.
            reactor: the reactor that the server will run in.

        Returns:
            An object that provides `ISessionPolicy`. When it also provides `twisted.application.service.IService` it is started before the
            server listens and stopped after it.

        Raises:
            ValueError: the argument cannot be used; its text is the sentence that the user reads.
        """


class IOneProcess(Interface):
    """An `IDeliveryPlugin` that also provides this makes deliveries that several processes cannot share: ``--workers`` refuses them.

    Without it each worker makes a delivery of its own from the same argument, and several of them work at the same time.
    """

    oneProcess: str = Attribute("Why not, as the end of a sentence: `each would have messages of its own`. Empty: they can share it after all.")


class ISessionObserver(Interface):
    """Told what happens, never asked. Must return at once and must not raise."""

    def sessionStarted(session: SessionInfo) -> None:
        """A client connected and is served."""

    def sessionRefused(peer: str, reply: Reply) -> None:
        """A connection was turned away with `reply` before a session began (too many connections)."""

    def messageFinished(session: SessionInfo, envelope: Envelope, size: int, reply: Reply, outcomes: Sequence[Reply]) -> None:
        """A message got its final reply.

        Args:
            session: the session it came in by.
            envelope: its envelope, complete.
            size: octets received, without stuffed dots and terminator.
            reply: what the client heard.
            outcomes: one Reply per recipient, in order.
        """

    def commandRefused(session: SessionInfo, verb: str, argument: Address | None, reply: Reply) -> None:
        """MAIL, RCPT or DATA was refused by the rules or the delivery. `argument` is the address in question where there is one."""

    def sessionEnded(session: SessionInfo, cause: str, messages: int) -> None:
        """A session is over.

        Args:
            session: the session.
            cause: ``quit``, or in a few words why else (``lost``, ``timeout``, ``too many errors``, ``shutdown`` ...).
            messages: how many messages were accepted in it.
        """
