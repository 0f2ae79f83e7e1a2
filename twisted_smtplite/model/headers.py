"""The header section of a message or of a MIME part (RFC 5322 2.2, RFC 6532): fields in order, malformed ones kept in their places.

Knows where a field begins and ends, and what its name and value are. Reads CRLF and LF line ends alike. Nothing here raises on any octets, and all
of it takes time and memory linear in them. Must not know what a field means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from .text import decodeText, decodeWords

# The line end of one line, and the empty line after it.
_EMPTY_LINE = re.compile(rb"\n(\r?\n)")
# RFC 5322 2.2.3: a line that begins with white space continues the field before it.
_FIELD_END = re.compile(rb"\n(?![ \t])")
# RFC 5322 2.2: a field name is printable ASCII, without a colon.
_NAME = re.compile(rb"[!-9;-~]+")


class Defect(NamedTuple):
    """Something in a message that is not as the RFCs want it. It is reported, never raised.

    Attributes:
        meaning: what is wrong, in a few words.
        field: the header field where it shows, as it stands; empty where no field does.
    """

    meaning: str
    field: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """One header field.

    Attributes:
        raw: the field as it stands, with its folds and its line end; the last one of a message that ends early may lack it.
        name: the name as written, or the empty string when the line is malformed.
        defect: what is wrong with the field, or the empty string.
    """

    raw: bytes
    name: str
    defect: str

    @classmethod
    def parse(cls, raw: bytes) -> Field:
        """Makes a field of its octets. Any octets make one."""
        label, colon, _ = raw.partition(b":")
        # RFC 5322 4.5: old messages have white space before the colon.
        name = label.rstrip(b" \t")
        if not colon or not _NAME.fullmatch(name):
            return cls(raw, "", "continuation without a field" if raw[:1] in (b" ", b"\t") else "not a header field")
        defect = "white space before the colon" if name != label else "bare CR" if raw.count(b"\r") > raw.count(b"\r\n") else ""
        return cls(raw, name.decode("ascii"), defect)

    @property
    def octets(self) -> bytes:
        """The value unfolded (RFC 5322 2.2.3), without white space around it; all of a malformed line. A bare CR is a space: no CR or LF is left."""
        value = self.raw.partition(b":")[2] if self.name else self.raw
        return value.replace(b"\r\n", b"").replace(b"\n", b"").replace(b"\r", b" ").strip(b" \t")

    @property
    def value(self) -> str:
        """The value as text, UTF-8 or else ISO-8859-1, encoded words as they stand."""
        return decodeText(self.octets)

    @property
    def decoded(self) -> str:
        """The value as people read it: encoded words decoded (RFC 2047), unknown charsets too as well as can be."""
        return decodeWords(self.value)


class Headers:
    """The fields of one header section, read when first asked for.

    Names are found in any case. ``headers["Subject"]`` is the value of the first such field, or None as in Python's email package. Iteration gives
    a (name, value) pair for each well-formed field, in order; `fields` has the malformed ones too, in their places.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The header section as it stands, without the empty line."""

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Every field, malformed ones in their places: together their `raw` is that of the section."""
        ends = [found.end() for found in _FIELD_END.finditer(self.raw)]
        if not ends or ends[-1] < len(self.raw):
            ends.append(len(self.raw))
        return tuple(Field.parse(self.raw[start:end]) for start, end in zip([0, *ends], ends, strict=False) if end)

    @cached_property
    def defects(self) -> tuple[Defect, ...]:
        """What is wrong with the fields, in their order."""
        return tuple(Defect(field.defect, field.raw) for field in self.fields if field.defect)

    @cached_property
    def _byName(self) -> dict[str, list[Field]]:
        found: dict[str, list[Field]] = {}
        for field in self.fields:
            if field.name:
                found.setdefault(field.name.lower(), []).append(field)
        return found

    def __getitem__(self, name: str) -> str | None:
        """The value of the first field called `name`, or None."""
        return self.get(name)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the first field called `name`, encoded words as they stand; else `default`."""
        found = self._byName.get(name.lower())
        return found[0].value if found else default

    def getAll(self, name: str) -> list[str]:
        """The values of all fields called `name`, in order; an empty list when there is none."""
        return [field.value for field in self._byName.get(name.lower(), ())]

    def decoded(self, name: str, default: str | None = None) -> str | None:
        """The value of the first field called `name` as people read it, encoded words decoded (RFC 2047); else `default`."""
        found = self._byName.get(name.lower())
        return found[0].decoded if found else default

    def rawField(self, name: str) -> bytes:
        """The first field called `name` as it stands, folds and line end included; empty when there is none."""
        found = self._byName.get(name.lower())
        return found[0].raw if found else b""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._byName

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((field.name, field.value) for field in self.fields if field.name)

    def __len__(self) -> int:
        """How many well-formed fields there are."""
        return sum(map(len, self._byName.values()))


def findEmptyLine(octets: bytes | bytearray, start: int, end: int) -> tuple[int, int] | None:
    """Where the first empty line begins and ends, or None. `start` is at a line end: the line after it is the first that is looked at."""
    found = _EMPTY_LINE.search(octets, start, end)
    return found.span(1) if found else None
