from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import pytest_twisted
from driving import anEnvelope, aSession, begin, deliver, settle
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.mail import smtp
from twisted.mail.interfaces import IMessageDelivery as IOldDelivery
from twisted.mail.interfaces import IMessageDeliveryFactory as IOldDeliveryFactory
from twisted.mail.interfaces import IMessageSMTP
from zope.interface import implementer

from twisted_smtplite.interfaces import IMessageDelivery, IMessageDeliveryFactory
from twisted_smtplite.model.reply import Refused, Reply


class Broken(Exception):
    pass


@implementer(IMessageSMTP)
class OldMessage:
    def __init__(self, old: OldDelivery, user: Any) -> None:
        self.old = old
        self.user = user
        self.lines: list[bytes] = []
        self.lost = 0
        self.ended = 0

    def lineReceived(self, line: bytes) -> None:
        self.old.give("line")
        self.lines.append(line)

    def eomReceived(self) -> Any:
        self.ended += 1
        return self.old.give("eom", "queued", str(self.user.dest))

    def connectionLost(self) -> None:
        self.lost += 1
        self.old.give("lost")


@implementer(IOldDelivery)
class OldDelivery:
    """As written for twisted.mail: it accepts, unless the test gives it an exception; with `slow` it answers by Deferreds where it may."""

    def __init__(self, *, slow: bool = False, header: bytes | None = b"Received: by the old\n\tfor somebody", **answers: Any) -> None:
        self.slow = slow
        self.header = header
        self.answers = answers
        self.helos: list[Any] = []
        self.origins: list[Any] = []
        self.users: list[Any] = []
        self.messages: list[OldMessage] = []

    def give(self, event: str, default: Any = None, detail: str = "") -> Any:
        answer = self.answers.get(f"{event} {detail}".strip(), self.answers.get(event, default))
        if not self.slow or event in ("line", "lost", "make"):
            if isinstance(answer, Exception):
                raise answer
            return answer
        later: Deferred[Any] = Deferred()
        reactor.callLater(0, later.errback if isinstance(answer, Exception) else later.callback, answer)
        return later

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes | None:
        assert helo == self.helos[-1]
        assert len(recipients) == 1
        return self.header

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        self.helos.append(helo)
        self.origins.append(origin)
        return self.give("from", origin)

    def validateTo(self, user: Any) -> Any:
        self.users.append(user)
        return self.give("to", lambda: self.make(user), str(user.dest))

    def make(self, user: Any) -> OldMessage:
        self.give("make", None, str(user.dest))
        self.messages.append(OldMessage(self, user))
        return self.messages[-1]


@implementer(IOldDeliveryFactory)
class OldFactory:
    def __init__(self) -> None:
        self.made: list[OldDelivery] = []

    def getMessageDelivery(self) -> OldDelivery:
        self.made.append(OldDelivery())
        return self.made[-1]


