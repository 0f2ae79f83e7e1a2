"""The command line of the server: its options in groups, their values checked and named when they are wrong.

Knows what each option means and what its value may be. Must not know how the service is built from them: that is `tap`.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple, NoReturn

from twisted.python import usage

from twisted import copyright as twistedCopyright

from .. import __version__
from ..delivery.registry import allDeliveries
from ..dialogue.extensions import EXTENSIONS
from ..model.limits import BareLineEnds, Limits
from ..model.networks import Networks
from ..plugins import listing
from ..policy.registry import allPolicies
from . import authoptions, ports, tlsoptions
from .authoptions import AuthOptions
from .exitstatus import fail
from .log import FORMS
from .ports import DEFAULT_INTERFACE, DEFAULT_PORT
from .quantity import countText, parseCount, parseSize, parseTime, sizeText, timeText
from .rows import Group, Row, helpText
from .tlsoptions import TLSOptions

DEFAULT_DELIVERY = "maildir:Maildir"

# RFC 5321 2.3.5, 4.1.3: a domain name, or an address literal.
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[!-Z^-~]+\]")


class Unit(NamedTuple):
    """How the values of a `Limits` field are written: the word for them, and both ways between text and number."""

    word: str
    parse: Callable[[str], float]
    text: Callable[[float], str]


UNITS = {
    "octets": Unit("SIZE", parseSize, sizeText),
    "octets/s": Unit("SIZE", parseSize, sizeText),
    "count": Unit("N", parseCount, countText),
    "seconds": Unit("TIME", parseTime, timeText),
}
_HONOURED = tuple(extension.keyword for extension in EXTENSIONS if extension.honoured)
LIMITS = tuple(row for row in fields(Limits) if "option" in row.metadata)
"""The fields of `Limits` that have an option of their own."""


def _limitRows(*units: str) -> tuple[Row, ...]:
    rows = []
    for limit in LIMITS:
        what = limit.metadata
        if what["unit"] in units:
            unit = UNITS[what["unit"]]
            least = f"; at least {unit.text(what['least'])}" if what["least"] and "at least" not in what["meaning"] else ""
            default = f" (default {unit.text(limit.default)}{least})"  # type: ignore[arg-type]
            rows.append(Row(what["option"], unit.word, what["meaning"] + default))
    return tuple(rows)


GROUPS: tuple[Group, ...] = (
    (
        "Where to listen",
        (
            *ports.ROWS,
            Row("hostname", "NAME", "name of this server in greeting and trace headers (default the computer's name)"),
        ),
    ),
    (
        "Behind a proxy",
        (
            Row(
                "trusted-proxy",
                "NETWORK",
                "whoever connects from there is a proxy, and must send a PROXY header first (version 1 or 2); such as 192.0.2.0/24, ::1, or unix for "
                "unix sockets; may be repeated",
            ),
            Row("xclient", "NETWORK", "whoever connects from there may use XCLIENT and XFORWARD; as above; may be repeated"),
        ),
    ),
    (
        "Where mail goes",
        (
            Row("delivery", "NAME:ARGUMENT", f"may be repeated: a message is accepted when every one has it (default {DEFAULT_DELIVERY})"),
            Row("list-deliveries", "", "show the deliveries that are installed, with their arguments, and exit"),
        ),
    ),
    (
        "Who is welcome",
        (
            Row("policy", "NAME:ARGUMENT", "asked before the delivery; may be repeated: the first that refuses counts, such as rate:messages=100/h"),
            Row("list-policies", "", "show the policies that are installed, with their arguments, and exit"),
        ),
    ),
    ("TLS", tlsoptions.ROWS),
    ("Users", authoptions.ROWS),
    (
        "What is accepted",
        (
            Row(
                "offer",
                "KEYWORD",
                f"offer an extension although the delivery does not say that it acts on it: {', '.join(_HONOURED)}; may be repeated",
            ),
            Row("bare-line-ends", "refuse|normalise", "what to do with a message that holds a CR or LF alone, or a NUL (default refuse)"),
            Row("lenient-paths", "", "admit MAIL and RCPT without angle brackets, or with spaces behind the colon"),
        ),
    ),
    ("Sizes and counts", _limitRows("octets", "count")),
    ("Times and rates", _limitRows("seconds", "octets/s")),
    (
        "Processes",
        (
            Row("workers", "N|auto", "serve with N processes, or one for each processor (default: with one, without a supervisor)"),
            Row("worker-timeout", "TIME", "wait for a sign of life of a worker before it is killed and replaced; 0: no limit (default 60)"),
        ),
    ),
    (
        "Log",
        (
            Row("log-format", "text|json", "form of every line of the log (default text)"),
            Row("verbose", "", "log what goes over the wire too, without the text of messages and without secrets"),
        ),
    ),
    ("Other", (Row("version", "", "show the version and exit"), Row("help", "", "show this and exit"))),
)


# Options whose value goes to a method of their own: they may be repeated.
_REPEATED = {"trusted-proxy", "xclient", "delivery", "policy", "offer", *ports.ENDPOINTS, *tlsoptions.REPEATED, *authoptions.REPEATED}


class Options(TLSOptions, AuthOptions):
    """Parses the options of ``twistd smtplite``, ``twist smtplite`` and ``smtplite``.

    Attributes:
        endpoints: the endpoint strings, by the option that names them.
        proxies: the networks of ``--trusted-proxy``.
        xclients: the networks of ``--xclient``.
        deliveries: the values of ``--delivery``, or the default.
        policies: the values of ``--policy``.
        offers: the values of ``--offer``.
        limits: the `Limits` that were asked for.
        arguments: what was parsed, for processes that parse it again.
    """

    optParameters: ClassVar[list[list[object]]] = [
        [row.name, None, None, row.meaning] for _, rows in GROUPS for row in rows if row.value and row.name not in _REPEATED
    ]
    optFlags: ClassVar[list[tuple[object, ...]]] = [
        ("verbose", "v", ""),
        *((name, None, "") for name in ("lenient-paths", "submission", *tlsoptions.FLAGS, *authoptions.FLAGS)),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: dict[str, list[str]] = {name: [] for name in ports.ENDPOINTS}
        self.offers: list[str] = []
        self.proxies: list[str] = []
        self.xclients: list[str] = []
        self.deliveries: list[str] = []
        self.policies: list[str] = []
        self.limits = Limits()
        self.arguments: list[str] = []

    def opt_listen(self, endpoint: str) -> None:
        """Adds an endpoint."""
        self.endpoints["listen"].append(endpoint)

    def opt_listen_tls(self, endpoint: str) -> None:
        """Adds an endpoint where TLS begins with the connection."""
        self.endpoints["listen-tls"].append(endpoint)

    def opt_listen_submission(self, endpoint: str) -> None:
        """Adds an endpoint for submission."""
        self.endpoints["listen-submission"].append(endpoint)

    def opt_listen_lmtp(self, endpoint: str) -> None:
        """Adds an endpoint for LMTP."""
        try:
            ports.checkLMTPEndpoint(endpoint)
        except ValueError as error:
            raise usage.UsageError(f"--listen-lmtp {endpoint}: {error}") from None
        self.endpoints["listen-lmtp"].append(endpoint)

    def opt_offer(self, keyword: str) -> None:
        """Adds an extension that is offered whatever the delivery says."""
        if keyword.upper() not in _HONOURED:
            raise usage.UsageError(f"--offer {keyword}: it must be one of {', '.join(_HONOURED)}")
        self.offers.append(keyword.upper())

    def opt_trusted_proxy(self, network: str) -> None:
        """Adds a network of proxies."""
        self.proxies.append(_network("trusted-proxy", network))

    def opt_xclient(self, network: str) -> None:
        """Adds a network that is trusted to speak for others."""
        self.xclients.append(_network("xclient", network))

    def opt_delivery(self, delivery: str) -> None:
        """Adds a delivery."""
        self.deliveries.append(delivery)

    def opt_list_deliveries(self) -> NoReturn:
        """Shows the deliveries that are installed, with their arguments."""
        print(listing(allDeliveries()))
        sys.exit(0)

    def opt_policy(self, policy: str) -> None:
        """Adds a policy."""
        self.policies.append(policy)

    def opt_list_policies(self) -> NoReturn:
        """Shows the policies that are installed, with their arguments."""
        print(listing(allPolicies()))
        sys.exit(0)

    def opt_version(self) -> NoReturn:
        """Shows the version."""
        print(f"twisted-smtplite {__version__} (Twisted {twistedCopyright.version}, Python {platform.python_version()})")
        sys.exit(0)

    def parseArgs(self, *arguments: str) -> None:
        """There are none.

        Raises:
            usage.UsageError: there is one.
        """
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parses the command line.

        Raises:
            usage.UsageError: an option is unknown, or its value is wrong; one sentence.
            SystemExit: the same as a part of ``twistd`` or ``twist``, which would show a page of help instead of the sentence.
        """
        self.arguments = list(sys.argv[1:] if options is None else options)
        try:
            super().parseOptions(self.arguments)
        except usage.UsageError as error:
            if self.parent is None:
                raise
            fail(f"{error}; --help shows the options")

    def postOptions(self) -> None:
        """Checks the values and makes `limits`."""
        self._checkPorts()
        self.checkTLS()
        self.checkAuth()
        self["hostname"] = "" if self["hostname"] is None else self._value("hostname", _parseHostname)
        self["workers"] = None if self["workers"] is None else self._value("workers", _parseWorkers)
        self["worker-timeout"] = 60.0 if self["worker-timeout"] is None else self._value("worker-timeout", parseTime)
        self._choice("log-format", tuple(FORMS))
        self._choice("bare-line-ends", tuple(choice.value for choice in BareLineEnds))
        self.deliveries = self.deliveries or [DEFAULT_DELIVERY]
        self.limits = self._makeLimits()

    def _checkPorts(self) -> None:
        numbers = [name for name in ports.NUMBERED if self[name] is not None]
        for name in numbers:
            self[name] = self._value(name, ports.parseLMTPPort if name == "lmtp-port" else ports.parsePort)
        listed = [name for name, values in self.endpoints.items() if values]
        if self["interface"] is not None and listed and not numbers:
            raise usage.UsageError(f"--interface goes with --port: a --{listed[0]} endpoint names its own interface")
        if not numbers and not listed:
            self["port"] = DEFAULT_PORT
        if self["interface"] is None:
            self["interface"] = DEFAULT_INTERFACE
        for name in {"tls-port", "listen-tls"}.intersection(numbers + listed):
            if not self.offersTLS:
                raise usage.UsageError(f"--{name} needs a certificate: --certificate, or --self-signed for development")

    def _makeLimits(self) -> Limits:
        values: dict[str, Any] = {"lenientPaths": bool(self["lenient-paths"])}
        if self["bare-line-ends"] is not None:
            values["bareLineEnds"] = BareLineEnds(self["bare-line-ends"])
        for limit in LIMITS:
            what = limit.metadata
            if self[what["option"]] is not None:
                unit = UNITS[what["unit"]]
                value = values[limit.name] = self._value(what["option"], unit.parse)
                if value < what["least"]:
                    raise usage.UsageError(f"--{what['option']} {self[what['option']]}: it must be at least {unit.text(what['least'])}")
        return Limits(**values)

    def _value(self, name: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(self[name])
        except ValueError as error:
            raise usage.UsageError(f"--{name} {self[name]}: {error}") from None

    def _choice(self, name: str, choices: Sequence[str]) -> None:
        if self[name] not in (None, *choices):
            raise usage.UsageError(f"--{name} {self[name]}: it must be {' or '.join(choices)}")

    def getUsage(self, width: int | None = None) -> str:
        """The help, in groups."""
        return helpText(
            "Receives mail by SMTP and stores it: without options on port 2525 of this computer, into ./Maildir.",
            GROUPS,
            "A SIZE is in octets, or has k, M or G behind it; a TIME is in seconds, or has s, m or h behind it.",
            width,
        )


def _parseWorkers(text: str) -> int:
    workers = processors() if text == "auto" else parseCount(text)
    if not workers:
        raise ValueError("there must be at least one worker")
    return workers


def processors() -> int:
    """How many processors this process may use."""
    # Not cpu_count: a container, or taskset, may have given it fewer. macOS does not say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _network(option: str, text: str) -> str:
    try:
        Networks((text,))
    except ValueError as error:
        raise usage.UsageError(f"--{option} {text}: {error}") from None
    return text


def _parseHostname(text: str) -> str:
    if _HOSTNAME.fullmatch(text) is None or len(text) > 255:
        raise ValueError("a domain name or an address literal such as [192.0.2.1] is needed")
    return text
