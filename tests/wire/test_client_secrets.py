"""What is said in an AUTH exchange is nobody else's business."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from twisted_smtplite.model.clientprofile import ClientLimits, ClientProfile, Credentials, TLSUse
from twisted_smtplite.wire.clientprotocol import SMTPClient


@pytest.mark.parametrize(
    ("mechanism", "replies", "heard"),
    [
        ("PLAIN", [], [b"AUTH PLAIN ***\r\n"]),
        ("LOGIN", [b"334 \r\n", b"334 \r\n"], [b"AUTH LOGIN\r\n", b"***\r\n", b"***\r\n"]),
        ("PLAIN", [b"334 \r\n"], [b"AUTH PLAIN ***\r\n", b"*\r\n"]),
    ],
)
def test_a_trace_shows_the_mechanism_and_no_response(mechanism: str, replies: list[bytes], heard: list[bytes]) -> None:
    said: list[bytes] = []
    profile = ClientProfile(
        hostname="c", tls=TLSUse.NEVER, plaintextAuth=True, credentials=Credentials(user="ann", password="secret", mechanisms=(mechanism,))
    )
    client = SMTPClient(
        Clock(),
        profile,
        ClientLimits(),
        host="mx.test",
        trust=lambda host: None,  # type: ignore[arg-type,return-value]
        trace=lambda who, octets: said.append(octets) if who == "C" else None,
    )
    client.makeConnection(StringTransport())
    for line in (b"220 mx\r\n", b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n", *replies):
        client.dataReceived(line)
    assert said[1:] == heard
    assert b"secret" not in repr(client.__dict__).encode()
