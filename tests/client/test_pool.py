from __future__ import annotations

import itertools
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_smtplite.client.content import Content
from twisted_smtplite.client.destination import Destination
from twisted_smtplite.client.pool import PoolLimits, SMTPPool
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import ClientLimits
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.errors import ConnectionFailed, PeerRefused, Unsendable
from twisted_smtplite.model.results import Delivery, PeerReply, Stage

HERE, THERE, ELSEWHERE = (Destination(host=host) for host in ("here.test", "there.test", "elsewhere.test"))
TEXT = Content.of(b"Hello\r\n")


class FakeConnection:
    """An open connection, driven by the test."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.usable = True
        self.sending: list[tuple[str, Deferred[Delivery]]] = []
        self.quitting = False
        self.ended: list[Deferred[None]] = []
        self.gone = False

    @property
    def pending(self) -> int:
        return len(self.sending)

    @property
    def ids(self) -> list[str]:
        return [name for name, _ in self.sending]

    def send(self, envelope: Envelope, content: Any) -> Deferred[Delivery]:
        assert self.usable
        assert not self.quitting
        deferred: Deferred[Delivery] = Deferred(lambda _: self.dropped(deferred))
        self.sending.append((envelope.id, deferred))
        return deferred

    def dropped(self, deferred: Deferred[Delivery]) -> None:
        self.sending = [row for row in self.sending if row[1] is not deferred]
        self.abort()

    def quit(self) -> Deferred[None]:
        self.quitting = True
        ended = self.whenEnded()
        self._perhapsEnd()
        return ended

    def abort(self) -> None:
        self.lose()

    def whenEnded(self) -> Deferred[None]:
        ended: Deferred[None] = Deferred()
        if self.gone:
            ended.callback(None)
        else:
            self.ended.append(ended)
        return ended

    def _perhapsEnd(self) -> None:
        if self.quitting and not self.sending and self.usable:
            self.lose()

    # What the test does.

    def finish(self, count: int = 1) -> None:
        """The server answers the first messages."""
        for _ in range(count):
            _, deferred = self.sending.pop(0)
            deferred.callback(Delivery((), self.destination.host))
        self._perhapsEnd()

    def refuse(self) -> None:
        """The first message cannot go there."""
        _, deferred = self.sending.pop(0)
        deferred.errback(Unsendable(PeerReply(554, "5.6.3", local=True), Stage.MAIL))

    def lose(self) -> None:
        """The connection ends, with nothing begun."""
        self.usable = False
        sending, self.sending = self.sending, []
        for _, deferred in sending:
            deferred.errback(ConnectionFailed(PeerReply(451, "4.4.2", local=True), Stage.MAIL))
        self.gone = True
        ended, self.ended = self.ended, []
        for waiting in ended:
            waiting.callback(None)


class Net:
    """A pool, and the servers that it connects to."""

    def __init__(self, *, prompt: bool = True, inFlight: int = 2, **limits: Any) -> None:
        self.clock = Clock()
        self.prompt = prompt
        self.opening: list[tuple[Destination, Deferred[Any]]] = []
        self.connections: list[FakeConnection] = []
        self.pool = SMTPPool(
            self.clock,
            limits=ClientLimits(pipelinedMessages=inFlight),
            poolLimits=PoolLimits(**limits),
            connect=self.connect,
        )
        self.names = map(str, itertools.count(1))
        self.results: dict[str, Any] = {}

    def connect(self, destination: Destination) -> Deferred[Any]:
        opening: Deferred[Any] = Deferred()
        self.opening.append((destination, opening))
        if self.prompt:
            self.open()
        return opening

    def open(self) -> FakeConnection:
        """The first connection that is waited for comes about."""
        destination, opening = self.opening.pop(0)
        connection = FakeConnection(destination)
        self.connections.append(connection)
        opening.callback(connection)
        return connection

    def fail(self, error: Exception | None = None) -> None:
        """The first connection that is waited for does not."""
        _, opening = self.opening.pop(0)
        opening.errback(error or ConnectionFailed(PeerReply(451, "4.4.1", local=True), Stage.CONNECT, "here.test"))

    def send(self, destination: Destination = HERE) -> Deferred[Any]:
        name = next(self.names)
        envelope = Envelope(name, Address("a", "b.test"), recipients=[Recipient(Address("c", "d.test"))])
        sent = self.pool.send(destination, envelope, TEXT)
        self.results[name] = None
        sent.addBoth(self.note, name)
        return sent

    def note(self, result: Any, name: str) -> None:
        self.results[name] = result.value if isinstance(result, Failure) else result

    @property
    def done(self) -> list[str]:
        return [name for name, result in self.results.items() if isinstance(result, Delivery)]

    def live(self, destination: Destination | None = None) -> list[FakeConnection]:
        return [each for each in self.connections if not each.gone and destination in (None, each.destination)]


# -- sharing


def test_a_connection_is_used_again() -> None:
    net = Net()
    for _ in range(3):
        net.send()
        net.connections[0].finish()
    assert net.done == ["1", "2", "3"]
    assert len(net.connections) == 1


def test_messages_take_connections_of_their_own_as_long_as_there_may_be_more() -> None:
    net = Net(connectionsPerDestination=2)
    for _ in range(7):
        net.send()
    # Two in each, one behind the other; the others wait, and go out in order.
    assert [connection.ids for connection in net.connections] == [["1", "3"], ["2", "4"]]
    net.connections[1].finish()
    assert net.connections[1].ids == ["4", "5"]
    net.connections[0].finish(2)
    assert net.connections[0].ids == ["6", "7"]


def test_nobody_waits_for_a_connection_that_is_not_needed() -> None:
    net = Net(prompt=False, connectionsPerDestination=4)
    for _ in range(3):
        net.send()
    assert len(net.opening) == 3
    first = net.open()
    # The others get what was opened for them.
    assert first.ids == ["1"]
    first.finish()
    assert first.ids == ["2"]
    assert len(net.opening) == 2


def test_destinations_do_not_share() -> None:
    net = Net()
    net.send(HERE)
    net.send(THERE)
    net.send(HERE)
    assert [(connection.destination, connection.ids) for connection in net.connections] == [(HERE, ["1"]), (THERE, ["2"]), (HERE, ["3"])]


def test_a_connection_is_replaced_after_so_many_messages() -> None:
    net = Net(connectionsPerDestination=1, messagesPerConnection=2)
    for _ in range(3):
        net.send()
    net.connections[0].finish()
    assert not net.connections[0].gone
    net.connections[0].finish()
    assert [connection.ids for connection in net.live()] == [["3"]]


def test_a_connection_that_takes_no_more_is_replaced() -> None:
    net = Net(connectionsPerDestination=1)
    net.send()
    net.connections[0].usable = False
    net.send()
    net.connections[0].finish()
    net.connections[0].lose()
    assert [connection.ids for connection in net.live()] == [["2"]]


# -- time


def test_an_idle_connection_ends_after_a_while() -> None:
    net = Net(idleTime=10)
    net.send()
    net.connections[0].finish()
    net.clock.advance(9)
    net.send()
    net.clock.advance(2)
    assert net.connections[0].ids == ["2"]
    net.connections[0].finish()
    net.clock.advance(10)
    assert net.connections[0].quitting
    assert (net.pool.connections, net.clock.getDelayedCalls()) == (0, [])


def test_a_connection_that_nobody_needs_any_more_is_idle() -> None:
    net = Net(prompt=False, idleTime=10)
    sent = net.send()
    sent.cancel()
    assert isinstance(net.results["1"], CancelledError)
    connection = net.open()
    net.clock.advance(10)
    assert connection.quitting


# -- loss


def test_a_connection_lost_while_idle_is_replaced_without_a_word() -> None:
    net = Net()
    net.send()
    net.connections[0].finish()
    net.connections[0].lose()
    net.send()
    net.connections[1].finish()
    assert net.done == ["1", "2"]
    assert net.pool.connections == 1


def test_messages_that_had_not_begun_are_tried_once_more_in_order_and_not_twice() -> None:
    net = Net(connectionsPerDestination=1, inFlight=3)
    for _ in range(4):
        net.send()
    assert net.connections[0].ids == ["1", "2", "3"]
    net.connections[0].lose()
    assert net.connections[1].ids == ["1", "2", "3"]
    net.connections[1].finish()
    net.connections[1].lose()
    # The fourth was on the way for the first time.
    assert net.connections[2].ids == ["4"]
    assert net.done == ["1"]
    assert isinstance(net.results["2"], ConnectionFailed)
    assert isinstance(net.results["3"], ConnectionFailed)


@pytest.mark.parametrize("begun", [True, False])
def test_a_text_that_was_begun_and_cannot_be_read_again_is_not_tried_again(begun: bool) -> None:
    net = Net()
    content = Content.of(iter([b"Hello"]))
    failed: list[Failure] = []
    net.pool.send(HERE, Envelope("1", Address("", "")), content).addErrback(failed.append)
    if begun:
        content.pieces()
    net.connections[0].lose()
    assert len(net.connections) == (1 if begun else 2)
    assert [failure.type for failure in failed] == ([ConnectionFailed] if begun else [])


def test_other_idle_connections_are_not_trusted_after_a_loss() -> None:
    net = Net(connectionsPerDestination=2)
    net.send()
    net.send()
    for connection in net.connections:
        connection.finish()
    net.send()
    net.connections[0].lose()
    assert [connection.gone for connection in net.connections] == [True, True, False]
    assert net.connections[2].ids == ["3"]


def test_what_cannot_be_sent_to_this_peer_leaves_its_connection_to_others() -> None:
    net = Net(connectionsPerDestination=1)
    net.send()
    net.send()
    net.connections[0].refuse()
    net.connections[0].finish()
    assert isinstance(net.results["1"], Unsendable)
    assert net.done == ["2"]
    assert len(net.connections) == 1


def test_a_connection_that_is_lost_at_once_fails_whoever_waits() -> None:
    net = Net(prompt=False)
    net.send()
    destination, opening = net.opening.pop()
    connection = FakeConnection(destination)
    connection.lose()
    opening.callback(connection)
    assert isinstance(net.results["1"], ConnectionFailed)
    assert net.pool.connections == 0


# -- no connection


def test_when_no_connection_comes_about_all_who_wait_hear_why() -> None:
    net = Net(prompt=False, connectionsPerDestination=2)
    for _ in range(3):
        net.send()
    net.fail()
    assert net.results == {"1": None, "2": None, "3": None}
    net.fail()
    assert {type(result) for result in net.results.values()} == {ConnectionFailed}
    assert net.pool.connections == 0
    # The next one tries again.
    net.send()
    net.open().finish()
    assert net.done == ["4"]


def test_a_destination_that_cannot_be_connected_to_is_an_error_of_the_message() -> None:
    net = Net()
    net.connect = lambda destination: (_ for _ in ()).throw(ValueError("no endpoint"))  # type: ignore[method-assign]
    pool = SMTPPool(net.clock, connect=net.connect)
    failed: list[Failure] = []
    pool.send(HERE, Envelope("1", Address("", "")), TEXT).addErrback(failed.append)
    assert failed[0].check(ValueError)
    assert pool.connections == 0


def test_a_server_that_refuses_further_connections_gets_fewer_until_one_ends() -> None:
    net = Net(prompt=False, connectionsPerDestination=3)
    for _ in range(3):
        net.send()
    net.open()
    net.open()
    net.fail(PeerRefused(PeerReply(421, "4.7.0"), Stage.GREETING))
    # It goes out behind another, and nobody asks for a third connection.
    assert [connection.ids for connection in net.connections] == [["1", "3"], ["2"]]
    for _ in range(2):
        net.send()
    assert net.opening == []
    net.connections[0].finish(2)
    net.connections[0].lose()
    assert len(net.opening) == 1


# -- limits in all


def test_an_idle_connection_makes_room_for_another_destination() -> None:
    net = Net(connections=2)
    net.send(HERE)
    net.send(THERE)
    net.send(ELSEWHERE)
    assert net.live(ELSEWHERE) == []
    net.connections[0].finish()
    assert net.connections[0].gone
    assert net.live(ELSEWHERE)[0].ids == ["3"]
    assert net.pool.connections == 2


def test_destinations_take_turns_when_there_are_no_more_connections() -> None:
    net = Net(connections=1, inFlight=1)
    for destination in (HERE, HERE, HERE, THERE, ELSEWHERE, THERE):
        net.send(destination)
    order = []
    while net.live():
        (connection,) = net.live()
        order.append(connection.ids[0])
        connection.finish()
        if connection.pending == 0 and not connection.gone:
            break
    # Each gets the connection for a message while the others wait.
    assert order == ["1", "4", "5", "2", "6", "3"]


def test_one_place_is_made_for_one_who_waits() -> None:
    net = Net(connections=4, connectionsPerDestination=4)
    for _ in range(4):
        net.send(HERE)
    for connection in net.connections:
        connection.finish()
    net.send(THERE)
    assert [connection.gone for connection in net.connections] == [True, False, False, False, False]
    assert net.live(THERE)[0].ids == ["5"]
    # And for the next one again.
    net.send(ELSEWHERE)
    assert [connection.gone for connection in net.connections[:4]] == [True, True, False, False]
    assert net.live(ELSEWHERE)[0].ids == ["6"]


def test_a_slow_farewell_keeps_its_place() -> None:
    net = Net(connections=1)
    net.send(HERE)
    first = net.connections[0]
    first.usable = False
    first.finish()
    assert first.quitting
    net.send(THERE)
    assert net.live(THERE) == []
    first.lose()
    assert net.live(THERE)[0].ids == ["2"]


def test_who_gave_up_waiting_takes_no_place() -> None:
    net = Net(connections=1)
    net.send(HERE)
    sent = net.send(THERE)
    sent.cancel()
    net.connections[0].finish()
    assert len(net.connections) == 1
    assert net.pool.connections == 1


# -- taking back


def test_a_message_on_its_way_is_taken_back_with_its_connection() -> None:
    net = Net(connectionsPerDestination=1)
    sent = net.send()
    sent.cancel()
    assert isinstance(net.results["1"], CancelledError)
    assert net.connections[0].gone
    assert net.pool.connections == 0


# -- the end


def test_closing_waits_for_messages_on_their_way_and_fails_the_others() -> None:
    net = Net(prompt=False, connectionsPerDestination=1)
    for _ in range(3):
        net.send(HERE)
    net.open()
    net.send(THERE)
    closed: list[None] = []
    net.pool.close().addCallback(closed.append)
    net.pool.close().addCallback(closed.append)
    assert isinstance(net.results["3"], ConnectionFailed)
    assert isinstance(net.results["4"], ConnectionFailed)
    assert closed == []
    net.connections[0].finish(2)
    assert net.done == ["1", "2"]
    assert closed == [None, None]
    net.send()
    assert isinstance(net.results["5"], ConnectionFailed)
    assert net.clock.getDelayedCalls() == []


def test_a_message_that_is_lost_while_closing_is_not_tried_again() -> None:
    net = Net()
    net.send()
    net.pool.close()
    net.connections[0].lose()
    assert isinstance(net.results["1"], ConnectionFailed)
    assert len(net.connections) == 1


def test_a_connection_that_comes_about_while_closing_ends_at_once() -> None:
    net = Net(prompt=False)
    net.send()
    destination, opening = net.opening.pop()
    connection = FakeConnection(destination)
    # It was there already when it was given up.
    opening.cancel = lambda: opening.callback(connection)  # type: ignore[method-assign]
    closed: list[None] = []
    net.pool.close().addCallback(closed.append)
    assert connection.quitting
    assert closed == [None]


def test_closing_an_empty_pool_is_done_at_once() -> None:
    closed: list[None] = []
    Net().pool.close().addCallback(closed.append)
    assert closed == [None]


def test_a_thousand_unsendable_messages_do_not_pile_up() -> None:
    net = Net(prompt=False, connectionsPerDestination=1)
    for _ in range(5000):
        net.send()
    destination, opening = net.opening.pop()
    connection = FakeConnection(destination)

    def refuse(envelope: Envelope, content: Any) -> Deferred[Delivery]:
        refused: Deferred[Delivery] = Deferred()
        refused.errback(Unsendable(PeerReply(554, local=True), Stage.MAIL))
        return refused

    connection.send = refuse  # type: ignore[method-assign]
    opening.callback(connection)
    # The limit of messages for one connection counts those too.
    while net.opening:
        _, opening = net.opening.pop()
        connection = FakeConnection(destination)
        connection.send = refuse  # type: ignore[method-assign]
        opening.callback(connection)
    assert {type(result) for result in net.results.values()} == {Unsendable}


@pytest.mark.parametrize("name", ["connections", "connectionsPerDestination", "messagesPerConnection", "idleTime"])
def test_a_limit_is_more_than_zero_and_finite(name: str) -> None:
    for value in (0, float("inf")):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            PoolLimits(**{name: value})  # type: ignore[arg-type]
