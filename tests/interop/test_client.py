"""Our client, sending to Postfix, Exim, OpenSMTPD and our own server: what arrives is what was sent, and each recipient's outcome is told."""

from __future__ import annotations

import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest
import pytest_twisted
import sending
from listener import AUTHORITY, MESSAGE, PASSWORD, STRANGERS, USER, reactor
from mailserver import MailServer, assertArrived
from sending import EACH_VERB, SERVERS, USES, Peer, envelope, few, marked, outcomes
from twisted.internet.defer import gatherResults

from twisted_smtplite.client import Content, Destination, SMTPPool, sendMessage
from twisted_smtplite.model.clientprofile import Credentials, TLSUse
from twisted_smtplite.model.errors import AuthenticationFailed, TLSFailed, Unsendable
from twisted_smtplite.model.results import Stage
from twisted_smtplite.wire.client import SMTPClient

EACH = pytest.mark.parametrize("name", SERVERS)


async def reach(server: MailServer, way: str = "starttls", **options: Any) -> SMTPClient:
    """Connects to a port of a server, with TLS as is usual there."""
    return await sending.reach(getattr(server.ports, way), **{"tls": USES[way], **options})


@pytest.mark.parametrize("way", USES)
@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_a_message_arrives_as_it_was_sent_past_a_refused_recipient(name: str, verb: str, way: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server, way, chunking=verb == "BDAT")
    content, token = marked()
    delivery = await client.send(envelope("ben", "nobody", "cleo"), Content.of(content))
    await client.quit()
    assert outcomes(delivery) == [("ben", Stage.TEXT, 2), ("nobody", Stage.RCPT, 5), ("cleo", Stage.TEXT, 2)]
    for box in ("ben", "cleo"):
        assertArrived(await server.message(box, token), content)


@EACH
@pytest_twisted.ensureDeferred
async def test_without_a_recipient_that_is_taken_nothing_is_sent_and_the_session_goes_on(name: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server)
    content, token = marked()
    first, second = await gatherResults(
        [client.send(envelope("nobody", "noone"), Content.of(content)), client.send(envelope("ben"), Content.of(content))]
    )
    await client.quit()
    assert [each[1:] for each in outcomes(first)] == [(Stage.RCPT, 5)] * 2
    assert outcomes(second) == [("ben", Stage.TEXT, 2)]
    assertArrived(await server.message("ben", token), content)


@EACH
@pytest_twisted.ensureDeferred
async def test_many_messages_go_through_one_connection(name: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server)
    messages = [marked(few(10 + number)) for number in range(20)]
    deliveries = await gatherResults([client.send(envelope("ben", "nobody"), Content.of(content)) for content, _ in messages])
    await client.quit()
    assert [outcomes(each) for each in deliveries] == [[("ben", Stage.TEXT, 2), ("nobody", Stage.RCPT, 5)]] * 20
    for content, token in messages:
        assertArrived(await server.message("ben", token), content)


# TLS.


@pytest.mark.parametrize("way", ["starttls", "implicit"])
@pytest.mark.parametrize(("host", "authority"), [("mx.test", STRANGERS), ("other.test", AUTHORITY)], ids=["unknown authority", "wrong name"])
@EACH
@pytest_twisted.ensureDeferred
async def test_a_server_that_cannot_prove_who_it_is_is_told_nothing(name: str, host: str, authority: Any, way: str, peer: Peer) -> None:
    with pytest.raises(TLSFailed) as failed:
        await reach(peer(name), way, host=host, authority=authority)
    assert failed.value.stage is Stage.TLS
    assert failed.value.temporary


@EACH
@pytest_twisted.ensureDeferred
async def test_tls_that_is_required_and_not_offered_is_an_error(name: str, peer: Peer) -> None:
    with pytest.raises(TLSFailed) as failed:
        await reach(peer(name), "bare", tls=TLSUse.REQUIRED)
    assert failed.value.stage is Stage.TLS


@pytest.mark.parametrize("tls", [TLSUse.OPPORTUNISTIC, TLSUse.ENCRYPTED], ids=lambda use: use.value)
@EACH
@pytest_twisted.ensureDeferred
async def test_encryption_alone_takes_any_certificate(name: str, tls: TLSUse, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server, tls=tls, host="other.test", authority=STRANGERS)
    assert "STARTTLS" not in client.extensions
    content, token = marked()
    assert (await client.send(envelope("ben"), Content.of(content))).complete
    await client.quit()
    assertArrived(await server.message("ben", token), content)


# AUTH.


