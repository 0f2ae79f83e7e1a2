"""Checkers of twisted.cred: ours over a password file, and a chain of any.

Knows twisted.cred. Must not know SMTP, nor mechanisms.
"""

# twisted.cred is not typed.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import Interface, implementer

from ..dialogue.sasl import Digest, StoredKeys
from .hashes import verify
from .passwordfile import PasswordFile
from .threads import FewThreads


class WrongPassword(UnauthorizedLogin):
    """The user is known, and this is not his password: nobody else is to be asked about him."""


@runtime_checkable
class KeyStore(Protocol):
    """A checker that also knows the keys of SCRAM."""

    @property
    def allHaveKeys(self) -> bool:
        """True if it has them for each of its users."""

    def keys(self, user: str) -> StoredKeys | None:
        """Those of a user, or None if it does not know him, or has none for him."""

    def decoyKeys(self, user: str) -> StoredKeys:
        """Keys that open nothing, the same whenever this user is asked for."""


@implementer(ICredentialsChecker)
class PasswordFileChecker:
    """Checks passwords against a `PasswordFile`.

    Args:
        file: the file.
        threads: where to hash.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, file: PasswordFile, threads: FewThreads) -> None:
        self._file = file
        self._threads = threads

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        """Fires with the user's name; fails with `WrongPassword`, or UnauthorizedLogin when there is no such user."""
        return Deferred.fromCoroutine(self._check(credentials.username, credentials.password))

    async def _check(self, username: bytes, password: bytes) -> bytes | tuple[()]:
        user = username.decode()
        users = self._file.users()
        stored = users.stored.get(user)
        # Who is not there takes as long as who is: somebody else's hash is checked, and what comes of it is dropped.
        candidate = stored or users.decoy(user)
        same = candidate is not None and await self._threads.call(verify, candidate, password.decode())
        if stored is None:
            raise UnauthorizedLogin
        if not same:
            raise WrongPassword
        return username

    @property
    def allHaveKeys(self) -> bool:
        return self._file.users().allHaveKeys

    def keys(self, user: str) -> StoredKeys | None:
        return self._file.users().keys(user)

    def decoyKeys(self, user: str) -> StoredKeys:
        return self._file.users().decoyKeys(user)


@implementer(IUsernameHashedPassword)
class DigestCredentials:
    """The digest of CRAM-MD5 (RFC 2195 2) as twisted.cred knows it. It can be checked only by who knows the password itself."""

    def __init__(self, digest: Digest) -> None:
        self.username = digest.user.encode()
        self._digest = digest

    def checkPassword(self, password: bytes) -> bool:
        """True if the digest was made with this password."""
        expected = hmac.new(password, self._digest.challenge, hashlib.md5).hexdigest()
        return hmac.compare_digest(expected, self._digest.digest)


class Chain:
    """Checkers that are asked in order. `twisted.cred.portal.Portal` keeps only one for each kind of credentials.

    Args:
        checkers: the first that knows the user decides; one that cannot tell an unknown user from a wrong password passes both on.
    """

    def __init__(self, checkers: Sequence[object]) -> None:
        self._checkers = [ICredentialsChecker(checker) for checker in checkers]
        self._stores = [checker for checker in self._checkers if isinstance(checker, KeyStore)]

    def takes(self, kind: type[Interface]) -> bool:
        """True if one of them checks this kind of credentials."""
        return any(wanted.isOrExtends(kind) for checker in self._checkers for wanted in checker.credentialInterfaces)

    @property
    def allHaveKeys(self) -> bool:
        """True if every user can authenticate by SCRAM."""
        return bool(self._stores) and len(self._stores) == len(self._checkers) and all(store.allHaveKeys for store in self._stores)

    async def firstWho(self, credentials: object) -> str | None:
        """The name of the user that these credentials are good for, or None.

        All are asked where nobody says yes, so that the time does not tell who knows a user.
        """
        denied = False
        for checker in self._checkers:
            if not any(wanted.providedBy(credentials) for wanted in checker.credentialInterfaces):
                continue
            try:
                avatarId = await maybeDeferred(checker.requestAvatarId, credentials)
            except WrongPassword:
                denied = True
            except UnauthorizedLogin:
                continue
            else:
                if not denied:
                    return _name(avatarId)
        return None

    def keys(self, user: str) -> StoredKeys | None:
        """The keys of the first who has some for this user; else those that open nothing; None where nobody has any for anybody."""
        for store in self._stores:
            keys = store.keys(user)
            if keys is not None:
                return keys
        return self._stores[0].decoyKeys(user) if self._stores else None


def _name(avatarId: object) -> str | None:
    """The name that a checker answered; some answer octets, and an anonymous user has none."""
    return (avatarId.decode() if isinstance(avatarId, bytes) else cast(str, avatarId)) or None
