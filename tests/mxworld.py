"""Domains with hosts, hosts with manners, and a sender by MX among them; without names, connections or time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_smtplite.client.content import Content
from twisted_smtplite.client.destination import Destination
from twisted_smtplite.client.mx import MXSender
from twisted_smtplite.client.route import MailHost
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.errors import ConnectionFailed, PeerRefused, ProtocolViolation, TLSFailed, Unsendable
from twisted_smtplite.model.results import Delivery, PeerReply, RecipientOutcome, Stage

CONTENT = Content.of(b"Subject: one\r\n\r\ntext\r\n")
OK = PeerReply(250, "2.0.0", ("taken",))
LATER = PeerReply(451, "4.7.1", ("come back later",))
NEVER = PeerReply(550, "5.7.1", ("go away",))

Answer = Callable[[Destination, Envelope], "Deferred[Delivery]"]


def outcome(recipient: Recipient, stage: Stage, reply: PeerReply, special: dict[str, tuple[Stage, PeerReply]]) -> RecipientOutcome:
    return RecipientOutcome(recipient, *special.get(str(recipient.address), (stage, reply)))


def says(stage: Stage, reply: PeerReply, *extensions: str, **special: tuple[Stage, PeerReply]) -> Answer:
    """A host that says this of all recipients, but for those whose local parts are named."""

    def answer(destination: Destination, envelope: Envelope) -> Deferred[Delivery]:
        by = {f"{local}@{domain}": said for local, said in special.items() for domain in ("a.test", "b.test", "c.test")}
        outcomes = tuple(outcome(recipient, stage, reply, by) for recipient in envelope.recipients)
        return succeed(Delivery(outcomes, destination.host, frozenset(extensions)))

    return answer


def raises(error: Exception) -> Answer:
    return lambda destination, envelope: fail(error)


def local(code: int, enhanced: str) -> PeerReply:
    return PeerReply(code, enhanced, ("so it is",), local=True)


takes = says(Stage.TEXT, OK)
unreachable = raises(ConnectionFailed(local(451, "4.4.1"), Stage.CONNECT))
mute = raises(ConnectionFailed(local(451, "4.4.2"), Stage.GREETING))
busy = raises(ConnectionFailed(PeerReply(421, "4.3.2", ("busy",)), Stage.GREETING))
closed = raises(PeerRefused(PeerReply(554, None, ("no service",)), Stage.GREETING))
untrusted = raises(TLSFailed(local(451, "4.7.5"), Stage.TLS))
babbles = raises(ProtocolViolation(local(451, "4.5.0"), Stage.HELLO))
lacks = raises(Unsendable(local(550, "5.7.30"), Stage.MAIL))
dropped = says(Stage.RCPT, local(451, "4.4.2"))
lost = says(Stage.TEXT, local(451, "4.4.2"))


class World:
    """Domains with hosts, hosts with manners, and a sender among them."""

    def __init__(self, hosts: dict[str, Answer | list[Answer]], domains: dict[str, Any] | None = None, **options: Any) -> None:
        self.hosts = hosts
        everything = [MailHost(name, 10 * number, (f"{name}-1",)) for number, name in enumerate(hosts)]
        self.domains = domains or {"a.test": everything}
        # Whom the message was offered to, with the local parts of the recipients.
        self.offers: list[tuple[str, str]] = []
        self.destinations: list[Destination] = []
        self.clock = Clock()
        self.sender = MXSender(self.clock, self, cast("Any", self), **options)

    async def find(self, domain: str) -> list[MailHost]:
        found = self.domains[domain]
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        return list(found)

    def send(self, destination: Destination, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        self.offers.append((destination.address, "".join(recipient.address.localPart for recipient in envelope.recipients)))
        self.destinations.append(destination)
        manners = self.hosts[destination.host]
        answer = manners if callable(manners) else manners.pop(0)
        return answer(destination, envelope)

    def begin(self, *recipients: str, **facts: Any) -> Deferred[Delivery]:
        envelope = Envelope("1", Address("s", "here.test"), recipients=[Recipient(Address(*to.split("@"))) for to in recipients], **facts)
        return self.sender.send(envelope, CONTENT)

    def deliver(self, *recipients: str, **facts: Any) -> Delivery:
        found: list[Delivery] = []
        self.begin(*(recipients or ("x@a.test",)), **facts).addCallback(found.append)
        assert len(found) == 1
        return found[0]
