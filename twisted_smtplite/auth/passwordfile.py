"""A file of users and their hashed passwords: one ``name:stored`` a line, remarks behind ``#``. What `smtplite passwd` writes.

Knows the file: how it is read, checked and replaced. Must not know how a password is hashed (`hashes`), nor who asks (`checkers`).
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes

from ..dialogue.sasl import StoredKeys
from ..dialogue.saslprep import prepare
from .hashes import schemeOf, storedKeys

# What decides which answers a user gets who is not there. It stands in the file, so that they stay the same when the server starts again.
_SECRET = re.compile(r"# decoys: ([A-Za-z0-9+/]{43}=)")
_HEAD = "# Users of twisted-smtplite, written by `smtplite passwd`.\n"


class Users:
    """What stands in a password file.

    Attributes:
        stored: what is kept of the password of each user.
        lines: the file's lines, with their ends.

    Raises:
        ValueError: a line is none that is known; the text names its number, and shows nothing of it.
    """

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines(keepends=True)
        self.stored: dict[str, str] = {}
        self._secret = token_bytes(32)
        for number, line in enumerate(self.lines, 1):
            secret = _SECRET.fullmatch(line.strip())
            if secret is not None:
                self._secret = b64decode(secret[1])
            elif line.strip() and not line.startswith("#"):
                self._add(number, line.strip())
        self._names = sorted(self.stored)

    def _add(self, number: int, line: str) -> None:
        name, _, stored = line.partition(":")
        try:
            schemeOf(stored)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not name or name != prepare(name) or name in self.stored:
            raise ValueError(f"line {number}: the name is empty, in the wrong form, or there already")
        self.stored[name] = stored

    @property
    def allHaveKeys(self) -> bool:
        """True if each user can authenticate by SCRAM, and there is one."""
        return bool(self.stored) and all(storedKeys(stored) is not None for stored in self.stored.values())

    def decoy(self, user: str) -> str | None:
        """What somebody else has stored, for a user who is not there: checking it takes as long as if he were. None if there is nobody."""
        if not self._names:
            return None
        return self.stored[self._names[int.from_bytes(self._draw(user, b"whose"), "big") % len(self._names)]]

    def keys(self, user: str) -> StoredKeys | None:
        """The keys of a user, or None if he has none."""
        return storedKeys(self.stored.get(user, ""))

    def decoyKeys(self, user: str) -> StoredKeys:
        """Keys that belong to no password, always the same for a user: to ask for them does not tell who is there (RFC 5802 9)."""
        somebody = storedKeys(self.decoy(user) or "")
        iterations = 4096 if somebody is None else somebody.iterations
        length = 16 if somebody is None else len(somebody.salt)
        return StoredKeys(self._draw(user, b"salt")[:length], self._draw(user, b"stored"), self._draw(user, b"server"), iterations)

    def _draw(self, user: str, what: bytes) -> bytes:
        return hmac.digest(self._secret, what + b":" + user.encode(), "sha256")

    def set(self, user: str, stored: str | None) -> None:
        """Changes what is stored for a user, or with None takes him out.

        Raises:
            KeyError: he is to be taken out, and is not there.
        """
        if stored is None:
            del self.stored[user]
        else:
            self.stored[user] = stored
        new = [] if stored is None else [f"{user}:{stored}\n"]
        place = next((index for index, line in enumerate(self.lines) if line.startswith(f"{user}:")), len(self.lines))
        if self.lines and not self.lines[-1].endswith("\n"):
            self.lines[-1] += "\n"
        self.lines[place : place + 1] = new
        if not any(_SECRET.fullmatch(line.strip()) for line in self.lines):
            self.lines[:0] = [_HEAD, f"# decoys: {b64encode(self._secret).decode()}\n"]

    @property
    def text(self) -> str:
        """The file's content."""
        return "".join(self.lines)


class PasswordFile:
    """A password file that is read again whenever it has changed.

    Args:
        path: where it is.

    Raises:
        OSError: it cannot be read.
        ValueError: it is malformed.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._seen: tuple[int, ...] = ()
        self._users = Users("")
        self.users()

    def users(self) -> Users:
        """What stands in it now.

        Raises:
            OSError: it cannot be read.
            ValueError: it is malformed.
        """
        found = self.path.stat()
        seen = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if seen != self._seen:
            self._users = Users(self.path.read_text("utf-8"))
            self._seen = seen
        return self._users


def change(path: str, action: Callable[[Users], None]) -> None:
    """Changes a password file, which is made when it is not there. It is replaced as a whole, or not at all; one at a time does so.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it is malformed.
    """
    target = Path(path)
    # What is changed is the file behind a link, not the link.
    target = target.resolve()
    with _locked(target.parent) as directory:
        existing = target.stat() if target.exists() else None
        users = Users(target.read_text("utf-8") if existing is not None else "")
        action(users)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        try:
            _write(temporary, users.text, existing)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        os.fsync(directory)


def _write(path: Path, text: str, like: os.stat_result | None) -> None:
    """Writes a new file for its owner alone, or with the owner and mode of the one that it is to replace."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if like is not None:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, like.st_uid, like.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
        file.write(text)
        file.flush()
        os.fsync(descriptor)


@contextmanager
def _locked(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
