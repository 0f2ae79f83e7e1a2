"""The grammar of command arguments (RFC 5321 4.1.2 and 4.1.3, with the UTF-8 of RFC 6531 3.3).

Knows how paths, address literals, parameters and EHLO names are spelt. Must not know commands, extensions or what a parameter means.
The regular expressions are composed from named rules of the RFC; one of them reads every form of path, since a second one for the
common form alone was measured to save a tenth of a microsecond.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from ..model.address import Address
from ..model.envelope import Parameter
from ..model.limits import Limits

# RFC 6531 3.3: UTF-8 beyond ASCII joins atext, qtextSMTP, sub-domain and esmtp-value. C1 controls are kept out. Each set is written as what is not
# in it: a set of a million characters takes hundreds of times as long to compile, in every process that starts.
_ATOM = r"[^\x00- \"(),.:;<>@[\\\]\x7f-\x9f]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
# RFC 5321 4.1.2: qtextSMTP is printable ASCII without the quote and the backslash; a backslash quotes any printable octet.
_QUOTED_CONTENT = r"(?:[^\x00-\x1f\"\\\x7f-\x9f]|\\[ -~])*"
_LET_DIG = r"[^\x00-/:-@[-`{-\x9f]+"
_SUB_DOMAIN = rf"{_LET_DIG}(?:-+{_LET_DIG})*"
_DOMAIN = rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*"
_DCONTENT = r"[!-Z^-~]+"
_MAILBOX = rf'(?:({_DOT_STRING})|"({_QUOTED_CONTENT})")@(?:({_DOMAIN})|\[({_DCONTENT})\])'
_SOURCE_ROUTE = rf"@{_DOMAIN}(?:,@{_DOMAIN})*:"

_PATH = re.compile(rf"<(?:{_SOURCE_ROUTE})?{_MAILBOX}>")
# What old clients send: the mailbox alone (`Limits.lenientPaths`).
_BARE_MAILBOX = re.compile(_MAILBOX)
# MAIL and RCPT as nearly all clients send them, as a whole line: everything in it is plain ASCII. What does not match is read the exact way.
_PLAIN_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN_DOMAIN = r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*"
_PLAIN_PARAMETERS = r"[!-~]+(?: [!-~]+)*"
_COMMAND = "MAIL FROM|RCPT TO|mail FROM|rcpt TO|mail from|rcpt to"
_USUAL = re.compile(rf"({_COMMAND}):<({_PLAIN_ATOM}(?:\.{_PLAIN_ATOM})*)@({_PLAIN_DOMAIN})>(?: ({_PLAIN_PARAMETERS}))?")
usualCommand = _USUAL.fullmatch
"""Matches a line whose groups are command, local part, domain and parameters or None. `parsePath` reads the same from it."""
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00- =\x7f-\x9f]+))?")
# Host names with an underscore are not RFC 5321 domains, but real hosts greet with them and nothing is gained by refusing.
_HELO_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*")
_LITERAL = re.compile(rf"\[({_DCONTENT})\]")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_GENERAL_LITERAL = re.compile(rf"[A-Za-z0-9-]*[A-Za-z0-9]:{_DCONTENT}")
_CHUNK = re.compile(r"([0-9]{1,20})( [Ll][Aa][Ss][Tt])?")
_QUOTED_PAIR = re.compile(r"\\(.)")


class PathError(Exception):
    """The text does not begin with a path."""


class PathTooLong(PathError):
    """A path, or a part of it, exceeds its limit (RFC 5321 4.5.3.1.1 to 4.5.3.1.3)."""


def parsePath(text: str, limits: Limits) -> tuple[Address, str]:
    """Reads the path that `text` begins with: ``<a@b>``, ``<@relay,@other:a@b>`` (the route is dropped, RFC 5321 4.1.2) or ``<>``.

    Args:
        text: what follows ``FROM:`` or ``TO:``.
        limits: the lengths of path, local part and domain, and whether brackets may be missing.

    Returns:
        The address, and the parameters behind the space that ends the path.

    Raises:
        PathError: it is malformed. PathTooLong: it is longer than allowed.
    """
    if limits.lenientPaths:
        text = text.lstrip(" ")
    match = _PATH.match(text)
    if match is None:
        if text == "<>" or text.startswith("<> "):
            return Address("", ""), text[3:]
        match = _BARE_MAILBOX.match(text) if limits.lenientPaths else None
        if match is None:
            raise PathError
    end = match.end()
    if end < len(text) and text[end] != " ":
        raise PathError
    local, quoted, domain, literal = match.groups()
    if local is None:
        local = _QUOTED_PAIR.sub(r"\1", quoted)
    if domain is None:
        if not isAddressLiteral(literal):
            raise PathError
        domain = f"[{literal}]"
    # A path that is short as a whole and ASCII cannot break the limits of its parts, except that of the local part.
    if len(local) > limits.localPart or end > limits.domain or not text.isascii():
        _checkLengths(match.group(), local, domain, limits)
    return Address(local, domain), text[end + 1 :]


def _checkLengths(path: str, local: str, domain: str, limits: Limits) -> None:
    """Raises PathTooLong if a part of the path exceeds its limit in octets."""
    for text, limit in ((path, limits.path), (local, limits.localPart), (domain, limits.domain)):
        if len(text.encode()) > limit:
            raise PathTooLong


def parsePostmaster(text: str, limits: Limits) -> tuple[Address, str] | None:
    """Reads ``<postmaster>`` without a domain, in any case, which only RCPT may name (RFC 5321 4.1.1.3)."""
    if limits.lenientPaths:
        text = text.lstrip(" ")
    if text[:12].lower() == "<postmaster>" and text[12:13] in ("", " "):
        return Address(text[1:11], ""), text[13:]
    return None


def parseParameters(text: str) -> tuple[Parameter, ...] | None:
    """Reads ``KEYWORD=value KEYWORD ...``, kept in order and case, or None when one is malformed (RFC 5321 4.1.2)."""
    parameters = []
    for word in text.split(" "):
        match = _PARAMETER.fullmatch(word)
        if match is None:
            return None
        parameters.append(Parameter(match[1], match[2]))
    return tuple(parameters)


def parseChunk(argument: str) -> tuple[int, bool] | None:
    """Reads the argument of BDAT: the octets of the chunk, and whether it is the last (RFC 3030 2); None if it is malformed."""
    match = _CHUNK.fullmatch(argument)
    return (int(match[1]), match[2] is not None) if match else None


def isAddressLiteral(content: str) -> bool:
    """True if what stands between the brackets is an IPv4, IPv6 or general address literal (RFC 5321 4.1.3)."""
    if _IPV4.fullmatch(content):
        return all(int(number) <= 255 for number in content.split("."))
    if content[:5].lower() == "ipv6:":
        try:
            # A scope (%eth0) is not part of the RFC's grammar.
            return IPv6Address(content[5:]).scope_id is None
        except AddressValueError:
            return False
    return _GENERAL_LITERAL.fullmatch(content) is not None


def parseHeloName(argument: str, limits: Limits) -> str | None:
    """The name in a HELO or EHLO argument: a domain, or an address literal (old clients put text behind it, RFC 5321 4.1.3); None if neither."""
    name = argument.strip(" ")
    if len(name) > limits.domain:
        return None
    if name.startswith("["):
        literal = _LITERAL.match(name)
        if literal is None or name[literal.end() : literal.end() + 1] not in ("", " ") or not isAddressLiteral(literal[1]):
            return None
        return literal.group()
    name = name.removesuffix(".")
    return name if _HELO_NAME.fullmatch(name) else None
