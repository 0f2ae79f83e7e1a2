"""Postfix as the relaying client: by SMTP and by LMTP, over TLS that it verifies, and as a user who authenticates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from listener import MESSAGE, PASSWORD, PATIENCE, USER, Listener, assertExact, pause
from postfix import Postfix, age, whyNoLogin, whyNot
from zope.interface import implementer

from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Reply

pytestmark = pytest.mark.skipif(whyNot() is not None, reason=whyNot() or "")
SENDER = "ann@client.test"


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    instance = Postfix()
    yield instance
    instance.stop()


def secured(client: str, authority: Path) -> dict[str, str]:
    """The settings by which Postfix sends over verified TLS or not at all."""
    return {
        f"{client}_tls_security_level": "secure",
        f"{client}_tls_secure_cert_match": "hostname",
        f"{client}_tls_CAfile": str(authority),
        f"{client}_tls_loglevel": "1",
    }


def withoutTrace(content: bytes) -> bytes:
    """The message without the Received field that Postfix puts on top."""
    field = re.match(rb"Received: by client\.test \(Postfix, from userid \d+\)\r\n(?:\t[^\r\n]*\r\n)+", content)
    assert field, content[:200]
    return content[field.end() :]


def reads(listener: Listener, command: bytes) -> bytes:
    """The read that this command was in."""
    (read,) = [read for read in listener.reads if re.search(rb"^" + command, read, re.MULTILINE)]
    return read


async def finished(postfix: Postfix, outcomes: int) -> list[tuple[str, str]]:
    """What Postfix wrote down of so many deliveries: the recipient, and the status."""
    found: list[tuple[str, str]] = []
    for _ in range(int(PATIENCE / 0.02)):
        found = re.findall(r" to=<([^>]*)>, .*status=(\w+)", postfix.log.read_text() if postfix.log.exists() else "")
        if len(found) >= outcomes:
            return sorted(found)
        await pause()
    raise AssertionError(postfix.log.read_text())


@pytest_twisted.ensureDeferred
async def test_postfix_relays_over_verified_tls_pipelined_with_what_reports_are_wanted(
    postfix: Postfix, serve: Callable[..., Listener], authorities: dict[str, Path]
) -> None:
    listener = serve(offer=("DSN",), profile=Profile(requireTLS=True))
    await postfix.start(default_transport=f"smtp:[localhost]:{listener.port}", **secured("smtp", authorities["ours"]))
    report = ("-N", "success,delay", "-R", "hdrs", "-V", "id+1")
    await postfix.send(MESSAGE, "-f", SENDER, *report, "-B", "8BITMIME", "ben@mx.test", "cleo@mx.test")
    assert await finished(postfix, 2) == [("ben@mx.test", "sent"), ("cleo@mx.test", "sent")]
    (message,) = listener.delivery.messages
    assertExact(withoutTrace(message.content))
    # RFC 2920: MAIL, both RCPTs and DATA in one go.
    assert re.fullmatch(rb"MAIL FROM:.*\r\nRCPT TO:.*\r\nRCPT TO:.*\r\nDATA\r\n", reads(listener, b"MAIL "))
    # RFC 3461.
    envelope = message.envelope
    assert (str(envelope.sender), envelope.body, envelope.ret, envelope.envelopeId) == (SENDER, "8BITMIME", "HDRS", "id+1")
    assert [(str(each.address), each.notify, each.originalRecipient) for each in envelope.recipients] == [
        (f"{name}@mx.test", {"SUCCESS", "DELAY"}, ("rfc822", f"{name}@mx.test")) for name in ("ben", "cleo")
    ]
    assert message.session.protocol == "ESMTPS"
    assert "Verified TLS connection established" in postfix.log.read_text()
    # What it knows of the size is true enough for a limit.
    assert envelope.size is not None
    assert abs(envelope.size - len(message.content)) < 1000


def known(postfix: Postfix, port: int, password: str) -> dict[str, str]:
    """The settings by which Postfix authenticates."""
    passwords = postfix.directory / "passwords"
    passwords.write_text(f"[localhost]:{port} {USER}:{password}\n")
    age(passwords)
    return {
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_type": "cyrus",
        "smtp_sasl_password_maps": f"texthash:{passwords}",
        "smtp_sasl_security_options": "",
    }


@pytest.mark.skipif(whyNoLogin() is not None, reason=whyNoLogin() or "")
@pytest.mark.parametrize("mechanism", ["PLAIN", pytest.param("LOGIN", marks=pytest.mark.slow)])
@pytest_twisted.ensureDeferred
async def test_postfix_authenticates(mechanism: str, postfix: Postfix, serve: Callable[..., Listener], authorities: dict[str, Path]) -> None:
    listener = serve(profile=Profile(requireAuth=True, mechanisms=(mechanism,)))
    destination = f"smtp:[localhost]:{listener.port}"
    await postfix.start(default_transport=destination, **secured("smtp", authorities["ours"]), **known(postfix, listener.port, PASSWORD))
    await postfix.send(MESSAGE, "-f", SENDER, "ben@mx.test")
    assert await finished(postfix, 1) == [("ben@mx.test", "sent")], postfix.log.read_text()
    (message,) = listener.delivery.messages
    assertExact(withoutTrace(message.content))
    session = message.session
    assert (session.user, session.mechanism, session.protocol) == (USER, mechanism, "ESMTPSA")
    assert "Verified TLS connection established" in postfix.log.read_text()


@pytest.mark.slow
@pytest.mark.skipif(whyNoLogin() is not None, reason=whyNoLogin() or "")
@pytest_twisted.ensureDeferred
async def test_postfix_with_a_wrong_password_sends_nothing(postfix: Postfix, serve: Callable[..., Listener], authorities: dict[str, Path]) -> None:
    listener = serve(profile=Profile(requireAuth=True, mechanisms=("PLAIN",)))
    destination = f"smtp:[localhost]:{listener.port}"
    await postfix.start(default_transport=destination, **secured("smtp", authorities["ours"]), **known(postfix, listener.port, "wrong"))
    await postfix.send(MESSAGE, "-f", SENDER, "ben@mx.test")
    assert await finished(postfix, 1) == [("ben@mx.test", "deferred")]
    assert "535 5.7.8" in postfix.log.read_text()
    assert b"MAIL" not in b"".join(listener.reads) and listener.contents == []


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_postfix_relays_internationalized_mail(postfix: Postfix, serve: Callable[..., Listener], authorities: dict[str, Path]) -> None:
    listener = serve()
    await postfix.start(
        default_transport=f"smtp:[localhost]:{listener.port}",
        smtputf8_enable="yes",
        smtputf8_autodetect_classes="all",
        **secured("smtp", authorities["ours"]),
    )
    content = MESSAGE.replace(b"Ben <ben@", "Jörg <jörg@".encode())
    await postfix.send(content, "-f", SENDER, "jörg@mx.test")
    assert await finished(postfix, 1) == [("jörg@mx.test", "sent")]
    (message,) = listener.delivery.messages
    assertExact(withoutTrace(message.content), content)
    assert message.envelope.smtputf8
    assert str(message.envelope.recipients[0].address) == "jörg@mx.test"


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_postfix_that_does_not_know_the_authority_keeps_the_message(
    postfix: Postfix, serve: Callable[..., Listener], authorities: dict[str, Path]
) -> None:
    listener = serve()
    await postfix.start(default_transport=f"smtp:[localhost]:{listener.port}", **secured("smtp", authorities["strangers"]))
    await postfix.send(MESSAGE, "-f", SENDER, "ben@mx.test")
    assert await finished(postfix, 1) == [("ben@mx.test", "deferred")]
    assert "Server certificate not verified" in postfix.log.read_text()
    assert b"MAIL" not in b"".join(listener.reads) and listener.contents == []


class _Particular(MemoryDelivery):
    """Keeps messages, and tells each recipient whose name has an ``o`` that his box is full."""

    def startMessage(self, session: Any, envelope: Any) -> Any:
        return _ParticularMessage(super().startMessage(session, envelope), [str(each.address) for each in envelope.recipients])


@implementer(IMessage)
class _ParticularMessage:
    def __init__(self, message: Any, names: Sequence[str]) -> None:
        self._names = names
        self.dataReceived = message.dataReceived
        self.connectionLost = message.connectionLost
        self._complete = message.eomReceived

    def eomReceived(self) -> list[Reply | None]:
        self._complete()
        return [Reply(552, "5.2.2", "The box is full") if "o" in name else None for name in self._names]


@pytest.mark.parametrize("way", ["inet", pytest.param("unix", marks=pytest.mark.slow)])
@pytest_twisted.ensureDeferred
async def test_postfix_hears_by_lmtp_what_became_of_each_recipient(
    way: str, postfix: Postfix, serve: Callable[..., Listener], authorities: dict[str, Path]
) -> None:
    options: dict[str, Any] = {"profile": Profile(lmtp=True), "delivery": _Particular(), "offer": ("DSN",)}
    if way == "unix":
        path = postfix.directory / "lmtp"
        listener = serve(path=path, **options)
        path.chmod(0o666)
        destination, security = f"lmtp:unix:{path}", {}
    else:
        listener = serve(**options)
        destination, security = f"lmtp:inet:localhost:{listener.port}", secured("lmtp", authorities["ours"])
    await postfix.start(default_transport=destination, transport_maps=f"texthash:{postfix.directory}/transport", **security)
    await postfix.send(MESSAGE, "-f", SENDER, "-N", "never", "ann@mx.test", "bob@mx.test", "eve@mx.test", "joe@mx.test")
    assert await finished(postfix, 4) == [("ann@mx.test", "sent"), ("bob@mx.test", "bounced"), ("eve@mx.test", "sent"), ("joe@mx.test", "bounced")]
    (message,) = listener.delivery.messages
    assertExact(withoutTrace(message.content))
    assert {each.notify for each in message.envelope.recipients} == {frozenset({"NEVER"})}
    assert message.session.protocol == ("LMTP" if way == "unix" else "LMTPS")
    assert reads(listener, b"MAIL ").count(b"RCPT TO:") == 4
    assert reads(listener, b"MAIL ").endswith(b"DATA\r\n")
