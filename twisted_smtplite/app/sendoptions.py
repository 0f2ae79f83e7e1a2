"""The options of ``smtplite send``, their values checked and named when they are wrong.

Knows what each option means and what its value may be. Must not know how messages are sent.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from getopt import GetoptError, gnu_getopt
from typing import Any, ClassVar

from twisted.python import usage

from ..client.addressing import parseAddress, parseAddresses
from ..model.address import Address
from . import clientoptions
from .clientoptions import ClientOptions
from .quantity import parseCount
from .rows import Group, Row, helpText

_CONNECTIONS = 8
_MESSAGES = 1000
_NOTIFY = ("never", "success", "failure", "delay")
_RET = ("full", "hdrs")

GROUPS: tuple[Group, ...] = (
    (
        "Where to",
        (
            *clientoptions.ROWS,
            Row("mx", "", "send to the mail servers of the recipients' domains, as DNS names them, and not to one server"),
            Row("connections", "N", f"connections at a time, to each server (default {_CONNECTIONS})"),
            Row("messages-per-connection", "N", f"messages before a connection is replaced by another (default {_MESSAGES})"),
        ),
    ),
    (
        "Envelope",
        (
            Row("from", "ADDRESS", "sender, whom failures are reported to; <> for none (default: from the header fields of each message)"),
            Row("to", "ADDRESS,...", "recipients; may be repeated (default: from the header fields of each message, Bcc too)"),
            Row("notify", "WHEN,...", "ask for reports (RFC 3461): never, or of success, failure and delay"),
            Row("ret", "|".join(_RET), "what such a report is to return: the message, or its header alone"),
            Row("envid", "TEXT", "what such a report is to name"),
            Row("require-tls", "", "demand verified TLS on the whole way (RFC 8689)"),
            Row("priority", "N", "-9 to 9, for servers that know priorities (RFC 6710)"),
        ),
    ),
    ("TLS and login", clientoptions.SECURITY_ROWS),
    (
        "What is shown",
        (
            Row("dry-run", "", "show who would get what, and connect nowhere"),
            Row("transcript", "", "show the dialogue with the server on standard error, without the text of messages and without secrets"),
            Row("json", "", "show each message as one JSON object a line"),
            Row("quiet", "", "show failures alone"),
            Row("help", "", "show this and exit"),
        ),
    ),
)
_REPEATED = ("to",)
_SYNOPSIS = "Usage: smtplite send [options] FILE|MAILDIR|MBOX|- ..."
_BEFORE = "Sends messages: files, Maildirs, mboxes, or standard input (-). Bcc fields are taken out where the recipients come from the header fields."
_BEHIND = (
    "Ends with 0 when all was accepted; 64: an option is wrong, 65: a message cannot be sent, 66: what is to be sent cannot be read, "
    "67: a recipient is unknown, 77: the login is refused or missing, 69: refused for another reason, or for several; "
    "75: all that failed may be sent again later."
)


class SendOptions(ClientOptions):
    """Parses the options of ``smtplite send``.

    Attributes:
        names: what is to be sent.
        sender: of every message, or None for what each message says.
        recipients: of every message; empty for what each message says.
        notify: of RFC 3461, or None.
        connections: at a time.
        messagesPerConnection: after which it is replaced.
        priority: of RFC 6710.
    """

    synopsis = _SYNOPSIS
    optParameters: ClassVar[list[list[object]]] = [
        [row.name, None, None, row.meaning] for _, rows in GROUPS for row in rows if row.value and row.name not in _REPEATED
    ]
    optFlags: ClassVar[list[tuple[object, ...]]] = [
        *((name, None, "") for name in (*clientoptions.FLAGS, "mx", "require-tls", "dry-run", "transcript", "json", "quiet")),
    ]

    def __init__(self, environment: Mapping[str, str], ask: Callable[[str], str] | None = None) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sender: Address | None = None
        self.recipients: list[Address] = []
        self.notify: frozenset[str] | None = None
        self._environment = environment
        self._ask = ask

    def opt_to(self, addresses: str) -> None:
        """Adds recipients."""
        try:
            found = parseAddresses(addresses)
        except ValueError as error:
            raise usage.UsageError(f"--to {addresses}: {error}") from None
        if not found:
            raise usage.UsageError(f"--to {addresses}: an address is needed")
        self.recipients += found

    def opt_version(self) -> None:
        """Is an option of ``smtplite`` alone.

        Raises:
            usage.UsageError: always.
        """
        raise usage.UsageError("option --version not recognized")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parses the command line. Options may stand behind what is to be sent, as in other mail programs.

        Raises:
            usage.UsageError: an option is unknown, or its value is wrong; one sentence.
        """
        try:
            given, names = gnu_getopt(list(options or ()), self.shortOpt, self.longOpt)
        except GetoptError as error:
            raise usage.UsageError(str(error)) from None
        flags = [f"--{name}" for name in self.longOpt if not name.endswith("=")]
        ordered = [part for name, value in given for part in ((name,) if name in flags else (name, value))]
        super().parseOptions([*ordered, "--", *names])

    def parseArgs(self, *arguments: str) -> None:
        """What is to be sent.

        Raises:
            usage.UsageError: nothing is.
        """
        if not arguments:
            raise usage.UsageError("a file, Maildir or mbox is needed, or - for standard input")
        self.names = list(arguments)

    def postOptions(self) -> None:
        """Checks the values."""
        if self["from"] is not None:
            self.sender = self._value("from", parseAddress)
        self.notify = self._value("notify", _parseNotify) if self["notify"] is not None else None
        if self["ret"] not in (None, *_RET):
            raise usage.UsageError(f"--ret {self['ret']}: it must be {' or '.join(_RET)}")
        if self["envid"] is not None and not (0 < len(self["envid"]) <= 100 and self["envid"].isascii() and self["envid"].isprintable()):
            # RFC 3461 4.4: not longer than 100 characters.
            raise usage.UsageError(f"--envid {self['envid']}: 1 to 100 printable ASCII characters are needed")
        self.priority = self._value("priority", _parsePriority) if self["priority"] is not None else 0
        self.connections = self._value("connections", _parseSome) if self["connections"] is not None else _CONNECTIONS
        self.messagesPerConnection = self._value("messages-per-connection", _parseSome) if self["messages-per-connection"] is not None else _MESSAGES
        if self["mx"]:
            for name in ("server", "lmtp", "auth"):
                if self[name]:
                    raise usage.UsageError(f"--mx and --{name} do not go together: the recipients' domains name the servers")
        # RFC 8689 4.2.1: such a message goes nowhere but over TLS that verifies.
        if self["require-tls"] and self["tls"] is None:
            self["tls"] = "required"
        if self["require-tls"] and self["tls"] not in ("required", "implicit"):
            raise usage.UsageError(f"--require-tls goes with --tls required or implicit, not with {self['tls']}")
        self.checkClient({} if self["mx"] else self._environment, self._ask)

    def _value(self, name: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(self[name])
        except ValueError as error:
            raise usage.UsageError(f"--{name} {self[name]}: {error}") from None

    def getUsage(self, width: int | None = None) -> str:
        """The help, in groups."""
        return helpText(_BEFORE, GROUPS, _BEHIND, width)

    def opt_help(self) -> None:
        """Shows the help.

        Raises:
            SystemExit: always.
        """
        print(f"{self.synopsis}\n{self.getUsage()}", end="")
        sys.exit(0)


def _parseNotify(text: str) -> frozenset[str]:
    wanted = text.lower().split(",")
    if not set(wanted) <= set(_NOTIFY) or ("never" in wanted and len(wanted) > 1):
        raise ValueError("never is needed, or some of success, failure and delay, with commas between them")
    return frozenset(word.upper() for word in wanted)


def _parsePriority(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    number = parseCount(text.removeprefix("-"))
    if number > 9:
        raise ValueError("-9 to 9 is needed")
    return sign * number


def _parseSome(text: str) -> int:
    number = parseCount(text)
    if not number:
        raise ValueError("at least 1 is needed")
    return number
