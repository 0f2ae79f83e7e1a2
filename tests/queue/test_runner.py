"""The runner, between a queue in memory and a sender that does as it is told, on a clock that stands still."""

from __future__ import annotations

import email
from itertools import pairwise
from typing import Any

import pytest
from memoryqueue import BUSY, GONE, LOST, NOBODY, OK, World, accepting, addressesOf, read, refusing, unreachable
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from twisted_smtplite.model.envelope import DeliverBy
from twisted_smtplite.model.errors import AuthenticationFailed, ConnectionFailed, PeerRefused, Unsendable
from twisted_smtplite.model.results import Delivery, PeerReply, RecipientOutcome, Stage
from twisted_smtplite.queue.entries import AT_ONCE, Doubt, QueuedMessage, Room, State
from twisted_smtplite.queue.limits import RunnerLimits
from twisted_smtplite.queue.schedule import Schedule

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
FLAT = Schedule(jitter=0)


@pytest.fixture
def log() -> Any:
    """The lines that are logged."""
    lines: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_namespace") == "smtplite.queue":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


def actions(world: World) -> list[list[tuple[str, str]]]:
    """Of each report that was made: the recipients, and what it says of them."""
    found = []
    for report in world.store.reports:
        blocks = email.message_from_bytes(report.text).get_payload()[1].get_payload()[1:]  # type: ignore[index, union-attr]
        found.append([(str(block["Final-Recipient"]).removeprefix("rfc822; "), str(block["Action"])) for block in blocks])  # type: ignore[index]
    return found


# ---- The course of a message.


def test_a_message_is_sent_at_once_and_leaves_the_queue() -> None:
    world = World()
    world.sender.script = accepting
    message = world.store.put("ben@mx.test")
    assert world.store.states(message) == [State.SENT] and not world.store.rows and not world.store.taken
    assert world.store.reports == []


def test_what_stood_in_the_queue_before_the_start_is_sent_too() -> None:
    world = World(started=False)
    world.sender.script = accepting
    world.store.put("ben@mx.test")
    world.runner.start()
    assert len(world.sender.calls) == 1 and not world.store.rows


def test_recipients_of_a_message_share_a_transaction_for_each_destination() -> None:
    world = World(limits=RunnerLimits(recipients=2))
    world.store.put("a@one.test", "b@two.test", "c@One.test", "d@one.test")
    assert [call.recipients for call in world.sender.calls] == [["a@one.test", "c@One.test"], ["b@two.test"], ["d@one.test"]]


def test_a_smarthost_gets_all_recipients_together() -> None:
    world = World(destination=lambda recipient: "smart.test")
    world.store.put("a@one.test", "b@two.test")
    assert [call.recipients for call in world.sender.calls] == [["a@one.test", "b@two.test"]]


def test_refused_for_now_is_tried_again_by_the_schedule() -> None:
    world = World(schedule=FLAT)
    world.sender.script = refusing(BUSY)
    world.store.put("ben@mx.test")
    world.wait(3 * HOUR)
    assert [(call.time - world.sender.calls[0].time) / MINUTE for call in world.sender.calls] == [0, 5, 15, 35, 75, 155]
    assert world.store.reports == []


@pytest.mark.parametrize("draw", [0.0, 1.0])
def test_the_waits_are_spread(draw: float) -> None:
    world = World(draw=lambda: draw)
    world.sender.script = refusing(BUSY)
    world.store.put("ben@mx.test")
    world.wait(HOUR)
    assert world.sender.calls[1].time - world.sender.calls[0].time == pytest.approx(300 * (0.8 + 0.4 * draw))


def test_refused_for_good_is_reported_at_once() -> None:
    world = World()
    world.sender.script = refusing(NOBODY)
    message = world.store.put("ben@mx.test")
    assert world.store.states(message) == [State.FAILED]
    assert actions(world) == [[("ben@mx.test", "failed")]]


def test_the_report_goes_out_by_the_same_way_and_is_not_reported_about() -> None:
    world = World()
    world.sender.script = refusing(NOBODY)
    world.store.put("ben@mx.test")
    report = world.sender.calls[-1]
    assert (report.envelope.sender.isNull, report.recipients) == (True, ["ann@client.test"])
    assert not world.store.rows and len(world.store.reports) == 1


def test_each_recipient_has_an_end_of_its_own() -> None:
    world = World(schedule=FLAT)
    world.sender.script = lambda call: call.reply(*[{"a": OK, "b": BUSY, "c": NOBODY}[address[0]] for address in call.recipients])
    message = world.store.put("a@mx.test", "b@mx.test", "c@mx.test")
    assert world.store.states(message) == [State.SENT, State.WAITING, State.FAILED]
    world.sender.take()
    world.wait(5 * MINUTE)
    assert [call.recipients for call in world.sender.calls] == [["b@mx.test"]]
    assert actions(world) == [[("c@mx.test", "failed")]]


