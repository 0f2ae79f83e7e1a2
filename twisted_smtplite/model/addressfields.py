"""The header fields that hold addresses, and the domains in them (RFC 5322 3.4, 3.6.2, 3.6.3, 3.6.6; obsolete forms 4.4, 4.5).

Knows mailboxes, groups, and what hides their punctuation: comments, quoted strings, encoded words, domain literals. Nothing here raises, and all of
it takes time linear in its input. Of what is no legal address it reads what can be read. Must not know which domains are fit for what.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .text import decodeText

_NAMES = ("Bcc", "Cc", "From", "Reply-To", "Resent-Bcc", "Resent-Cc", "Resent-From", "Resent-Reply-To", "Resent-Sender", "Resent-To", "Sender", "To")
_CANONICAL = {name.lower().encode(): name for name in _NAMES}
# RFC 5322 2.2.3, 4.5: a field with its folds; old ones have white space before the colon. It begins with the end of the line before it, an octet that
# is found much faster than the beginning of a line.
_FIELD = re.compile(rb"\n(" + rb"|".join(_CANONICAL) + rb")[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)

# An encoded word (RFC 2047 2), a quoted string, a domain literal, the beginning of a comment (RFC 5322 3.2.4, 3.4.1, 3.2.2). An end that is missing
# is the end of the field. Encoded words come first: some hold quotes.
_OPAQUE = re.compile(r'=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=|"[^"\\]*(?:\\.[^"\\]*)*"?|\[[^]\\]*(?:\\.[^]\\]*)*\]?|\(', re.DOTALL)
_IN_COMMENT = re.compile(r"\\.|[()]", re.DOTALL)
# What stands between the separators of a list and of groups: text, with or without an address in angle brackets.
_MAILBOX = re.compile(r"([^,;:<]*)(?:<([^>]*)>?)?[^,;:<]*")


def addressFields(section: bytes) -> Iterator[tuple[str, str]]:
    """The fields of a header section that hold addresses, in order: the name as RFC 5322 writes it, and the value, which may still be folded."""
    return ((_CANONICAL[found[1].lower()], decodeText(found[2])) for found in _FIELD.finditer(b"\n" + section))


def domains(value: str) -> Iterator[str]:
    """The domain of each address in the value of such a field, in order: without comments and white space; of a literal no more than ``[]``.

    An address without a domain gives none, and neither does the obsolete route of one, which means nothing (RFC 5322 4.4).
    """
    for found in _MAILBOX.finditer(_readable(value)):
        # Where there are angle brackets the address is in them, whatever the name before them looks like; behind its route.
        address = found[1] if found[2] is None else found[2].rpartition(":")[2]
        _, at, domain = address.rpartition("@")
        # RFC 5322 4.4: there may be white space around the dots.
        if at and (domain := "".join(domain.split())):
            yield domain


def _readable(value: str) -> str:
    """The value without what hides punctuation: a space stands for it, or ``[]`` for a domain literal."""
    pieces: list[str] = []
    at = 0
    while found := _OPAQUE.search(value, at):
        pieces += (value[at : found.start()], "[]" if found[0][0] == "[" else " ")
        at = _commentEnd(value, found.end()) if found[0] == "(" else found.end()
    return "".join((*pieces, value[at:]))


def _commentEnd(value: str, at: int) -> int:
    """Where the comment ends that has begun before `at`: comments can hold comments."""
    depth = 1
    while depth and (found := _IN_COMMENT.search(value, at)):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        at = found.end()
    return len(value) if depth else at
