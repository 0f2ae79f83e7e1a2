"""Whose turn it is, against the rule said plainly: the most urgent, then the one whose last turn is longest ago."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from queueing import anEnvelope

from twisted_smtplite.model.results import PeerReply
from twisted_smtplite.queue.destinations import Destinations
from twisted_smtplite.queue.entries import QueuedMessage
from twisted_smtplite.queue.limits import RunnerLimits
from twisted_smtplite.queue.work import Transaction, Work

LIMITS = RunnerLimits(inFlight=8, perDestination=3)
TROUBLE = PeerReply(421, "4.4.1", ("No connection",), local=True)
DONE, FAILED, RELEASED = "done", "failed", "released"


def transaction(destination: str, priority: int = 0) -> Transaction:
    return Transaction(Work(QueuedMessage("M", anEnvelope(priority=priority))), destination, [])


class Plain:
    """The same by looking at all of them each time."""

    def __init__(self) -> None:
        self.waiting: list[Transaction] = []
        self.under: list[Transaction] = []
        self.turns: dict[str, int] = {}
        self.troubled: set[str] = set()
        self.turn = 0

    def next(self) -> list[Transaction]:
        """Those that may be next: where destinations have had no turn yet any of them may."""
        if len(self.under) >= LIMITS.inFlight:
            return []
        most = LIMITS.perDestination if len(self.under) < LIMITS.inFlight - LIMITS.inFlight // 4 else 1
        firsts: dict[str, Transaction] = {}
        for one in sorted(self.waiting, key=lambda one: -one.work.message.envelope.priority):
            firsts.setdefault(one.destination, one)
        ready = [one for name, one in firsts.items() if self._under(name) < (min(1, most) if name in self.troubled else most)]
        least = min(map(self._key, ready), default=None)
        return [one for one in ready if self._key(one) == least]

    def _under(self, name: str) -> int:
        return sum(one.destination == name for one in self.under)

    def _key(self, one: Transaction) -> tuple[int, int]:
        return (-one.work.message.envelope.priority, self.turns.get(one.destination, 0))

    def begin(self, one: Transaction) -> None:
        self.turn += 1
        self.turns[one.destination] = self.turn
        self.waiting.remove(one)
        self.under.append(one)

    def end(self, one: Transaction, how: str) -> None:
        self.under.remove(one)
        if how == FAILED:
            self.troubled.add(one.destination)
            self.waiting = [other for other in self.waiting if other.destination != one.destination]
        elif how == DONE:
            self.troubled.discard(one.destination)
        if not self._under(one.destination) and one.destination not in self.troubled | {other.destination for other in self.waiting}:
            # Nothing is known of it any more.
            self.turns.pop(one.destination, None)


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("abcdef"), st.integers(-1, 1)),
    st.tuples(st.just("next"), st.none(), st.none()),
    st.tuples(st.sampled_from((DONE, FAILED, RELEASED)), st.integers(0, 7), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=80))
def test_turns_are_those_of_the_plain_rule(steps: list[Any]) -> None:
    destinations, plain = Destinations(LIMITS, lambda: 0.5), Plain()
    for what, which, priority in steps:
        if what == "add":
            plain.waiting.append(added := transaction(which, priority))
            destinations.add(added)
        elif what == "next":
            allowed = plain.next()
            begun = destinations.next(0)
            assert begun in allowed if allowed else begun is None
            if begun is not None:
                plain.begin(begun)
        elif which < len(plain.under):
            one = plain.under[which]
            plain.end(one, what)
            if what == RELEASED:
                destinations.released(one)
            else:
                destinations.ended(one, 0, TROUBLE if what == FAILED else None, "")
    assert destinations.inFlight == len(plain.under)


def test_a_clock_that_goes_back_leaves_nobody_waiting() -> None:
    destinations = Destinations(LIMITS, lambda: 0.5)
    destinations.add(transaction("a"))
    begun = destinations.next(1000)
    assert begun is not None
    destinations.ended(begun, 1000, TROUBLE, "")
    destinations.add(again := transaction("a"))
    assert destinations.next(10) is again


def test_ten_thousand_destinations_are_known_no_longer_than_something_goes_on() -> None:
    destinations = Destinations(LIMITS, lambda: 0.5)
    for number in range(10_000):
        destinations.add(transaction(f"d{number}.test"))
    served = []
    while (begun := destinations.next(0)) is not None:
        served.append(begun.destination)
        destinations.ended(begun, 1, None, "")
    assert served == [f"d{number}.test" for number in range(10_000)] and not destinations.clear()
