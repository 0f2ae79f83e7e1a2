"""The command ``smtplite passwd``: writes the file of users that ``--password-file`` reads.

Knows its options, and how to ask for a password. Must not know how a password is hashed, nor how the file is written.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import getpass
import sys
import warnings
from collections.abc import Sequence
from typing import ClassVar

from twisted.python import usage

from ..auth.hashes import SCHEMES, hashPassword, schemeOf
from ..auth.passwordfile import PasswordFile, Users, change
from ..dialogue.saslprep import prepare
from .exitstatus import ExitStatus, fail

# RFC 4616 2: no mechanism carries more.
_LONGEST = 255


class PasswdOptions(usage.Options):
    """The options of ``smtplite passwd``."""

    synopsis = "Usage: smtplite passwd [options] FILE USER\n       smtplite passwd --list FILE"
    longdesc = "Sets the password of a user, asked for twice. FILE is made when it is not there, readable for its owner alone."
    optParameters: ClassVar[list[list[object]]] = [
        ["hash", None, next(iter(SCHEMES)), f"how to keep it: {', '.join(SCHEMES)}; users with scram-sha-256 can also authenticate by SCRAM"]
    ]
    optFlags: ClassVar[list[list[object]]] = [
        ["stdin", None, "take the password from the first line of standard input"],
        ["delete", None, "take the user out"],
        ["list", None, "show who is in the file, and how the passwords are kept"],
    ]

    def parseArgs(self, *arguments: str) -> None:
        """FILE and USER, or FILE alone for a list."""
        wanted = 1 if self["list"] else 2
        if len(arguments) != wanted:
            raise usage.UsageError("FILE is needed" if wanted == 1 else "FILE and USER are needed")
        self["file"] = arguments[0]
        self["user"] = "" if self["list"] else arguments[1]

    def postOptions(self) -> None:
        """Checks the values."""
        if self["hash"] not in SCHEMES:
            raise usage.UsageError(f"--hash {self['hash']}: it must be one of {', '.join(SCHEMES)}")
        if self["list"] and self["delete"]:
            raise usage.UsageError("--list and --delete do not go together")


def passwd(arguments: Sequence[str]) -> None:
    """Changes a password file, or shows who is in it.

    Raises:
        SystemExit: an option is wrong (64), or something cannot be used (1); one sentence on standard error.
    """
    options = PasswdOptions()
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        fail(f"passwd: {error}; --help shows the options", ExitStatus.USAGE)
    try:
        _run(options)
    except OSError as error:
        fail(f"passwd: {options['file']}: {error.strerror}")
    except (ValueError, ImportError) as error:
        fail(f"passwd: {options['file']}: {error}")


def _run(options: PasswdOptions) -> None:
    if options["list"]:
        for name, kept in PasswordFile(options["file"]).users().stored.items():
            print(f"{name}\t{schemeOf(kept).name}")
        return
    user = prepare(options["user"])
    # The file has the name in front of the first colon, and remarks behind the sign for them.
    if user is None or ":" in user or user.startswith("#") or user != user.strip() or len(user.encode()) > _LONGEST:
        raise ValueError("a user's name is 1 to 255 octets without colons and control characters, and does not begin with #")
    stored = None if options["delete"] else hashPassword(_password(options), options["hash"])

    def act(users: Users) -> None:
        if stored is None and user not in users.stored:
            raise ValueError(f"there is no user {user}")
        users.set(user, stored)

    change(options["file"], act)


def _ask() -> str:
    with warnings.catch_warnings():
        # Where there is no terminal it would read on from standard input.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            first = getpass.getpass("Password: ")
            again = getpass.getpass("Password again: ")
        except (getpass.GetPassWarning, EOFError):
            raise ValueError("there is no terminal to ask for a password on; --stdin reads it from standard input") from None
    if again != first:
        raise ValueError("the passwords are not the same")
    return first


def _password(options: PasswdOptions) -> str:
    """The new password, from where it is to come."""
    password = prepare(sys.stdin.readline().rstrip("\r\n") if options["stdin"] else _ask())
    if password is None or len(password.encode()) > _LONGEST:
        raise ValueError("a password is 1 to 255 octets without control characters")
    return password