@pytest.fixture(params=[False, True], ids=["prompt", "slow"])
def slow(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def adapted(old: object, session: Any = None) -> IMessageDelivery:
    return IMessageDeliveryFactory(old).getMessageDelivery(session or aSession())


async def envelopeFor(delivery: IMessageDelivery, *recipients: str, sender: str = "ann@client.test", session: Any = None) -> Any:
    """Goes through MAIL and RCPT, and gives the envelope of those accepted."""
    session = session or aSession()
    envelope = anEnvelope(*recipients, sender=sender)
    asked, envelope.recipients = envelope.recipients, []
    assert await settle(delivery.validateFrom(session, envelope)) is None
    for recipient in asked:
        assert await settle(delivery.validateTo(session, envelope, recipient)) is None
        envelope.recipients.append(recipient)
    return envelope


def codes(outcome: Any) -> list[int | None]:
    return [reply and reply.code for reply in outcome]


# ---- Its view of the envelope.


@pytest_twisted.ensureDeferred
async def test_it_sees_helo_sender_and_user_as_twisted_mail_shows_them(slow: bool) -> None:
    old = OldDelivery(slow=slow)
    await envelopeFor(adapted(old), "ben@mx.test", "a b@[192.0.2.7]")
    assert old.helos == [(b"client.test", b"192.0.2.1")]
    (origin,) = old.origins
    assert isinstance(origin, smtp.Address)
    assert (origin.local, origin.domain, origin.addrstr, str(origin)) == (b"ann", b"client.test", b"<ann@client.test>", "ann@client.test")
    ben, quoted = old.users
    assert isinstance(ben, smtp.User)
    assert (ben.dest.local, ben.dest.domain, str(ben), ben.helo, ben.orig) == (b"ben", b"mx.test", "ben@mx.test", old.helos[0], origin)
    assert (ben.protocol.host, ben.protocol.transport.getPeer()) == (b"mx.test", IPv4Address("TCP", "192.0.2.1", 4321))
    assert (quoted.dest.local, quoted.dest.domain) == (b'"a b"', b"[192.0.2.7]")


@pytest.mark.parametrize(("host", "peer"), [("2001:db8::1", IPv6Address("TCP", "2001:db8::1", 4321)), ("", UNIXAddress(None))])
@pytest_twisted.ensureDeferred
async def test_it_sees_every_kind_of_peer(host: str, peer: object) -> None:
    old, session = OldDelivery(), aSession(peerHost=host)
    await envelopeFor(adapted(old, session), "ben@mx.test", session=session)
    assert old.users[0].protocol.transport.getPeer() == peer


@pytest_twisted.ensureDeferred
async def test_the_null_sender_and_bare_postmaster_are_as_there() -> None:
    old = OldDelivery()
    await envelopeFor(adapted(old), "postmaster", sender="")
    assert (str(old.origins[0]), bytes(old.origins[0])) == ("", b"")
    assert str(old.users[0]) == "postmaster@mx.test"


@pytest_twisted.ensureDeferred
async def test_the_sender_that_it_answers_is_the_sender_from_there_on() -> None:
    another = smtp.Address(b"<other@client.test>")
    old = OldDelivery(**{"from": another})
    await envelopeFor(adapted(old), "ben@mx.test")
    assert old.users[0].orig is another
    silent = OldDelivery(**{"from": None})
    await envelopeFor(adapted(silent), "ben@mx.test")
    assert silent.users[0].orig is silent.origins[0]


@pytest_twisted.ensureDeferred
async def test_addresses_outside_ascii_are_refused_for_it() -> None:
    delivery = adapted(OldDelivery())
    envelope = anEnvelope("bén@mx.test", sender="änn@client.test")
    assert (await settle(delivery.validateFrom(aSession(), envelope))).wire.startswith(b"550 5.6.7 ")
    assert (await settle(delivery.validateTo(aSession(), envelope, envelope.recipients[0]))).wire.startswith(b"553 5.6.7 ")


# ---- Its refusals.


@pytest.mark.parametrize(
    ("event", "error", "expected"),
    [
        ("from", smtp.SMTPBadSender("a@b"), Reply(550, "5.1.0", "Sender not acceptable")),
        ("from", smtp.SMTPBadSender("a@b", 451, "Later"), Reply(451, "4.1.0", "Later")),
        ("from", smtp.SMTPServerError(421, b"Bye"), Reply(421, "4.0.0", "Bye", closes=True)),
        ("to", smtp.SMTPBadRcpt("a@b"), Reply(550, "5.1.1", "Cannot receive for specified address")),
        ("to", smtp.SMTPBadRcpt("a@b", 450, "One\r\ntwo\x1b"), Reply(450, "4.2.0", ("One", "two?"))),
        ("to", smtp.SMTPServerError(552, "Too full"), Reply(552, "5.0.0", "Too full")),
        ("to", smtp.SMTPServerError(552, b"\xff"), Reply(552, "5.0.0", "?")),
        ("to", smtp.SMTPServerError(250, "A refusal?"), Reply(451, "4.3.0", "Local error in processing, try again later")),
        ("to", smtp.SMTPBadRcpt("a@b", 999, "?"), Reply(451, "4.3.0", "Local error in processing, try again later")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_its_refusals_keep_code_and_text(event: str, error: Exception, expected: Reply, slow: bool) -> None:
    with pytest.raises(Refused) as refused:
        await envelopeFor(adapted(OldDelivery(slow=slow, **{event: error})), "ben@mx.test")
    reply = refused.value.reply
    assert (reply.code, reply.enhanced, reply.lines, reply.closes) == (expected.code, expected.enhanced, expected.lines, expected.closes)


@pytest.mark.parametrize("event", ["from", "to"])
@pytest_twisted.ensureDeferred
async def test_its_other_mistakes_pass_through(event: str, slow: bool) -> None:
    with pytest.raises(Broken):
        await envelopeFor(adapted(OldDelivery(slow=slow, **{event: Broken()})), "ben@mx.test")


# ---- Its messages.


async def sent(old: OldDelivery, *chunks: bytes, recipients: Any = ("ben@mx.test",)) -> Any:
    delivery = adapted(old)
    return await deliver(delivery, chunks, await envelopeFor(delivery, *recipients))


@pytest_twisted.ensureDeferred
async def test_each_recipient_has_a_message_with_its_own_header(slow: bool) -> None:
    old = OldDelivery(slow=slow)
    outcome = await sent(old, b"Subject: Hi\r\n\r\n.dot\r\n\r\n", recipients=["ben@mx.test", "cy@mx.test", "ben@mx.test"])
    assert codes(outcome) == [None, None, None]
    assert [str(message.user) for message in old.messages] == ["ben@mx.test", "cy@mx.test", "ben@mx.test"]
    for message in old.messages:
        assert message.lines == [b"Received: by the old\n\tfor somebody", b"Subject: Hi", b"", b".dot", b""]
        assert (message.ended, message.lost) == (1, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest_twisted.ensureDeferred
async def test_lines_do_not_depend_on_how_chunks_are_cut(size: int) -> None:
    content = b"A: b\r\n\r\n\r\nlonger line\xff\r\nbare\rcr\r\n"
    old = OldDelivery(header=None)
    await sent(old, *(content[start : start + size] for start in range(0, len(content), size)))
    assert old.messages[0].lines == [b"A: b", b"", b"", b"longer line\xff", b"bare\rcr"]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest_twisted.ensureDeferred
async def test_a_last_line_without_its_end_is_a_line(size: int) -> None:
    # As the last chunk of BDAT may have it (RFC 3030 2).
    content = b"A: b\r\n\r\none\n\n\r\ntwo\r"
    old = OldDelivery(header=None)
    assert codes(await sent(old, *(content[start : start + size] for start in range(0, len(content), size)))) == [None]
    assert old.messages[0].lines == [b"A: b", b"", b"one\n\n", b"two\r"]
    assert (old.messages[0].ended, old.messages[0].lost) == (1, 0)


@pytest_twisted.ensureDeferred
async def test_a_last_line_without_its_end_can_be_refused() -> None:
    old = OldDelivery(header=None, line=Broken())
    with pytest.raises(Broken):
        await sent(old, b"one")
    assert (old.messages[0].ended, old.messages[0].lost) == (0, 1)


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"no header\r\nx: y\r\n", [b"", b"no header", b"x: y"]), (b"\r\nbody\r\n", [b"", b"body"]), (b"A: b\r\nbody\r\n", [b"A: b", b"body"])],
)
@pytest_twisted.ensureDeferred
async def test_a_message_without_headers_is_parted_from_the_trace_header_as_there(content: bytes, lines: list[bytes]) -> None:
    old = OldDelivery(header=b"Received: x")
    await sent(old, content)
    assert old.messages[0].lines == [b"Received: x", *lines]


@pytest_twisted.ensureDeferred
async def test_recipients_that_others_refused_later_get_no_message() -> None:
    old = OldDelivery()
    delivery = adapted(old)
    envelope = await envelopeFor(delivery, "ben@mx.test", "cy@mx.test", "dee@mx.test")
    del envelope.recipients[1]
    await begin(delivery, envelope)
    assert [str(message.user) for message in old.messages] == ["ben@mx.test", "dee@mx.test"]


@pytest_twisted.ensureDeferred
async def test_recipients_of_an_older_transaction_are_forgotten() -> None:
    delivery = adapted(OldDelivery())
    await envelopeFor(delivery, "ben@mx.test")
    await settle(delivery.validateFrom(aSession(), anEnvelope()))
    with pytest.raises(LookupError):
        await begin(delivery, anEnvelope("ben@mx.test"))


@pytest.mark.parametrize(("error", "kind"), [(smtp.SMTPServerError(452, "Full"), Refused), (Broken(), Broken)])
@pytest_twisted.ensureDeferred
async def test_a_message_that_cannot_begin_ends_those_begun(error: Exception, kind: type[Exception]) -> None:
    old = OldDelivery(**{"make cy@mx.test": error})
    delivery = adapted(old)
    envelope = await envelopeFor(delivery, "ben@mx.test", "cy@mx.test")
    with pytest.raises(kind):
        await begin(delivery, envelope)
    assert [message.lost for message in old.messages] == [1]


@pytest.mark.parametrize(("error", "kind"), [(smtp.SMTPServerError(554, "No"), Refused), (Broken(), Broken)])
@pytest_twisted.ensureDeferred
async def test_a_line_that_is_refused_refuses_the_message(error: Exception, kind: type[Exception]) -> None:
    old = OldDelivery(header=None, line=error)
    delivery = adapted(old)
    message = await begin(delivery, await envelopeFor(delivery, "ben@mx.test"))
    with pytest.raises(kind):
        message.dataReceived(b"x\r\n")
    message.connectionLost(error)
    assert [message.lost for message in old.messages] == [1]


@pytest_twisted.ensureDeferred
async def test_each_recipient_has_its_own_outcome(slow: bool) -> None:
    old = OldDelivery(slow=slow, **{"eom cy@mx.test": smtp.SMTPServerError(554, "No"), "eom dee@mx.test": Broken()})
    with capturedLogs() as events:
        outcome = await sent(old, b"A: b\r\n", recipients=["ben@mx.test", "cy@mx.test", "dee@mx.test"])
    assert codes(outcome) == [None, 554, 451]
    assert [type(event["log_failure"].value) for event in events if "log_failure" in event] == [Broken]


@pytest_twisted.ensureDeferred
async def test_all_its_messages_hear_that_the_connection_is_lost() -> None:
    old = OldDelivery(lost=Broken())
    delivery = adapted(old)
    message = await begin(delivery, await envelopeFor(delivery, "ben@mx.test", "cy@mx.test"))
    with capturedLogs() as events:
        message.connectionLost(Exception("gone"))
    assert [message.lost for message in old.messages] == [1, 1]
    assert len([event for event in events if "log_failure" in event]) == 2


# ---- How it is adapted.


@pytest_twisted.ensureDeferred
async def test_a_factory_makes_a_delivery_for_each_message() -> None:
    factory = OldFactory()
    delivery = adapted(factory)
    for _ in range(2):
        await deliver(delivery, b"A: b\r\n", await envelopeFor(delivery, "ben@mx.test"))
    assert [len(old.messages) for old in factory.made] == [1, 1]


@pytest_twisted.ensureDeferred
async def test_sessions_do_not_share_transactions() -> None:
    old = OldDelivery()
    one, other = adapted(old), adapted(old)
    first = await envelopeFor(one, "ben@mx.test")
    second = await envelopeFor(other, "cy@mx.test", "dee@mx.test")
    await deliver(one, b"A: b\r\n", first)
    await deliver(other, b"A: b\r\n", second)
    assert [str(message.user) for message in old.messages] == ["ben@mx.test", "cy@mx.test", "dee@mx.test"]


@pytest.mark.parametrize("module", ["wire.factory", "delivery.fanout", "delivery.registry"])
def test_whoever_takes_deliveries_adapts_them_without_importing_twisted_mails_server(module: str) -> None:
    program = (
        f"import sys, twisted_smtplite.{module}\nassert 'twisted.mail.smtp' not in sys.modules and 'twisted.internet.reactor' not in sys.modules\n"
        "from twisted.mail.interfaces import IMessageDelivery\nfrom zope.interface import implementer\n"
        "from twisted_smtplite.interfaces import IMessageDeliveryFactory\n"
        "print(type(IMessageDeliveryFactory(implementer(IMessageDelivery)(type('Old', (), {}))())).__name__)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "TwistedMailDelivery\n"
