"""Failed logins of an address."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from twisted_smtplite.auth.guesses import Guesses
from twisted_smtplite.model.limits import Limits

HOST = "192.0.2.1"


def guesses(**limits: float) -> tuple[Guesses, Clock]:
    clock = Clock()
    return Guesses(clock, Limits(**limits)), clock  # type: ignore[arg-type]


def test_the_wait_grows_up_to_its_limit() -> None:
    counted, _ = guesses(authDelay=1, authDelayMost=5)
    assert [counted.failed(HOST) for _ in range(5)] == [1, 2, 4, 5, 5]


def test_the_wait_is_finite_however_often_somebody_fails() -> None:
    counted, _ = guesses(authFailures=0, authDelayMost=30)
    assert [counted.failed(HOST) for _ in range(2000)][-1] == 30


def test_the_last_guess_is_the_one_that_the_limit_says() -> None:
    counted, _ = guesses(authFailures=3)
    for left in (3, 2, 1):
        assert not counted.exhausted(HOST), left
        counted.failed(HOST)
    assert counted.exhausted(HOST)
    assert not counted.exhausted("192.0.2.2")


def test_no_limit_is_none() -> None:
    counted, _ = guesses(authFailures=0)
    for _ in range(1000):
        counted.failed(HOST)
    assert not counted.exhausted(HOST)


def test_failed_logins_are_forgotten_when_the_last_one_is_old() -> None:
    counted, clock = guesses(authFailures=2, authWindow=60)
    counted.failed(HOST)
    clock.advance(59)
    counted.failed(HOST)
    clock.advance(59)
    assert counted.exhausted(HOST)
    clock.advance(1)
    assert not counted.exhausted(HOST)
    assert counted.failed(HOST) == 1


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    counted, _ = guesses(authFailures=1, authAddresses=3)
    for number in (1, 2, 3, 1, 4):
        counted.failed(f"192.0.2.{number}")
    assert [number for number in range(1, 5) if counted.exhausted(f"192.0.2.{number}")] == [1, 3, 4]
    assert len(counted._records) == 3


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("no address", "no address", True),
    ],
)
def test_what_counts_as_one_address(first: str, second: str, same: bool) -> None:
    counted, _ = guesses(authFailures=1)
    counted.failed(first)
    assert counted.exhausted(second) is same


def test_clients_without_an_address_are_slowed_down_and_not_counted() -> None:
    counted, _ = guesses(authFailures=1)
    assert [counted.failed("") for _ in range(3)] == [1, 1, 1]
    assert not counted.exhausted("")
