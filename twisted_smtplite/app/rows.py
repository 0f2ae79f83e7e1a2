"""A row of the help: one option of the command line as the user reads of it. Knows nothing else."""

from __future__ import annotations

from typing import NamedTuple


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
