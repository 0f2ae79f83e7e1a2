"""The message log: exact lines, in both forms, and where they go."""

from __future__ import annotations

import errno
import json
import re
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import Mock

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python import logfile
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from twisted_smtplite.app.log import EventLines, Form, JSONForm, LogStream, TextForm, TurnedLogFile
from twisted_smtplite.app.messagelog import MessageLog
from twisted_smtplite.interfaces import ISessionObserver
from twisted_smtplite.model import replies
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.model.reply import Reply

SENDER = Address("a", "client.test")
NO_USER = Reply(550, "5.1.1", 'No such user "here"')


class Lines(EventLines):
    """Keeps lines."""

    def __init__(self, form: Form) -> None:
        super().__init__(form)
        self.kept: list[str] = []

    def line(self, body: str) -> None:
        self.kept.append(self.form.bare(body))


def session(**changes: Any) -> SessionInfo:
    values = {"id": "S1", "hostname": "mx.test", "peerHost": "192.0.2.7", "peerPort": 4321, "heloName": "client.test", "extended": True}
    return SessionInfo(**{**values, **changes})


def envelope(*recipients: str, sender: Address = SENDER) -> Envelope:
    return Envelope("M1", sender, recipients=[Recipient(Address(name, "mx.test")) for name in recipients])


@pytest.fixture
def text() -> Lines:
    return Lines(TextForm())


@pytest.fixture
def objects() -> Lines:
    return Lines(JSONForm())


def test_it_is_a_session_observer() -> None:
    assert verifyObject(ISessionObserver, MessageLog())


def test_a_message_is_one_line(text: Lines) -> None:
    MessageLog(text).messageFinished(session(), envelope("b", "c"), 1234, replies.accepted("M1"), [replies.RECIPIENT_OK] * 2)
    assert text.kept == [
        (
            "message id=M1 session=S1 peer=192.0.2.7:4321 helo=client.test protocol=ESMTP"
            " from=<a@client.test> to=<b@mx.test>,<c@mx.test> recipients=2"
            ' size=1234 reply="250 2.0.0 Message accepted as M1"'
        )
    ]


def test_a_message_is_one_object(objects: Lines) -> None:
    MessageLog(objects).messageFinished(session(tls=True, user="u"), envelope("b", "c"), 1234, replies.MESSAGE_OK, [replies.RECIPIENT_OK] * 2)
    assert [json.loads(line) for line in objects.kept] == [
        {
            "event": "message",
            "id": "M1",
            "session": "S1",
            "peer": "192.0.2.7:4321",
            "helo": "client.test",
            "protocol": "ESMTPSA",
            "from": "a@client.test",
            "to": ["b@mx.test", "c@mx.test"],
            "recipients": 2,
            "size": 1234,
            "reply": "250 2.0.0 Message accepted",
            "user": "u",
        }
    ]


def test_of_many_recipients_five_are_named_and_all_are_counted(text: Lines) -> None:
    names = [f"u{number}" for number in range(1000)]
    MessageLog(text).messageFinished(session(), envelope(*names), 1, replies.MESSAGE_OK, [replies.RECIPIENT_OK] * 1000)
    assert " to=<u0@mx.test>,<u1@mx.test>,<u2@mx.test>,<u3@mx.test>,<u4@mx.test> recipients=1000 " in text.kept[0]


def test_recipients_that_failed_in_an_accepted_message_are_named(text: Lines, objects: Lines) -> None:
    outcomes = [NO_USER, replies.RECIPIENT_OK, replies.LOCAL_ERROR]
    for lines in (text, objects):
        MessageLog(lines).messageFinished(session(), envelope("b", "c", "d"), 1, replies.MESSAGE_OK, outcomes)
    assert text.kept[0].endswith(' failures=2 failed=<b@mx.test>,<d@mx.test> failure="550 5.1.1 No such user \\"here\\""')
    assert {
        "failures": 2,
        "failed": ["b@mx.test", "d@mx.test"],
        "failure": '550 5.1.1 No such user "here"',
    }.items() <= json.loads(objects.kept[0]).items()


