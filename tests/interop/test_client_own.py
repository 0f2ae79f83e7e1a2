"""Our client and our own server on real connections: all that either knows, the other understands. And peers that know little."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from listener import AUTHORITY, MESSAGE, PASSWORD, USER, Listener, assertExact, reactor
from OpenSSL import SSL
from ownserver import Boxes
from sending import envelope, marked, outcomes, reach, trusting
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, VerificationError
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_smtplite.client import Content, Destination, SMTPPool
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientProfile, Credentials, TLSUse
from twisted_smtplite.model.envelope import DeliverBy, Recipient, ValidSince
from twisted_smtplite.model.errors import ConnectionFailed, TLSFailed
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.model.results import Stage
from twisted_smtplite.wire.client import connect

Serve = Callable[..., Listener]
PROMISES = ("DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE", "RRVS")


@pytest_twisted.ensureDeferred
async def test_all_that_an_envelope_can_ask_for_is_understood(serve: Serve) -> None:
    listener = serve(offer=PROMISES, profile=Profile(mechanisms=("PLAIN",)))
    client = await reach(listener.port, credentials=Credentials(user=USER, password=PASSWORD))
    asked = Recipient(
        Address("a very odd+name", "mx.test"),
        notify=frozenset({"SUCCESS", "DELAY"}),
        originalRecipient=("rfc822", "+=<odd>@old.test"),
        validSince=ValidSince(1_700_000_000.0, "R"),
    )
    quiet = Recipient(Address("ключ", "mx.test"), notify=frozenset({"NEVER"}), originalRecipient=("utf-8", "кл\\юч@old.test"))
    wanted = replace(
        envelope(smtputf8=True, ret="FULL", envelopeId="+= <odd>", submitter="ann+1@mx.test", requireTLS=True, priority=-3, prdr=True),
        recipients=[asked, quiet],
        deliverBy=DeliverBy(3600, "N", True),
        holdUntil=float(int(reactor.seconds()) + 600),
    )
    delivery = await client.send(wanted, Content.of(MESSAGE))
    await client.quit()
    assert delivery.complete, delivery.outcomes
    (message,) = listener.delivery.messages
    got = message.envelope
    for name in ("sender", "body", "smtputf8", "ret", "envelopeId", "submitter", "requireTLS", "priority", "prdr", "deliverBy", "holdUntil"):
        assert getattr(got, name) == getattr(wanted, name), name
    assert [replace(each, parameters=()) for each in got.recipients] == wanted.recipients
    assert got.size == len(MESSAGE)
    assertExact(message.content)


@implementer(IOpenSSLClientConnectionCreator)
class _Late:
    """Looks at names when the handshake is over, as older Twisted does, and likes none."""

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        def look(connection: SSL.Connection, where: int, value: int) -> None:
            if where & SSL.SSL_CB_HANDSHAKE_DONE:
                tlsProtocol.failVerification(Failure(VerificationError([])))

        context = CertificateOptions(verify=False).getContext()
        context.set_info_callback(look)
        return SSL.Connection(context, None)


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])
@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another_name_is_said_to_be_one(implicit: bool, late: bool, serve: Serve) -> None:
    listener = serve(implicit=implicit)
    said: list[bytes] = []
    profile = ClientProfile(hostname="client.test", tls=TLSUse.IMPLICIT if implicit else TLSUse.REQUIRED)
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.port)
    trust = (lambda host: _Late()) if late else trusting(AUTHORITY)

    def trace(who: str, octets: bytes) -> None:
        if who == "C":
            said.append(octets)

    with pytest.raises(TLSFailed) as failed:
        await connect(reactor, endpoint, profile, host="other.test", trust=trust, trace=trace)
    assert str(failed.value) == "other.test: 451 4.7.5 TLS failed: the certificate does not name the server"
    assert said == ([] if implicit else [b"EHLO client.test\r\n", b"STARTTLS\r\n"])


@pytest_twisted.ensureDeferred
async def test_a_whole_transaction_leaves_in_one_go(serve: Serve) -> None:
    listener = serve()
    client = await reach(listener.port)
    small = MESSAGE[:1990] + b"xxxxxxxx\r\n"
    assert (await client.send(envelope("ben", "cleo"), Content.of(small))).complete
    await client.quit()
    # RFC 2920, RFC 3030.
    (read,) = [read for read in listener.reads if read.startswith(b"MAIL ")]
    assert read.count(b"RCPT TO:") == 2
    assert b"\r\nBDAT 2000 LAST\r\n" + small in read


@pytest.mark.parametrize("prdr", [True, False], ids=["PRDR", "plain"])
@pytest_twisted.ensureDeferred
async def test_with_prdr_each_recipient_has_an_outcome_of_his_own(prdr: bool, serve: Serve) -> None:
    listener = serve(delivery=Boxes())
    client = await reach(listener.port)
    delivery = await client.send(envelope("ben", "full", "cleo", prdr=prdr), Content.of(MESSAGE))
    await client.quit()
    if prdr:
        assert outcomes(delivery) == [("ben", Stage.TEXT, 2), ("full", Stage.TEXT, 4), ("cleo", Stage.TEXT, 2)]
    else:
        assert len({each.reply for each in delivery.outcomes}) == 1
    assert len(listener.contents) == 1


@pytest_twisted.ensureDeferred
async def test_binary_stays_as_it_is(serve: Serve) -> None:
    listener = serve()
    client = await reach(listener.port)
    binary = b"Subject: x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + bytes(range(256)) * 300 + b"\r.\n..\r\n.\r\nQUIT\r\n\n\rno end"
    assert (await client.send(envelope("ben", body="BINARYMIME"), Content.of(binary, binary=True))).complete
    await client.quit()
    (message,) = listener.delivery.messages
    assert message.envelope.body == "BINARYMIME"
    assertExact(message.content, binary)


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])
@pytest_twisted.ensureDeferred
async def test_submission_wants_a_user_and_takes_mail_of_one(implicit: bool, serve: Serve) -> None:
    pytest.importorskip("scramp")
    profile = Profile(submission=True, requireTLS=True, requireAuth=True, mechanisms=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"))
    listener = serve(implicit=implicit, profile=profile)
    tls = TLSUse.IMPLICIT if implicit else TLSUse.REQUIRED
    nobody = await reach(listener.port, tls)
    assert [(each.stage, each.code) for each in (await nobody.send(envelope("ben"), Content.of(MESSAGE))).outcomes] == [(Stage.MAIL, 530)]
    await nobody.quit()
    client = await reach(listener.port, tls, credentials=Credentials(user=USER, password=PASSWORD))
    assert (await client.send(envelope("ben"), Content.of(MESSAGE))).complete
    await client.quit()
    (message,) = listener.delivery.messages
    assertExact(message.content)
    assert (message.session.user, message.session.mechanism, message.session.protocol) == (USER, "SCRAM-SHA-256-PLUS", "ESMTPSA")


@pytest_twisted.ensureDeferred
async def test_more_recipients_than_one_transaction_takes_are_spread(serve: Serve) -> None:
    listener = serve(limits=Limits(recipients=100))
    client = await reach(listener.port)
    names = [f"user{number}" for number in range(250)]
    delivery = await client.send(envelope(*names), Content.of(MESSAGE))
    assert [each.recipient.address.localPart for each in delivery.accepted] == names
    # What can be read only once goes to those who fit.
    once = await client.send(envelope(*names), Content.of(iter([MESSAGE])))
    await client.quit()
    assert len(once.accepted) == 100
    assert {(each.code, each.enhanced, each.reply.local) for each in once.refused} == {(452, "4.5.3", True)}
    assert [len(message.envelope.recipients) for message in listener.delivery.messages] == [100, 100, 50, 100]
    assert set(listener.contents) == {MESSAGE}


@pytest_twisted.ensureDeferred
async def test_a_server_that_takes_few_messages_in_a_session_gets_no_more(serve: Serve) -> None:
    listener = serve(limits=Limits(transactions=3))
    client = await reach(listener.port)
    sent = [client.send(envelope("ben"), Content.of(MESSAGE)) for _ in range(3)]
    assert not client.usable
    with pytest.raises(ConnectionFailed):
        await client.send(envelope("ben"), Content.of(MESSAGE))
    assert all(each.complete for each in await gatherResults(sent))
    await client.quit()
    assert len(listener.contents) == 3


@pytest_twisted.ensureDeferred
async def test_a_pool_goes_on_with_other_connections(serve: Serve) -> None:
    listener = serve(limits=Limits(transactions=3))
    pool = SMTPPool(reactor, hostname="client.test", trust=trusting(AUTHORITY))
    destination = Destination(host="localhost", port=listener.port, tls=TLSUse.REQUIRED)
    messages = [marked() for _ in range(20)]
    deliveries = await gatherResults([pool.send(destination, envelope("ben"), Content.of(content)) for content, _ in messages])
    await pool.close()
    assert all(each.complete for each in deliveries)
    assert sorted(listener.contents) == sorted(content for content, _ in messages)


class _Greylisting(MemoryDelivery):
    """Wants everybody to come again."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def validateTo(self, session: Any, envelope: Any, recipient: Any) -> Any:
        name = str(recipient.address)
        known = name in self._seen
        self._seen.add(name)
        return None if known else Reply(451, "4.7.1", "Come again")


