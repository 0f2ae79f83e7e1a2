"""Mechanisms that show an OAuth 2.0 token: OAUTHBEARER (RFC 7628) and XOAUTH2, its predecessor.

Knows the messages. Must not know who issues tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ...model.envelope import SessionInfo
from ..sasl import Challenge, Check, Steps, Token, lookUp, respond
from ..saslprep import prepare

# RFC 7628 3.1: a GS2 header without channel binding, then key=value pairs that end in %x01 each, then one more %x01.
_OAUTHBEARER = re.compile(r"[ny],(?:a=((?:[^\0-\x1f,=]|=2C|=3D)+))?,\x01((?:[A-Za-z]+=[\t\r\n -~]*\x01)*)\x01")
_XOAUTH2 = re.compile(r"user=([^\0-\x1f]+)\x01((?:[A-Za-z]+=[\t\r\n -~]*\x01)*)\x01")
# RFC 6750 2.1: the scheme in any case, and the characters of a token.
_AUTHORIZATION = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)
# RFC 7628 3.2.2: the status is all that a client needs to know.
_REJECTED = b'{"status":"invalid_token"}'
# What Google's description of XOAUTH2 has clients expect.
_REJECTED_XOAUTH2 = b'{"status":"401","schemes":"bearer","scope":""}'


def oauthBearer(session: SessionInfo, offered: Collection[str]) -> Steps:
    """OAUTHBEARER (RFC 7628)."""
    check = _read(_OAUTHBEARER, (yield from respond(b"")))
    return (yield from _decide(check, _REJECTED))


def xoauth2(session: SessionInfo, offered: Collection[str]) -> Steps:
    """XOAUTH2."""
    check = _read(_XOAUTH2, (yield from respond(b"")))
    return (yield from _decide(check, _REJECTED_XOAUTH2))


def _decide(check: Check | None, rejected: bytes) -> Steps:
    """Has the token checked. The client hears why it is no good, and acknowledges that, before the exchange fails (RFC 7628 3.2.3)."""
    user = None if check is None else (yield from lookUp(check))
    if user is None:
        yield Challenge(rejected)
    return user


def _read(form: re.Pattern[str], message: bytes) -> Token | None:
    match = form.fullmatch(message.decode(errors="replace"))
    if match is None:
        return None
    name = prepare((match[1] or "").replace("=2C", ",").replace("=3D", "="))
    # RFC 7628 3.1: keys that are not known are ignored.
    values = [pair.partition("=")[2] for pair in match[2].split("\x01") if pair.partition("=")[0].lower() == "auth"]
    token = _AUTHORIZATION.fullmatch(values[0]) if len(values) == 1 else None
    if token is None or (name is None and match[1]):
        return None
    return Token(name or "", token[1])
