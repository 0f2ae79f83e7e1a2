from __future__ import annotations

from dataclasses import fields

import pytest

from twisted_smtplite.model.clientprofile import ClientLimits, ClientProfile, Credentials, TLSUse


@pytest.mark.parametrize("name", [field.name for field in fields(ClientLimits)])
def test_a_limit_is_more_than_zero_and_finite(name: str) -> None:
    assert getattr(ClientLimits(**{name: 1}), name) == 1
    for value in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"{name} is {value}: it must be more than 0, and finite"):
            ClientLimits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "least"),
    # RFC 5321 4.5.3.2, in seconds.
    [("greetingTimeout", 300), ("mailTimeout", 300), ("rcptTimeout", 300), ("dataTimeout", 120), ("blockTimeout", 180), ("finalTimeout", 600)],
)
def test_waits_are_as_long_as_the_rfc_wants(name: str, least: float) -> None:
    assert getattr(ClientLimits(), name) >= least


def test_credentials_do_not_show_what_is_secret() -> None:
    assert repr(Credentials(user="ann", password="secret", token="token")) == "Credentials('ann', ...)"


def test_names_are_verified_where_that_is_asked_for() -> None:
    assert {use for use in TLSUse if use.verifies} == {TLSUse.REQUIRED, TLSUse.IMPLICIT}
    assert ClientProfile(hostname="client.test").tls is TLSUse.OPPORTUNISTIC