@pytest_twisted.ensureDeferred
async def test_who_is_told_to_come_again_does_so(serve: Serve) -> None:
    listener = serve(delivery=_Greylisting())
    client = await reach(listener.port)
    first = await client.send(envelope("ben", "cleo"), Content.of(MESSAGE))
    assert [(each.stage, each.code, each.enhanced, each.temporary) for each in first.outcomes] == [(Stage.RCPT, 451, "4.7.1", True)] * 2
    # Dan is new.
    second = await client.send(envelope("dan", *(each.recipient.address.localPart for each in first.refused)), Content.of(MESSAGE))
    await client.quit()
    assert outcomes(second) == [("dan", Stage.RCPT, 4), ("ben", Stage.TEXT, 2), ("cleo", Stage.TEXT, 2)]
    assert listener.contents == [MESSAGE]


class _Old(LineReceiver):
    """A server as in 1982 (RFC 821): HELO, one command at a time, seven bits."""

    texts: list[bytes]

    def connectionMade(self) -> None:
        self._text: list[bytes] | None = None
        self.sendLine(b"220 old.test Simple Mail Transfer Service Ready")

    def lineReceived(self, line: bytes) -> None:
        assert line.isascii() and len(line) <= 998, line
        # RFC 2920 is not known: nothing may come before it was asked for.
        assert self._text is not None or not self._buffer, self._buffer
        if self._text is not None:
            self._text.append(line.removeprefix(b"."))
            if line == b".":
                self.texts.append(b"".join(each + b"\r\n" for each in self._text[:-1]))
                self._text = None
                self.sendLine(b"250 OK")
        elif line == b"DATA":
            self._text = []
            self.sendLine(b"354 Start mail input; end with <CRLF>.<CRLF>")
        elif line == b"QUIT":
            self.sendLine(b"221 old.test Service closing transmission channel")
            self.transport.loseConnection()
        else:
            known = line[:4] in (b"HELO", b"RSET") or (line.startswith((b"MAIL FROM:<", b"RCPT TO:<")) and line.endswith(b">"))
            self.sendLine(b"250 OK" if known else b"500 Syntax error, command unrecognized")