MECHANISMS = {
    "exim": ("PLAIN", "LOGIN", "CRAM-MD5"),
    "opensmtpd": ("PLAIN", "LOGIN"),
    "ours": ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"),
    "postfix": ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"),
}
LOGINS = [pytest.param(name, mechanism, id=f"{name} {mechanism}") for name, known in MECHANISMS.items() for mechanism in known]
# Some take their time to say no.
WRONG = [
    pytest.param(name, mechanism, id=f"{name} {mechanism}", marks=[pytest.mark.slow] if mechanism in known[1:] or name == "opensmtpd" else [])
    for name, known in MECHANISMS.items()
    for mechanism in known
]


def able(server: MailServer, mechanism: str) -> None:
    """Skips where one side does not know the mechanism here."""
    if mechanism not in server.mechanisms:
        pytest.skip(f"{server.name} does not know {mechanism} here")
    if mechanism.startswith("SCRAM"):
        pytest.importorskip("scramp")


@pytest.mark.parametrize(("name", "mechanism"), LOGINS)
@pytest_twisted.ensureDeferred
async def test_the_client_authenticates(name: str, mechanism: str, peer: Peer) -> None:
    server = peer(name)
    able(server, mechanism)
    client = await reach(server, credentials=Credentials(user=USER, password=PASSWORD, mechanisms=(mechanism,)))
    content, token = marked()
    assert (await client.send(envelope("ben"), Content.of(content))).complete
    await client.quit()
    assertArrived(await server.message("ben", token), content)


@pytest.mark.parametrize(("name", "mechanism"), WRONG)
@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_an_error(name: str, mechanism: str, peer: Peer) -> None:
    server = peer(name)
    able(server, mechanism)
    with pytest.raises(AuthenticationFailed) as failed:
        await reach(server, credentials=Credentials(user=USER, password="wrong", mechanisms=(mechanism,)))
    assert (failed.value.stage, failed.value.reply.code) == (Stage.AUTH, 535)


@EACH
@pytest_twisted.ensureDeferred
async def test_the_best_mechanism_is_found(name: str, peer: Peer) -> None:
    server = peer(name)
    if not server.mechanisms:
        pytest.skip(f"{server.name} does not know any mechanism here")
    client = await reach(server, credentials=Credentials(user=USER, password=PASSWORD))
    assert client.usable
    await client.quit()


@EACH
@pytest_twisted.ensureDeferred
async def test_a_password_is_not_shown_in_the_clear(name: str, peer: Peer) -> None:
    with pytest.raises(AuthenticationFailed):
        await reach(peer(name), "bare", credentials=Credentials(user=USER, password=PASSWORD, mechanisms=("PLAIN", "LOGIN")))


# Extensions.


# What the reports tell of ENVID and ORCPT: RFC 3464 2.2.1, 2.3.1 want them decoded.
TOLD = {
    "exim": [b"id+2B1+20of+3DAnn", b"ben+2Bold+3D1@mx.test"],
    "opensmtpd": [],
    "postfix": [b"id+1 of=Ann", b"ben+old=1@mx.test"],
}