def test_failures_of_one_message_are_told_in_one_report() -> None:
    world = World()
    message = world.store.put("a@one.test", "b@two.test", "c@three.test")
    one, two, three = world.sender.calls
    one.reply(NOBODY)
    two.reply(OK)
    assert world.store.states(message) == [State.WAITING, State.SENT, State.WAITING], "what was sent is recorded at once"
    world.wait(30)
    three.reply(NOBODY)
    assert actions(world) == [[("a@one.test", "failed"), ("c@three.test", "failed")]]
    assert world.store.states(message) == [State.FAILED, State.SENT, State.FAILED]


def test_a_failure_does_not_wait_for_ever_to_be_told() -> None:
    world = World()
    world.store.put("a@one.test", "b@two.test")
    world.sender.calls[0].reply(NOBODY)
    world.wait(MINUTE)
    assert actions(world) == [[("a@one.test", "failed")]]
    world.sender.calls[1].reply(NOBODY)
    assert actions(world) == [[("a@one.test", "failed")], [("b@two.test", "failed")]]


def test_the_sender_is_warned_and_in_the_end_told() -> None:
    world = World()
    world.sender.script = lambda call: call.reply(OK if call.envelope.sender.isNull else BUSY)
    message = world.store.put("ben@mx.test")
    world.wait(4 * HOUR - 1)
    assert actions(world) == []
    world.wait(1)
    assert actions(world) == [[("ben@mx.test", "delayed")]]
    world.wait(4 * DAY - 4 * HOUR - 1)
    assert len(world.store.reports) == 1
    world.wait(1)
    assert actions(world)[1:] == [[("ben@mx.test", "failed")]]
    assert world.store.states(message) == [State.EXPIRED]
    assert b"Status: 5.4.7" in world.store.reports[1].text


def test_success_is_told_where_the_next_server_will_not() -> None:
    world = World()
    world.sender.script = lambda call: call.reply(OK, extensions=frozenset())
    message = world.store.put("ben@mx.test")
    message.envelope.recipients[0].notify = frozenset({"SUCCESS"})
    world.store.add(message.envelope, b"Subject: x\r\n\r\nx\r\n")
    assert actions(world) == [[("ben@mx.test", "relayed")]]


def test_the_parameters_of_the_message_go_on_with_it() -> None:
    world = World()
    world.store.put("ben@mx.test", ret="HDRS", envelopeId="QQ", requireTLS=True, priority=3, smtputf8=True, holdUntil=world.clock.seconds())
    envelope = world.sender.calls[0].envelope
    assert (envelope.ret, envelope.envelopeId, envelope.requireTLS, envelope.priority, envelope.smtputf8) == ("HDRS", "QQ", True, 3, True)
    assert envelope.holdUntil is None


# ---- Errors that hold for all recipients.


def test_an_unreachable_server_makes_all_wait() -> None:
    world = World()
    world.sender.script = unreachable(ConnectionFailed)
    message = world.store.put("a@mx.test", "b@mx.test")
    assert world.store.states(message) == [State.WAITING, State.WAITING]
    kept = world.store.progress(message)
    assert (kept.reply, kept.stage, kept.host, kept.attempts) == (GONE, Stage.CONNECT, "mx.test", 1)


def test_a_server_that_never_takes_mail_fails_all() -> None:
    world = World()
    world.sender.script = unreachable(PeerRefused, PeerReply(556, "5.1.10", ("No mail here",)))
    message = world.store.put("a@mx.test", "b@mx.test")
    assert world.store.states(message) == [State.FAILED, State.FAILED]
    assert actions(world) == [[("a@mx.test", "failed"), ("b@mx.test", "failed")]]


def test_a_message_that_fits_nowhere_fails_alone() -> None:
    world = World()
    world.sender.script = unreachable(Unsendable, PeerReply(552, "5.3.4", ("Too large for it",), local=True))
    first = world.store.put("a@mx.test")
    world.sender.script = accepting
    second = world.store.put("a@mx.test")
    assert (world.store.states(first), world.store.states(second)) == ([State.FAILED], [State.SENT])


def test_a_wrong_password_is_no_fault_of_the_message() -> None:
    world = World()
    world.sender.script = unreachable(AuthenticationFailed, PeerReply(535, "5.7.8", ("Wrong password",)))
    message = world.store.put("a@mx.test")
    assert world.store.states(message) == [State.WAITING]
    assert world.store.progress(message).reply == PeerReply(454, "4.7.0", ("Wrong password",))


