"""What stands behind ``relay:`` and ``mx`` on the command line: ``SERVER?name=value&name=value``.

Knows the options and their forms. Must not know what is made of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from ..dialogue.grammar import parseHeloName
from ..model.limits import Limits
from ..model.networks import Networks

T = TypeVar("T")

_TIME = re.compile(r"([0-9]{1,9})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Arguments:
    """The options of one argument, each asked for by its name.

    Args:
        query: what stands behind the question mark. A value may have any octet as ``%XX``.
        names: the options that there are.

    Raises:
        ValueError: an option is not known, has no value, or stands twice; a sentence.
    """

    def __init__(self, query: str, names: Mapping[str, str]) -> None:
        self._values: dict[str, str] = {}
        for option in filter(None, query.split("&")):
            name, equals, value = option.partition("=")
            if name not in names:
                raise ValueError(f"unknown option {name!r}: the known ones are {', '.join(names)}")
            if not equals or not value:
                raise ValueError(f"option {name} needs a value: {name}={names[name]}")
            if name in self._values:
                raise ValueError(f"option {name} is given twice")
            self._values[name] = unquote(value)

    def text(self, name: str, default: str = "") -> str:
        """The value of an option, or the default."""
        return self._values.get(name, default)

    def parsed(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """The parsed value of an option, or the default.

        Raises:
            ValueError: it cannot be parsed; the text names the option and its value.
        """
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"option {name}={value}: {error}") from error


def parseFlag(text: str) -> bool:
    """0 or 1."""
    if text not in ("0", "1"):
        raise ValueError("it must be 0 or 1")
    return text == "1"


def parseCount(text: str) -> int:
    """A whole number above 0."""
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise ValueError("it must be a whole number above 0")
    return int(text)


def parseTime(text: str) -> float:
    """Seconds, from a whole number with s, m, h or d behind it or nothing."""
    found = _TIME.fullmatch(text)
    if found is None or not int(found[1]):
        raise ValueError("it must be a whole number above 0 with s, m, h or d behind it, such as 4d")
    return float(int(found[1]) * _SECONDS[found[2]])


def parseNetworks(text: str) -> Networks:
    """Networks, separated by commas."""
    return Networks(filter(None, text.split(",")))


def parseHostname(text: str) -> str:
    """A domain or an address literal (RFC 5321 4.1.4)."""
    if parseHeloName(text, Limits()) != text:
        raise ValueError("it must be a domain name or an address literal")
    return text


def parsePassword(path: str) -> str:
    """The first line of a file."""
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            password = file.readline().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    if not password:
        raise ValueError("there is no password in its first line")
    return password
