"""The envelope of one mail transaction, and what is known of the session it came in by.

Knows the fields that the commands of a transaction fill. Must not know how they are parsed (`dialogue`) or where the message goes (`delivery`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .address import Address

# RFC 5322 2.2: printable ASCII without a colon.
_FIELD_NAME = re.compile("[!-9;-~]{1,70}")
# RFC 5322 2.1.1: so long should a line be at most, without its CRLF.
_LINE_LENGTH = 78


class Parameter(NamedTuple):
    """One ESMTP parameter of MAIL or RCPT, exactly as the client wrote it (RFC 5321 4.1.2).

    Attributes:
        keyword: the keyword in the client's case.
        value: the text behind ``=``, or None when there was no ``=``.
    """

    keyword: str
    value: str | None


class DeliverBy(NamedTuple):
    """By when a message is to be delivered (RFC 2852 4).

    Attributes:
        seconds: from its arrival; zero or less when it was late already.
        mode: ``"R"``: return it when it is late; ``"N"``: tell the sender, and go on.
        trace: True when each relaying is to be reported.
    """

    seconds: int
    mode: str
    trace: bool


class ValidSince(NamedTuple):
    """Since when a mailbox must have belonged to the same person (RFC 7293 3).

    Attributes:
        time: in seconds since the epoch.
        action: ``"R"``: refuse the recipient where that cannot be told; ``"C"``: go on.
    """

    time: float
    action: str


@dataclass(slots=True)
class Recipient:
    """One accepted forward-path.

    Attributes:
        address: the mailbox; a source route has been dropped (RFC 5321 4.1.2).
        parameters: its ESMTP parameters, in the client's order and case.
        notify: when the sender wants a report, as given (RFC 3461 4.1): ``{"NEVER"}``, or of ``"SUCCESS"``, ``"FAILURE"`` and ``"DELAY"``; None when
            the client did not say.
        originalRecipient: the type and the decoded address of ORCPT (RFC 3461 4.2), e.g. ``("rfc822", "a@b")``, or None.
        validSince: the mailbox must have had its owner since then (RFC 7293), or None.
    """

    address: Address
    parameters: tuple[Parameter, ...] = ()
    notify: frozenset[str] | None = None
    originalRecipient: tuple[str, str] | None = None
    validSince: ValidSince | None = None


@dataclass(slots=True)
class Envelope:
    """One mail transaction, begun by MAIL. The server fills it; backends read it and may keep it: it is never reused.

    Attributes:
        id: the name of this transaction, unique on this host, in letters and digits: the queue id of logs, replies and trace headers.
        sender: the reverse-path; ``sender.isNull`` for ``<>``.
        parameters: the ESMTP parameters of MAIL, in the client's order and case.
        recipients: what has been accepted so far, in the client's order, doubles kept.
        size: octets the client announced (RFC 1870), or None.
        body: ``"7BIT"``, ``"8BITMIME"`` (RFC 6152) or ``"BINARYMIME"`` (RFC 3030) as the client declared; ``"7BIT"`` when it did not.
        smtputf8: True when the client asked for internationalized mail (RFC 6531).
        receivedAt: when MAIL arrived, in seconds since the epoch.
        ret: what a report is to return, ``"FULL"`` or ``"HDRS"`` (RFC 3461 4.3), or None.
        envelopeId: the decoded ENVID (RFC 3461 4.4), or None.
        submitter: the decoded AUTH parameter (RFC 4954 5): who submitted the message, the empty string for ``<>``, or None.
        requireTLS: True when the message may travel only over verified TLS (RFC 8689).
        deliverBy: by when it is to be delivered (RFC 2852), or None.
        priority: -9 to 9 (RFC 6710); 0 when the client did not say.
        holdUntil: not to be sent on before this time, in seconds since the epoch (RFC 4865), or None.
        prdr: True when the client wants a reply for each recipient after the text.
        forwarded: what a trusted proxy tells of the client that it had the message from (XFORWARD), by attribute: ``NAME``, ``ADDR``, ``PORT``,
            ``PROTO``, ``HELO``, ``IDENT``, ``SOURCE``; None when it told nothing. For logs alone.
        topFields: header fields that policies put on top of the message, each ending in CRLF; see `addField`.
    """

    id: str
    sender: Address
    parameters: tuple[Parameter, ...] = ()
    recipients: list[Recipient] = field(default_factory=list)
    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    receivedAt: float = 0.0
    ret: str | None = None
    envelopeId: str | None = None
    submitter: str | None = None
    requireTLS: bool = False
    deliverBy: DeliverBy | None = None
    priority: int = 0
    holdUntil: float | None = None
    prdr: bool = False
    forwarded: Mapping[str, str] | None = None
    topFields: bytes = b""
    _results: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def results(self) -> dict[str, Any]:
        """What policies found out about this message, for each other and for the delivery; by the name of who found it. Made when first used."""
        if self._results is None:
            self._results = {}
        return self._results

    def addField(self, name: str, value: str) -> None:
        """Puts a header field on top of the message, above those that were added before. Counts up to the answer to DATA.

        Raises:
            ValueError: the name is none, or the value holds a control character, or UTF-8 in a message that is not internationalized
                (RFC 6531 3.6).
        """
        if not _FIELD_NAME.fullmatch(name) or not value.isprintable() or not (self.smtputf8 or value.isascii()):
            raise ValueError(f"{name!r}: {value!r} is no header field for this message")
        self.topFields = _folded(f"{name}: {value.strip()}", len(name) + 2).encode() + self.topFields


def _folded(line: str, start: int) -> str:
    """The header field with its CRLF, folded at spaces behind `start` where it is long (RFC 5322 2.2.3)."""
    lines = []
    while len(line) > _LINE_LENGTH:
        cut = line.rfind(" ", start, _LINE_LENGTH + 1)
        if cut < 0:
            cut = line.find(" ", max(start, _LINE_LENGTH))
        if cut < 0 or not line[cut:].strip():
            break
        lines.append(line[:cut])
        # The space itself begins the next line; a cut before the first letter would leave a line of nothing but spaces.
        line = line[cut:]
        start = len(line) - len(line.lstrip()) + 1
    return "\r\n".join([*lines, line, ""])


@dataclass(slots=True)
class SessionInfo:
    """What is known of a session. The server fills it; backends and policies read it.

    Attributes:
        id: the name of this session, unique on this host, in letters and digits.
        hostname: the name that this server goes by in its greeting and trace headers.
        peerHost: the client's IP address as text, or the empty string for a unix socket.
        peerPort: the client's port, 0 for a unix socket.
        peerName: the client's host name, where a trusted proxy tells it (XCLIENT); empty otherwise.
        localHost: the address that the client connected to, where a trusted proxy tells it; empty otherwise.
        localPort: the port, likewise.
        trusted: True where the peer may speak for other clients: it is in a network from which XCLIENT and XFORWARD are taken.
        heloName: what the client called itself in HELO or EHLO; empty before.
        extended: True after EHLO, False after HELO.
        tls: True once the session is encrypted.
        tlsVersion: the protocol, e.g. ``"TLSv1.3"``; empty before.
        tlsCipher: the cipher suite as OpenSSL names it; empty before.
        serverName: the name that the client asked for in TLS (SNI), or None.
        certificate: who the client's verified certificate names, or None.
        channelBinding: the data of ``tls-server-end-point`` (RFC 5929 4) that SCRAM-PLUS binds to, or None.
        user: who has authenticated, or None.
        mechanism: the SASL mechanism by which that was, or None.
        avatar: what the login gave that user, or None; policies ask it what he may do.
        lmtp: True where the session speaks LMTP.
        spokeEarly: True once the client has spoken before the greeting (RFC 5321 4.3.1); noted only where policies are asked.
    """

    id: str
    hostname: str
    peerHost: str = ""
    peerPort: int = 0
    peerName: str = ""
    localHost: str = ""
    localPort: int = 0
    trusted: bool = False
    heloName: str = ""
    extended: bool = False
    tls: bool = False
    tlsVersion: str = ""
    tlsCipher: str = ""
    serverName: str | None = None
    certificate: str | None = None
    channelBinding: bytes | None = None
    user: str | None = None
    mechanism: str | None = None
    avatar: object | None = field(default=None, repr=False, compare=False)
    lmtp: bool = False
    spokeEarly: bool = False
    _results: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def results(self) -> dict[str, Any]:
        """What policies found out about this session, for each other and for the delivery; by the name of who found it. Made when first used."""
        if self._results is None:
            self._results = {}
        return self._results

    @property
    def protocol(self) -> str:
        """The protocol of a Received field's with clause, without the UTF8 family (RFC 3848): SMTP, or ESMTP or LMTP with S, A or SA."""
        if not self.extended:
            return "SMTP"
        return ("LMTP" if self.lmtp else "ESMTP") + ("S" if self.tls else "") + ("A" if self.user is not None else "")
