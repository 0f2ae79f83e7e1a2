"""What a supervisor does when the system or time plays a trick on it, with processes that are not there."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest
from twisted.internet.error import ProcessDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_smtplite.app.log import EventLines, TextForm
from twisted_smtplite.app.order import ALIVE, PULSE, READY, RETIRE, Order
from twisted_smtplite.app.supervisor import Supervisor

DRAIN_TIME, TIMEOUT = 30.0, 60.0


class Process:
    """A worker, as the reactor would show it."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.pid = 4711
        self.heard = b""
        self.signals: list[str] = []

    def write(self, data: bytes) -> None:
        self.heard += data

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)

    def say(self, sign: bytes) -> None:
        self.protocol.childDataReceived(PULSE, sign)

    def end(self) -> None:
        for tell in (self.protocol.processExited, self.protocol.processEnded):
            tell(Failure(ProcessDone(0)))


class Reactor(Clock):
    """A reactor that runs, and starts no process."""

    sigTerm = sigInt = None

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.trouble: OSError | None = None

    def callWhenRunning(self, action: Any, *arguments: Any) -> None:
        action(*arguments)

    def callFromThread(self, action: Any, *arguments: Any) -> None:
        self.callLater(0, action, *arguments)

    def spawnProcess(self, protocol: Any, *_: Any, **__: Any) -> Process:
        if self.trouble is not None:
            raise self.trouble
        self.processes.append(Process(protocol))
        return self.processes[-1]


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def supervisor(reactor: Any) -> Generator[Supervisor, None, None]:
    deadly: list[object] = []
    before = signal.signal(signal.SIGHUP, lambda *_: deadly.append(None))
    try:
        yield Supervisor([], Order([]), 2, DRAIN_TIME, TIMEOUT, EventLines(TextForm()), reactor)
        assert deadly == []
        signal.raise_signal(signal.SIGHUP)
        assert deadly == [None]
    finally:
        signal.signal(signal.SIGHUP, before)


def stop(supervisor: Supervisor, reactor: Reactor) -> None:
    stopped: list[object] = []
    supervisor.stopService().addBoth(stopped.append)
    for process in reactor.processes:
        process.end()
    assert stopped == [None]


def test_a_worker_that_cannot_be_started_is_tried_again(supervisor: Supervisor, reactor: Reactor) -> None:
    reactor.trouble = OSError(11, os.strerror(11))
    supervisor.startService()
    reactor.advance(0)
    assert reactor.processes == []
    reactor.trouble = None
    reactor.advance(60)
    assert [process.protocol.number for process in reactor.processes] == [1, 2]
    stop(supervisor, reactor)
    assert reactor.getDelayedCalls() == []


def test_nor_does_a_reload_change_anything_then(supervisor: Supervisor, reactor: Reactor) -> None:
    supervisor.startService()
    for process in reactor.processes:
        process.say(READY)
    reactor.trouble = OSError(24, os.strerror(24))
    reloaded: list[object] = []
    supervisor.reload().addBoth(reloaded.append)
    assert reloaded == [None]
    assert not any(RETIRE in process.heard for process in reactor.processes)
    stop(supervisor, reactor)


def test_a_worker_is_killed_when_nothing_is_heard_of_it(supervisor: Supervisor, reactor: Reactor) -> None:
    supervisor.startService()
    one, other = reactor.processes
    for process in (one, other):
        process.say(READY)
    for _ in range(15):
        reactor.advance(5)
        one.say(ALIVE)
    assert (one.signals, other.signals) == ([], ["KILL"])
    stop(supervisor, reactor)


def test_a_clock_that_was_put_forward_kills_nobody(supervisor: Supervisor, reactor: Reactor) -> None:
    # Likewise where this process did not run for a while: timers are looked at before what workers have said meanwhile.
    supervisor.startService()
    reactor.advance(3600)
    for process in reactor.processes:
        process.say(READY)
    reactor.advance(3600)
    for process in reactor.processes:
        process.say(ALIVE)
    reactor.advance(5)
    assert [process.signals for process in reactor.processes] == [[], []]
    stop(supervisor, reactor)


def test_a_hangup_while_the_workers_end_changes_nothing(supervisor: Supervisor, reactor: Reactor) -> None:
    supervisor.startService()
    stopped = supervisor.stopService()
    signal.raise_signal(signal.SIGHUP)
    reactor.advance(0)
    assert len(reactor.processes) == 2
    for process in reactor.processes:
        process.end()
    assert stopped.called
