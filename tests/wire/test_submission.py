"""A submission port whose delivery is slow, breaks or refuses: what is added on the way must not get in the way."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from stage import Stage
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.reply import Refused, Reply

NO = Reply(552, "5.2.2", "Full")
LOGIN = b"EHLO c\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n"
ENVELOPE = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\nDATA\r\n"


def submission(*, slow: bool = False) -> Stage:
    where = Stage(slow=slow, profile=Profile(submission=True, mechanisms=("PLAIN",), plaintextAuth=True), users={"tim": "tanstaaf"})
    where.connect()
    return where


def say(where: Stage, data: bytes) -> bytes:
    """Sends it. Returns the last line that was said."""
    where.transport.send(data)
    where.settle()
    return bytes(where.transport.written).splitlines()[-1]


@pytest.mark.parametrize("slow", [False, True])
def test_what_is_missing_is_added(slow: bool) -> None:
    where = submission(slow=slow)
    assert say(where, LOGIN + ENVELOPE)[:3] == b"354"
    assert say(where, b"Subject: x\r\n\r\ntext\r\n.\r\n")[:3] == b"250"
    (message,) = where.delivery.messages
    before, _, after = message.body.partition(b"Date: ")
    assert before == b"Subject: x\r\n"
    assert after.endswith(f"Message-ID: <{message.envelope.id}@mx.test>\r\n\r\ntext\r\n".encode())
    where.leave()
    where.assertInvariants()


@pytest.mark.parametrize("slow", [False, True])
def test_a_long_section_reaches_the_delivery_in_pieces_that_it_takes(slow: bool) -> None:
    where = submission(slow=slow)
    say(where, LOGIN + ENVELOPE)
    text = b"X: y\r\n" * 20_000 + b"\r\ntext\r\n"
    for start in range(0, len(text), 60_000):
        say(where, text[start : start + 60_000])
    assert say(where, b".\r\n")[:3] == b"250"
    assert where.delivery.messages[0].body == text
    assert max(map(len, where.delivery.messages[0].chunks)) <= 65_664


@pytest.mark.parametrize("slow", [False, True])
def test_a_message_whose_first_octets_are_refused_at_its_end_hears_that_it_is_lost(slow: bool) -> None:
    where = submission(slow=slow)
    where.delivery.script.extend([lambda: None] * 2 + [lambda: Refused(NO)])
    say(where, LOGIN + ENVELOPE)
    # All of it is held back up to the end.
    assert say(where, b"Subject: x\r\n.\r\n")[:3] == b"552"
    assert len(where.delivery.messages[0].lost) == 1
    where.leave()
    where.assertInvariants()


@pytest.mark.parametrize("answer", ["coroutine", "reply", "failure", "other"])
def test_a_delivery_may_answer_a_piece_in_any_form(answer: str) -> None:
    where = submission()
    started = where.delivery.startMessage

    async def refuses() -> Reply:
        return NO

    class Message:
        def __init__(self, inner: IMessage) -> None:
            self.inner = inner
            self.eomReceived = inner.eomReceived
            self.connectionLost = inner.connectionLost

        def dataReceived(self, chunk: bytes) -> Any:
            if answer == "failure":
                failing: Deferred[None] = Deferred()
                failing.errback(Refused(NO))
                return failing
            self.inner.dataReceived(chunk)
            return {"coroutine": refuses, "reply": lambda: NO, "other": lambda: 7}[answer]()

    where.delivery.startMessage = lambda session, envelope: Message(started(session, envelope))  # type: ignore[method-assign]
    say(where, LOGIN + ENVELOPE)
    assert say(where, b"Subject: x\r\n.\r\n")[:3] == (b"250" if answer == "other" else b"552")
    where.leave()
    where.assertInvariants()
    gc.collect()


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("verdict", [lambda: NO, lambda: None])
def test_data_may_be_refused_or_the_client_may_leave(slow: bool, verdict: Any) -> None:
    where = submission(slow=slow)
    where.delivery.script.extend([lambda: None, lambda: None, verdict])
    last = say(where, LOGIN + ENVELOPE)
    assert last[:3] == (b"552" if verdict() else b"354")
    if verdict() is None:
        say(where, b"Subject: x\r\n")
    with capturedLogs() as events:
        where.leave()
    assert not events
    where.assertInvariants()


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("rest", [b"\r\ntext\r\n.\r\n", b".\r\n"])
def test_an_incomplete_domain_is_refused_at_the_end_and_the_delivery_hears_that_the_message_is_lost(slow: bool, rest: bytes) -> None:
    where = submission(slow=slow)
    say(where, LOGIN + ENVELOPE)
    said = len(where.transport.written)
    say(where, b"To: a@sales\r\n" + rest[:6])
    last = say(where, rest[6:]) if len(rest) > 6 else bytes(where.transport.written).splitlines()[-1]
    assert last == b"554 5.6.0 The domain of each address in To must be fully qualified"
    assert bytes(where.transport.written[said:]).count(b"\r\n") == 1
    (message,) = where.delivery.messages
    assert message.body == b""
    assert len(message.lost) == 1
    # The session goes on.
    assert say(where, ENVELOPE)[:3] == b"354"
    assert say(where, b"To: a@b.test\r\n\r\n.\r\n")[:3] == b"250"
    where.leave()
    where.assertInvariants()
