"""Addresses as people and header fields write them, and whom a message is from and for when nobody says (RFC 5322 3.4, 3.6).

Knows mailboxes, groups, comments, quoted strings, and the fields that hold them. Takes time linear in its input. Must not know what is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..dialogue.grammar import PathError, parsePath
from ..model.address import Address
from ..model.addressfields import addressFields
from ..model.limits import Limits

_LIMITS = Limits()

# RFC 2047 2, RFC 5322 3.2.2, 3.2.4, 3.4.1: encoded words, quoted strings, domain literals, the beginning of a comment, white space, what separates,
# and the rest. A string or literal without its end is as long as there is text. An encoded word is looked for first: some hold quotes and commas.
_TOKEN = re.compile(
    r"""(?P<word>=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=)
    |(?P<quoted>"[^"\\]*(?:\\.[^"\\]*)*"?)
    |(?P<literal>\[[^\]\\]*(?:\\.[^\]\\]*)*\]?)
    |(?P<comment>\()
    |(?P<space>\s+)
    |(?P<mark>[<>,;:@.])
    |(?P<atom>[^\s"\[(<>,;:@.]+)""",
    re.VERBOSE | re.DOTALL,
)
# What most members of most lists are: an address, perhaps with a name before it, of characters that mean nothing else.
_PLAIN = r'[^\s<>()",;:\[\]\\@]+@[^\s<>()",;:\[\]\\@]+'
_USUAL = re.compile(rf'({_PLAIN})|(?:"[^"\\<>]*"\s*|[^"\\<>()\[\],;:@]*)<({_PLAIN})>')
# What most lists are: one of these, spelt in plain ASCII, so that nothing in it is left to be looked at.
_ADDR = r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*)@([A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*)"
_ONE = re.compile(rf'(?:\s*{_ADDR}|(?:\s*"[^"\\<>,]*"\s*|[^"\\<>()\[\],;:@]*)<{_ADDR}>)\s*')
_IN_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)
_TRACE = ("received", "return-path")


class FromHeaders(NamedTuple):
    """Whom a message is from and for, as its header section says.

    Attributes:
        sender: who sends it; None where that is not said.
        recipients: whom it goes to, each once, in order.
    """

    sender: Address | None
    recipients: tuple[Address, ...]


def parseAddress(text: str, defaultDomain: str = "") -> Address:
    """Reads one address: ``ann@client.test``, ``Ann <ann@client.test>``; the empty string and ``<>`` are the null reverse-path.

    Args:
        text: what to read.
        defaultDomain: the domain of an address that has none.

    Raises:
        ValueError: it is no address, or several; its text names it.
    """
    if text.strip() in ("", "<>"):
        return Address("", "")
    found = parseAddresses(text, defaultDomain)
    if len(found) != 1:
        raise ValueError(f"{text!r} is not one address, but {len(found) or 'none'}")
    return found[0]


def parseAddresses(text: str, defaultDomain: str = "") -> list[Address]:
    """Reads a list of addresses, as in a To field: names and comments are left out, groups opened (RFC 5322 3.4), routes dropped (4.4).

    Raises:
        ValueError: one of them is no address; the text names it.
    """
    one = _ONE.fullmatch(text)
    if one is not None:
        local, domain = one[1] or one[3], one[2] or one[4]
        if len(local) <= _LIMITS.localPart and len(f"<{local}@{domain}>") <= _LIMITS.domain:
            return [Address(local, domain)]
    members = [_USUAL.fullmatch(member.strip()) for member in text.split(",")]
    # In an encoded word there may be anything, but for white space.
    if None in members or ("=?" in text and len(members) > 1):
        return [_address(spelt, defaultDomain) for spelt in _split(text)]
    return [_address(member[1] or member[2], defaultDomain) for member in members if member is not None]


def fromHeaders(section: bytes, defaultDomain: str = "") -> FromHeaders:
    """Whom a message is from and for.

    Where it was sent again by somebody, that is: the first block of Resent fields counts, and the others do not (RFC 5322 3.6.6). The sender is in
    Sender, else the first in From; the recipients are in To, Cc and Bcc.

    Args:
        section: the header section.
        defaultDomain: the domain of addresses that have none.

    Raises:
        ValueError: an address in one of these fields is none; the text names it and its field.
    """
    # Sending again is rare, and what it takes to find out costs more than all the rest.
    values = (_resent(section) if b"resent-" in section.lower() else None) or _fields(section)
    senders = [address for name in ("sender", "from") if name in values for address in _in(name, values, defaultDomain)]
    recipients = [address for name in ("to", "cc", "bcc") if name in values for address in _in(name, values, defaultDomain)]
    return FromHeaders(senders[0] if senders else None, tuple(dict.fromkeys(recipients) if len(recipients) > 1 else recipients))


def _in(name: str, values: dict[str, list[str]], defaultDomain: str) -> list[Address]:
    try:
        return [address for value in values[name] for address in parseAddresses(value, defaultDomain)]
    except ValueError as error:
        raise ValueError(f"{name.capitalize()}: {error}") from error


def _fields(section: bytes) -> dict[str, list[str]]:
    """The values of each field that holds addresses, by its name in lower case."""
    values: dict[str, list[str]] = {}
    for name, value in addressFields(section):
        values.setdefault(name.lower(), []).append(value)
    return values


def _resent(section: bytes) -> dict[str, list[str]]:
    """The first block of Resent fields, by their names without that. One that comes again begins another block, and so do trace fields."""
    from ..model.headers import Headers

    values: dict[str, list[str]] = {}
    for name, value in Headers(section):
        kind, resent, plain = name.lower().rpartition("resent-")
        if values and (name.lower() in _TRACE or (resent and plain in values)):
            break
        if resent and not kind:
            values[plain] = [value]
    return values


def _address(spelt: str, defaultDomain: str) -> Address:
    whole = spelt if "@" in spelt or not defaultDomain else f"{spelt}@{defaultDomain}"
    try:
        address, rest = parsePath(f"<{whole}>", _LIMITS)
    except PathError:
        rest = "malformed"
    if rest or address.isNull:
        raise ValueError(f"{spelt!r} is no address" + (": it has no domain" if spelt and "@" not in spelt else ""))
    return address


def _split(text: str) -> Iterator[str]:
    """What stands for an address in each member of a list, without white space and comments; where it is none, as it stands."""
    mailbox = _Mailbox()
    at = 0
    while token := _TOKEN.match(text, at):
        at = token.end()
        kind, value = token.lastgroup, token[0]
        if kind == "comment":
            at = _commentEnd(text, at)
            mailbox.gap()
        elif kind == "space":
            mailbox.gap()
        elif value == ";" or (value == "," and not mailbox.open):
            yield from mailbox.end()
            mailbox = _Mailbox()
        elif value == ":" and not mailbox.bracketed:
            # What was there is the name of a group.
            mailbox = _Mailbox()
        else:
            mailbox.add(value, joins=kind == "mark")
    yield from mailbox.end()


class _Mailbox:
    """One member of a list, while it is read.

    Attributes:
        bracketed: True behind ``<``.
        open: True between ``<`` and ``>``.
    """

    __slots__ = ("_gap", "_joins", "_spelt", "bracketed", "open")

    def __init__(self) -> None:
        self.bracketed = False
        self.open = False
        self._spelt: list[str] = []
        self._gap = False
        # True where white space means nothing: in the beginning, and behind a dot or an "@".
        self._joins = True

    def gap(self) -> None:
        """White space, or a comment."""
        self._gap = True

    def add(self, value: str, *, joins: bool) -> None:
        """The next token; `joins` where white space around it means nothing."""
        if value == "<" and not self.bracketed:
            # What was there is a name.
            self.bracketed = self.open = True
            self._spelt.clear()
            joins = True
        elif value == ">" and self.open:
            self.open = joins = False
        elif value == ":" and self.open:
            # RFC 5322 4.4: the route before it means nothing.
            self._spelt.clear()
        else:
            if self._gap and not (self._joins or joins):
                # Two words are no address, nor are they one word.
                self._spelt.append(" ")
            self._spelt.append(value)
        self._joins = joins
        self._gap = False

    def end(self) -> Iterable[str]:
        """The address, as it is spelt; nothing where there is none."""
        spelt = "".join(self._spelt)
        return (spelt,) if spelt or self.bracketed else ()


def _commentEnd(text: str, at: int) -> int:
    """Where the comment ends that has begun before `at`: comments can hold comments."""
    depth = 1
    while depth and (found := _IN_COMMENT.search(text, at)):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        at = found.end()
    return len(text) if depth else at