def test_a_refused_message_says_so_in_its_reply_alone(text: Lines) -> None:
    MessageLog(text).messageFinished(session(), envelope("b", "c"), 1, NO_USER, [NO_USER, NO_USER])
    assert text.kept[0].endswith(' recipients=2 size=1 reply="550 5.1.1 No such user \\"here\\""')


def test_the_null_path_and_a_reply_of_several_lines(text: Lines) -> None:
    reply = Reply(550, "5.7.1", ("No", "Not here"))
    MessageLog(text).messageFinished(session(), envelope("b", sender=Address("", "")), 1, reply, [reply])
    assert " from=<> " in text.kept[0]
    assert text.kept[0].endswith(' reply="550 5.7.1 No Not here"')


@pytest.mark.parametrize(("host", "port", "shown"), [("192.0.2.7", 25, "192.0.2.7:25"), ("2001:db8::7", 25, "[2001:db8::7]:25"), ("", 0, "unix")])
def test_the_peer(text: Lines, host: str, port: int, shown: str) -> None:
    MessageLog(text).sessionEnded(session(peerHost=host, peerPort=port), "timeout", 0)
    assert f" peer={shown} " in text.kept[0]


HOSTILE = ["a\r\nmessage id=X", "a b", 'a"b', "a> to=<x", "a\\", "a\x00\x1b[2J\x7f", "a\u2028b", "ünï", "\u202eb", "\ud800", "a,b", "a..b", ""]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_a_client_says_makes_a_second_line_or_another_field(text: Lines, objects: Lines, hostile: str) -> None:
    for lines in (text, objects):
        log = MessageLog(lines)
        address = Address(hostile, "client.test")
        log.messageFinished(session(heloName=hostile, user=hostile), envelope(hostile, sender=address), 1, replies.MESSAGE_OK, [replies.MESSAGE_OK])
        log.commandRefused(session(), "RCPT", address, NO_USER)
        log.sessionEnded(session(heloName=hostile), "lost", 0)
    for line in text.kept + objects.kept:
        assert re.fullmatch(r"[ -~]+", line)
    for line in text.kept:
        # Taking away quoted values leaves the fields and nothing else.
        names = re.findall(r" ([a-z]+)=", re.sub(r'"(?:[^"\\]|\\.)*"', '""', line))
        assert (
            names
            == {
                "message": ["id", "session", "peer", "helo", "protocol", "from", "to", "recipients", "size", "reply", "user"],
                "refused-command": ["session", "peer", "command", "reply", "count", "addresses"],
                "broken-session": ["session", "peer", "helo", "cause", "messages"],
            }[line.split()[0]]
        )
    assert json.loads(objects.kept[0])["helo"] == hostile


def test_refused_commands_in_a_row_are_one_line(text: Lines, objects: Lines) -> None:
    for lines in (text, objects):
        log = MessageLog(lines)
        for number in range(7):
            log.commandRefused(session(), "RCPT", Address(f"u{number}", "mx.test"), NO_USER)
        assert lines.kept == []
        log.commandRefused(session(), "DATA", None, replies.NO_RECIPIENTS)
        log.sessionEnded(session(), "quit", 0)
    assert text.kept == [
        (
            'refused-command session=S1 peer=192.0.2.7:4321 command=RCPT reply="550 5.1.1 No such user \\"here\\"" count=7'
            " addresses=<u0@mx.test>,<u1@mx.test>,<u2@mx.test>,<u3@mx.test>,<u4@mx.test>"
        ),
        'refused-command session=S1 peer=192.0.2.7:4321 command=DATA reply="554 5.5.1 No valid recipients" count=1',
    ]
    assert json.loads(objects.kept[0])["addresses"] == ["u0@mx.test", "u1@mx.test", "u2@mx.test", "u3@mx.test", "u4@mx.test"]


