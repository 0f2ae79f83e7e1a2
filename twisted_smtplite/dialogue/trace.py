"""The trace header that this server puts on top of a message (RFC 5321 4.4).

Knows the clauses of a Received field. Must not know where the message goes; Return-Path is the business of final delivery.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from functools import lru_cache

from ..model.envelope import Envelope, SessionInfo


def receivedField(session: SessionInfo, envelope: Envelope) -> bytes:
    """The Received field for a message, folded, with its CRLF.

    The for clause stands only when there is one recipient, so that nobody learns of the others (RFC 5321 4.4, 7.2). With SMTPUTF8 the field
    may hold UTF-8 (RFC 6531 3.7.3).
    """
    recipient = f"\r\n\tfor <{envelope.recipients[0].address}>" if len(envelope.recipients) == 1 else ""
    return (
        f"Received: from {session.heloName}{_tcpInfo(session.peerHost)}\r\n\tby {session.hostname} with {_protocol(session, envelope)}"
        f" id {envelope.id}{recipient}{_tls(session.tlsCipher)};\r\n\t{_date(int(envelope.receivedAt))}\r\n"
    ).encode()


def _tcpInfo(host: str) -> str:
    """The client's address as the RFC's TCP-info, in brackets; nothing for a unix socket, which has none."""
    if not host:
        return ""
    return f" ([IPv6:{host}])" if ":" in host else f" ([{host}])"


def _protocol(session: SessionInfo, envelope: Envelope) -> str:
    # RFC 6531 4.3: UTF8SMTP and its kin take the place of ESMTP and its kin.
    return "UTF8" + session.protocol.removeprefix("E") if envelope.smtputf8 else session.protocol


# The cipher suites of TLS 1.2 as OpenSSL names them, where that is not how they are registered.
_SUITE = re.compile(r"(?:(ECDHE|DHE)-(ECDSA|RSA)-)?(?:AES(128|256)(?:-(GCM|CCM8?))?(?:-(SHA\d*))?|(CHACHA20-POLY1305))")


@lru_cache(maxsize=64)
def _tls(cipher: str) -> str:
    """The tls clause (RFC 8314 4.3): the cipher suite by its registered name; nothing in clear, or where that name is not known."""
    if re.fullmatch(r"TLS_[A-Z0-9_]+", cipher):
        return f"\r\n\ttls {cipher}"
    match = _SUITE.fullmatch(cipher)
    if match is None:
        return ""
    exchange, authentication, bits, mode, digest, chacha = match.groups()
    parts = [*filter(None, (exchange, authentication))] or ["RSA"]
    if chacha:
        parts += ["WITH_CHACHA20_POLY1305_SHA256"]
    else:
        parts += ["WITH_AES", bits, (mode or "CBC").replace("8", "_8"), *filter(None, [digest])]
    return f"\r\n\ttls TLS_{'_'.join(parts)}"


@lru_cache(maxsize=8)
def _date(second: int) -> str:
    # RFC 5321 4.4: local time with a numeric zone.
    return formatdate(second, localtime=True)