@pytest.mark.filterwarnings("ignore")
def test_a_sender_that_breaks_is_logged_and_tried_again(log: list[str]) -> None:
    world = World(schedule=FLAT)

    def broken(call: Any) -> None:
        raise RuntimeError("broken")

    world.sender.script = broken
    message = world.store.put("a@mx.test")
    assert world.store.states(message) == [State.WAITING]
    assert any("An attempt to send message M1 failed" in line for line in log)
    world.sender.script = accepting
    world.wait(5 * MINUTE)
    assert world.store.states(message) == [State.SENT]


def test_outcomes_that_do_not_fit_are_as_good_as_none(log: list[str]) -> None:
    world = World()
    world.sender.script = lambda call: call.answer.callback(Delivery((), "mx.test"))
    message = world.store.put("a@mx.test")
    assert world.store.states(message) == [State.WAITING]
    assert any("0 outcomes for 1 recipients" in line or "M1 failed" in line for line in log)


# ---- Destinations.


def test_a_dead_destination_is_probed_by_one_message_at_a_time() -> None:
    world = World(limits=RunnerLimits(perDestination=1))
    world.sender.script = unreachable(ConnectionFailed)
    for _ in range(20):
        world.store.put("a@dead.test")
    assert len(world.sender.take()) == 1
    world.wait(3 * HOUR)
    times = [call.time - 1e9 for call in world.sender.take()]
    gaps = [round(later - sooner) for sooner, later in pairwise(times)]
    assert min(gaps) >= 100 and len(times) < 15, "it is left alone between, ever longer"


def test_a_destination_that_comes_back_gets_all_that_waited() -> None:
    world = World()
    world.sender.script = unreachable(ConnectionFailed)
    messages = [world.store.put("a@dead.test") for _ in range(20)]
    world.sender.script = accepting
    world.wait(10 * MINUTE)
    assert all(world.store.states(message) == [State.SENT] for message in messages)


def test_a_dead_destination_is_not_asked_for_and_yet_its_senders_are_told() -> None:
    world = World()
    world.sender.script = lambda call: (accepting if call.envelope.sender.isNull else unreachable(ConnectionFailed))(call)
    messages = [world.store.put("a@dead.test") for _ in range(5)]
    world.wait(5 * DAY)
    assert all(world.store.states(message) == [State.EXPIRED] for message in messages)
    assert sorted(actions(world)) == [[("a@dead.test", "delayed")]] * 5 + [[("a@dead.test", "failed")]] * 5


def test_by_hand_a_dead_destination_is_tried_at_once() -> None:
    world = World(schedule=FLAT)
    world.sender.script = unreachable(ConnectionFailed)
    messages = [world.store.put("a@dead.test") for _ in range(3)]
    assert len(world.sender.take()) == 1
    world.wait(MINUTE / 2)
    for again in (unreachable(ConnectionFailed), accepting):
        world.sender.script = again
        for message in messages:
            world.store.progress(message).nextAttempt = AT_ONCE
        world.store.changed()
        assert len(world.sender.take()) == (3 if again is accepting else 1)
    assert all(world.store.states(message) == [State.SENT] for message in messages)


def test_a_server_that_always_breaks_off_is_not_hammered() -> None:
    world = World(limits=RunnerLimits(perDestination=1))
    world.sender.script = lambda call: call.reply(LOST)
    for _ in range(20):
        world.store.put("a@mx.test")
    assert len(world.sender.calls) == 1


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.GREETING, Stage.HELLO, Stage.TLS])
def test_a_destination_whose_servers_all_say_not_now_is_probed_by_one_message_at_a_time(stage: Stage) -> None:
    world = World(limits=RunnerLimits(perDestination=1))
    world.sender.script = lambda call: call.reply(PeerReply(421, "4.3.2", ("Too many connections",)), stage=stage)
    for _ in range(20):
        world.store.put("a@mx.test")
    assert len(world.sender.calls) == 1


def test_a_message_that_cannot_be_read_leaves_its_destination_to_others() -> None:
    world = World()
    world.sender.script = lambda call: call.reply(PeerReply(451, "4.3.0", ("It cannot be read",), local=True), stage=Stage.DATA)
    world.store.put("a@mx.test")
    world.sender.script = accepting
    assert world.store.states(world.store.put("a@mx.test")) == [State.SENT]


@pytest.mark.parametrize("asError", [False, True])
def test_of_an_endless_reply_a_page_is_kept_logged_and_reported(asError: bool, log: list[str]) -> None:
    endless = PeerReply(550, "5.1.1", ("x" * 4000,) * 256)
    world = World()
    world.sender.script = unreachable(PeerRefused, endless) if asError else lambda call: call.reply(endless, stage=Stage.RCPT)
    world.store.put("a@mx.test", "b@mx.test")
    assert all(len(str(progress.reply)) < 2100 for message in world.store.records for progress in message.progress if progress.reply)
    assert max(map(len, log)) < 3000 and len(world.store.reports[0].text) < 8000