def test_refusals_of_sessions_side_by_side_are_kept_apart_and_forgotten(text: Lines) -> None:
    log = MessageLog(text)
    one, two = session(), session(id="S2")
    for each in (one, two, one, two):
        log.commandRefused(each, "MAIL", Address("x", "y.test"), NO_USER)
    log.messageFinished(one, envelope("b"), 1, replies.MESSAGE_OK, [replies.MESSAGE_OK])
    assert [line.split()[0] for line in text.kept] == ["refused-command", "message"]
    assert " count=2 addresses=<x@y.test>,<x@y.test>" in text.kept[0]
    log.sessionEnded(one, "quit", 1)
    log.sessionEnded(two, "quit", 0)
    assert len(text.kept) == 3
    assert log._refusals == {}


def test_a_refused_connection_is_one_line(text: Lines, objects: Lines) -> None:
    for lines in (text, objects):
        MessageLog(lines).sessionRefused("192.0.2.7", replies.TOO_MANY_CONNECTIONS)
    assert text.kept == ['refused-connection peer=192.0.2.7 reply="421 4.7.0 Too many connections, try again later"']
    assert json.loads(objects.kept[0]) == {
        "event": "refused-connection",
        "peer": "192.0.2.7",
        "reply": "421 4.7.0 Too many connections, try again later",
    }


def test_a_session_that_broke_off_is_one_line_and_one_that_did_not_is_none(text: Lines) -> None:
    log = MessageLog(text)
    log.sessionStarted(session())
    log.sessionEnded(session(), "quit", 3)
    log.sessionEnded(session(heloName=""), "connection lost", 2)
    assert text.kept == ['broken-session session=S1 peer=192.0.2.7:4321 helo="" cause="connection lost" messages=2']


# ---- Where lines go.


class Stream:
    """A stream on a file in memory, with a publisher and a clock of its own."""

    def __init__(self, form: Form) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1_700_000_000.25)
        self.file = StringIO()
        self.writes = 0
        self.stream = LogStream(form, self.reactor, self)
        publisher = LogPublisher(self.stream)
        self.log = Logger(namespace="test", observer=publisher)

    def write(self, text: str) -> None:
        self.writes += 1
        self.file.write(text)

    def flush(self) -> None:
        self.file.flush()

    def written(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_the_lines_of_a_reactor_turn_are_written_together_and_in_order_with_events() -> None:
    it = Stream(TextForm())
    it.log.info("begin")
    it.stream.line("one")
    it.stream.line("two")
    assert it.writes == 1
    it.log.info("three")
    assert it.writes == 2
    it.stream.line("four")
    it.stream.line("five")
    it.reactor.advance(0)
    assert it.writes == 3
    assert [re.sub(r"^\S+ (\[smtplite\] )?", "", line) for line in it.written()] == [
        "[test#info] begin",
        "one",
        "two",
        "[test#info] three",
        "four",
        "five",
    ]


def test_a_text_line_has_the_local_time_as_events_have() -> None:
    it = Stream(TextForm())
    it.log.info("{log_time}")
    it.stream.line("one")
    it.reactor.advance(1.5)
    it.stream.line("two")
    it.stream.flush()
    times = [line.split()[0] for line in it.written()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", time) for time in times)
    assert times[1] != times[2]


def test_a_json_line_has_the_time_in_utc() -> None:
    it = Stream(JSONForm())
    it.log.info("begin")
    it.stream.line(it.stream.form.template("message", "id") % ('"M1"', ""))
    it.stream.flush()
    assert it.written()[1] == '{"time":"2023-11-14T22:13:20.250Z","event":"message","id":"M1"}'


def test_every_event_is_an_object_on_one_line_in_json() -> None:
    it = Stream(JSONForm())
    it.log.emit(LogLevel.warn, "a {what}", what='"line\n')
    it.log.failure("oh", failure=Failure(RuntimeError("broken")))
    it.stream({"log_format": ""})
    it.stream({"log_format": "old", "log_system": "-", "log_time": 0.0})
    objects = [json.loads(line) for line in it.written()]
    assert [(each["event"], each["level"], each["logger"]) for each in objects] == [
        ("log", "warn", "test"),
        ("log", "critical", "test"),
        ("log", "-", "-"),
    ]
    assert objects[0]["text"] == 'a "line\n'
    assert "RuntimeError: broken" in objects[1]["text"]
    assert objects[2]["time"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "\u00fc \\ud800"), ("ascii", "\\xfc \\ud800")])
