"""Sizes and times as people write them: ``50M``, ``1.5k``, ``90``, ``5m``.

Knows suffixes and nothing else.
"""

from __future__ import annotations

import re

_SIZE = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_TIME = {"": 1, "s": 1, "m": 60, "h": 3600}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]?)")


def parseSize(text: str) -> int:
    """Octets from a number with a suffix k, M or G (powers of 1024, in any case) or none.

    Raises:
        ValueError: it is something else; the text says what a size is.
    """
    return int(_parse(text, _SIZE, "a size is a number, with k, M or G behind it or nothing"))


def parseTime(text: str) -> float:
    """Seconds from a number with a suffix s, m or h, or none.

    Raises:
        ValueError: it is something else; the text says what a time is.
    """
    return _parse(text, _TIME, "a time is a number of seconds, or one with s, m or h behind it")


def parseCount(text: str) -> int:
    """A whole number.

    Raises:
        ValueError: it is something else.
    """
    if not text.isdecimal() or not text.isascii():
        raise ValueError("a whole number is needed")
    return int(text)


def _parse(text: str, suffixes: dict[str, int], complaint: str) -> float:
    match = _NUMBER.fullmatch(text)
    factor = suffixes.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(complaint)
    return float(match[1]) * factor if "." in match[1] else int(match[1]) * factor


def sizeText(octets: float) -> str:
    """The shortest text that `parseSize` reads as `octets`."""
    return _text(octets, (("G", 1024**3), ("M", 1024**2), ("k", 1024)))


def timeText(seconds: float) -> str:
    """`seconds` as `parseTime` reads them: in hours where they are whole hours."""
    return _text(seconds, (("h", 3600),))


def countText(number: float) -> str:
    """A whole number, all digits."""
    return _text(number, ())


def _text(value: float, suffixes: tuple[tuple[str, int], ...]) -> str:
    for suffix, factor in suffixes:
        if value and value % factor == 0:
            return f"{value / factor:g}{suffix}"
    return f"{value:.15g}"