def test_a_slow_destination_holds_up_no_other() -> None:
    world = World(limits=RunnerLimits(inFlight=8, perDestination=4, window=20))
    for _ in range(100):
        world.store.put("a@slow.test")
    for number in range(50):
        world.store.put(f"a@fast{number}.test")
    for _ in range(200):
        for call in world.sender.open:
            if "slow" not in call.recipients[0]:
                call.reply(OK)
        world.wait(1)
    sent = [address for call in world.sender.calls if call.answer.called for address in call.recipients]
    assert len(sent) == 50
    assert len(world.sender.open) <= 8


def test_slow_destinations_never_have_all_slots() -> None:
    world = World(limits=RunnerLimits(inFlight=8, perDestination=4))
    for _ in range(4):
        world.store.put("a@slow1.test")
        world.store.put("a@slow2.test")
    assert len(world.sender.open) == 6
    world.store.put("a@fast.test")
    assert list(addressesOf(world.sender.open))[-1] == "a@fast.test"


def test_a_burst_for_one_fast_server_is_sent_without_a_pause() -> None:
    world = World(limits=RunnerLimits(inFlight=8, perDestination=4, window=20))
    messages = [world.store.put("a@mx.test") for _ in range(200)]
    while world.sender.open:
        for call in world.sender.open:
            call.reply(OK)
    assert all(world.store.states(message) == [State.SENT] for message in messages)


def test_what_was_put_off_is_sent_when_its_turn_comes() -> None:
    world = World(limits=RunnerLimits(inFlight=4, perDestination=2, window=10))
    messages = [world.store.put("a@slow.test") for _ in range(60)]
    for _ in range(600):
        for call in world.sender.open:
            call.reply(OK)
        world.wait(5)
    assert all(world.store.states(message) == [State.SENT] for message in messages)


def test_destinations_have_their_turns_one_after_the_other() -> None:
    world = World(limits=RunnerLimits(inFlight=1, perDestination=1))
    for name in ("one", "one", "one", "two", "two", "three"):
        world.store.put(f"a@{name}.test")
    order = []
    while world.sender.open:
        (call,) = world.sender.open
        order.append(call.recipients[0][2:-5])
        call.reply(OK)
    assert order == ["one", "two", "three", "one", "two", "one"]


def test_the_urgent_goes_first() -> None:
    world = World(limits=RunnerLimits(inFlight=1, perDestination=1))
    for priority in (0, -3, 9, 4, 9):
        world.store.put("a@mx.test", priority=priority)
    order = []
    while world.sender.open:
        (call,) = world.sender.open
        order.append(call.envelope.priority)
        call.reply(OK)
    assert order == [0, 9, 9, 4, -3], "the first was on its way already"


# ---- Many recipients.


def test_a_message_to_very_many_takes_no_more_memory_than_others() -> None:
    limits = RunnerLimits(inFlight=10, perDestination=5, recipients=10, window=20, windowRecipients=200, perMessage=100)
    world = World(limits=limits)
    message = world.store.put(*(f"a{number}@d{number % 50}.test" for number in range(800)))
    others = [world.store.put(*(f"b{number}@e{number % 50}.test" for number in range(150))) for _ in range(4)]
    while world.sender.open:
        for call in world.sender.open:
            assert len(call.recipients) <= 10
            call.reply(OK)
        world.wait(1)
    assert world.store.most <= 200
    assert all(set(world.store.states(each)) == {State.SENT} for each in (message, *others))
    assert len(list(addressesOf(world.sender.calls))) == 800 + 600, "each once"


def test_of_a_message_to_very_many_those_behind_a_slow_destination_do_not_wait_for_it() -> None:
    world = World(limits=RunnerLimits(inFlight=8, perDestination=4, recipients=5, perMessage=20))
    message = world.store.put(*(f"a{number}@slow.test" for number in range(10)), *(f"b{number}@d{number % 7}.test" for number in range(200)))
    for _ in range(100):
        for call in world.sender.open:
            if "slow" not in call.recipients[0]:
                call.reply(OK)
        world.wait(1)
    assert world.store.states(message) == [State.WAITING] * 10 + [State.SENT] * 200


