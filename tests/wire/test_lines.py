"""Framing and flow control, as a peer sees them: order, fairness, what waits and what is dropped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from twisted_smtplite.wire.lines import PatientLineReceiver


class Echo(PatientLineReceiver):
    """Answers each line with itself; some lines make it wait, read raw octets, or be interrupted."""

    MAX_LENGTH = 20
    TURN = 4

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.heard: list[bytes] = []
        self.left: bytes | None = None

    def soon(self, action: Callable[[], None]) -> None:
        self.clock.callLater(0, action)

    def lineReceived(self, line: bytes) -> None:
        self.heard.append(line)
        self.output.append(line + b"\n")
        if line == b"wait":
            self.hold()
        elif line == b"raw":
            self.setRawMode()
        elif line == b"close":
            self.close()
        elif line == b"interrupt":
            self.interrupt(self.interrupted)

    def interrupted(self) -> None:
        self.left = self.clearLineBuffer()
        self.output.append(b"interrupted\n")

    def rawDataReceived(self, data: bytes) -> None:
        raw, dot, rest = data.partition(b".")
        self.heard.append(raw + dot)
        if dot:
            self.setLineMode(rest)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.output.append(b"long\n")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def echo(clock: Clock) -> Echo:
    protocol = Echo(clock)
    protocol.makeConnection(StringTransport())
    return protocol


def said(echo: Echo) -> bytes:
    output: bytes = echo.transport.value()  # type: ignore[attr-defined]
    return output


def test_a_peer_that_sends_many_lines_is_served_by_turns_and_in_order(echo: Echo, clock: Clock) -> None:
    echo.dataReceived(b"".join(b"%d\r\n" % number for number in range(10)))
    assert echo.heard == [b"0", b"1", b"2", b"3"]
    echo.dataReceived(b"late\r\n")
    assert len(echo.heard) == 4
    clock.advance(0)
    assert echo.heard == [*(b"%d" % number for number in range(10)), b"late"]
    assert said(echo) == b"".join(line + b"\n" for line in echo.heard)


def test_what_waits_for_its_turn_is_bounded_by_one_read(echo: Echo, clock: Clock) -> None:
    echo.dataReceived(b"a\r\n" * 6)
    echo.dataReceived(b"a\r\n")
    assert echo.transport.producerState == "paused"  # type: ignore[attr-defined]
    clock.advance(0)
    assert echo.transport.producerState == "producing"  # type: ignore[attr-defined]


def test_a_turn_that_ends_does_not_end_a_wait(echo: Echo, clock: Clock) -> None:
    echo.dataReceived(b"a\r\nb\r\nc\r\nwait\r\nd\r\n")
    clock.advance(0)
    assert echo.heard[-1] == b"wait"
    echo.release()
    assert echo.heard[-1] == b"d"


def test_nothing_is_parsed_while_waiting_and_reading_stops_when_more_comes(echo: Echo) -> None:
    echo.dataReceived(b"wait\r\n")
    assert echo.transport.producerState == "producing"  # type: ignore[attr-defined]
    echo.dataReceived(b"a\r\n")
    assert echo.heard == [b"wait"]
    assert echo.transport.producerState == "paused"  # type: ignore[attr-defined]
    echo.release()
    assert echo.heard == [b"wait", b"a"]
    assert echo.transport.producerState == "producing"  # type: ignore[attr-defined]


def test_the_end_of_the_connection_is_not_read_before_what_came_before_it(echo: Echo) -> None:
    echo.dataReceived(b"wait\r\na\r\n")
    assert echo.transport.producerState == "paused"  # type: ignore[attr-defined]
    echo.release()
    assert echo.heard == [b"wait", b"a"]
    assert echo.transport.producerState == "producing"  # type: ignore[attr-defined]


def test_a_peer_that_does_not_read_is_not_read_from(echo: Echo) -> None:
    echo.pauseProducing()
    assert echo.stuck
    assert echo.transport.producerState == "paused"  # type: ignore[attr-defined]
    echo.dataReceived(b"a\r\n")
    assert echo.heard == []
    echo.resumeProducing()
    assert echo.heard == [b"a"]
    assert not echo.stuck


def test_the_action_of_an_interrupt_sees_what_stands_behind_the_line_and_comes_after_its_output(echo: Echo) -> None:
    echo.dataReceived(b"interrupt\r\nnever\r\n")
    assert echo.left == b"never\r\n"
    assert said(echo) == b"interrupt\ninterrupted\n"
    echo.dataReceived(b"a\r\n")
    assert echo.heard == [b"interrupt", b"a"]


def test_raw_octets_are_not_lines_and_what_is_behind_them_is(echo: Echo) -> None:
    echo.dataReceived(b"raw\r\nx\r\ny")
    echo.dataReceived(b"z.a\r\n")
    assert echo.heard == [b"raw", b"x\r\ny", b"z.", b"a"]


def test_line_mode_set_from_outside_goes_on_with_what_is_given_back(echo: Echo) -> None:
    echo.setRawMode()
    echo.setLineMode(b"a\r\n")
    assert echo.heard == [b"a"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"x" * 21 + b"\r\n", b"a\r\n"],
        [b"x" * 30, b"x" * 3000, b"\r\na\r\n"],
        [b"x" * 20 + b"\r", b"x\r\na\r\n"],
        [b"x" * 40 + b"\r", b"\na\r\n"],
    ],
)
def test_a_line_that_is_too_long_is_told_once_and_its_tail_is_no_line(echo: Echo, pieces: list[bytes]) -> None:
    for piece in pieces:
        echo.dataReceived(piece)
    assert said(echo) == b"long\na\n"


def test_a_line_may_be_just_as_long_as_allowed_wherever_its_end_is_cut(echo: Echo) -> None:
    echo.dataReceived(b"x" * 20 + b"\r")
    echo.dataReceived(b"\n")
    assert echo.heard == [b"x" * 20]


def test_nothing_behind_a_close_is_parsed_or_kept(echo: Echo) -> None:
    echo.dataReceived(b"close\r\na\r\n")
    echo.dataReceived(b"b\r\n")
    echo.close()
    assert echo.heard == [b"close"]
    assert echo.closing
    assert said(echo) == b"close\n"
    assert echo.transport.disconnecting  # type: ignore[attr-defined]
