"""XCLIENT and XFORWARD: what a trusted proxy tells of the client that it speaks for (the documents of Postfix).

Knows the attributes, their values, and what they change in a session. Must not know which peers are trusted: that is written in `SessionInfo`.
XCLIENT says who the client of this session is, for every decision from there on; XFORWARD where the next message came from, for logs alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from ..model import replies
from ..model.reply import Reply
from .grammar import parseHeloName
from .parameters import decodeXtext
from .steps import ChangeClient, Step

if TYPE_CHECKING:
    from ..model.envelope import SessionInfo
    from .session import Session

XCLIENT = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
"""The attributes of XCLIENT."""
XFORWARD = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
"""The attributes of XFORWARD."""

_UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_VALUE_MAX = 255
_PORT = re.compile(r"[0-9]{1,5}")
_CHOICES = {"PROTO": ("SMTP", "ESMTP"), "SOURCE": ("LOCAL", "REMOTE")}


def xclient(session: Session, argument: str) -> Reply | Step:
    """XCLIENT: from now on the session is that of another client."""
    if not session.info.trusted:
        return replies.NOT_TRUSTED
    told = parseAttributes(argument, XCLIENT)
    limits = session.dialect.limits
    # Names go into the trace header, so they must be names.
    if told is None or any(told.get(name) and parseHeloName(told[name], limits) != told[name] for name in ("NAME", "HELO")):
        return replies.XCLIENT_SYNTAX
    host = told.get("ADDR", session.info.peerHost)
    return ChangeClient(host, told)


def xforward(session: Session, argument: str) -> Reply:
    """XFORWARD: tells of the next message."""
    if not session.info.trusted:
        return replies.NOT_TRUSTED
    told = parseAttributes(argument, XFORWARD)
    if told is None:
        return replies.XFORWARD_SYNTAX
    # A new mapping: the envelope of an earlier message may have the old one.
    known = {**(session.forwarded or {}), **told}
    session.forwarded = {name: value for name, value in known.items() if value}
    return replies.OK


def parseAttributes(argument: str, names: tuple[str, ...]) -> dict[str, str] | None:
    """Reads ``NAME=value NAME=value ...``: names in any case, values in xtext.

    Returns:
        The values by name in upper case, the empty string for what is not known to the proxy; or None when something is malformed.
    """
    told: dict[str, str] = {}
    for word in argument.split(" "):
        name, equals, text = word.partition("=")
        name = name.upper()
        value = _value(name, text) if equals and name in names else None
        if value is None:
            return None
        told[name] = value
    return told


def _value(name: str, text: str) -> str | None:
    """The value of an attribute, or None if it cannot be one."""
    if text.upper() in _UNKNOWN:
        return ""
    value = decodeXtext(text)
    if value is None or not value.isprintable() or len(value.encode("utf-8", "surrogateescape")) > _VALUE_MAX:
        return None
    if name in ("ADDR", "DESTADDR"):
        return _address(value)
    if name in ("PORT", "DESTPORT"):
        return value if _PORT.fullmatch(value) and int(value) <= 65535 else None
    if name in _CHOICES:
        return value.upper() if value.upper() in _CHOICES[name] else None
    return value


def _address(text: str) -> str | None:
    """An IPv4 address, or an IPv6 address behind ``IPV6:``, as a socket would give it."""
    try:
        if text[:5].upper() != "IPV6:":
            return str(IPv4Address(text))
        address = IPv6Address(text[5:])
    except AddressValueError:
        return None
    return str(address.ipv4_mapped or address) if address.scope_id is None else None


def apply(told: Mapping[str, str], info: SessionInfo) -> None:
    """Writes what XCLIENT tells into what is known of the session."""
    info.peerName = told.get("NAME", info.peerName)
    info.peerHost = told.get("ADDR", info.peerHost)
    info.peerPort = int(told.get("PORT", info.peerPort) or 0)
    info.localHost = told.get("DESTADDR", info.localHost)
    info.localPort = int(told.get("DESTPORT", info.localPort) or 0)
    if "LOGIN" in told:
        info.user = told["LOGIN"] or None
        info.mechanism = "XCLIENT" if info.user else None
    elif info.mechanism != "XCLIENT":
        # It was the proxy that authenticated, and it does not speak for itself any more.
        info.user = info.mechanism = None


def introduce(told: Mapping[str, str], info: SessionInfo) -> None:
    """Puts the client's own HELO name and protocol, where they were told, in place of those of the proxy that has said EHLO for it."""
    info.heloName = told.get("HELO") or info.heloName
    if told.get("PROTO"):
        info.extended = told["PROTO"] == "ESMTP"
