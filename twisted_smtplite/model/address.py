"""A mailbox as the envelope names it (RFC 5321 4.1.2), parsed once and compared as the RFC compares.

Knows when a local part needs quotes and which parts ignore case. Must not know how a path is read from the wire: that is `dialogue.grammar`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# RFC 5321 4.1.2, RFC 6531 3.3: Dot-string of atext, where UTF-8 counts as atext. The set is written as what is not in it, which compiles faster.
_ATEXT = r"[^\x00- \"(),.:;<>@[\\\]\x7f]+"
_DOT_STRING = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")


class Address(NamedTuple):
    """The mailbox of a reverse-path or forward-path.

    Quoted and unquoted spellings of one local part are the same address (RFC 5321 4.1.2), domains compare without case and local parts with
    it (2.4), except that ``postmaster`` is known in any case (4.5.1).

    Attributes:
        localPart: the local part without quotes or backslashes; empty in the null reverse-path.
        domain: the domain as written, or an address literal with its brackets; empty for the null path and for bare ``<postmaster>``.
    """

    localPart: str
    domain: str

    @property
    def isNull(self) -> bool:
        """True for the null reverse-path ``<>`` (RFC 5321 4.5.5)."""
        return not self.localPart and not self.domain

    @property
    def isPostmaster(self) -> bool:
        """True for postmaster, in any case, with or without a domain (RFC 5321 4.5.1)."""
        return self.localPart.lower() == "postmaster"

    def __str__(self) -> str:
        """The address as text, quoted where it must be: ``a@b``, ``"a b"@c``, ``postmaster``, or the empty string for the null path."""
        local = self.localPart
        if not self.domain:
            return local
        if not _DOT_STRING.fullmatch(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}"

    def _key(self) -> tuple[str, str]:
        local = self.localPart
        return (local.lower() if self.isPostmaster else local, self.domain.lower())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Address):
            return self._key() == other._key()
        # A plain tuple has another hash, so it must not be equal.
        return False if isinstance(other, tuple) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._key())
