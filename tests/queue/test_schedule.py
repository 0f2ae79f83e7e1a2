"""When a message is tried, as functions of times."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queueing import anEnvelope

from twisted_smtplite.model.envelope import DeliverBy
from twisted_smtplite.queue.entries import Progress, QueuedMessage
from twisted_smtplite.queue.schedule import Schedule, deadline, dueAt, isLate, passedOn

HOUR = 3600.0
DAY = 24 * HOUR


def aMessage(**changes: Any) -> QueuedMessage:
    envelope = anEnvelope(**{"receivedAt": 1000.0, **changes})
    return QueuedMessage("E1", envelope, [Progress(recipient) for recipient in envelope.recipients], queuedAt=1000.0)


def test_waits_double_up_to_the_longest() -> None:
    schedule = Schedule()
    assert [schedule.wait(attempts, 0.5) / 60 for attempts in range(1, 10)] == [5, 10, 20, 40, 80, 160, 240, 240, 240]
    assert schedule.wait(100_000, 0.5) == 4 * HOUR


@given(st.integers(1, 500), st.floats(0, 1))
def test_jitter_keeps_within_its_part(attempts: int, draw: float) -> None:
    middle = Schedule(jitter=0).wait(attempts, draw)
    assert 0.8 * middle - 1e-6 <= Schedule().wait(attempts, draw) <= 1.2 * middle + 1e-6


def test_jitter_spreads_to_both_sides() -> None:
    schedule = Schedule(firstRetry=100, jitter=0.5)
    assert (schedule.wait(1, 0.0), schedule.wait(1, 1.0)) == (50, 150)


def test_the_last_attempt_comes_at_the_end_of_the_lifetime() -> None:
    schedule, message = Schedule(delayWarning=0), aMessage()
    progress = Progress(message.envelope.recipients[0], attempts=20)
    assert schedule.nextAttempt(message, progress, 1000 + 4 * DAY - HOUR, 0.5) == 1000 + 4 * DAY
    # After it, there is nothing more to meet.
    assert schedule.nextAttempt(message, progress, 1000 + 5 * DAY, 0.5) == 1000 + 5 * DAY + 4 * HOUR


def test_an_attempt_comes_before_the_sender_is_warned() -> None:
    schedule, message = Schedule(), aMessage()
    progress = Progress(message.envelope.recipients[0], attempts=6)
    assert schedule.nextAttempt(message, progress, 1000 + 3 * HOUR, 0.5) == 1000 + 4 * HOUR
    progress.warned = True
    assert schedule.nextAttempt(message, progress, 1000 + 3 * HOUR, 0.5) == 1000 + 3 * HOUR + 160 * 60


def test_without_warnings_there_is_no_time_for_them() -> None:
    assert Schedule(delayWarning=0).warns(aMessage()) == inf


@pytest.mark.parametrize("mode", ["N", "R"])
def test_an_attempt_comes_at_the_deadline(mode: str) -> None:
    message = aMessage(deliverBy=DeliverBy(90, mode, False))
    progress = Progress(message.envelope.recipients[0], attempts=1)
    assert deadline(message) == 1090
    assert Schedule().nextAttempt(message, progress, 1010, 0.5) == 1090


def test_only_what_is_to_be_returned_when_late_is_late() -> None:
    late = aMessage(deliverBy=DeliverBy(90, "R", False))
    assert [isLate(late, now) for now in (1089, 1090)] == [False, True]
    assert not isLate(aMessage(deliverBy=DeliverBy(90, "N", False)), 5000)
    assert not isLate(aMessage(), 1e12)


def test_time_counts_from_the_end_of_a_hold() -> None:
    message = aMessage(holdUntil=9000.0, deliverBy=DeliverBy(90, "R", False))
    assert deadline(message) == 9090
    assert Schedule(lifetime=DAY).expires(message) == 9000 + DAY
    assert dueAt(message.envelope, 1000) == 9000
    assert dueAt(message.envelope, 9500) == 9500
    assert dueAt(anEnvelope(), 1000) == 1000


def test_what_is_passed_on_has_the_time_that_is_left() -> None:
    message = aMessage(holdUntil=2000.0, deliverBy=DeliverBy(90, "N", True))
    on = passedOn(message, message.envelope.recipients[:1], 2030.5)
    assert (on.deliverBy, on.holdUntil) == (DeliverBy(59, "N", True), None)
    assert message.envelope.deliverBy == DeliverBy(90, "N", True)
    assert passedOn(message, [], 2200).deliverBy == DeliverBy(-110, "N", True)
    assert passedOn(aMessage(), [], 2200).deliverBy is None


@pytest.mark.parametrize(
    "wrong",
    [{"firstRetry": 0}, {"longestRetry": -1}, {"lifetime": inf}, {"delayWarning": -1}, {"factor": 0.5}, {"jitter": 1}, {"jitter": float("nan")}],
)
def test_impossible_schedules_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Schedule(**wrong)
