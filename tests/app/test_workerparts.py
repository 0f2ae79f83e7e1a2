"""What a supervisor and its workers are made of, without processes."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest_twisted
from twisted.internet import reactor as globalReactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import LogLevel

from twisted_smtplite.app.order import Order
from twisted_smtplite.app.sockets import HeldSocket
from twisted_smtplite.app.supervisor import _Place
from twisted_smtplite.app.workerlog import workerForm
from twisted_smtplite.app.workers import Lines

EVENT = {"log_format": "two\nlines", "log_time": 0.0, "log_namespace": "x", "log_level": LogLevel.info}


def test_a_worker_that_keeps_ending_is_started_less_and_less_often() -> None:
    place = _Place(1)
    assert [place.pause(lived=1.0) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert place.pause(lived=3600.0) == 0
    assert place.pause(lived=1.0) == 0


@pytest_twisted.ensureDeferred
async def test_who_inherited_a_socket_goes_on_when_its_holder_stops() -> None:
    reactor: Any = globalReactor
    held = HeldSocket("--port 0", TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    held.open()
    with socket.socket(fileno=os.dup(held.descriptor)) as inherited:
        await held.close()
        inherited.setblocking(True)
        with socket.create_connection(inherited.getsockname(), 10):
            inherited.accept()[0].close()


def test_lines_are_passed_on_whole_however_they_come() -> None:
    taken: list[str] = []
    lines = Lines(taken.append)
    for piece in (b"one\ntw", b"o\nthree\nfo", b"ur \xff"):
        lines.data(piece)
    assert taken == ["one\n", "two\nthree\n"]
    lines.end()
    assert taken[2:] == ["four \\xff\n"]
    lines.end()
    assert len(taken) == 3


def test_an_order_arrives_as_it_was_sent() -> None:
    order = Order(["--port", "0", "--hostname", "ü\n"], 2, "twisted.internet.epollreactor", sockets=(("--port 0", 4),))
    line = order.toLine()
    assert line.count(b"\n") == 1
    heard = Order.fromLine(line)
    assert (list(heard.arguments), heard.number, [tuple(each) for each in heard.sockets]) == (order.arguments, 2, [("--port 0", 4)])


def test_every_line_names_the_worker() -> None:
    text, json = workerForm("text", 3, bare=False), workerForm("json", 3, bare=False)
    assert text.line(0.0, "message id=M").endswith(" [smtplite] worker=3 message id=M\n")
    assert (
        json.line(0.0, json.template("message", "id") % ('"M"', "")) == '{"time":"1970-01-01T00:00:00.000Z","worker":3,"event":"message","id":"M"}\n'
    )
    assert "] worker=3 two" in str(text.event(EVENT))
    assert '"worker":3,"event":"log"' in str(json.event(EVENT))
    assert text.event({"log_format": ""}) is None


def test_a_log_that_adds_the_time_gets_lines_without() -> None:
    text, json = workerForm("text", 3, bare=True), workerForm("json", 3, bare=True)
    assert text.line(0.0, "message id=M") == "worker=3 message id=M\n"
    assert json.line(0.0, '"event":"message"}') == '{"worker":3,"event":"message"}\n'
    assert text.event(EVENT) == "worker=3 two\nlines\n"
    assert text.event({"log_format": ""}) is None
