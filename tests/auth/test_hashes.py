"""How passwords are kept."""

from __future__ import annotations

import pytest

from twisted_smtplite.auth.hashes import SCHEMES, hashPassword, schemeOf, storedKeys, verify
from twisted_smtplite.dialogue.sasl import StoredKeys


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_password_belongs_to_its_hash_and_no_other_does(scheme: str) -> None:
    if scheme == "argon2":
        pytest.importorskip("argon2")
    if scheme == "bcrypt":
        pytest.importorskip("bcrypt")
    stored = hashPassword("pässword", scheme)
    assert schemeOf(stored).name == scheme
    assert stored.isascii() and stored.isprintable() and " " not in stored and "pässword" not in stored
    assert verify(stored, "pässword")
    assert not verify(stored, "password")


# Made elsewhere: RFC 7914 12 (in the form that passlib writes), RFC 7677 3, argon2's and bcrypt's command lines.
@pytest.mark.parametrize(
    ("stored", "password"),
    [
        (
            "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw",
            "pleaseletmein",
        ),
        (
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "pencil",
        ),
    ],
)
def test_what_others_have_hashed_is_understood(stored: str, password: str) -> None:
    assert verify(stored, password)
    assert not verify(stored, password + "x")


@pytest.mark.parametrize("stored", ["", "secret", "$1$abc$def", "x$scrypt$"])
def test_what_is_not_known_is_refused(stored: str) -> None:
    with pytest.raises(ValueError, match="no stored password that is known"):
        verify(stored, "secret")


@pytest.mark.parametrize("stored", ["$scrypt$", "$scrypt$ln=2,r=1,p=1$!$!", "SCRAM-SHA-256$", "SCRAM-SHA-256$1:a$b:c"])
def test_what_is_malformed_is_refused(stored: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        verify(stored, "secret")


def test_bcrypt_takes_no_password_that_it_would_cut() -> None:
    pytest.importorskip("bcrypt")
    stored = hashPassword("p" * 72, "bcrypt")
    assert verify(stored, "p" * 72)
    assert not verify(stored, "p" * 73)
    with pytest.raises(ValueError, match="at most 72 octets"):
        hashPassword("p" * 73, "bcrypt")


def test_scram_keys_are_those_of_the_rfc() -> None:
    stored = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    keys = storedKeys(stored)
    assert isinstance(keys, StoredKeys) and keys.iterations == 4096 and len(keys.salt) == 16
    assert storedKeys("$scrypt$ln=2,r=1,p=1$a$b") is None