# OpenSMTPD takes one NOTIFY for all recipients of a transaction.
@pytest.mark.parametrize(
    ("name", "names"),
    [
        pytest.param("exim", ["ben", "cleo"], id="exim"),
        # It looks for reports that are due once a second.
        pytest.param("opensmtpd", ["ben"], id="opensmtpd", marks=pytest.mark.slow),
        pytest.param("postfix", ["ben", "cleo"], id="postfix"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_report_that_was_asked_for_comes_and_no_other(name: str, names: list[str], peer: Peer) -> None:
    server = peer(name)
    client = await reach(server)
    content, token = marked()
    wanted = envelope(*names, ret="HDRS", envelopeId="id+1 of=Ann")
    for recipient, notify in zip(wanted.recipients, ({"SUCCESS", "FAILURE"}, {"NEVER"}), strict=False):
        recipient.notify = frozenset(notify)
        recipient.originalRecipient = ("rfc822", "ben+old=1@mx.test")
    delivery = await client.send(wanted, Content.of(content))
    await client.quit()
    assert delivery.complete, delivery.outcomes
    # It returns the header section, and so the Message-ID, but no text.
    report = await server.message("ann", token)
    assert b"Action: delivered\r\n" in report and report.count(b"Final-Recipient:") == 1 and b"cleo@mx.test" not in report
    assert b"of many lines" not in report
    values = re.findall(rb"^Original-(?:Envelope-Id|Recipient): *(?:rfc822; *)?(.*)\r$", report, re.MULTILINE | re.IGNORECASE)
    assert values == TOLD[name], report


@pytest.mark.parametrize("name", ["exim", "ours", "postfix"])
@pytest_twisted.ensureDeferred
async def test_an_internationalized_message_arrives(name: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server)
    content, token = marked(MESSAGE.replace(b"Ben <ben@", "Jörg <jörg@".encode()))
    delivery = await client.send(envelope("jörg", "ben", smtputf8=True), Content.of(content))
    await client.quit()
    assert outcomes(delivery) == [("jörg", Stage.TEXT, 2), ("ben", Stage.TEXT, 2)]
    for box in ("jörg", "ben"):
        assertArrived(await server.message(box, token), content)


@pytest.mark.parametrize(("name", "way"), [("exim", "bare"), ("opensmtpd", "starttls"), ("postfix", "bare")])
@pytest_twisted.ensureDeferred
async def test_an_internationalized_message_does_not_go_where_it_is_not_understood(name: str, way: str, peer: Peer) -> None:
    client = await reach(peer(name), way)
    with pytest.raises(Unsendable) as refused:
        await client.send(envelope("jörg", smtputf8=True), Content.of(MESSAGE))
    assert (refused.value.reply.code, refused.value.reply.status) == (550, "5.6.7")
    assert client.usable
    await client.quit()


@EACH
@pytest_twisted.ensureDeferred
async def test_what_is_too_large_is_not_even_begun(name: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server)
    large = Content.of(iter([b"never asked for"]), size=int(client.extensions["SIZE"]) + 1, eightBit=False)
    with pytest.raises(Unsendable) as refused:
        await client.send(envelope("ben"), large)
    assert (refused.value.reply.code, refused.value.reply.status) == (552, "5.3.4")
    content, token = marked()
    assert (await client.send(envelope("ben"), Content.of(content))).complete
    await client.quit()
    assertArrived(await server.message("ben", token), content)


@pytest_twisted.ensureDeferred
async def test_exim_tells_by_prdr_what_became_of_each_recipient(peer: Peer) -> None:
    server = peer("exim")
    client = await reach(server)
    content, token = marked()
    names = (("ben", "full", "cleo"), ("full", "nobody", "full"))
    first, second = await gatherResults([client.send(envelope(*each, prdr=True), Content.of(content)) for each in names])
    await client.quit()
    assert outcomes(first) == [("ben", Stage.TEXT, 2), ("full", Stage.TEXT, 4), ("cleo", Stage.TEXT, 2)]
    assert outcomes(second) == [("full", Stage.TEXT, 4), ("nobody", Stage.RCPT, 5), ("full", Stage.TEXT, 4)]
    for box in ("ben", "cleo"):
        assertArrived(await server.message(box, token), content)


# What applications call.


def withCopy(name: str) -> EmailMessage:
    """A message of the email package, with everything that decides an envelope."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = "Ann <ann@mx.test>"
    message["To"] = "Ben <ben@mx.test>"
    message["Bcc"] = "cleo@mx.test"
    message["Subject"] = "Grüße"
    message["Date"] = "Tue, 24 Nov 2026 12:00:00 +0000"
    message["Message-ID"] = f"<{name}@application.test>"
    message.set_content("Grüße,\n.\nключ\n", cte="8bit")
    message.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream")
    return message


@EACH
@pytest_twisted.ensureDeferred
async def test_an_application_sends_a_message_of_the_email_package(name: str, peer: Peer) -> None:
    server = peer(name)
    message = withCopy(name)
    delivery = await sendMessage(f"tls:localhost:{server.ports.implicit}", message, hostname="client.test", trust=sending.trusting(AUTHORITY))
    assert outcomes(delivery) == [("ben", Stage.TEXT, 2), ("cleo", Stage.TEXT, 2)]
    del message["Bcc"]
    for box in ("ben", "cleo"):
        assertArrived(await server.message(box, message["Message-ID"].encode()), message.as_bytes())


@EACH
@pytest_twisted.ensureDeferred
async def test_a_pool_shares_messages_out(name: str, peer: Peer) -> None:
    server = peer(name)
    pool = SMTPPool(reactor, hostname="client.test", trust=sending.trusting(AUTHORITY))
    destination = Destination(host="localhost", port=server.ports.starttls, tls=TLSUse.REQUIRED)
    messages = [marked(few(10 + number)) for number in range(30)]
    deliveries = await gatherResults([pool.send(destination, envelope("ben"), Content.of(content)) for content, _ in messages])
    await pool.close()
    assert all(each.complete for each in deliveries)
    for content, token in messages:
        assertArrived(await server.message("ben", token), content)
