"""How a password is kept: as a hash that costs time and memory, or as the keys of SCRAM. One scheme a row.

Knows the forms of stored passwords, and how long each takes to check. Must not know where they are kept. What hashes takes a good part of a second
on purpose: whoever calls `hashPassword` or `verify` does so in a thread. scrypt and SCRAM keys need nothing besides Python; argon2 and bcrypt come
with the extra ``auth`` and are imported when the first password wants them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from secrets import token_bytes
from typing import NamedTuple

from ..dialogue.sasl import StoredKeys

# scrypt with 16 MiB and five rounds, which attackers pay for as for 128 MiB and one; as OWASP's cheat sheet on passwords has it.
_SCRYPT_LN, _SCRYPT_R, _SCRYPT_P = 14, 8, 5
# RFC 7677 4: many more iterations than 4096 are advised; these are as many as OWASP's cheat sheet has.
_ITERATIONS = 600_000
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
# RFC 5803 2: how SCRAM keys are written down.
_SCRAM = re.compile(r"SCRAM-SHA-256\$(\d{4,9}):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)")


class Scheme(NamedTuple):
    """One way to keep a password.

    Attributes:
        name: its name on the command line.
        prefix: how what it stores begins.
        make: the text to store for a password. Raises ValueError where it cannot take that password, ImportError where something is missing.
        verify: takes what is stored and a password; True if they belong together.
    """

    name: str
    prefix: str
    make: Callable[[bytes], str]
    verify: Callable[[str, bytes], bool]


def hashPassword(password: str, scheme: str) -> str:
    """What to store for a password, in one line without spaces.

    Raises:
        ValueError: the scheme cannot take this password.
        ImportError: what the scheme needs is not installed.
    """
    return SCHEMES[scheme].make(password.encode())


def verify(stored: str, password: str) -> bool:
    """True if what is stored belongs to this password."""
    return schemeOf(stored).verify(stored, password.encode())


def schemeOf(stored: str) -> Scheme:
    """The scheme by which this was stored.

    Raises:
        ValueError: it is none that is known.
    """
    for scheme in SCHEMES.values():
        if stored.startswith(scheme.prefix):
            return scheme
    raise ValueError("this is no stored password that is known here")


def storedKeys(stored: str) -> StoredKeys | None:
    """The keys of SCRAM-SHA-256 if that is what is stored, else None."""
    match = _SCRAM.fullmatch(stored)
    if match is None:
        return None
    return StoredKeys(b64decode(match[2]), b64decode(match[3]), b64decode(match[4]), int(match[1]))


def _makeScrypt(password: bytes) -> str:
    salt = token_bytes(16)
    digest = _scrypt(password, salt, _SCRYPT_LN, _SCRYPT_R, _SCRYPT_P, 32)
    return f"$scrypt$ln={_SCRYPT_LN},r={_SCRYPT_R},p={_SCRYPT_P}${_unpadded(salt)}${_unpadded(digest)}"


def _verifyScrypt(stored: str, password: bytes) -> bool:
    match = _SCRYPT.fullmatch(stored)
    if match is None:
        raise ValueError("a stored scrypt hash is malformed")
    ln, r, p = (int(number) for number in match.groups()[:3])
    salt, digest = (b64decode(text + "=" * (-len(text) % 4)) for text in match.groups()[3:])
    return hmac.compare_digest(_scrypt(password, salt, ln, r, p, len(digest)), digest)


def _scrypt(password: bytes, salt: bytes, ln: int, r: int, p: int, length: int) -> bytes:
    n: int = 1 << ln
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 2), dklen=length)


def _unpadded(octets: bytes) -> str:
    return b64encode(octets).decode().rstrip("=")


def _makeScram(password: bytes) -> str:
    salt = token_bytes(16)
    stored, server = _scramKeys(password, salt, _ITERATIONS)
    return f"SCRAM-SHA-256${_ITERATIONS}:{b64encode(salt).decode()}${b64encode(stored).decode()}:{b64encode(server).decode()}"


def _verifyScram(stored: str, password: bytes) -> bool:
    keys = storedKeys(stored)
    if keys is None:
        raise ValueError("stored SCRAM keys are malformed")
    return hmac.compare_digest(_scramKeys(password, keys.salt, keys.iterations)[0], keys.storedKey)


def _scramKeys(password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """RFC 5802 3: StoredKey and ServerKey."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    clientKey = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(clientKey).digest(), hmac.digest(salted, b"Server Key", "sha256")


def _makeArgon2(password: bytes) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


def _verifyArgon2(stored: str, password: bytes) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import VerifyMismatchError

    try:
        return PasswordHasher().verify(stored, password)
    except VerifyMismatchError:
        return False


# bcrypt reads no further.
_BCRYPT_LONGEST = 72


def _makeBcrypt(password: bytes) -> str:
    import bcrypt

    if len(password) > _BCRYPT_LONGEST:
        raise ValueError(f"bcrypt takes passwords of at most {_BCRYPT_LONGEST} octets")
    return bcrypt.hashpw(password, bcrypt.gensalt()).decode()


def _verifyBcrypt(stored: str, password: bytes) -> bool:
    import bcrypt

    # The time of a check does not depend on whether the password can be right.
    same = bcrypt.checkpw(password[:_BCRYPT_LONGEST], stored.encode())
    return same and len(password) <= _BCRYPT_LONGEST


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("scrypt", "$scrypt$", _makeScrypt, _verifyScrypt),
        Scheme("argon2", "$argon2", _makeArgon2, _verifyArgon2),
        Scheme("bcrypt", "$2", _makeBcrypt, _verifyBcrypt),
        Scheme("scram-sha-256", "SCRAM-SHA-256$", _makeScram, _verifyScram),
    )
}
"""The schemes, the one that is used by default first."""
