"""Reports to the sender: messages of type multipart/report about delivery (RFC 3461 6, RFC 3464, RFC 6522; RFC 6533 where it is internationalized).

Knows how a report is written. Must not know when one is owed (`verdict`) or how it is sent: it enters the queue as any message does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import formatdate
from quopri import encodestring
from textwrap import wrap

from ..model.envelope import Envelope, Recipient
from ..model.headers import Headers
from .entries import NewReport, QueuedMessage
from .quote import Quote
from .reporttext import readable
from .verdict import Action, Notice

_SUBJECTS = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message is delayed",
    Action.RELAYED: "Your message was passed on",
}
_LINE = 78
_MOST_VALUE = 800
"""Characters of a field's value: a peer's reply may have 256 lines."""
# RFC 5321 4.5.3.1.6: the longest line of text, without its CRLF.
_LONGEST_LINE = 998
# RFC 6533 3: what xtext within utf-8-addr-xtext cannot spell, or would spell otherwise.
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
# RFC 5322 3.6.4: a msg-id as nearly all are, fit for another header.
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,200}>")


def report(message: QueuedMessage, notices: Sequence[Notice], quoted: Quote, *, hostname: str, newId: str, now: float) -> NewReport:
    """One report about one message.

    Args:
        message: what is reported about. Its sender, who gets the report, is not null.
        notices: what there is to say, at least one.
        quoted: what can be returned of the message.
        hostname: the name of this server.
        newId: the queue id of the report.
        now: the time, in seconds since the epoch.
    """
    envelope = message.envelope
    worst = min((notice.action for notice in notices), key=list(Action).index)
    international = _isInternational(envelope, notices, quoted)
    parts = [
        _textPart(readable(message, notices, quoted, hostname)),
        _statusPart(message, notices, hostname, international),
        *_returned(envelope, worst, quoted, international),
    ]
    eightBit = any(not part.isascii() for part in parts)
    boundary = f"=_{newId}"
    while any(boundary.encode() in part for part in parts):
        boundary += "="
    header = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{envelope.sender}>",
        f"Subject: {_SUBJECTS[worst]}",
        f"Date: {formatdate(now)}",
        f"Message-ID: <{newId}@{hostname}>",
        *_inReplyTo(quoted),
        # RFC 3834 5.2: so that nobody answers it by machine.
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={_type("delivery-status", international)};\r\n\tboundary="{boundary}"',
        *(["Content-Transfer-Encoding: 8bit"] if eightBit else []),
    ]
    lines = [
        "".join(f"{field}\r\n" for field in header).encode(),
        b"\r\n",
        b"This is a report in the format of RFC 6522, for programs and people.\r\n",
    ]
    for part in parts:
        lines += (f"\r\n--{boundary}\r\n".encode(), part)
    lines.append(f"\r\n--{boundary}--\r\n".encode())
    text = b"".join(lines)
    return NewReport(_envelope(envelope, newId, len(text), eightBit, international, now), text)


def _envelope(about: Envelope, newId: str, size: int, eightBit: bool, international: bool, now: float) -> Envelope:
    # RFC 3461 6.1: from nobody, to the sender alone, without RET, and with no NOTIFY but NEVER. RFC 8689 5, RFC 6710 4.2: as safe and as
    # urgent as what it is about.
    return Envelope(
        newId,
        about.sender._replace(localPart="", domain=""),
        recipients=[Recipient(about.sender, notify=frozenset(("NEVER",)))],
        size=size,
        body="8BITMIME" if eightBit else "7BIT",
        smtputf8=international,
        receivedAt=now,
        requireTLS=about.requireTLS,
        priority=about.priority,
    )


def _isInternational(envelope: Envelope, notices: Sequence[Notice], quoted: Quote) -> bool:
    """Whether the report needs SMTPUTF8: only for a sender who has used it, and only where something in it is not ASCII."""
    if not envelope.smtputf8:
        return False
    texts = [str(envelope.sender), *(str(notice.recipient.address) for notice in notices)]
    texts += [notice.recipient.originalRecipient[1] for notice in notices if notice.recipient.originalRecipient]
    return not all(text.isascii() for text in texts) or (not quoted.header.isascii() and _isUTF8(quoted.header))


def _isUTF8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _inReplyTo(quoted: Quote) -> list[str]:
    """The fields that show the report beside the message, where that has a usual Message-ID (RFC 3834 3.1.6)."""
    found = _MESSAGE_ID.fullmatch(Headers(quoted.header).get("Message-ID", "") or "")
    return [f"In-Reply-To: {found[0]}", f"References: {found[0]}"] if found else []


def _textPart(text: str) -> bytes:
    body = "\r\n".join(text.splitlines()) + "\r\n"
    if body.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\nContent-Description: Notification\r\n\r\n" + body.encode()
    return (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Description: Notification\r\n\r\n"
        + _quotedPrintable(body.encode())
    )


def _quotedPrintable(octets: bytes) -> bytes:
    return encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def _type(name: str, international: bool) -> str:
    """The subtype of the message or report (RFC 6533 4)."""
    return f"global-{name}" if international else name


# ---- What programs read: the status of each recipient (RFC 3464 2).


def _statusPart(message: QueuedMessage, notices: Sequence[Notice], hostname: str, international: bool) -> bytes:
    envelope = message.envelope
    fields = [("Reporting-MTA", f"dns; {hostname}")]
    if envelope.envelopeId is not None:
        fields.append(("Original-Envelope-Id", envelope.envelopeId))
    fields.append(("Arrival-Date", formatdate(envelope.receivedAt or message.queuedAt)))
    blocks = [fields, *(_recipientFields(notice, international) for notice in notices)]
    body = b"\r\n".join(b"".join(_field(name, value, international) for name, value in block) for block in blocks)
    encoding = "" if body.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    return f"Content-Type: message/{_type('delivery-status', international)}\r\n{encoding}\r\n".encode() + body


def _recipientFields(notice: Notice, international: bool) -> list[tuple[str, str]]:
    fields = []
    recipient = notice.recipient
    if recipient.originalRecipient is not None:
        fields.append(("Original-Recipient", _typed(*recipient.originalRecipient, international)))
    address = str(recipient.address)
    fields.append(("Final-Recipient", _typed("rfc822" if address.isascii() else "utf-8", address, international)))
    fields.append(("Action", notice.action.value))
    fields.append(("Status", notice.status))
    reply = notice.reply
    if reply is not None and not (reply.local and notice.action is Action.RELAYED):
        # RFC 3464 2.3.5, 2.3.6: what a server said is told with its name; what we found has a type of our own.
        if notice.host and not reply.local:
            fields.append(("Remote-MTA", f"dns; {notice.host}"))
        fields.append(("Diagnostic-Code", f"{'X-Local' if reply.local else 'smtp'}; {reply}"))
    if notice.lastAttempt is not None:
        fields.append(("Last-Attempt-Date", formatdate(notice.lastAttempt)))
    if notice.until is not None:
        fields.append(("Will-Retry-Until", formatdate(notice.until)))
    return fields


def _typed(kind: str, address: str, international: bool) -> str:
    # RFC 6533 3: where UTF-8 cannot travel an address is spelled in ASCII.
    if not international and not address.isascii():
        address = _NOT_QCHAR.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", address)
    return f"{kind}; {address}"


def _field(name: str, value: str, international: bool) -> bytes:
    """A field, folded. What is not ASCII is lost where UTF-8 cannot travel; nothing ever leaves the field."""
    value = " ".join(value[:_MOST_VALUE].split())
    lines = wrap(f"{name}: {value}", _LINE, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
    return ("\r\n".join(lines) + "\r\n").encode("utf-8" if international else "ascii", "replace")


# ---- What is returned of the message (RFC 6522 3, RFC 6533 4).


def _returned(envelope: Envelope, worst: Action, quoted: Quote, international: bool) -> list[bytes]:
    """The third part: the message where its sender wants it and it can travel, else its header section; none when it could not be read."""
    whole = quoted.whole
    # RFC 3461 4.3, 6.2, RFC 8689 5: all of it only after a failure, and never against the sender's wish for secrecy.
    if whole is not None and worst is Action.FAILED and envelope.ret != "HDRS" and not envelope.requireTLS and _isText(envelope, whole):
        kind = "global" if international else "rfc822"
        encoding = b"" if whole.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
        return [f"Content-Type: message/{kind}\r\n".encode() + encoding + b"\r\n" + whole]
    header = quoted.header
    if not header:
        return []
    kind = "message/global-headers" if international else "text/rfc822-headers"
    encoding = b""
    if international and not header.isascii():
        encoding = b"Content-Transfer-Encoding: 8bit\r\n"
    elif not (header.isascii() and _linesFit(header)):
        # RFC 6522 4: header sections that are no ASCII are made so.
        header, encoding = _quotedPrintable(header), b"Content-Transfer-Encoding: quoted-printable\r\n"
    return [f"Content-Type: {kind}\r\n".encode() + encoding + b"\r\n" + header]


def _isText(envelope: Envelope, whole: bytes) -> bool:
    """Whether the message can be part of another as it stands: lines of text, each with CRLF."""
    lineEnds = whole.count(b"\r\n")
    bare = whole.count(b"\r") != lineEnds or whole.count(b"\n") != lineEnds or b"\0" in whole
    return envelope.body != "BINARYMIME" and whole.endswith(b"\r\n") and not bare and _linesFit(whole)


def _linesFit(text: bytes) -> bool:
    return max(map(len, text.split(b"\r\n"))) <= _LONGEST_LINE
