"""Mechanisms that check a password: PLAIN, LOGIN and CRAM-MD5.

Knows what each says and in which order. Must not know who knows the password.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from secrets import token_hex

from ...model.envelope import SessionInfo
from ..sasl import Digest, Password, Steps, lookUp, respond
from ..saslprep import prepare

# RFC 4616 2: each part of the message.
_LONGEST = 255
# RFC 2195 2: the name, which may hold spaces, and the digest behind it.
_CRAM_RESPONSE = re.compile(r"(.+) ([0-9a-f]{32})", re.DOTALL)


def plain(session: SessionInfo, offered: Collection[str]) -> Steps:
    """PLAIN (RFC 4616): [authzid] NUL authcid NUL passwd."""
    parts = (yield from respond(b"")).split(b"\0")
    if len(parts) != 3:
        return None
    user, password = _text(parts[1]), _text(parts[2])
    actAs = _text(parts[0]) if parts[0] else ""
    if user is None or password is None or actAs is None:
        return None
    return (yield from lookUp(Password(user, password, actAs)))


def login(session: SessionInfo, offered: Collection[str]) -> Steps:
    """LOGIN. It was never an RFC; the prompts are the ones that clients compare letter by letter."""
    user = _text((yield from respond(b"Username:")))
    password = _text((yield from respond(b"Password:")))
    if user is None or password is None:
        return None
    return (yield from lookUp(Password(user, password)))


def cramMD5(session: SessionInfo, offered: Collection[str]) -> Steps:
    """CRAM-MD5 (RFC 2195): a digest of a challenge that was never used before."""
    challenge = f"<{token_hex(16)}@{session.hostname}>".encode()
    match = _CRAM_RESPONSE.fullmatch((yield from respond(challenge)).decode(errors="replace"))
    user = _text(match[1].encode()) if match is not None else None
    if match is None or user is None:
        return None
    return (yield from lookUp(Digest(user, challenge, match[2])))


def _text(octets: bytes) -> str | None:
    """A name or a password in the form in which it is compared, or None when it is none (RFC 4616 2)."""
    if len(octets) > _LONGEST:
        return None
    try:
        return prepare(octets.decode())
    except UnicodeDecodeError:
        return None
