"""Whatever servers and disks do, in whatever order: each recipient comes to one end, each failure is told once, and nothing is tried out of time."""

from __future__ import annotations

import email
from collections import Counter
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from memoryqueue import BUSY, GONE, LOST, NOBODY, OK, Call, World

from twisted_smtplite.model.envelope import DeliverBy
from twisted_smtplite.model.errors import ConnectionFailed, PeerRefused
from twisted_smtplite.model.results import Stage
from twisted_smtplite.queue.entries import Doubt, State
from twisted_smtplite.queue.limits import RunnerLimits
from twisted_smtplite.queue.runner import Runner

REPLIES = st.sampled_from([OK, OK, BUSY, NOBODY, LOST])
ADDRESSES = st.lists(st.sampled_from(["a@one.test", "b@one.test", "c@two.test", "d@three.test"]), min_size=1, max_size=4, unique=True)
DEADLINES = st.sampled_from([None, None, DeliverBy(3600, "R", False), DeliverBy(3600, "N", False)])
STEPS = st.one_of(
    st.tuples(st.just("put"), ADDRESSES, DEADLINES, st.sampled_from(["ann@client.test", ""])),
    st.tuples(st.just("answer"), st.integers(0, 20), st.lists(REPLIES, min_size=4, max_size=4)),
    st.tuples(st.just("answer"), st.integers(0, 20), st.lists(REPLIES, min_size=4, max_size=4)),
    st.tuples(st.just("break"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 61.0, 301.0, 7200.0, 90_000.0])),
    st.tuples(st.just("disk"), st.integers(1, 4)),
    st.tuples(st.just("drop"), st.integers(0, 20), st.integers(0, 3)),
    st.tuples(st.just("hold"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("kill")),
)