def test_a_message_to_many_of_a_slow_destination_holds_up_no_other() -> None:
    world = World(limits=RunnerLimits(inFlight=8, perDestination=4, recipients=1, window=20, windowRecipients=100, perMessage=100))
    world.store.put(*(f"a{number}@slow.test" for number in range(1000)))
    others = [world.store.put("b@fast.test") for _ in range(20)]
    for _ in range(100):
        for call in world.sender.open:
            if "slow" not in call.recipients[0]:
                call.reply(OK)
        world.wait(1)
    assert all(world.store.states(other) == [State.SENT] for other in others)
    assert world.store.most <= 100


def test_a_recipient_who_falls_due_while_as_many_as_may_be_are_under_way_is_tried_behind_them() -> None:
    world = World(limits=RunnerLimits(perMessage=3))
    world.store.put("x@dead.test")
    world.sender.open[0].fail(ConnectionFailed(GONE, Stage.CONNECT))
    message = world.store.put("a@one.test", "b@two.test", "d@dead.test", "c@three.test")
    assert [call.recipients for call in world.sender.open] == [["a@one.test"], ["b@two.test"], ["c@three.test"]]
    # By now the one that was put off would have been tried, and there was no room for him.
    world.wait(3600)
    for _ in range(2):
        for call in world.sender.open:
            call.reply(OK)
        world.wait(1)
    assert world.store.states(message) == [State.SENT] * 4


def test_a_recipient_who_falls_due_while_others_are_under_way_is_tried_at_his_time() -> None:
    world = World(schedule=FLAT)
    message = world.store.put("a@one.test", "b@two.test")
    one, two = world.sender.calls
    one.reply(BUSY)
    world.wait(10 * MINUTE)
    assert [call.recipients for call in world.sender.calls] == [["a@one.test"], ["b@two.test"], ["a@one.test"]]
    two.reply(OK)
    world.sender.calls[2].reply(OK)
    assert world.store.states(message) == [State.SENT, State.SENT]


def test_only_what_has_changed_is_recorded() -> None:
    world = World()
    world.store.put("a@one.test", "b@two.test", "c@one.test")
    for call in world.sender.calls:
        call.reply(OK)
    recorded = [[str(progress.recipient.address) for progress in message.progress] for message in world.store.records]
    assert recorded == [["a@one.test", "c@one.test"], ["b@two.test"]]


# ---- What somebody changes by hand.


def drop(world: World, message: QueuedMessage, position: int) -> None:
    world.store.rows[message.id].message.progress[position].state = State.DROPPED
    world.store.changed()


def test_who_is_taken_out_while_he_waits_for_his_turn_is_not_sent_to() -> None:
    world = World(limits=RunnerLimits(perDestination=1))
    world.store.put("a@mx.test")
    message = world.store.put("b@mx.test", "c@mx.test")
    drop(world, message, 0)
    world.sender.script = accepting
    world.sender.open[0].reply(OK)
    world.wait(MINUTE)
    assert [call.recipients for call in world.sender.calls] == [["a@mx.test"], ["c@mx.test"]]
    assert world.store.states(message) == [State.DROPPED, State.SENT] and not world.store.taken


@pytest.mark.parametrize("how", ["drop", "hold"])
def test_what_is_taken_out_or_held_before_its_text_is_sent_is_not_sent(how: str, log: list[str]) -> None:
    world = World()
    message = world.store.put("a@mx.test", "b@mx.test")
    if how == "drop":
        drop(world, message, 0)
    else:
        world.store.rows[message.id].message.held = True
    world.sender.script = accepting
    world.sender.open[0].reply(OK)
    world.wait(MINUTE)
    tried = [call.recipients for call in world.sender.calls[1:]]
    assert tried == ([["b@mx.test"]] if how == "drop" else [])
    if how == "hold":
        world.store.rows[message.id].message.held = False
        world.store.changed()
        world.wait(MINUTE)
    assert world.store.states(message) == [State.DROPPED if how == "drop" else State.SENT, State.SENT]
    assert not any(line.startswith("deferred") for line in log) and not world.store.taken


def test_what_went_out_in_parts_is_not_sent_again_when_the_rest_is_held() -> None:
    world = World()
    message = world.store.put("a@mx.test", "b@mx.test")
    (call,) = world.sender.open
    read(call.content)
    world.store.rows[message.id].message.held = True
    # Another host is to have the message for the second recipient.
    with pytest.raises(Unsendable):
        read(call.content)
    call.answer.callback(
        Delivery(
            (
                RecipientOutcome(call.envelope.recipients[0], Stage.TEXT, OK),
                RecipientOutcome(call.envelope.recipients[1], Stage.DATA, PeerReply(451, "4.3.0", ("Held",), local=True)),
            ),
            "mx.test",
        )
    )
    assert world.store.states(message) == [State.SENT, State.WAITING] and world.store.rows[message.id].message.progress[1].attempts == 0
    assert not world.store.taken and not world.store.handed


# ---- Time (RFC 2852, RFC 4865).


