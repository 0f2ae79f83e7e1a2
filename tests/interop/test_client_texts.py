"""Our client sends texts of every kind, by BDAT and by DATA: not an octet is lost, and no half of a message is kept."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, repeat

import pytest
import pytest_twisted
from listener import MESSAGE
from mailserver import MailServer, assertArrived
from sending import EACH_VERB, HEADER, Peer, envelope, few, marked, outcomes, reach
from twisted.internet.defer import gatherResults

from twisted_smtplite.client import Content, SMTPClientError, Stage
from twisted_smtplite.model.address import Address

SHAPES = {
    "no text": b"",
    "an empty line": b"\r\n",
    "a dot": b".\r\n",
    "dots": b".\r\n" * 30_000,
    "a dot without a line end": b"x\r\n.",
    "empty lines": b"\r\n" * 70_000,
    "a long line": b"." * 15_000 + b"\r\nend\r\n",
    "every octet above 127": bytes(range(128, 256)) * 100 + b"\r\n",
    "control characters": bytes(each for each in range(1, 32) if each not in b"\r\n") + b"\x7f\r\n",
    "commands": b"QUIT\r\nBDAT 0 LAST\r\n\r\n..\r\nRSET\r\n",
    # A dot is the first octet of the second piece of 64 KiB.
    "a dot at a seam": b"x" * 998 + b"\r\n" + (b"y" * 998 + b"\r\n") * 64,
}


@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_texts_of_every_shape_arrive_exactly(name: str, verb: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server.ports.starttls, chunking=verb == "BDAT")
    texts = {shape: marked(HEADER + text) for shape, text in SHAPES.items()}
    deliveries = await gatherResults([client.send(envelope("ben"), Content.of(content)) for content, _ in texts.values()])
    await client.quit()
    assert all(each.complete for each in deliveries), deliveries
    for content, token in texts.values():
        assertArrived(await server.message("ben", token), content if content.endswith(b"\r\n") else content + b"\r\n")


def pieces(content: bytes) -> Iterator[bytes]:
    """In pieces of every length, as if from nowhere: the size is not known before."""
    start = 0
    for length in count(1):
        yield content[start : start + length]
        start += length
        if start >= len(content):
            return


@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_a_text_of_unknown_size_arrives_exactly(name: str, verb: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server.ports.starttls, chunking=verb == "BDAT")
    content, token = marked()
    # No line end at the end, and ends of every kind within.
    source = content.replace(b"one\r\n", b"one\n").replace(b"From the start\r\n", b"From the start\r").rstrip(b"\r\n")
    delivery = await client.send(envelope("ben"), Content.of(pieces(source)))
    await client.quit()
    assert outcomes(delivery) == [("ben", Stage.TEXT, 2)]
    assertArrived(await server.message("ben", token), content.rstrip(b"\r\n") + b"\r\n")


@pytest.mark.slow
@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_ten_megabytes_arrive_exactly(name: str, verb: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server.ports.starttls, chunking=verb == "BDAT")
    content, token = marked(MESSAGE + b"." * 70 + b"\r\n" + MESSAGE.partition(b"\r\n\r\n")[2] * 84)
    assert len(content) > 10 * 1024 * 1024
    delivery = await client.send(envelope("ben"), Content.of(content))
    await client.quit()
    assert outcomes(delivery) == [("ben", Stage.TEXT, 2)]
    assertArrived(await server.message("ben", token), content)


@pytest.mark.slow
@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_what_turns_out_to_be_too_large_is_refused_by_the_server(name: str, verb: str, peer: Peer) -> None:
    client = await reach(peer(name).ports.starttls, chunking=verb == "BDAT")
    # None of its pieces is repeated in memory.
    parts = chain([MESSAGE], repeat((b"x" * 70 + b"\r\n") * 900, 280))
    (outcome,) = (await client.send(envelope("ben"), Content.of(parts))).outcomes
    assert outcome.permanent and not outcome.reply.local, outcome
    client.abort()


class Broken(Exception):
    """What a text is read from fails."""


def brokenOff(content: bytes) -> Iterator[bytes]:
    """Half of a message."""
    yield content[: len(content) // 2]
    raise Broken


async def settled(server: MailServer) -> None:
    """Waits for a message that comes after all that has come."""
    content, token = marked(few(20))
    client = await reach(server.ports.starttls)
    assert (await client.send(envelope("ben"), Content.of(content))).complete
    await client.quit()
    assertArrived(await server.message("ben", token), content)


@pytest.mark.parametrize("claim", [True, False], ids=["known size", "unknown size"])
@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_a_text_that_breaks_off_is_not_delivered(name: str, verb: str, claim: bool, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server.ports.starttls, chunking=verb == "BDAT")
    content, token = marked()
    size = len(content) if claim else None
    with pytest.raises(Broken):
        await client.send(envelope("ben"), Content.of(brokenOff(content), size=size))
    assert not client.usable
    await client.whenEnded()
    await settled(server)
    assert server.stored("ben", token) == []


@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_a_text_of_another_size_than_was_said_is_not_delivered(name: str, verb: str, peer: Peer) -> None:
    server = peer(name)
    content, token = marked(few(20))
    for size in (len(content) - 1, len(content) + 1):
        client = await reach(server.ports.starttls, chunking=verb == "BDAT")
        with pytest.raises(SMTPClientError):
            await client.send(envelope("ben"), Content.of(iter([content]), size=size))
        await client.whenEnded()
    await settled(server)
    assert server.stored("ben", token) == []


@EACH_VERB
@pytest_twisted.ensureDeferred
async def test_a_report_has_no_sender(name: str, verb: str, peer: Peer) -> None:
    server = peer(name)
    client = await reach(server.ports.starttls, chunking=verb == "BDAT")
    content, token = marked(few(20))
    report = envelope("ben")
    report.sender = Address("", "")
    assert (await client.send(report, Content.of(content))).complete
    await client.quit()
    stored = await server.message("ben", token)
    assertArrived(stored, content)
    assert name == "ours" or stored.lower().startswith(b"return-path: <>\r\n")
