"""What an outcome means for a recipient, and what his sender is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from memoryqueue import BUSY, GONE, LOST, NOBODY, OK
from queueing import anEnvelope

from twisted_smtplite.model.envelope import DeliverBy
from twisted_smtplite.model.results import PeerReply, RecipientOutcome, Stage
from twisted_smtplite.queue.entries import Doubt, Progress, QueuedMessage, State
from twisted_smtplite.queue.schedule import Schedule
from twisted_smtplite.queue.verdict import Action, Judge, Notice

HOUR, DAY = 3600.0, 86_400.0
JUDGE = Judge(Schedule(jitter=0))
DSN = frozenset({"DSN", "DELIVERBY"})
BY = DeliverBy(600, "N", False)


def one(*notify: str, **changes: Any) -> tuple[QueuedMessage, Progress]:
    report = changes.pop("report", False)
    envelope = anEnvelope(**{"receivedAt": 1000.0, **changes})
    envelope.recipients[0] = replace(envelope.recipients[0], notify=frozenset(notify) if notify else None)
    progress = Progress(envelope.recipients[0])
    return QueuedMessage("E1", envelope, [progress], 1000.0, report=report), progress


def attempt(
    message: QueuedMessage, progress: Progress, reply: PeerReply, now: float = 1000.0, extensions: frozenset[str] = DSN, stage: Stage = Stage.TEXT
) -> Notice | None:
    outcome = RecipientOutcome(progress.recipient, stage, reply)
    return JUDGE.attempted(message, progress, outcome, "mx.test", extensions, now, 0.5)


def actionOf(notice: Notice | None) -> Action | None:
    return notice and notice.action


def test_what_was_taken_is_sent() -> None:
    message, progress = one()
    assert attempt(message, progress, OK) is None
    assert (progress.state, progress.attempts, progress.lastAttempt, progress.reply, progress.host) == (State.SENT, 1, 1000, OK, "mx.test")


def test_what_was_refused_for_good_has_failed() -> None:
    message, progress = one()
    notice = attempt(message, progress, NOBODY, stage=Stage.RCPT)
    assert progress.state is State.FAILED and progress.stage is Stage.RCPT
    assert notice == Notice(Action.FAILED, progress.recipient, "5.1.1", NOBODY, "mx.test", 1000.0)


def test_a_refusal_without_an_enhanced_code_has_that_of_its_class() -> None:
    notice = attempt(*one(), PeerReply(550))
    assert notice is not None and notice.status == "5.0.0"


def test_what_was_refused_for_now_waits() -> None:
    message, progress = one()
    assert attempt(message, progress, BUSY) is None
    assert (progress.state, progress.nextAttempt) == (State.WAITING, 1300)
    attempt(message, progress, BUSY, 1300)
    assert (progress.attempts, progress.nextAttempt) == (2, 1900)


def test_taken_at_rcpt_alone_is_not_sent() -> None:
    message, progress = one()
    attempt(message, progress, OK, stage=Stage.RCPT)
    assert progress.state is State.WAITING


def test_the_sender_is_warned_once() -> None:
    message, progress = one()
    assert attempt(message, progress, BUSY, 1000 + 4 * HOUR - 1) is None
    notice = attempt(message, progress, BUSY, 1000 + 4 * HOUR)
    assert notice is not None and (notice.action, notice.status, notice.until) == (Action.DELAYED, "4.3.2", 1000 + 4 * DAY)
    assert attempt(message, progress, BUSY, 1000 + 8 * HOUR) is None


def test_the_end_of_the_lifetime_is_a_failure() -> None:
    message, progress = one()
    notice = attempt(message, progress, BUSY, 1000 + 4 * DAY)
    assert progress.state is State.EXPIRED
    assert notice is not None and (notice.action, notice.status, notice.reply, notice.expired) == (Action.FAILED, "5.4.7", BUSY, True)


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        ((), [Action.FAILED, Action.DELAYED, None]),
        (("NEVER",), [None, None, None]),
        (("FAILURE",), [Action.FAILED, None, None]),
        (("DELAY",), [None, Action.DELAYED, None]),
        (("SUCCESS",), [None, None, Action.RELAYED]),
        (("SUCCESS", "FAILURE", "DELAY"), [Action.FAILED, Action.DELAYED, Action.RELAYED]),
    ],
)
def test_notify_decides_what_is_told(notify: tuple[str, ...], told: list[Action | None]) -> None:
    late = 1000 + 5 * HOUR
    heard = [attempt(*one(*notify), NOBODY), attempt(*one(*notify), BUSY, late), attempt(*one(*notify), OK, extensions=frozenset({"SIZE"}))]
    assert [actionOf(notice) for notice in heard] == told


def test_a_server_that_reports_itself_leaves_nothing_to_tell() -> None:
    assert attempt(*one("SUCCESS"), OK) is None


def test_nobody_is_told_about_what_came_from_nobody() -> None:
    assert attempt(*one("FAILURE", sender=""), NOBODY) is None
    assert attempt(*one("SUCCESS", sender=""), OK, extensions=frozenset()) is None
    assert attempt(*one(report=True), NOBODY) is None


# ---- DELIVERBY (RFC 2852).


def test_a_deadline_that_passes_is_told_once() -> None:
    message, progress = one(deliverBy=BY)
    assert attempt(message, progress, BUSY) is None
    assert progress.nextAttempt == 1300
    attempt(message, progress, BUSY, 1300)
    assert progress.nextAttempt == 1600
    notice = attempt(message, progress, BUSY, 1600)
    assert notice is not None and (notice.action, notice.status) == (Action.DELAYED, "4.4.7")
    assert progress.state is State.WAITING
    assert attempt(message, progress, BUSY, 1000 + 5 * HOUR) is None


def test_a_deadline_is_told_of_also_to_who_wants_failures_alone_but_not_to_who_wants_nothing() -> None:
    assert actionOf(attempt(*one("FAILURE", deliverBy=BY), BUSY, 1600)) is Action.DELAYED
    assert attempt(*one("NEVER", deliverBy=BY), BUSY, 1600) is None


def test_what_is_to_be_returned_when_late_is_returned() -> None:
    message, progress = one(deliverBy=DeliverBy(600, "R", False))
    notice = attempt(message, progress, BUSY, 1600)
    assert progress.state is State.EXPIRED
    assert notice is not None and (notice.action, notice.status) == (Action.FAILED, "5.4.7")


def test_what_was_never_tried_in_time_is_returned() -> None:
    message, progress = one(deliverBy=DeliverBy(600, "R", False))
    notice = JUDGE.tooLate(message, progress, 1601)
    assert (progress.state, progress.attempts) == (State.EXPIRED, 0)
    assert notice == Notice(Action.FAILED, progress.recipient, "5.4.7", None, "", None, expired=True)


@pytest.mark.parametrize(
    ("by", "notify", "extensions", "told"),
    [
        (BY, (), {"DSN"}, Action.RELAYED),
        (BY, (), {"DELIVERBY"}, None),
        (BY._replace(trace=True), (), {"DELIVERBY"}, Action.RELAYED),
        (BY._replace(trace=True), ("NEVER",), {"DELIVERBY"}, None),
    ],
)
def test_passing_a_deadline_on_is_told_where_it_ends_or_is_traced(
    by: DeliverBy, notify: tuple[str, ...], extensions: set[str], told: Action | None
) -> None:
    assert actionOf(attempt(*one(*notify, deliverBy=by), OK, extensions=frozenset(extensions))) is told


# ---- Without an attempt.


def test_a_recipient_whose_destination_is_closed_waits_for_it() -> None:
    message, progress = one()
    assert JUDGE.suspended(message, progress, GONE, "mx.test", 1060, 1000) is None
    assert (progress.attempts, progress.lastAttempt, progress.nextAttempt, progress.reply) == (0, None, 1060, GONE)
    notice = JUDGE.suspended(message, progress, GONE, "mx.test", 1e6, 1000 + 4 * HOUR)
    assert actionOf(notice) is Action.DELAYED
    assert actionOf(JUDGE.suspended(message, progress, GONE, "mx.test", 1e6, 1000 + 4 * DAY)) is Action.FAILED
    assert progress.state is State.EXPIRED


def test_a_reply_that_was_lost_is_remembered_while_the_destination_is_closed() -> None:
    message, progress = one()
    attempt(message, progress, LOST)
    JUDGE.suspended(message, progress, GONE, "mx.test", 1360, 1300)
    assert (progress.doubt, progress.reply, progress.nextAttempt) == (Doubt.LOST, GONE, 1360)


def test_putting_off_passes_no_time_at_which_something_is_decided() -> None:
    message, progress = one(deliverBy=BY)
    JUDGE.putOff(message, progress, 1e6, 1000)
    assert progress.nextAttempt == 1600
