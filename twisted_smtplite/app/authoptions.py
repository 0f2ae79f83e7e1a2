"""The options for AUTH: who may authenticate, and how.

Knows their values, and what the checkers of Twisted are called. Must not know ports, nor how a password is checked.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from twisted.cred import strcred
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.logger import Logger
from twisted.python import usage

from ..auth.authenticator import Authenticator, byItsName, chosen
from ..auth.checkers import PasswordFileChecker
from ..auth.passwordfile import PasswordFile
from ..auth.threads import FewThreads
from ..dialogue.dialect import Dialect
from ..model.envelope import SessionInfo
from ..model.limits import Limits
from .rows import Row

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore, IReactorThreads, IReactorTime

    from ..model.profile import Profile

_log = Logger(namespace="smtplite")
_OURS = "smtplite"
_CERTIFICATE = "certificate"

ROWS = (
    Row(
        "auth",
        "TYPE:ARGUMENT",
        "who may authenticate: smtplite:FILE, written by `smtplite passwd`; certificate: whoever has one that --client-ca signed; or a checker "
        "of Twisted such as file:FILE (clear text) or unix; may be repeated: they are asked in order, and the first that knows the user decides",
    ),
    Row("list-auth", "", "show the checkers that are installed, with their arguments, and exit"),
    Row("password-file", "FILE", "the same as --auth smtplite:FILE"),
    Row("mechanisms", "NAME,...", "the SASL mechanisms to offer, the preferred first (default those that every user can use, the strongest first)"),
    Row("allow-plaintext-auth", "", "offer mechanisms that show the password also outside TLS, where everybody on the way can read it"),
    Row("require-auth", "", "refuse mail from clients that have not authenticated"),
)
"""The options of this file."""

REPEATED = ("auth", "password-file")
"""Those that may be repeated."""

FLAGS = ("allow-plaintext-auth", "require-auth")
"""Those without a value."""


class AuthOptions(usage.Options):
    """The part of the options that is about AUTH.

    Attributes:
        checkers: the values of ``--auth``, and those of ``--password-file`` in the same form.
    """

    def __init__(self) -> None:
        super().__init__()
        self.checkers: list[str] = []

    def opt_auth(self, checker: str) -> None:
        """Adds a checker."""
        self.checkers.append(checker)

    def opt_password_file(self, path: str) -> None:
        """Adds a password file."""
        self.checkers.append(f"{_OURS}:{path}")

    def opt_list_auth(self) -> NoReturn:
        """Shows the checkers that are installed."""
        print(f"{_OURS}: a file written by `smtplite passwd`\n    {_OURS}:FILE")
        print(f"{_CERTIFICATE}: clients with a certificate that --client-ca signed, by the name in it")
        for factory in sorted(_factories(), key=lambda factory: factory.authType):
            print(f"{factory.authType}: {factory.argStringFormat}")
        sys.exit(0)

    def checkAuth(self) -> None:
        """Checks what goes together.

        Raises:
            usage.UsageError: something does not; one sentence.
        """
        for name in ("mechanisms", "require-auth", "allow-plaintext-auth"):
            if self[name] and not self.checkers:
                raise usage.UsageError(f"--{name} needs users: --password-file, or --auth")
        if _CERTIFICATE in self.checkers and self["client-ca"] is None:
            raise usage.UsageError(f"--auth {_CERTIFICATE} needs --client-certificates request or require, and --client-ca")


def makeAuthenticator(options: AuthOptions, limits: Limits, reactor: IReactorCore) -> Authenticator | None:
    """Who says which users there are, or None where there are none.

    Raises:
        ValueError: a checker cannot be used; the text is a sentence with the option in it.
    """
    if not options.checkers:
        return None
    threads = FewThreads(cast("IReactorThreads", reactor), limits.hashing)
    checkers = [_checker(text, threads) for text in options.checkers if text != _CERTIFICATE]
    certificates = byItsName if _CERTIFICATE in options.checkers else None
    return Authenticator(checkers, cast("IReactorTime", reactor), limits=limits, certificates=certificates)


def withUsers(profile: Profile, options: AuthOptions, authenticator: Authenticator | None, *, tls: bool) -> Profile:
    """The choices of a port whose users are known by this authenticator.

    Args:
        profile: what was chosen for the port otherwise.
        options: parsed.
        authenticator: made of them.
        tls: True if the server has a certificate.

    Raises:
        ValueError: nobody could ever authenticate; the text is a sentence with the option in it.
    """
    # RFC 2033 5: who speaks LMTP is the mail server beside, which has no password.
    if profile.lmtp:
        return profile
    if authenticator is None:
        if profile.requireAuth:
            _log.warn("A submission port without users takes mail from nobody: --password-file, or --auth, says who they are")
        return profile
    names = authenticator.mechanisms
    if options["mechanisms"] is not None:
        try:
            names = chosen(options["mechanisms"].split(","), authenticator)
        except ValueError as error:
            raise ValueError(f"--mechanisms {options['mechanisms']}: {error}") from error
    authenticated = replace(
        profile,
        mechanisms=names,
        plaintextAuth=bool(options["allow-plaintext-auth"]),
        requireAuth=profile.requireAuth or bool(options["require-auth"]),
    )
    if not tls and not Dialect(Limits(), profile=authenticated).mechanisms(SessionInfo("", "")):
        raise ValueError(
            f"AUTH {' '.join(names)} is for encrypted sessions only: add --certificate, or --self-signed for development; or --allow-plaintext-auth"
        )
    return authenticated


def _checker(text: str, threads: FewThreads) -> object:
    """The checker that ``--auth TEXT`` names."""
    kind, _, argument = text.partition(":")
    try:
        if kind == _OURS:
            # Absolute now: twistd changes its directory when it goes to the background.
            return PasswordFileChecker(PasswordFile(str(Path(argument).expanduser().absolute())), threads)
        if kind == "file":
            # It would be a warning, and a checker that knows nobody.
            Path(argument).open("rb").close()
        checker: Any = strcred.makeChecker(text)
    except strcred.InvalidAuthType:
        raise ValueError(f"--auth {kind}: there is no such checker; --list-auth shows those that there are") from None
    except strcred.StrcredException as error:
        raise ValueError(f"--auth {kind}: {error or type(error).__name__}") from error
    except OSError as error:
        raise ValueError(f"--auth {kind}:{argument}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"--auth {kind}:{argument}: {error}") from error
    if not _takesPasswords(checker):
        raise ValueError(f"--auth {kind}: this checker knows no passwords")
    if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        # From the command line it has its users as text, and what clients say it gets as octets.
        texts = cast("dict[str, str]", checker.users)
        checker.users = {name.encode(): password.encode() for name, password in texts.items()}
    return checker


def _factories() -> list[Any]:
    """The factories of Twisted's checkers that know passwords."""
    return [factory for factory in strcred.findCheckerFactories() if _takesPasswords(factory)]


def _takesPasswords(checker: Any) -> bool:
    """True if it checks names and passwords."""
    return any(kind in (IUsernamePassword, IUsernameHashedPassword) for kind in checker.credentialInterfaces)
