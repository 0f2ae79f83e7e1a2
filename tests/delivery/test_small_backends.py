"""The backends that fit in a page: null, memory, console, callable."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from driving import CONTENT, anEnvelope, aSession, begin, deliver, settle
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from twisted_smtplite.delivery import callable as callablemodule
from twisted_smtplite.delivery import console, memory, null
from twisted_smtplite.delivery.callable import CallableDelivery
from twisted_smtplite.delivery.console import ConsoleDelivery
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.delivery.null import NullDelivery
from twisted_smtplite.interfaces import IMessageDelivery
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.message import Message
from twisted_smtplite.model.reply import Refused, Reply


@pytest.mark.parametrize("delivery", [NullDelivery(), MemoryDelivery(), ConsoleDelivery(), CallableDelivery(lambda envelope, message: None)])
def test_every_sender_and_recipient_is_welcome(delivery: object) -> None:
    adapted = IMessageDelivery(delivery)
    envelope = anEnvelope()
    assert adapted.validateFrom(aSession(), envelope) is None
    assert adapted.validateTo(aSession(), envelope, envelope.recipients[0]) is None


# ---- null


@pytest_twisted.ensureDeferred
async def test_null_accepts_and_keeps_nothing() -> None:
    assert await deliver(NullDelivery()) is None
    (await begin(NullDelivery())).connectionLost(Exception("gone"))
    assert NullDelivery().receivedHeader(aSession(), anEnvelope()) is None


# ---- memory


@pytest_twisted.ensureDeferred
async def test_memory_keeps_exactly_what_was_sent() -> None:
    delivery = MemoryDelivery()
    session, envelope = aSession(), anEnvelope()
    await deliver(delivery, [CONTENT[:7], CONTENT[7:]], envelope, session)
    session.heloName = "another.test"
    (kept,) = delivery.messages
    assert kept.content == CONTENT
    assert kept.envelope is envelope
    assert kept.session == aSession()
    assert kept.message.headers["subject"] == "Hello"


@pytest_twisted.ensureDeferred
async def test_memory_refuses_what_is_over_its_bounds_and_has_room_again_when_cleared() -> None:
    delivery = MemoryDelivery(maxMessages=2, maxOctets=10)
    await deliver(delivery, b"12345678")
    late = await begin(delivery)
    with pytest.raises(Refused) as refused:
        late.dataReceived(b"123")
    assert refused.value.reply.code == 452
    late.connectionLost(refused.value)
    await deliver(delivery, b"12")
    assert IMessageDelivery(delivery).startMessage(aSession(), anEnvelope()) == refused.value.reply
    delivery.clear()
    await deliver(delivery, b"1234567890")
    assert [kept.content for kept in delivery.messages] == [b"1234567890"]


@pytest_twisted.ensureDeferred
async def test_memory_counts_messages_that_come_in_together() -> None:
    delivery = MemoryDelivery(maxMessages=1, maxOctets=10)
    first, second = await begin(delivery), await begin(delivery)
    first.dataReceived(b"12345")
    second.dataReceived(b"12345")
    assert await settle(first.eomReceived()) is None
    assert (await settle(second.eomReceived())).code == 452
    delivery.clear()
    await deliver(delivery, b"1234567890")


# ---- console


async def printed(content: bytes, *, shown: int = 65_536, encoding: str = "utf-8", **changes: Any) -> str:
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding=encoding, newline="")
    envelope = anEnvelope("ben@mx.test", "cy@mx.test")
    for name, value in changes.items():
        setattr(envelope, name, value)
    await deliver(ConsoleDelivery(stream, shown), content, envelope)
    return octets.getvalue().decode(encoding)


@pytest_twisted.ensureDeferred
async def test_console_prints_envelope_headers_and_body() -> None:
    lines = (await printed(b"Subject: Hello\r\n\r\nHello, Ben.\r\n\r\nAnn\r\n")).split("\n")
    assert [line.rstrip("-") for line in lines] == [
        "---- message E1 ",
        "client  client.test [192.0.2.1], ESMTP",
        "from    <ann@client.test>",
        "to      <ben@mx.test>",
        "to      <cy@mx.test>",
        "---- headers ",
        "Received: from client.test ([192.0.2.1])",
        "        by mx.test with ESMTP id E1;",
        lines[8],
        "Subject: Hello",
        "---- body ",
        "Hello, Ben.",
        "",
        "Ann",
        "---- end of E1 ",
        "",
        "",
    ]


@pytest_twisted.ensureDeferred
async def test_console_prints_nothing_that_a_terminal_obeys() -> None:
    evil = "\x1b[2J\x1b]0;title\x07\r\n\x9b31m\u202egnp.exe\x00\x7f\b".encode() + b"\xff\x9b\r\n"
    text = await printed(b"Subject: \x1b[31m\r\n\r\n" + evil, sender=Address("\x1b[2J", "client.test"))
    assert all(char == "\n" or char.isprintable() for char in text)
    assert "\\x1b[2J" in text
    assert "\\u202egnp.exe\\x00\\x7f\\x08\\xff\\x9b" in text


@pytest_twisted.ensureDeferred
async def test_console_prints_other_scripts_as_the_stream_can() -> None:
    content = "Subject: Grüße\r\n\r\n你好\r\n".encode()
    assert "Subject: Grüße\n" in await printed(content)
    assert "Subject: Gr\\xfc\\xdfe\n" in await printed(content, encoding="ascii")


@pytest_twisted.ensureDeferred
async def test_console_prints_a_bounded_part() -> None:
    text = await printed(b"x" * 100_000 + b"\r\n", shown=300)
    hidden = 100_000 - max(map(len, re.findall("x+", text)))
    assert len(text) < 1000
    assert f"---- {hidden + 2} more octets are not shown ---" in text


@pytest_twisted.ensureDeferred
async def test_console_prints_to_standard_output_and_nothing_when_the_client_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    delivery = ConsoleDelivery()
    message = await begin(delivery)
    message.dataReceived(CONTENT)
    message.connectionLost(Exception("gone"))
    assert capsys.readouterr().out == ""
    await deliver(delivery, [], session=aSession(peerHost=""))
    assert "[unix socket]" in capsys.readouterr().out


# ---- callable


def promptly(envelope: Any, message: Message) -> object:
    return "ID1"


def later(envelope: Any, message: Message) -> object:
    return succeed("ID1")


async def asynchronously(envelope: Any, message: Message) -> str:
    waiting: Deferred[str] = Deferred()
    reactor.callLater(0, waiting.callback, "ID1")
    return await waiting


@pytest.mark.parametrize("receive", [promptly, later, asynchronously])
@pytest_twisted.ensureDeferred
async def test_callable_may_be_any_kind_of_function(receive: Any) -> None:
    assert await deliver(CallableDelivery(receive)) == "ID1"


@pytest_twisted.ensureDeferred
async def test_callable_gets_the_envelope_and_the_message_with_its_trace_header() -> None:
    got: list[Any] = []
    envelope = anEnvelope()
    await deliver(CallableDelivery(lambda *arguments: got.append(arguments)), [CONTENT[:20], CONTENT[20:]], envelope)
    ((gotEnvelope, message),) = got
    assert gotEnvelope is envelope
    assert "Received" in message.headers
    assert message.headers["Subject"] == "Hello"
    assert message.content.endswith(CONTENT)


@pytest_twisted.ensureDeferred
async def test_callable_may_refuse() -> None:
    def refuse(envelope: Any, message: Message) -> None:
        raise Refused(Reply(550, "5.7.1", "No, thanks"))

    with pytest.raises(Refused):
        await deliver(CallableDelivery(refuse))


@pytest_twisted.ensureDeferred
async def test_callable_is_not_called_when_the_client_leaves() -> None:
    message = await begin(CallableDelivery(lambda envelope, message: pytest.fail("called")))
    message.dataReceived(CONTENT)
    message.connectionLost(Exception("gone"))


@pytest.mark.parametrize("where", ["", "elsewhere"], ids=["no path", "other path"])
@pytest_twisted.ensureDeferred
async def test_callable_is_found_by_name_in_the_working_directory(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"receiver_{where}"
    (tmp_path / f"{name}.py").write_text("class Inbox:\n    @staticmethod\n    def receive(envelope, message):\n        return 'ID2'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(Path(callablemodule.__file__).parent), where])
    assert await deliver(callablemodule.plugin.makeDelivery(f"{name}:Inbox.receive", reactor)) == "ID2"


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("", "name a function as package.module:function"),
        ("json", "name a function as package.module:function"),
        (":dumps", "name a function as package.module:function"),
        ("no.such.module:receive", "module 'no.such.module' cannot be imported: No module named 'no'"),
        ("json:no.such", "module 'json' has no function 'no.such'"),
        ("json:__name__", "module 'json' has no function '__name__'"),
        (".relative:receive", "cannot be imported"),
    ],
)
def test_callable_says_what_is_wrong_with_its_argument(argument: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        callablemodule.plugin.makeDelivery(argument, reactor)


# ---- their arguments


@pytest.mark.parametrize(
    ("module", "argument", "kind"),
    [
        (null, "", NullDelivery),
        (memory, "", MemoryDelivery),
        (memory, "5", MemoryDelivery),
        (console, "", ConsoleDelivery),
        (console, "0", ConsoleDelivery),
    ],
)
def test_an_argument_makes_a_delivery(module: Any, argument: str, kind: type) -> None:
    assert isinstance(module.plugin.makeDelivery(argument, reactor), kind)


@pytest.mark.parametrize(
    ("module", "argument", "text"),
    [
        (null, "x", "takes no argument"),
        (memory, "0", "1 or more, not '0'"),
        (memory, "x", "1 or more, not 'x'"),
        (console, "-1", "0 or more, not '-1'"),
    ],
)
def test_a_bad_argument_is_said(module: Any, argument: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        module.plugin.makeDelivery(argument, reactor)
