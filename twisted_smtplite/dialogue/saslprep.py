"""Names and passwords in the form in which they are compared (SASLprep, RFC 4013).

Knows Unicode. Must not know any mechanism.
"""

from __future__ import annotations

import stringprep
from unicodedata import ucd_3_2_0

# RFC 4013 2.3: what never stands in a name or a password.
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(text: str) -> str | None:
    """The prepared text, or None if it is empty then, or holds what a name or a password cannot.

    Characters that are younger than SASLprep pass as they are, on both sides of a comparison: people have them in their passwords.
    """
    if text.isascii():
        return text if text.isprintable() and text else None
    # RFC 4013 2.1, 2.2: spaces of all kinds are one, what is invisible is nothing, and compatible forms are the same.
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(table(c) for c in prepared for table in _PROHIBITED):
        return None
    return prepared if _oneDirection(prepared) else None


def _oneDirection(text: str) -> bool:
    """RFC 3454 6: text that runs from right to left begins and ends so, and has nothing in it that runs the other way."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]) and not any(map(stringprep.in_table_d2, text))
