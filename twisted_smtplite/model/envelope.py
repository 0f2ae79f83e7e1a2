"""The envelope of one mail transaction, and what is known of the session it came in by.

Knows the fields that the commands of a transaction fill. Must not know how they are parsed (`dialogue`) or where the message goes (`delivery`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .address import Address


class Parameter(NamedTuple):
    """One ESMTP parameter of MAIL or RCPT, exactly as the client wrote it (RFC 5321 4.1.2).

    Attributes:
        keyword: the keyword in the client's case.
        value: the text behind ``=``, or None when there was no ``=``.
    """

    keyword: str
    value: str | None


@dataclass(slots=True)
class Recipient:
    """One accepted forward-path.

    Attributes:
        address: the mailbox; a source route has been dropped (RFC 5321 4.1.2).
        parameters: its ESMTP parameters, in the client's order and case.
    """

    address: Address
    parameters: tuple[Parameter, ...] = ()


@dataclass(slots=True)
class Envelope:
    """One mail transaction, begun by MAIL. The server fills it; backends read it and may keep it: it is never reused.

    Attributes:
        id: the name of this transaction, unique on this host, in letters and digits: the queue id of logs, replies and trace headers.
        sender: the reverse-path; ``sender.isNull`` for ``<>``.
        parameters: the ESMTP parameters of MAIL, in the client's order and case.
        recipients: what has been accepted so far, in the client's order, doubles kept.
        size: octets the client announced (RFC 1870), or None.
        body: ``"7BIT"`` or ``"8BITMIME"`` as the client declared (RFC 6152); ``"7BIT"`` when it did not.
        smtputf8: True when the client asked for internationalized mail (RFC 6531).
        receivedAt: when MAIL arrived, in seconds since the epoch.
    """

    id: str
    sender: Address
    parameters: tuple[Parameter, ...] = ()
    recipients: list[Recipient] = field(default_factory=list)
    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    receivedAt: float = 0.0


@dataclass(slots=True)
class SessionInfo:
    """What is known of a session. The server fills it; backends and policies read it.

    Attributes:
        id: the name of this session, unique on this host, in letters and digits.
        hostname: the name that this server goes by in its greeting and trace headers.
        peerHost: the client's IP address as text, or the empty string for a unix socket.
        peerPort: the client's port, 0 for a unix socket.
        heloName: what the client called itself in HELO or EHLO; empty before.
        extended: True after EHLO, False after HELO.
        tls: True once the session is encrypted.
        user: who has authenticated, or None.
    """

    id: str
    hostname: str
    peerHost: str = ""
    peerPort: int = 0
    heloName: str = ""
    extended: bool = False
    tls: bool = False
    user: str | None = None

    @property
    def protocol(self) -> str:
        """The protocol of a Received field's with clause, without the UTF8 family (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPA or ESMTPSA."""
        if not self.extended:
            return "SMTP"
        return "ESMTP" + ("S" if self.tls else "") + ("A" if self.user is not None else "")
