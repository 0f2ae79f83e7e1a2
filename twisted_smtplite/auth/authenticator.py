"""Who may log in, and how often he may try: the `IAuthenticator` of a server that has users.

Knows which check is for whom, counts what fails, and makes guessing slow. Must not know SMTP, nor how a password is kept.
"""

# twisted.cred is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword, UsernamePassword
from twisted.cred.error import LoginFailed
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from ..dialogue.mechanisms import MECHANISMS
from ..dialogue.sasl import Check, Conclusion, Digest, External, Keys, Login, Password, Token
from ..interfaces import IAuthenticator, IMessageDelivery, ISenderRights
from ..model import replies
from ..model.envelope import SessionInfo
from ..model.limits import Limits
from ..model.reply import Reply
from .checkers import Chain, DigestCredentials
from .guesses import Guesses


def onlyHimself(user: str, other: str) -> bool:
    """Nobody may act for somebody else."""
    return user == other


def byItsName(session: SessionInfo, check: External) -> str:
    """A certificate stands for the user of that name."""
    return check.certificate


@implementer(IAuthenticator)
class Authenticator:
    """Asks checkers of twisted.cred, and whoever knows tokens and certificates.

    Args:
        checkers: each an `ICredentialsChecker`; asked in order.
        clock: the reactor.
        limits: how many guesses, and how slow.
        tokens: takes the session and a `Token`, answers with the user's name or None, perhaps later; without it OAUTHBEARER and XOAUTH2 are not
            offered.
        certificates: takes the session and an `External`, answers with the name of the user that a certificate stands for, or None, perhaps later.
            Without it EXTERNAL is offered only by who names it, and then `byItsName` answers.
        mayActAs: takes a user and another name; True if he may log in as that one (RFC 4616 2, RFC 4422 Appendix A).
        realm: asked for an `IMessageDelivery` or, where a user has none of his own, `ISenderRights` of each user who logs in; None as the avatar
            leaves him the delivery of everybody.
    """

    def __init__(
        self,
        checkers: Sequence[object],
        clock: IReactorTime,
        *,
        limits: Limits | None = None,
        tokens: Callable[[SessionInfo, Token], Any] | None = None,
        certificates: Callable[[SessionInfo, External], Any] | None = None,
        mayActAs: Callable[[str, str], bool] = onlyHimself,
        realm: IRealm | None = None,
    ) -> None:
        self._chain = Chain(checkers)
        self._clock = clock
        self._guesses = Guesses(clock, limits or Limits())
        self._tokens = tokens
        self._certificates = certificates
        self._mayActAs = mayActAs
        self._realm = realm

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What all users can authenticate by, the strongest first: the mechanisms to offer when nobody says which."""
        external = self._certificates is not None
        return tuple(name for name, row in MECHANISMS.items() if not row.byName and self.serves(name) and (external or row.asks is not External))

    def serves(self, name: str) -> bool:
        """True if there is a mechanism of that name, and somebody to answer what it asks."""
        row = MECHANISMS.get(name)
        if row is None or not row.installed():
            return False
        if row.asks is Password:
            return self._chain.takes(IUsernamePassword)
        if row.asks is Digest:
            return self._chain.takes(IUsernameHashedPassword)
        if row.asks is Keys:
            return self._chain.allHaveKeys
        return row.asks is External or self._tokens is not None

    async def check(self, session: SessionInfo, check: Check) -> object:
        """Answers a mechanism."""
        if self._guesses.exhausted(session.peerHost):
            return replies.TOO_MANY_FAILED_LOGINS
        if isinstance(check, Password):
            user = await self._chain.firstWho(UsernamePassword(check.user.encode(), check.password.encode()))
            return self._acting(user, check.actAs)
        if isinstance(check, Digest):
            return await self._chain.firstWho(DigestCredentials(check))
        if isinstance(check, Keys):
            return self._chain.keys(check.user)
        if isinstance(check, Token):
            assert self._tokens is not None, "mechanisms with tokens are offered only where somebody knows them"
            return await maybeDeferred(self._tokens, session, check)
        assert isinstance(check, External), "the other checks were answered above"
        user = await maybeDeferred(self._certificates or byItsName, session, check)
        return self._acting(user, check.actAs)

    def _acting(self, user: str | None, actAs: str) -> str | None:
        """Whom the user is from now on."""
        if user is None or not actAs:
            return user
        return actAs if self._mayActAs(user, actAs) else None

    async def conclude(self, session: SessionInfo, conclusion: Conclusion) -> Reply | Login | None:
        """Counts what failed and lets it wait; finds out what a user gets."""
        # Also of those who were right: else a hundred guesses at the same time would all be answered.
        if self._guesses.exhausted(session.peerHost):
            return replies.TOO_MANY_FAILED_LOGINS
        if conclusion.user is not None:
            return await self._logIn(session, conclusion.user)
        delay = self._guesses.failed(session.peerHost)
        if self._guesses.exhausted(session.peerHost):
            return replies.TOO_MANY_FAILED_LOGINS
        if delay:
            await deferLater(self._clock, delay)
        return None

    async def _logIn(self, session: SessionInfo, user: str) -> Reply | Login | None:
        if self._realm is None:
            return None
        asked = maybeDeferred(self._realm.requestAvatar, user.encode(), session, IMessageDelivery, ISenderRights)
        try:
            given: Any = await _orLogOut(asked)
        except LoginFailed:
            return replies.AUTH_FAILED
        interface, avatar, logout = given
        if avatar is None:
            logout()
            return None
        return Login(None if interface is ISenderRights else avatar, logout, avatar)


def _orLogOut(asked: Deferred[Any]) -> Deferred[Any]:
    """The same answer. Who is cancelled while he waits for it is logged out when it comes: realms need not know of cancelling."""

    def came(given: Any) -> None:
        if not answer.called:
            answer.callback(given)
        elif not isinstance(given, Failure):
            given[2]()

    answer: Deferred[Any] = Deferred()
    asked.addBoth(came)
    return answer


def chosen(names: Iterable[str], authenticator: Authenticator) -> tuple[str, ...]:
    """The mechanisms of these names.

    Raises:
        ValueError: one of them is unknown, or there is nobody to answer it.
    """
    mechanisms = tuple(name.strip().upper() for name in names)
    for name in mechanisms:
        if name not in MECHANISMS:
            raise ValueError(f"there is no mechanism {name!r}; there is {', '.join(MECHANISMS)}")
        if not MECHANISMS[name].installed():
            raise ValueError(f"{name} needs the package scramp: pip install 'twisted-smtplite[auth]'")
        if not authenticator.serves(name):
            raise ValueError(f"{name}: no checker that was given can serve it for all its users")
    return mechanisms