def test_an_event_that_the_file_cannot_hold_is_written_escaped(encoding: str, shown: str) -> None:
    raw = BytesIO()
    stream = LogStream(TextForm(), MemoryReactorClock(), TextIOWrapper(raw, encoding=encoding))
    stream({"log_format": "{x}", "x": "\u00fc \ud800"})
    assert raw.getvalue().decode(encoding) == f"- [-#-] {shown}\n"


def test_an_event_is_not_lost_when_another_thread_writes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Stream(TextForm())
    holdable = it.stream._holdable

    def interrupted(text: str) -> str:
        monkeypatch.setattr(it.stream, "_holdable", holdable)
        it.log.info("other")
        return holdable(text)

    monkeypatch.setattr(it.stream, "_holdable", interrupted)
    it.log.info("one")
    assert [line.split()[-1] for line in it.written()] == ["other", "one"]


def test_what_a_signal_handler_logs_in_the_middle_of_a_write_comes_behind_it() -> None:
    it = Stream(TextForm())
    write = it.write

    def interrupted(text: str) -> None:
        it.write = write  # type: ignore[method-assign]
        it.log.info("Received SIGTERM")
        write(text)

    it.write = interrupted  # type: ignore[method-assign]
    it.log.info("one")
    assert [line.split()[-1] for line in it.written()] == ["one", "SIGTERM"]


class TurnedFile(StringIO):
    """A file that is turned while somebody writes, if that can be."""

    writing = False
    begun, turned = Event(), Event()

    def write(self, text: str) -> int:
        self.writing = True
        self.begun.set()
        self.turned.wait(0.2)
        self.writing = False
        return super().write(text)

    def rotate(self) -> None:
        assert not self.writing
        self.turned.set()


def test_the_file_is_not_turned_while_another_thread_writes_to_it() -> None:
    file = TurnedFile()
    stream = LogStream(TextForm(), MemoryReactorClock(), file)
    writer = Thread(target=stream, args=({"log_format": "one"},))
    writer.start()
    file.begun.wait()
    stream.turn()
    writer.join()
    assert file.getvalue() == "- [-#-] one\n"