class Course:
    """A world, what was known of each recipient in the runner that is alive, and what must be so at each attempt."""

    def __init__(self) -> None:
        self.limits = RunnerLimits(inFlight=4, perDestination=2, window=6, windowRecipients=10, perMessage=3, gatherTime=30)
        self.world = World(limits=self.limits)
        self.world.sender.script = self.begin
        self.ended: set[tuple[str, str]] = set()
        self.senders: dict[str, str] = {}
        self.wrong: list[str] = []

    def begin(self, call: Call) -> None:
        """Looks at an attempt. What is wrong is noted, not raised: the runner would take it for a fault of the sender."""
        row = self.world.store.rows[call.envelope.id].message
        for recipient in call.envelope.recipients:
            kept = next(progress for progress in row.progress if progress.recipient.address == recipient.address)
            if (call.envelope.id, str(recipient.address)) in self.ended:
                self.wrong.append("tried after its end")
            if kept.state is not State.WAITING or kept.nextAttempt > call.time:
                self.wrong.append("tried before its time")
        if max(Counter((other.envelope.id, address) for other in self.world.sender.open for address in other.recipients).values()) > 1:
            self.wrong.append("tried twice at the same time")
        if len(self.world.sender.open) > self.limits.inFlight:
            self.wrong.append("too many at a time")

    def put(self, addresses: list[str], by: DeliverBy | None, sender: str) -> None:
        message = self.world.store.put(*addresses, deliverBy=by, sender=sender)
        self.senders[message.id] = sender

    def answer(self, number: int, replies: list[Any]) -> None:
        if open_ := self.world.sender.open:
            call = open_[number % len(open_)]
            those = replies[: len(call.recipients)]
            if self.maySend(call):
                for address, reply in zip(call.recipients, those, strict=True):
                    if reply in (OK, NOBODY):
                        self.ended.add((call.envelope.id, address))
            call.reply(*those)

    def maySend(self, call: Call) -> bool:
        """Whether nobody has held the message, or taken one of these recipients out."""
        row = self.world.store.rows.get(call.envelope.id)
        waiting = {str(one.recipient.address) for one in row.message.progress if not one.state.final} if row and not row.message.held else set()
        return waiting >= set(call.recipients)

    def drop(self, number: int, position: int) -> None:
        """Somebody takes a recipient out."""
        if rows := list(self.world.store.rows.values()):
            message = rows[number % len(rows)].message
            one = message.progress[position % len(message.progress)]
            if not one.state.final:
                one.state = State.DROPPED
                self.ended.add((message.id, str(one.recipient.address)))
            if all(one.state.final for one in message.progress):
                self.world.store.finished[message.id] = self.world.store.rows.pop(message.id).message
            self.world.store.changed()

    def hold(self, number: int, held: bool) -> None:
        """Somebody holds a message, or releases it."""
        if rows := list(self.world.store.rows.values()):
            rows[number % len(rows)].message.held = held
            self.world.store.changed()

    def break_(self, number: int, permanent: bool) -> None:
        if open_ := self.world.sender.open:
            call = open_[number % len(open_)]
            if permanent:
                self.ended |= {(call.envelope.id, address) for address in call.recipients}
            call.fail(PeerRefused(NOBODY, Stage.GREETING) if permanent else ConnectionFailed(GONE, Stage.CONNECT))

    def kill(self) -> None:
        """The process dies and another one takes over: nothing is left but what the store has, and its clock."""
        world = self.world
        for delayed in list(world.clock.getDelayedCalls()):
            delayed.cancel()
        world.sender.calls = []
        world.store.taken.clear()
        for name, position in world.store.handed:
            if name in world.store.rows:
                world.store.rows[name].message.progress[position].doubt = Doubt.KILLED
        world.store.handed.clear()
        world.store._calls.clear()
        world.store.failing = 0
        kept = {row.message.id: row.message for row in world.store.rows.values()}
        self.ended = {
            (key, str(progress.recipient.address)) for key, message in kept.items() for progress in message.progress if progress.state.final
        }
        numbers = iter(range(1, 10_000))
        mark = len(world.store.reports)
        world.runner = Runner(
            world.store,
            world.sender,
            world.clock,
            hostname="relay.test",
            limits=self.limits,
            newId=lambda: f"R{mark}X{next(numbers)}",
            draw=lambda: 0.5,
        )
        world.runner.start()

    def finish(self) -> None:
        """From now on all goes well."""
        self.world.store.failing = 0
        for row in self.world.store.rows.values():
            row.message.held = False
        self.world.store.changed()
        for _ in range(1000):
            for call in self.world.sender.open:
                call.reply(OK)
            # Of a message that was taken out meanwhile something may still be waiting for the disk.
            if not self.world.store.rows and not self.world.store.taken:
                return
            self.world.wait(3600)
        raise AssertionError("something stays in the queue for ever")


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_every_recipient_has_one_end_and_every_failure_one_report(steps: list[Any]) -> None:
    course = Course()
    for name, *arguments in steps:
        if name == "wait":
            course.world.wait(*arguments)
        elif name == "disk":
            course.world.store.failing = arguments[0]
        else:
            getattr(course, {"break": "break_"}.get(name, name))(*arguments)
    course.finish()
    store = course.world.store
    assert course.wrong == []
    assert not store.taken and not store.handed and not course.world.sender.open
    assert store.most <= course.limits.windowRecipients
    told: Counter[tuple[str, str, str]] = Counter()
    for report in store.reports:
        parts = email.message_from_bytes(report.text).get_payload()
        blocks = parts[1].get_payload()[1:]  # type: ignore[index, union-attr]
        about = next(line for line in str(parts[0].get_payload()).splitlines() if "Queue id:" in line).split()[-1]  # type: ignore[index, union-attr]
        assert course.senders[about], "told to nobody"
        for block in blocks:
            told[about, str(block["Final-Recipient"])[8:], str(block["Action"])] += 1  # type: ignore[index]
    failures = 0
    for message in store.finished.values():
        for progress in message.progress:
            assert progress.state.final
            failed = progress.state in (State.FAILED, State.EXPIRED)
            failures += failed
            if progress.state is State.DROPPED:
                continue
            wanted = int(failed and bool(course.senders.get(message.id)))
            assert told[message.id, str(progress.recipient.address), "failed"] == wanted
            assert told[message.id, str(progress.recipient.address), "delayed"] <= 1
    event(f"failures: {min(failures, 3)}")