@pytest_twisted.ensureDeferred
async def test_a_server_that_knows_helo_alone_gets_seven_bits() -> None:
    factory = Factory.forProtocol(_Old)
    factory.noisy = False
    _Old.texts = []
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    client = await reach(port.getHost().port, TLSUse.OPPORTUNISTIC)
    first, second = await gatherResults([client.send(envelope("ben", ret="HDRS"), Content.of(MESSAGE)) for _ in range(2)])
    await client.quit()
    await port.stopListening()
    assert first.complete and second.complete and first.extensions == frozenset()
    for text in _Old.texts:
        # Only the transfer encoding of the text is another.
        got, sent = (email.message_from_bytes(each, policy=email.policy.SMTP) for each in (text, MESSAGE))
        assert got.get_content() == sent.get_content()
        assert got["Content-Transfer-Encoding"] in ("quoted-printable", "base64")
        assert [(name, value) for name, value in got.items() if name != "Content-Transfer-Encoding"] == [
            (name, value) for name, value in sent.items() if name != "Content-Transfer-Encoding"
        ]
    assert len(_Old.texts) == 2


@pytest_twisted.ensureDeferred
async def test_without_pipelining_the_client_waits_for_each_reply(serve: Serve) -> None:
    listener = serve()
    client = await reach(listener.port, pipelining=False, chunking=False)
    assert all(each.complete for each in await gatherResults([client.send(envelope("ben", "cleo"), Content.of(MESSAGE)) for _ in range(2)]))
    await client.quit()
    assert not any(read.count(b"\r\n") > 1 for read in listener.reads if read.startswith((b"MAIL", b"RCPT", b"DATA")))
    assert listener.contents == [MESSAGE, MESSAGE]
