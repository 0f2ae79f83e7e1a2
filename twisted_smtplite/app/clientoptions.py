"""The options of commands that connect to a server: which one, how protected, as whom. Their defaults can come from the environment.

Knows their values and what goes together. Must not know what is sent, nor how a connection is made.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.python import usage

from ..client.destination import Destination
from ..dialogue.grammar import parseHeloName
from ..model.clientprofile import Credentials, TLSUse
from ..model.limits import Limits
from .rows import Row

if TYPE_CHECKING:
    from ..wire.client import Trust

DEFAULT_SERVER = "localhost:2525"
"""Where ``smtplite`` without options listens."""

_USES = tuple(use.value for use in TLSUse)

ROWS = (
    Row(
        "server",
        "HOST[:PORT]",
        "server to hand mail to; also [ADDRESS]:PORT for IPv6, unix:PATH for a socket, or a client endpoint description of Twisted "
        f"(default $SMTPLITE_SERVER, or {DEFAULT_SERVER})",
    ),
    Row("lmtp", "", "speak LMTP, not SMTP: each recipient gets an answer of its own"),
    Row("hostname", "NAME", "how this host calls itself (default the computer's name, or its address where that has no domain)"),
)
"""Options for the server."""

SECURITY_ROWS = (
    Row(
        "tls",
        "|".join(_USES),
        "never: in the clear; opportunistic: STARTTLS where it is offered, whatever the certificate; encrypted: STARTTLS or nothing; "
        "required: the same with a certificate that verifies; implicit: TLS from the beginning, with such a certificate (default $SMTPLITE_TLS; "
        "else required with a login or --ca, implicit with port 465, never with a unix socket, and opportunistic else)",
    ),
    Row("ca", "PEM", "trust the authorities in this file, and no others"),
    Row("auth", "USER", "log in as USER (default $SMTPLITE_USER, or not at all)"),
    Row("password-file", "FILE", "password in the first line of this file (default $SMTPLITE_PASSWORD, or asked for)"),
    Row("allow-plaintext-auth", "", "use mechanisms that show the password also outside TLS, where everybody on the way can read it"),
)
"""Options for TLS and the login."""

FLAGS = ("lmtp", "allow-plaintext-auth")
"""Those without a value."""


class ClientOptions(usage.Options):
    """The part of a command's options that is about the server.

    Attributes:
        destination: whom to connect to, how protected and as whom.
        hostname: how this host calls itself; empty for its name.
        trust: whom to trust; None for whom the platform trusts.
        serverOption: what the user calls the option that names the server.
    """

    serverOption = "--server"

    destination: Destination
    hostname: str
    trust: Trust | None = None

    def checkClient(self, environment: Mapping[str, str], ask: Callable[[str], str] | None = None) -> None:
        """Checks the values, and makes `destination` and `hostname`.

        Args:
            environment: has what the options leave out.
            ask: asks the user for a password; left out: on the terminal, if there is one.

        Raises:
            usage.UsageError: something is wrong, or missing; one sentence.
        """
        user = self["auth"] if self["auth"] is not None else environment.get("SMTPLITE_USER", "")
        for name in ("password-file", "allow-plaintext-auth"):
            if self[name] and not user:
                raise usage.UsageError(f"--{name} goes with --auth")
        self.hostname = self._hostname()
        use = self._use(environment)
        option, server = self.serverOption, self["server"]
        if server is None:
            option, server = "SMTPLITE_SERVER", environment.get("SMTPLITE_SERVER") or DEFAULT_SERVER
        credentials = Credentials(user=user, password=self._password(user, environment, ask)) if user else None
        try:
            self.destination = Destination.of(
                server, tls=use, credentials=credentials, plaintextAuth=bool(self["allow-plaintext-auth"]), lmtp=bool(self["lmtp"])
            )
        except ValueError as error:
            raise usage.UsageError(f"{option} {server}: {error}") from None
        if self["ca"] is not None and not self.destination.tls.verifies:
            raise usage.UsageError(f"--ca goes with --tls required or implicit, not with {self.destination.tls.value}: no certificate is verified")
        if self["ca"] is not None:
            # It takes a while to load.
            from ..client.trust import trustIn

            try:
                self.trust = trustIn(self["ca"])
            except ValueError as error:
                raise usage.UsageError(f"--ca {self['ca']}: {error}") from None

    def _use(self, environment: Mapping[str, str]) -> TLSUse | None:
        option, text = "--tls", self["tls"]
        if text is None:
            option, text = "SMTPLITE_TLS", environment.get("SMTPLITE_TLS")
        if text is None:
            return TLSUse.REQUIRED if self["ca"] else None
        if text not in _USES:
            raise usage.UsageError(f"{option} {text}: it must be {', '.join(_USES[:-1])} or {_USES[-1]}")
        return TLSUse(text)

    def _hostname(self) -> str:
        given: str | None = self["hostname"]
        if given is None:
            return ""
        if parseHeloName(given, Limits()) != given:
            raise usage.UsageError(f"--hostname {given}: a domain name or an address literal such as [192.0.2.1] is needed")
        return given

    def _password(self, user: str, environment: Mapping[str, str], ask: Callable[[str], str] | None) -> str:
        if self["password-file"] is not None:
            return readPassword(self["password-file"])
        if "SMTPLITE_PASSWORD" in environment:
            return environment["SMTPLITE_PASSWORD"]
        # Standard input may be the message: the terminal is opened by itself.
        if ask is None and not sys.stderr.isatty():
            raise usage.UsageError("--auth needs a password: --password-file, or SMTPLITE_PASSWORD in the environment, where there is no terminal")
        return (ask or getpass.getpass)(f"Password of {user}: ")


def readPassword(path: str) -> str:
    """The first line of a file.

    Raises:
        usage.UsageError: it cannot be read.
    """
    try:
        return Path(path).expanduser().read_text().partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise usage.UsageError(f"--password-file {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