def test_a_file_that_could_not_be_turned_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    stream = LogStream(TextForm(), MemoryReactorClock(), TurnedLogFile.fromFullPath(str(path), 10))
    stream({"log_format": "one"})
    with monkeypatch.context() as full:
        full.setattr(logfile, "open", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")), raising=False)
        stream({"log_format": "lost"})
        stream({"log_format": "lost too"})
        stream.turn()
    stream({"log_format": "two"})
    assert path.read_text() == "- [-#-] two\n"


def test_what_a_signal_handler_logs_while_somebody_else_writes_to_the_file_is_not_lost() -> None:
    # A delivery that prints. Files of Python's do not let the same thread in twice.
    it = Stream(TextForm())
    it.log.info("begin")
    it.stream.line("message")
    write = it.write
    it.write = Mock(side_effect=RuntimeError("reentrant call"))  # type: ignore[method-assign]
    it.log.info("Received SIGTERM")
    it.write = write  # type: ignore[method-assign]
    it.reactor.advance(0)
    assert [line.split()[-1] for line in it.written()] == ["begin", "message", "SIGTERM"]


def test_many_threads_lose_no_event_and_mix_no_lines() -> None:
    it = Stream(TextForm())

    def talk(name: int) -> None:
        for number in range(200):
            it.log.info("{name} {number}", name=name, number=number)

    threads = [Thread(target=talk, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard = [tuple(map(int, line.split()[-2:])) for line in it.written()]
    assert len(heard) == 800
    assert all([number for who, number in heard if who == name] == list(range(200)) for name in range(4))


def test_lines_are_events_until_the_stream_is_an_observer(caught: list[dict[str, Any]]) -> None:
    it = Stream(JSONForm())
    it.stream.line('"event":"x"}')
    assert it.writes == 0
    assert [(event["log_level"], event["line"]) for event in caught] == [(LogLevel.info, '{"event":"x"}')]


def test_without_a_stream_each_line_is_an_event(caught: list[dict[str, Any]]) -> None:
    MessageLog().sessionRefused("192.0.2.7", replies.TOO_MANY_CONNECTIONS)
    assert [event["line"] for event in caught] == ['refused-connection peer=192.0.2.7 reply="421 4.7.0 Too many connections, try again later"']


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr("twisted_smtplite.app.log._log", Logger(namespace="smtplite", observer=events.append))  # type: ignore[arg-type]
    return events


def test_a_log_that_cannot_be_written_does_not_stop_mail() -> None:
    it = Stream(TextForm())
    it.log.info("begin")

    def full(text: str) -> None:
        raise OSError(28, "No space left on device")

    good, it.write = it.write, full  # type: ignore[method-assign]
    it.stream.line("lost")
    it.stream.flush()
    it.write = good  # type: ignore[method-assign]
    it.stream.line("kept")
    it.stream.flush()
    assert [line.split()[-1] for line in it.written()] == ["begin", "kept"]


def test_what_is_known_of_tls_stands_in_the_line_of_the_message(text: Lines) -> None:
    facts = {"tls": True, "tlsVersion": "TLSv1.3", "tlsCipher": "TLS_AES_256_GCM_SHA384"}
    MessageLog(text).messageFinished(session(**facts), envelope("b"), 1, replies.MESSAGE_OK, [replies.MESSAGE_OK])
    MessageLog(text).messageFinished(session(**facts, certificate="ann"), envelope("b"), 1, replies.MESSAGE_OK, [replies.MESSAGE_OK])
    assert text.kept[0].endswith(" tls=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384")
    assert text.kept[1].endswith(" tls=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 certificate=ann")


def forwarded(**attributes: str) -> Envelope:
    return Envelope("M1", SENDER, recipients=[Recipient(Address("b", "mx.test"))], forwarded=attributes)


def test_where_a_proxy_had_the_message_from_stands_in_its_line(text: Lines, objects: Lines) -> None:
    facts = {"NAME": "host.client.test", "ADDR": "203.0.113.9", "IDENT": "4F=a"}
    for lines in (text, objects):
        MessageLog(lines).messageFinished(session(), forwarded(**facts), 1, replies.MESSAGE_OK, [replies.MESSAGE_OK])
    assert text.kept[0].endswith(' forwarded=NAME="host.client.test",ADDR="203.0.113.9",IDENT="4F=a"')
    assert json.loads(objects.kept[0])["forwarded"] == facts


def test_a_proxy_that_took_back_what_it_told_leaves_no_field(text: Lines) -> None:
    MessageLog(text).messageFinished(session(), forwarded(), 1, replies.MESSAGE_OK, [replies.MESSAGE_OK])
    assert "forwarded" not in text.kept[0]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_proxy_hands_on_of_its_client_makes_no_other_field(text: Lines, objects: Lines, hostile: str) -> None:
    for lines in (text, objects):
        MessageLog(lines).messageFinished(session(), forwarded(HELO=hostile), 1, replies.MESSAGE_OK, [replies.MESSAGE_OK])
    assert re.search(r'[ -~]+ forwarded=HELO="(?:[^"\\]|\\.)*"', text.kept[0]).end() == len(text.kept[0])  # type: ignore[union-attr]
    assert json.loads(objects.kept[0])["forwarded"] == {"HELO": hostile}
