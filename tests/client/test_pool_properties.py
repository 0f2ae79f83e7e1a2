"""A pool under any order of events keeps its limits, and leaves no message without an answer."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from test_pool import ELSEWHERE, HERE, THERE, Net
from twisted.internet.defer import Deferred

from twisted_smtplite.model.errors import ConnectionFailed, PeerRefused
from twisted_smtplite.model.results import PeerReply, Stage

DESTINATIONS = (HERE, THERE, ELSEWHERE)
EVENTS = ["send", "send", "send", "open", "open", "fail", "refuse connection", "finish", "finish", "refuse", "lose", "tire", "wait", "cancel"]
# An event, and with whom it happens.
STORIES = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 5)), max_size=60)


def happen(net: Net, sent: list[Deferred[object]], event: str, number: int) -> None:
    """Lets something happen, if it can."""
    live = [connection for connection in net.live() if connection.sending]
    anybody = net.live()
    actions: dict[str, Callable[[], object]] = {
        "send": lambda: sent.append(net.send(DESTINATIONS[number % 3])),
        "open": lambda: net.opening and net.open(),
        "fail": lambda: net.opening and net.fail(),
        "refuse connection": lambda: net.opening and net.fail(PeerRefused(PeerReply(421), Stage.GREETING)),
        "finish": lambda: live and live[number % len(live)].finish(),
        "refuse": lambda: live and live[number % len(live)].refuse(),
        "lose": lambda: anybody and anybody[number % len(anybody)].lose(),
        "wait": lambda: net.clock.advance(4),
        "cancel": lambda: sent and sent[number % len(sent)].cancel(),
    }
    if event == "tire":
        # The server takes no more messages in this session.
        for connection in anybody[:1]:
            connection.usable = False
    else:
        actions[event]()


def holds(net: Net) -> None:
    """What is always true."""
    assert net.pool.connections == len(net.live()) + len(net.opening) <= 3
    for destination in DESTINATIONS:
        live = net.live(destination)
        assert len(live) + [each for each, _ in net.opening].count(destination) <= 2
    assert all(len(connection.sending) <= 2 for connection in net.connections)


@settings(max_examples=150, deadline=None)
@given(STORIES, st.booleans())
def test_limits_are_kept_and_every_message_has_one_answer(story: list[tuple[str, int]], prompt: bool) -> None:
    net = Net(prompt=prompt, inFlight=2, connections=3, connectionsPerDestination=2, messagesPerConnection=4, idleTime=10)
    sent: list[Deferred[object]] = []
    for event, number in story:
        happen(net, sent, event, number)
        holds(net)
    # From here on all goes well: whatever waits is sent.
    for connection in net.live():
        if not connection.usable:
            connection.lose()
    while net.opening or any(connection.sending for connection in net.live()):
        holds(net)
        for connection in net.live():
            if connection.sending:
                connection.finish()
        if net.opening:
            net.open()
    assert all(result is not None for result in net.results.values()), net.results
    net.clock.advance(10)
    assert net.pool.connections == 0
    assert net.clock.getDelayedCalls() == []


@settings(max_examples=50, deadline=None)
@given(STORIES)
def test_closing_ends_everything(story: list[tuple[str, int]]) -> None:
    net = Net(prompt=False, inFlight=2, connections=3, connectionsPerDestination=2, messagesPerConnection=4, idleTime=10)
    sent: list[Deferred[object]] = []
    for event, number in story:
        happen(net, sent, event, number)
    closed: list[None] = []
    net.pool.close().addCallback(closed.append)
    # What was being opened was given up; the others end after their messages.
    for connection in net.live():
        if not connection.usable:
            connection.lose()
        elif connection.sending:
            connection.finish(len(connection.sending))
    assert closed == [None]
    assert all(result is not None for result in net.results.values())
    net.send()
    assert isinstance(net.results[max(net.results, key=int)], ConnectionFailed)
    assert net.clock.getDelayedCalls() == []
