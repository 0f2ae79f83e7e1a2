"""Lists of addresses, users or networks that people write: on the command line, or in a file that is read again when it changes.

Knows files, and what a pattern matches. Must not know what being in a list means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar, cast

from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.logger import Logger

from ..model.address import Address

_log = Logger(namespace="smtplite")
_T = TypeVar("_T")

_LOOK_EVERY = 1.0
"""Seconds for which a file is taken to be what it was."""


class AddressPatterns:
    """Addresses by patterns, compared without case.

    A pattern is an address (``ben@mx.test``), a domain (``@mx.test`` or ``mx.test``), a domain with all below it (``.mx.test``), the null
    reverse-path (``<>``), or any of these with ``*`` for any text and ``?`` for any character (``*-list@mx.test``).

    Raises:
        ValueError: a pattern is none; it says which.
    """

    __slots__ = ("_domains", "_exact", "_glob", "_trees")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._domains: set[str] = set()
        self._trees: set[str] = set()
        globs: list[str] = []
        for pattern in patterns:
            name = pattern.lower()
            if not name or not name.isprintable() or " " in name:
                raise ValueError(f"{pattern!r} is no address, domain or pattern")
            if "*" in name or "?" in name:
                globs.append(_expression(name))
            elif name == "<>":
                self._exact.add("")
            elif name.startswith("."):
                self._trees.add(name)
            elif name.startswith("@") or "@" not in name:
                self._domains.add(name.removeprefix("@"))
            else:
                self._exact.add(name)
        self._glob = re.compile("|".join(globs)) if globs else None

    def __contains__(self, address: Address) -> bool:
        name = str(address).lower()
        domain = address.domain.lower()
        if name in self._exact or (domain in self._domains and domain):
            return True
        if self._trees and any(domain.endswith(tree) or domain == tree[1:] for tree in self._trees):
            return True
        return self._glob is not None and self._glob.fullmatch(name) is not None


def _expression(pattern: str) -> str:
    """The regular expression of a pattern with ``*`` or ``?``. Without @ it is one of a domain."""
    if "@" not in pattern or pattern.startswith("@"):
        pattern = "*@" + pattern.removeprefix("@")
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in re.sub(r"\*+", "*", pattern))


class WatchedFile(Generic[_T]):
    """What is in a file, read again when that changes: looked at once a second at most, when it is asked for.

    A file that cannot be read any more, or holds what it must not, is logged, and what was there before stays. Reading blocks: such files are small
    and on a local disk.

    Args:
        path: of the file.
        parse: makes the content of the lines, comments and empty ones left out; raises ValueError where it cannot.
        clock: the reactor's.

    Raises:
        ValueError: the file cannot be used now.
    """

    def __init__(self, path: str, parse: Callable[[Sequence[str]], _T], clock: IReactorTime) -> None:
        # A server may change its directory later.
        self._path = Path(path).absolute()
        self._parse = parse
        self._clock = clock
        self._looked = clock.seconds()
        try:
            self._state = self._look()
            self._content = self._read()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __call__(self) -> _T:
        """The content."""
        now = self._clock.seconds()
        if not 0 <= now - self._looked < _LOOK_EVERY:
            self._looked = now
            try:
                state = self._look()
                if state != self._state:
                    # Before it is read: a file that cannot be used is not tried again until it changes.
                    self._state = state
                    self._content = self._read()
                    _log.info("{path} has changed and was read again", path=str(self._path))
            except (OSError, ValueError) as error:
                if self._state is not None or isinstance(error, ValueError):
                    _log.error("{path} cannot be used, what it was before counts: {error}", path=str(self._path), error=str(error))
                if isinstance(error, OSError):
                    self._state = None
        return self._content

    def _look(self) -> tuple[int, ...] | None:
        found = self._path.stat()
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self) -> _T:
        # UnicodeDecodeError is a ValueError.
        lines = (line.partition("#")[0].strip() for line in self._path.read_text("utf-8").splitlines())
        return self._parse([line for line in lines if line])


def parseList(argument: str, parse: Callable[[Sequence[str]], _T], reactor: IReactorCore) -> tuple[bool, Callable[[], _T]]:
    """Reads ``allow=ITEM,ITEM``, ``deny=ITEM,ITEM``, ``allow-file=PATH`` or ``deny-file=PATH``.

    Args:
        argument: as on the command line.
        parse: makes the list of its items.
        reactor: its clock says when a file is looked at.

    Returns:
        True to allow those on the list alone, False to deny them; and what gives the list as it is now.

    Raises:
        ValueError: the argument is none of these, or the list cannot be used.
    """
    mode, equals, items = argument.partition("=")
    if mode not in ("allow", "deny", "allow-file", "deny-file") or not equals or not items:
        raise ValueError("it needs allow=ITEM,ITEM or deny=ITEM,ITEM, or allow-file=PATH or deny-file=PATH")
    if mode.endswith("-file"):
        return mode == "allow-file", WatchedFile(items, parse, cast(IReactorTime, reactor))
    content = parse([item.strip() for item in items.split(",")])
    return mode == "allow", lambda: content


LIST_HELP = (
    "allow=ITEM,ITEM        only these are welcome\n"
    "deny=ITEM,ITEM         these are not welcome\n"
    "allow-file=PATH        as allow, one item a line, # begins a comment; read again when it changes\n"
    "deny-file=PATH         as deny, likewise"
)
"""What the argument of a policy with a list may be."""
ADDRESS_HELP = "\nan ITEM is an address, a domain (mx.test), a domain with all below it (.mx.test), <>, or one of these with * and ?"