def test_a_message_is_held_until_its_time() -> None:
    world = World()
    world.sender.script = accepting
    message = world.store.put("a@mx.test", holdUntil=world.clock.seconds() + DAY)
    world.wait(DAY - 1)
    assert world.sender.calls == []
    world.wait(1)
    assert world.store.states(message) == [State.SENT]


def test_a_message_in_hold_is_not_sent() -> None:
    world = World()
    world.store.put("a@mx.test", held=True)
    world.wait(DAY)
    assert world.sender.calls == []


def test_what_is_held_while_it_waits_for_its_turn_is_not_sent_until_it_is_released() -> None:
    world = World(limits=RunnerLimits(perDestination=1))
    first, second, third = (world.store.put("a@mx.test") for _ in range(3))
    world.store.rows[second.id].message.held = True
    world.store.changed()
    world.sender.script = accepting
    world.sender.open[0].reply(OK)
    world.wait(MINUTE)
    assert [world.store.states(message) for message in (first, second, third)] == [[State.SENT], [State.WAITING], [State.SENT]]
    world.store.rows[second.id].message.held = False
    world.store.changed()
    world.wait(1)
    assert world.store.states(second) == [State.SENT] and not world.store.taken


def test_a_late_message_is_returned_without_another_attempt() -> None:
    world = World()
    world.sender.script = lambda call: call.reply(OK if call.envelope.sender.isNull else BUSY)
    message = world.store.put("a@mx.test", deliverBy=DeliverBy(400, "R", False))
    world.wait(400)
    assert world.store.states(message) == [State.EXPIRED]
    assert b"Status: 5.4.7" in world.store.reports[0].text
    assert [call.envelope.deliverBy.seconds for call in world.sender.calls if call.envelope.deliverBy] == [400, 100]


def test_a_message_that_is_late_when_its_turn_comes_is_returned() -> None:
    world = World(limits=RunnerLimits(inFlight=1, perDestination=1))
    world.store.put("a@mx.test")
    late = world.store.put("a@mx.test", deliverBy=DeliverBy(60, "R", False))
    world.wait(100)
    world.sender.open[0].reply(OK)
    assert world.store.states(late) == [State.EXPIRED]
    assert [call.recipients for call in world.sender.calls] == [["a@mx.test"], ["ann@client.test"]]


def test_a_sender_who_wants_to_know_of_a_deadline_is_told_when_it_passes() -> None:
    world = World()
    world.sender.script = lambda call: call.reply(OK if call.envelope.sender.isNull else BUSY)
    message = world.store.put("a@mx.test", deliverBy=DeliverBy(400, "N", False))
    world.wait(400)
    assert actions(world) == [[("a@mx.test", "delayed")]]
    assert world.store.states(message) == [State.WAITING]


# ---- The store fails.


def test_what_cannot_be_recorded_is_neither_forgotten_nor_sent_again(log: list[str]) -> None:
    world = World()
    message = world.store.put("a@mx.test", "b@mx.test")
    world.store.failing = 10
    world.sender.calls[0].reply(OK, NOBODY)
    assert world.store.states(message) == [State.WAITING, State.WAITING] and world.store.reports == []
    world.wait(10 * MINUTE)
    assert world.store.states(message) == [State.SENT, State.FAILED]
    assert actions(world) == [[("b@mx.test", "failed")]]
    assert [call.recipients for call in world.sender.calls] == [["a@mx.test", "b@mx.test"], ["ann@client.test"]]
    assert "No space left on device" in next(line for line in log if "cannot be recorded" in line)


def test_a_store_that_cannot_be_read_is_asked_again(log: list[str]) -> None:
    world = World(started=False)
    world.sender.script = accepting
    world.store.put("a@mx.test")
    world.store.failing = 2
    world.runner.start()
    assert world.sender.calls == []
    world.wait(5)
    assert len(world.sender.calls) == 1
    assert any("The queue cannot be read" in line for line in log)


def test_a_report_is_made_also_when_the_message_cannot_be_read(log: list[str]) -> None:
    world = World()
    world.store.put("a@mx.test")
    world.store.unreadable = True
    world.sender.calls[0].reply(NOBODY)
    assert actions(world) == [[("a@mx.test", "failed")]]
    assert any("Message M1 cannot be read" in line for line in log)


def test_what_is_heard_while_the_store_works_is_recorded_after_it() -> None:
    world = World()
    world.store.later = True
    message = world.store.put("a@one.test", "b@two.test", "c@three.test")
    one, two, three = world.sender.calls
    one.reply(OK)
    two.reply(OK)
    three.reply(NOBODY)
    assert len(world.sender.calls) == 3
    world.store.flush()
    world.store.flush()
    assert world.store.states(message) == [State.SENT, State.SENT, State.FAILED]
    assert actions(world) == [[("c@three.test", "failed")]]


