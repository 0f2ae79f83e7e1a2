"""The rows of the help: the options of a command line as the user reads of them, in groups. Knows nothing else."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Where the meanings begin.
_INDENT = 34


class Row(NamedTuple):
    """One option as the help shows it.

    Attributes:
        name: without the dashes.
        value: what stands for its value; empty for a flag.
        meaning: what it does.
    """

    name: str
    value: str
    meaning: str


Group = tuple[str, tuple[Row, ...]]
"""A heading, and the options under it."""


def helpText(before: str, groups: Sequence[Group], behind: str, width: int | None = None) -> str:
    """The help of a command.

    Args:
        before: what it does.
        groups: its options.
        behind: what else there is to know; empty for nothing.
        width: of a line; that of the terminal when left out.
    """
    width = max(60, min(width or shutil.get_terminal_size().columns, 120))
    lines = ["", *textwrap.wrap(before, width), ""]
    for heading, rows in groups:
        lines.append(f"{heading}:")
        for row in rows:
            lines += _helpLines(row, width)
        lines.append("")
    lines += textwrap.wrap(behind, width)
    return "\n".join(lines) + "\n"


def _helpLines(row: Row, width: int) -> Iterator[str]:
    option = f"  --{row.name}" + (f" {row.value}" if row.value else "")
    text = textwrap.wrap(row.meaning, width - _INDENT, break_on_hyphens=False)
    if len(option) > _INDENT - 2:
        yield option
    else:
        yield f"{option:<{_INDENT}}{text.pop(0)}"
    yield from (" " * _INDENT + line for line in text)
