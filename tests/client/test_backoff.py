"""Back-off: who has failed is left alone, longer each time, and the table stays small."""

from __future__ import annotations

from twisted.internet.task import Clock

from twisted_smtplite.client.backoff import Backoff


def test_each_failure_doubles_the_wait_up_to_a_bound() -> None:
    clock = Clock()
    backoff = Backoff(clock, 60, 400, 10)
    waits = []
    for _ in range(5):
        assert backoff.remaining("a") == 0
        backoff.failed("a")
        waits.append(backoff.remaining("a"))
        clock.advance(waits[-1])
    assert waits == [60, 120, 240, 400, 400]


def test_attempts_that_were_under_way_together_count_once() -> None:
    clock = Clock()
    backoff = Backoff(clock, 60, 400, 10)
    backoff.failed("a")
    clock.advance(10)
    backoff.failed("a")
    assert backoff.remaining("a") == 50


def test_a_success_is_a_new_beginning() -> None:
    clock = Clock()
    backoff = Backoff(clock, 60, 400, 10)
    backoff.failed("a")
    clock.advance(60)
    backoff.failed("a")
    backoff.succeeded("a")
    assert backoff.remaining("a") == 0
    backoff.failed("a")
    assert backoff.remaining("a") == 60
    backoff.succeeded("never seen")


def test_a_failure_long_ago_is_forgiven() -> None:
    clock = Clock()
    backoff = Backoff(clock, 60, 400, 10)
    backoff.failed("a")
    clock.advance(60 + 400)
    backoff.failed("a")
    assert backoff.remaining("a") == 60


def test_each_key_waits_for_itself_and_the_oldest_is_forgotten() -> None:
    backoff = Backoff(Clock(), 60, 400, 2)
    for key in ("a", "b", "a", "c"):
        backoff.failed(key)
    assert [backoff.remaining(key) for key in ("a", "b", "c")] == [60, 0, 60]
    assert len(backoff) == 2


def test_all_are_forgiven_together() -> None:
    backoff = Backoff(Clock(), 60, 400, 2)
    backoff.failed("a")
    backoff.clear()
    assert backoff.remaining("a") == 0 and not len(backoff)
