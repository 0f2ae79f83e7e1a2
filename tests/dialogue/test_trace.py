"""The trace header: what it tells of TLS. Its other clauses are seen in the transcripts and by the deliveries."""

from __future__ import annotations

import pytest

from twisted_smtplite.dialogue.trace import receivedField
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, SessionInfo


def field(cipher: str) -> bytes:
    session = SessionInfo("S1", "mx.test", "192.0.2.1", heloName="client.test", extended=True, tls=True, tlsVersion="TLSv1.2", tlsCipher=cipher)
    return receivedField(session, Envelope("E1", Address("ann", "client.test")))


@pytest.mark.parametrize(
    ("cipher", "registered"),
    [
        ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
        ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("DHE-RSA-AES128-CCM8", "TLS_DHE_RSA_WITH_AES_128_CCM_8"),
        ("ECDHE-RSA-AES128-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
        ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
    ],
)
def test_the_cipher_suite_is_told_by_its_registered_name(cipher: str, registered: str) -> None:
    # RFC 8314 4.3: among the last clauses, before the date.
    assert b" with ESMTPS id E1\r\n\ttls %s;\r\n\t" % registered.encode() in field(cipher)


@pytest.mark.parametrize("cipher", ["", "ADH-AES128-SHA", "TLS_x\r\nInjected: yes", "DES-CBC3-SHA"])
def test_a_suite_whose_registered_name_is_not_known_is_not_told(cipher: str) -> None:
    assert b" with ESMTPS id E1;\r\n\t" in field(cipher)
