"""Text for a terminal that may hold what others have written, as names of files do. Knows nothing else."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text on one line, with an escape in place of each character that a terminal could take for an order."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
