"""The parameters of MAIL and RCPT that the extensions own: how each value is read into the envelope.

Knows the syntax of each value, as its RFC gives it. Must not know when a parameter is allowed: that is `extensions`. Every function takes the
value as written (None where there was no ``=``) and returns None, or the Reply that refuses it.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from ..model import replies
from ..model.envelope import DeliverBy, Envelope, Recipient, ValidSince
from ..model.limits import Limits
from ..model.reply import Reply

# RFC 3461 4: xtext is "!" to "~" without "+" and "=", or "+" and two upper-case hexadecimal digits.
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
# RFC 6533 3: utf-8-addr-xtext spells what xtext cannot as \x{HHHH}.
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
# RFC 3461 4.1, 4.2, 4.4: the longest values.
_ENVID_MAX, _ORCPT_MAX = 100, 500
_NOTIFICATIONS = frozenset(("SUCCESS", "FAILURE", "DELAY"))
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_DELIVER_BY = re.compile(r"([+-]?[0-9]{1,9});([NRnr])([Tt]?)")
_PRIORITY = re.compile(r"-?[0-9]")
_INTERVAL = re.compile(r"[0-9]{1,9}")
# RFC 3339 5.6: date-time, with a zone.
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})")


def decodeXtext(text: str) -> str | None:
    """What xtext stands for (RFC 3461 4), as text; None if it is malformed. Octets that are not UTF-8 are kept as surrogate escapes."""
    if not _XTEXT.fullmatch(text):
        return None
    if "+" not in text:
        return text
    return _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1").decode("utf-8", "surrogateescape")


def parseDateTime(text: str) -> float | None:
    """An RFC 3339 date-time in seconds since the epoch, or None if it is malformed."""
    if not _DATE_TIME.fullmatch(text):
        return None
    text = text.upper().replace("Z", "+00:00")
    whole, fraction, zone = re.fullmatch(r"([^.+]+?)(\.[0-9]+)?([+-][0-9:]{5})", text).groups()  # type: ignore[union-attr]
    try:
        return datetime.fromisoformat(whole + zone).timestamp() + float(fraction or 0)
    except (ValueError, OverflowError):
        return None


def formatDateTime(time: float) -> str:
    """A time in seconds since the epoch as an RFC 3339 date-time in UTC."""
    return datetime.fromtimestamp(int(time), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def size(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """SIZE=octets (RFC 1870 5: 1 to 20 digits)."""
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 20):
        return replies.badParameter("SIZE")
    envelope.size = int(value)
    # RFC 1870 6.1: a message that is declared too large is refused at once.
    return replies.TOO_LARGE_DECLARED if 0 < limits.messageSize < envelope.size else None


def body(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """BODY=7BIT, 8BITMIME or BINARYMIME, in any case (RFC 6152 3, RFC 3030 3)."""
    if value is None or value.upper() not in ("7BIT", "8BITMIME", "BINARYMIME"):
        return replies.badParameter("BODY")
    envelope.body = value.upper()
    return None


def smtputf8(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """SMTPUTF8 (RFC 6531 3.4: no value)."""
    if value is not None:
        return replies.badParameter("SMTPUTF8")
    envelope.smtputf8 = True
    return None


def requireTLS(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """REQUIRETLS (RFC 8689 2: no value)."""
    if value is not None:
        return replies.badParameter("REQUIRETLS")
    envelope.requireTLS = True
    return None


def prdr(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """PRDR (draft-hall-prdr: no value)."""
    if value is not None:
        return replies.badParameter("PRDR")
    envelope.prdr = True
    return None


def auth(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """AUTH=mailbox in xtext, or ``<>`` (RFC 4954 5)."""
    submitter = "" if value == "<>" else decodeXtext(value or "")
    if submitter is None:
        return replies.badParameter("AUTH")
    envelope.submitter = submitter
    return None


def ret(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """RET=FULL or HDRS, in any case (RFC 3461 4.3)."""
    if value is None or value.upper() not in ("FULL", "HDRS"):
        return replies.badParameter("RET")
    envelope.ret = value.upper()
    return None


def envid(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """ENVID=xtext of up to 100 characters that stands for printable ASCII (RFC 3461 4.4)."""
    decoded = decodeXtext(value) if value is not None and len(value) <= _ENVID_MAX else None
    if decoded is None or not (decoded.isascii() and decoded.isprintable()):
        return replies.badParameter("ENVID")
    envelope.envelopeId = decoded
    return None


def notify(value: str | None, recipient: Recipient, envelope: Envelope) -> Reply | None:
    """NOTIFY=NEVER, or a list of SUCCESS, FAILURE and DELAY, in any case (RFC 3461 4.1)."""
    words = (value or "").upper().split(",")
    if words != ["NEVER"] and not (_NOTIFICATIONS.issuperset(words) and len(set(words)) == len(words)):
        return replies.badParameter("NOTIFY")
    recipient.notify = frozenset(words)
    return None


def orcpt(value: str | None, recipient: Recipient, envelope: Envelope) -> Reply | None:
    """ORCPT=type;xtext of up to 500 characters (RFC 3461 4.2); of type utf-8 also as RFC 6533 3 spells it."""
    kind, semicolon, text = (value or "").partition(";")
    if not semicolon or len(value or "") > _ORCPT_MAX or not _ADDRESS_TYPE.fullmatch(kind):
        return replies.badParameter("ORCPT")
    address = _utf8Address(text) if kind.lower() == "utf-8" else decodeXtext(text)
    if not address or not address.isprintable():
        return replies.badParameter("ORCPT")
    recipient.originalRecipient = (kind, address)
    return None


def _utf8Address(text: str) -> str | None:
    """An address of type utf-8: unitext, or xtext with embedded code points (RFC 6533 3)."""
    if text.isascii():
        decoded = decodeXtext(_EMBEDDED.sub("", text) or "x")
        if decoded is None:
            return None
    if any(int(code, 16) > 0x10FFFF for code in _EMBEDDED.findall(text)):
        return None
    return _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), text))


def deliverBy(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """BY=seconds;mode (RFC 2852 4): mode N or R, perhaps with T."""
    match = _DELIVER_BY.fullmatch(value or "")
    if match is None:
        return replies.badParameter("BY")
    seconds, mode = int(match[1]), match[2].upper()
    # RFC 2852 4: a message that is to be returned when late cannot be late already, nor sooner than this server can promise.
    if mode == "R" and (seconds <= 0 or seconds < limits.deliverByLeast):
        return replies.badParameter("BY")
    envelope.deliverBy = DeliverBy(seconds, mode, bool(match[3]))
    return None


def priority(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """MT-PRIORITY=-9 to 9 (RFC 6710 3)."""
    if not _PRIORITY.fullmatch(value or "") or value == "-0":
        return replies.badParameter("MT-PRIORITY")
    envelope.priority = int(value or 0)
    return None


def holdFor(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """HOLDFOR=seconds (RFC 4865 4)."""
    if not _INTERVAL.fullmatch(value or ""):
        return replies.badParameter("HOLDFOR")
    return _hold("HOLDFOR", envelope.receivedAt + int(value or 0), envelope, limits)


def holdUntil(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    """HOLDUNTIL=date-time (RFC 4865 4)."""
    time = parseDateTime(value or "")
    return replies.badParameter("HOLDUNTIL") if time is None else _hold("HOLDUNTIL", time, envelope, limits)


def _hold(keyword: str, time: float, envelope: Envelope, limits: Limits) -> Reply | None:
    # RFC 4865 4: one of the two, and not for longer than this server holds messages.
    if envelope.holdUntil is not None or time - envelope.receivedAt > limits.holdTime:
        return replies.badParameter(keyword)
    envelope.holdUntil = time
    return None


def validSince(value: str | None, recipient: Recipient, envelope: Envelope) -> Reply | None:
    """RRVS=date-time, perhaps with ;C or ;R (RFC 7293 3.1)."""
    date, _, action = (value or "").partition(";")
    time = parseDateTime(date)
    if time is None or action.upper() not in ("C", "R", "") or (value or "").endswith(";"):
        return replies.badParameter("RRVS")
    recipient.validSince = ValidSince(time, action.upper() or "R")
    return None
