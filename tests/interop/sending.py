"""What every test of our client needs: a connection to a server, an envelope, a message that is found again, and outcomes that can be compared.

Knows the client. Must not know the servers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from listener import AUTHORITY, MESSAGE, reactor
from mailserver import MailServer
from twisted.internet.endpoints import clientFromString
from twisted.internet.ssl import Certificate, optionsForClientTLS

from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientProfile, TLSUse
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.results import Delivery, Stage
from twisted_smtplite.wire.client import SMTPClient, connect

Peer = Callable[[str], MailServer]
USES = {"starttls": TLSUse.REQUIRED, "implicit": TLSUse.IMPLICIT, "bare": TLSUse.OPPORTUNISTIC}
SERVERS = ("exim", "opensmtpd", "ours", "postfix")
# OpenSMTPD does not offer CHUNKING.
_VERBS = [(name, verb) for name in SERVERS for verb in ("BDAT", "DATA") if (name, verb) != ("opensmtpd", "BDAT")]
EACH_VERB = pytest.mark.parametrize(("name", "verb"), _VERBS, ids=map(" ".join, _VERBS))
HEADER = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
SENDER = Address("ann", "mx.test")
_numbers = count(1)


def trusting(authority: Any) -> Callable[[str], Any]:
    """Trust in one authority."""
    root = Certificate.loadPEM(authority.cert_pem.bytes())
    return lambda host: optionsForClientTLS(host, trustRoot=root)


async def reach(where: int | Path, tls: TLSUse = TLSUse.REQUIRED, *, host: str = "mx.test", authority: Any = AUTHORITY, **options: Any) -> SMTPClient:
    """Connects to a port, or to a unix socket."""
    trace = options.pop("trace", None)
    endpoint = clientFromString(reactor, f"unix:{where}" if isinstance(where, Path) else f"tcp:127.0.0.1:{where}")
    profile = ClientProfile(hostname="client.test", tls=tls, **options)
    return await connect(reactor, endpoint, profile, host=host, trust=trusting(authority), trace=trace)


def envelope(*names: str, **fields: Any) -> Envelope:
    """From Ann to these."""
    recipients = [Recipient(Address(name, "mx.test")) for name in names]
    return Envelope(id="1", sender=SENDER, recipients=recipients, **{"body": "8BITMIME", **fields})


def marked(content: bytes = MESSAGE) -> tuple[bytes, bytes]:
    """The message with a Message-ID of its own, and that."""
    token = b"<%d@marked.client.test>" % next(_numbers)
    assert b"<1@client.test>" in content
    return content.replace(b"<1@client.test>", token, 1), token


def few(lines: int) -> bytes:
    """The first lines of the message: 9 are its header section."""
    return b"".join(MESSAGE.splitlines(keepends=True)[:lines])


def outcomes(delivery: Delivery) -> list[tuple[str, Stage, int]]:
    """Who, where, and the class of the reply."""
    return [(each.recipient.address.localPart, each.stage, each.code // 100) for each in delivery.outcomes]
