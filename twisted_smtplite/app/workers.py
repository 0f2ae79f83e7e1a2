"""One worker process as its supervisor sees it: started, ready, alive, told to end, gone.

Knows processes, their deadlines and what they say. Must not know when a worker is wanted: that is `supervisor`.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from .order import FIRST_SOCKET, PULSE, READY, RETIRE

if TYPE_CHECKING:
    from .order import Order

START_TIME = 60.0
"""Seconds until a worker that does not become ready is ended."""

END_GRACE = 10.0
"""Seconds behind the time to drain until a worker that does not end is ended."""

# Not -m: that would put the current directory, which may be full of mail, in front of the modules' path. A worker finds just what its
# supervisor finds, a function that --delivery callable: names among it.
# A terminal or systemd sends signals to all processes. The supervisor has them too, and says what is to be done; SIGUSR1 is about its log file.
_PROGRAM = """\
import signal, sys
for each in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(each, signal.SIG_IGN)
sys.path[:] = sys.argv[1:]
from twisted_smtplite.app.serve import work
work()
"""
# What is read from a worker and is no line yet; one that never ends its line must not fill the memory.
_LONGEST = 1024 * 1024
_log = Logger(namespace="smtplite")


def commandLine() -> list[str]:
    """The command that runs a worker."""
    return [sys.executable, "-c", _PROGRAM, *(str(Path(entry).absolute()) for entry in sys.path)]


def environment() -> Mapping[str, str]:
    """What a worker inherits of the environment: not the sockets that systemd meant for the supervisor."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}


def complaintAbout(order: Order) -> str | None:
    """Lets a process check an order, the way a worker would carry it out, and waits for it.

    Returns:
        None, or one sentence that says what is wrong.
    """
    done = subprocess.run(commandLine(), input=order.toLine(), env=environment(), capture_output=True, check=False)  # noqa: S603 - ourselves
    if done.returncode == 0:
        return None
    lines = done.stderr.decode("utf-8", "backslashreplace").splitlines() or [f"a worker ends with status {done.returncode}"]
    return lines[-1].removeprefix("smtplite: ")