def test_a_message_in_parts_is_not_taken_for_a_new_one() -> None:
    world = World()
    message = world.store.put("a@one.test", "b@two.test")
    one, two = world.sender.calls
    one.reply(OK)
    # The store has let go of it by now, and gives it out again.
    world.store.put("c@three.test")
    world.wait(1)
    assert [call.recipients for call in world.sender.calls] == [["a@one.test"], ["b@two.test"], ["c@three.test"]]
    two.reply(BUSY)
    world.wait(HOUR)
    assert list(addressesOf(world.sender.calls)).count("b@two.test") == 2
    assert world.store.states(message) == [State.SENT, State.WAITING]


# ---- The log.


def test_the_log_tells_each_attempt(log: list[str]) -> None:
    world = World(schedule=FLAT)
    world.sender.script = lambda call: call.reply(*[{"a": OK, "b": OK, "c": BUSY, "d": NOBODY}.get(address[0], OK) for address in call.recipients])
    world.store.put("a@mx.test", "b@mx.test", "c@mx.test", "d@mx.test", sender="eva@client.test")
    assert (
        'sent id=M1 from=<eva@client.test> to=<a@mx.test>,<b@mx.test> recipients=2 host="mx.test" attempts=1 delay=0.0 reply="250 2.0.0 Taken"' in log
    )
    assert any(line.startswith("deferred id=M1 ") and ' until="Sun, 09 Sep 2001 01:51:40 -0000"' in line for line in log)
    assert any(line.startswith("failed id=M1 ") and 'reply="550 5.1.1 Nobody of this name"' in line for line in log)
    assert "reported id=M1 to=<eva@client.test> report=R1" in log


def test_no_reply_makes_a_line_of_its_own(log: list[str]) -> None:
    world = World()
    world.sender.script = lambda call: call.reply(
        PeerReply(
            550,
            None,
            ("a\u2028b\x85c\nsent id=M9", '"'),
        ),
        peer='x"\n',
    )
    world.store.put('"x\u2028y"@mx.test')
    for line in log:
        assert line.isprintable() and line.isascii()


def test_a_lost_reply_is_said_to_make_doubles(log: list[str]) -> None:
    world = World()
    world.sender.script = lambda call: call.reply(LOST)
    world.store.put("a@mx.test")
    world.sender.script = accepting
    world.wait(HOUR)
    assert any(line.startswith("deferred ") and 'again="The server\'s reply was lost: it may have the message"' in line for line in log)
    assert any(line.startswith("sent ") and 'again="The server\'s reply to an earlier attempt was lost"' in line for line in log)


def test_a_reply_to_the_text_that_says_nothing_leaves_it_open_whether_it_arrived(log: list[str]) -> None:
    world = World()
    # 354 where the message should have been taken or refused.
    world.sender.script = lambda call: call.reply(PeerReply(451, "4.5.0", ("TEXT was answered by: 354",), local=True))
    world.store.put("a@mx.test")
    assert world.store.progress(world.store.rows["M1"].message).doubt is Doubt.LOST
    assert 'again="The server\'s reply was lost: it may have the message"' in log[0]


def test_a_lost_reply_is_not_forgotten_when_the_next_attempts_come_to_nothing(log: list[str]) -> None:
    world = World()
    world.sender.script = lambda call: call.reply(LOST)
    world.store.put("a@mx.test")
    world.sender.script = refusing(BUSY)
    world.wait(HOUR)
    world.sender.script = accepting
    world.wait(2 * HOUR)
    assert log[-1].startswith("sent ") and 'again="The server\'s reply to an earlier attempt was lost"' in log[-1]


def test_what_a_killed_process_may_have_sent_is_said_to_come_twice_until_it_is_sent(log: list[str]) -> None:
    world = World(started=False, schedule=FLAT)
    world.sender.script = refusing(BUSY)
    world.store.put("a@old.test", "b@old.test")
    world.store.rows["M1"].message.progress[1].doubt = Doubt.KILLED
    world.runner.start()
    world.sender.script = accepting
    world.wait(HOUR)
    sent = {line.split(" to=<")[1][0]: "again=" in line for line in log if line.startswith("sent ")}
    assert sent == {"a": False, "b": True}


# ---- The end.


def stopped(world: World) -> list[None]:
    ended: list[None] = []
    world.runner.stop().addCallback(ended.append)
    return ended


