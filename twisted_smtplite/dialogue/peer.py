"""What a server says of itself in its reply to EHLO or LHLO (RFC 5321 4.1.1.1), read by a client.

Knows the form of that reply, and of the extensions whose values a client has to heed. Must not know what the client wants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..model.results import PeerReply

# RFC 5321 4.1.1.1: ehlo-keyword. Some servers of old put "=" between AUTH and its mechanisms.
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?")
# RFC 9422 3: a limit of 1 to 6 digits, not 0.
_LIMIT = re.compile(r"([A-Za-z0-9_-]+)(?:=([!-~]*))?")


class Peer:
    """A server, as far as it has introduced itself.

    Attributes:
        name: how it calls itself; empty before.
        extensions: what it offers: keywords in upper case, and the text behind them.
        sizeLimit: octets of the largest message (RFC 1870 4), or None for no known limit.
        mechanisms: the SASL mechanisms it offers, in upper case and its order (RFC 4954 3).
        recipientsMost: recipients of one transaction (RFC 9422 4.2), or None.
        domainsMost: different domains among them (RFC 9422 4.3), or None.
        messagesMost: transactions of one session (RFC 9422 4.1), or None.
    """

    __slots__ = ("domainsMost", "extensions", "mechanisms", "messagesMost", "name", "recipientsMost", "sizeLimit")

    def __init__(self, reply: PeerReply | None = None) -> None:
        lines = reply.lines if reply is not None else ("",)
        self.name = lines[0].partition(" ")[0]
        self.extensions: Mapping[str, str] = _keywords(lines[1:])
        size = self.extensions.get("SIZE", "").strip()
        self.sizeLimit = int(size) or None if size.isascii() and size.isdigit() and len(size) <= 20 else None
        self.mechanisms = tuple(dict.fromkeys(self.extensions.get("AUTH", "").upper().split()))
        limits = _limits(self.extensions.get("LIMITS", ""))
        self.recipientsMost = limits.get("RCPTMAX")
        self.domainsMost = limits.get("RCPTDOMAINMAX")
        self.messagesMost = limits.get("MAILMAX")

    def offers(self, keyword: str) -> bool:
        """True if the server offers that extension."""
        return keyword in self.extensions


def _keywords(lines: Sequence[str]) -> dict[str, str]:
    """The keywords; lines that are none are skipped. AUTH may come twice, in two spellings, and adds up; of others the first counts."""
    found: dict[str, str] = {}
    for line in lines:
        match = _KEYWORD.fullmatch(line)
        if match is not None:
            keyword, text = match[1].upper(), match[2] or ""
            if keyword not in found:
                found[keyword] = text
            elif keyword == "AUTH":
                found[keyword] = f"{found[keyword]} {text}".strip()
    return found


def _limits(text: str) -> dict[str, int]:
    """The limits (RFC 9422 3). A list that is malformed says nothing; a value that is says nothing of that limit."""
    found: dict[str, int] = {}
    for word in text.split():
        match = _LIMIT.fullmatch(word)
        if match is None:
            return {}
        if re.fullmatch("[1-9][0-9]{0,5}", match[2] or ""):
            found[match[1].upper()] = int(match[2])
    return found