class Lines:
    """Makes whole lines of what comes in pieces.

    Args:
        take: called with text that ends with a line.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""

    def data(self, data: bytes) -> None:
        """The next piece."""
        whole, end, rest = data.rpartition(b"\n")
        if end or len(self._rest) > _LONGEST:
            self._take((self._rest + whole).decode("utf-8", "backslashreplace") + "\n")
            self._rest = b""
        self._rest += rest

    def end(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self.data(b"\n")


class Worker(ProcessProtocol):
    """A worker process.

    Args:
        order: what it shall be.
        descriptors: of the sockets that it inherits, in the order of `Order.sockets`.
        reactor: the reactor, which starts it.
        timeout: seconds without a sign of life until it is killed; 0 for never.
        relay: called with its log, in whole lines.
        ended: called with this worker when its process is gone.

    Attributes:
        number: see `Order`.
        pid: of the process.
        startedAt: the reactor's time.
        isReady: whether it has said so, whatever came later.
        isEnding: whether it was told to end.
        complaint: the last line that it wrote to standard error.
    """

    def __init__(
        self,
        order: Order,
        descriptors: Sequence[int],
        reactor: IReactorTime,
        timeout: float,
        relay: Callable[[str], None],
        ended: Callable[[Worker], None],
    ) -> None:
        self.number = order.number
        self.startedAt = reactor.seconds()
        self.isReady = self.isEnding = False
        self.complaint = ""
        self._reactor = reactor
        self._timeout = timeout
        self._ended = ended
        self._started: Deferred[bool] = Deferred()
        self._gone: Deferred[None] = Deferred()
        self._output = {1: Lines(relay), 2: Lines(self._complain)}
        self._patience: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._last: IDelayedCall | None = None
        inherited = dict(enumerate(descriptors, FIRST_SOCKET))
        files = cast("dict[int, str | int]", {0: "w", 1: "r", 2: "r", PULSE: "r", **inherited})
        process = cast(IReactorProcess, reactor).spawnProcess(self, sys.executable, commandLine(), environment(), childFDs=files)
        self._process = cast(Any, process)
        self.pid = cast(int, self._process.pid)
        self._process.write(order.toLine())
        self._expectSign(START_TIME, "does not become ready")
        _log.info("Worker {number} starts as process {pid}", number=self.number, pid=self.pid)

    def started(self) -> Deferred[bool]:
        """Fires once: with True when it is ready, with False when it will never be. To be asked for once."""
        return self._started

    def gone(self) -> Deferred[None]:
        """Fires when the process is gone. To be asked for once."""
        return self._gone

    def retire(self, drainTime: float) -> None:
        """Another worker has taken over: it accepts no more, and its sessions may end by themselves, then as in `drain`.

        Args:
            drainTime: seconds, as in `Limits.drainTime`.
        """
        self._endWithin(2 * drainTime)
        self._process.write(RETIRE)

    def drain(self, drainTime: float) -> None:
        """It ends: idle sessions hear 421, messages in flight may finish.

        Args:
            drainTime: seconds, as in `Limits.drainTime`.
        """
        self._endWithin(drainTime)
        self._signal("TERM")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It said something."""
        if childFD != PULSE:
            self._output[childFD].data(data)
            return
        self._rest()
        if self._timeout:
            self._expectSign(self._timeout, f"gave no sign of life for {self._timeout:g} seconds")
        if READY in data and not self.isReady:
            self.isReady = True
            _log.info("Worker {number} (process {pid}) is ready", number=self.number, pid=self.pid)
            self._started.callback(True)

    def processExited(self, reason: Failure) -> None:
        """The process is gone. What it said last may not have come yet, but will not be waited for long: a program that it started, and that
        lives on, may hold its output open.
        """
        self._last = self._reactor.callLater(1.0, self._over, reason)

    def processEnded(self, reason: Failure) -> None:
        """The process is gone, and all that it said was heard."""
        if self._last is not None and self._last.active():
            self._last.cancel()
            self._over(reason)

    def _over(self, reason: Failure) -> None:
        self._rest()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        for output in self._output.values():
            output.end()
        if self.isEnding:
            _log.info("Worker {number} (process {pid}) has ended", number=self.number, pid=self.pid)
        else:
            _log.error("Worker {number} (process {pid}) ended: {how}", number=self.number, pid=self.pid, how=_how(reason))
        if not self.isReady:
            self._started.callback(False)
        self._ended(self)
        self._gone.callback(None)

    def _complain(self, text: str) -> None:
        for line in filter(None, text.splitlines()):
            self.complaint = line
            _log.error("Worker {number} (process {pid}): {line}", number=self.number, pid=self.pid, line=line)

    def _expectSign(self, seconds: float, otherwise: str) -> None:
        """It is killed if nothing is heard of it for so long. Half of that is waited for twice: where the clock was put forward, or all processes
        stood still for a while, the time is over at once, and what is heard now comes in the second half.
        """
        half = seconds / 2
        self._patience = self._reactor.callLater(half, self._expectLastSign, half, otherwise)

    def _expectLastSign(self, seconds: float, otherwise: str) -> None:
        self._patience = self._reactor.callLater(seconds, self._kill, otherwise)

    def _endWithin(self, seconds: float) -> None:
        self.isEnding = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = self._reactor.callLater(seconds + END_GRACE, self._kill, "does not end in time")

    def _kill(self, why: str) -> None:
        # Both timers come here, each at most once; what they have not used is dropped when the process is gone.
        _log.error("Worker {number} (process {pid}) {why}: it is killed", number=self.number, pid=self.pid, why=why)
        self._signal("KILL")

    def _rest(self) -> None:
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._patience = None

    def _signal(self, name: str) -> None:
        try:
            self._process.signalProcess(name)
        except ProcessExitedAlready:
            pass


def _how(reason: Failure) -> str:
    """How a process ended, in words."""
    number = getattr(reason.value, "signal", None)
    if number:
        return f"by signal {signal.Signals(number).name}"
    return f"with status {getattr(reason.value, 'exitCode', None)}"