def test_a_stop_waits_for_what_is_in_flight_and_begins_nothing() -> None:
    world = World(limits=RunnerLimits(inFlight=2))
    messages = [world.store.put("a@mx.test") for _ in range(3)]
    ended = stopped(world)
    world.store.put("b@mx.test")
    assert len(world.sender.calls) == 2 and not ended
    for call in world.sender.calls:
        call.reply(OK)
    assert ended and not world.store.taken and not world.clock.getDelayedCalls()
    assert [world.store.states(message)[0] for message in messages] == [State.SENT, State.SENT, State.WAITING]


def test_what_does_not_end_in_time_is_broken_off_and_put_back(log: list[str]) -> None:
    world = World(limits=RunnerLimits(drainTime=30))
    message = world.store.put("a@mx.test")
    ended = stopped(world)
    world.wait(29)
    assert not ended
    world.wait(1)
    assert ended and world.sender.cancelled and not world.store.taken
    assert world.store.states(message) == [State.WAITING] and world.store.progress(message).attempts == 0
    assert world.store.progress(message).doubt is None and not any(line.startswith("interrupted ") for line in log), "nothing was handed over"


def test_what_is_broken_off_before_its_text_was_sent_is_not_doubtful(log: list[str]) -> None:
    world = World(limits=RunnerLimits(drainTime=30))
    message = world.store.put("a@mx.test")
    assert world.sender.calls[0].content.size
    stopped(world)
    world.wait(30)
    assert world.store.progress(message).doubt is None and not world.store.offered


def test_what_is_broken_off_after_its_text_was_handed_over_may_come_twice(log: list[str]) -> None:
    world = World(limits=RunnerLimits(drainTime=30))
    message = world.store.put("a@mx.test")
    read(world.sender.calls[0].content)
    ended = stopped(world)
    world.wait(30)
    assert ended and not world.store.taken and not world.store.handed
    assert world.store.progress(message).doubt is Doubt.STOPPED and world.store.progress(message).attempts == 0
    assert any(line.startswith("interrupted id=M1 ") for line in log)


def test_a_stop_records_what_is_known() -> None:
    world = World()
    message = world.store.put("a@one.test", "b@two.test")
    world.sender.calls[0].reply(NOBODY)
    ended = stopped(world)
    assert world.store.states(message) == [State.FAILED, State.WAITING]
    world.sender.calls[1].reply(OK)
    assert ended and world.store.states(message) == [State.FAILED, State.SENT]


def test_what_cannot_be_recorded_before_the_end_is_said(log: list[str]) -> None:
    world = World()
    world.store.put("a@mx.test")
    world.store.failing = 1_000_000
    world.sender.calls[0].reply(OK)
    ended = stopped(world)
    world.wait(31)
    assert ended and world.store.handed == {("M1", 0)}, "who sends next finds it there"
    assert any("sent again, and so twice" in line and "<a@mx.test>" in line for line in log)


def test_a_stop_while_the_store_is_asked_puts_back_what_it_gives() -> None:
    world = World(started=False)
    message = world.store.put("a@mx.test")
    answer: Deferred[Any] = Deferred()
    world.store.due = lambda now, count: answer  # type: ignore[method-assign]
    world.runner.start()
    ended = stopped(world)
    assert not ended
    world.store.taken.add((message.id, 0))
    answer.callback([message])
    assert ended and not world.store.taken and world.sender.calls == []


def test_a_runner_that_never_started_stops_at_once_and_stopping_twice_is_one_stop() -> None:
    assert stopped(World(started=False))
    world = World()
    world.store.put("a@mx.test")
    both = [stopped(world), stopped(world)]
    world.sender.calls[0].reply(OK)
    assert all(both) and stopped(world)


@pytest.mark.parametrize("wrong", [{"inFlight": 0}, {"drainTime": -1}, {"window": float("inf")}])
def test_impossible_limits_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RunnerLimits(**wrong)


def test_names_of_reports_are_letters_and_digits_and_differ() -> None:
    from twisted_smtplite.queue.recording import queueIds

    names = queueIds()
    made = {names() for _ in range(100)}
    assert len(made) == 100 and all(name.isalnum() for name in made)


def test_a_store_that_fails_while_more_is_due_is_not_asked_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(limits=RunnerLimits(inFlight=8, perDestination=8, window=8))
    for _ in range(20):
        world.store.put("a@one.test")
    asked = []

    def due(now: float, room: Room) -> Deferred[Any]:
        def broken() -> None:
            raise OSError("the disk is gone")

        asked.append(now)
        return deferLater(world.clock, 0.001, broken)

    monkeypatch.setattr(world.store, "due", due)
    for call in world.sender.open[:6]:
        call.reply(OK)
    world.wait(10)
    assert 5 < len(asked) < 30
    monkeypatch.undo()
    world.sender.script = accepting
    for call in world.sender.open:
        call.reply(OK)
    world.waitUntil(lambda: not world.store.rows)
