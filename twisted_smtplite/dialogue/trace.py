"""The trace header that this server puts on top of a message (RFC 5321 4.4).

Knows the clauses of a Received field. Must not know where the message goes; Return-Path is the business of final delivery.
"""

from __future__ import annotations

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
        f" id {envelope.id}{recipient};\r\n\t{_date(int(envelope.receivedAt))}\r\n"
    ).encode()


def _tcpInfo(host: str) -> str:
    """The client's address as the RFC's TCP-info, in brackets; nothing for a unix socket, which has none."""
    if not host:
        return ""
    return f" ([IPv6:{host}])" if ":" in host else f" ([{host}])"


def _protocol(session: SessionInfo, envelope: Envelope) -> str:
    # RFC 6531 4.3: UTF8SMTP and its kin take the place of ESMTP and its kin.
    return "UTF8" + session.protocol.removeprefix("E") if envelope.smtputf8 else session.protocol


@lru_cache(maxsize=8)
def _date(second: int) -> str:
    # RFC 5321 4.4: local time with a numeric zone.
    return formatdate(second, localtime=True)
