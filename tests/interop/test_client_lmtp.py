"""Our client as one that hands mail to its last station by LMTP: to Dovecot, and to our own server. Each recipient has a reply of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted
from listener import AUTHORITY, MESSAGE, STRANGERS, Listener
from mailserver import MailServer, assertArrived
from ownserver import OwnServer
from sending import Peer, envelope, few, marked, outcomes, reach
from twisted.internet.defer import gatherResults

from twisted_smtplite.client.content import Content
from twisted_smtplite.model.clientprofile import TLSUse
from twisted_smtplite.model.errors import TLSFailed
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.model.results import Stage

WAYS = {"starttls": TLSUse.REQUIRED, "unix": TLSUse.NEVER}


class Station(NamedTuple):
    """Where LMTP is spoken, and who keeps what is sent there."""

    where: int | Path
    tls: TLSUse
    server: MailServer


@pytest.fixture(params=[f"{name} {way}" for name in ("dovecot", "ours") for way in WAYS])
def station(request: Any, peer: Peer, serve: Callable[..., Listener], tmp_path: Path) -> Iterator[Station]:
    name, way = request.param.split()
    if name == "dovecot":
        dovecot: Any = peer(name)
        yield Station(dovecot.socket if way == "unix" else dovecot.ports.starttls, WAYS[way], dovecot)
        return
    own = OwnServer()
    path = tmp_path / "lmtp" if way == "unix" else None
    listener = serve(profile=Profile(lmtp=True), delivery=own.delivery, path=path)
    yield Station(path or listener.port, WAYS[way], own)
    own.stop()


@pytest.mark.parametrize("verb", ["BDAT", "DATA"])
@pytest_twisted.ensureDeferred
async def test_each_recipient_has_an_outcome_of_his_own(verb: str, station: Station) -> None:
    client = await reach(station.where, station.tls, lmtp=True, chunking=verb == "BDAT")
    content, token = marked()
    delivery = await client.send(envelope("ben", "nobody", "full", "cleo"), Content.of(content))
    await client.quit()
    assert outcomes(delivery) == [("ben", Stage.TEXT, 2), ("nobody", Stage.RCPT, 5), ("full", Stage.TEXT, 4), ("cleo", Stage.TEXT, 2)]
    for box in ("ben", "cleo"):
        assertArrived(await station.server.message(box, token), content)


@pytest_twisted.ensureDeferred
async def test_many_messages_go_through_one_connection(station: Station) -> None:
    client = await reach(station.where, station.tls, lmtp=True)
    messages = [marked(few(10 + number)) for number in range(20)]
    # Every other one is for nobody who has a box.
    names = [("ben", "full") if number % 2 else ("nobody",) for number in range(20)]
    deliveries = await gatherResults([client.send(envelope(*each), Content.of(content)) for each, (content, _) in zip(names, messages, strict=True)])
    await client.quit()
    assert [outcomes(each) for each in deliveries] == [[("nobody", Stage.RCPT, 5)], [("ben", Stage.TEXT, 2), ("full", Stage.TEXT, 4)]] * 10
    for content, token in messages[1::2]:
        assertArrived(await station.server.message("ben", token), content)


@pytest.mark.parametrize("verb", ["BDAT", "DATA"])
@pytest_twisted.ensureDeferred
async def test_a_text_of_unknown_size_arrives_exactly(verb: str, station: Station) -> None:
    client = await reach(station.where, station.tls, lmtp=True, chunking=verb == "BDAT")
    content, token = marked()
    assert (await client.send(envelope("ben"), Content.of(content[at : at + 1009] for at in range(0, len(content), 1009)))).complete
    await client.quit()
    assertArrived(await station.server.message("ben", token), content)


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_ten_megabytes_arrive_exactly(station: Station) -> None:
    client = await reach(station.where, station.tls, lmtp=True)
    content, token = marked(MESSAGE + MESSAGE.partition(b"\r\n\r\n")[2] * 84)
    assert (await client.send(envelope("ben", "cleo"), Content.of(content))).complete
    await client.quit()
    for box in ("ben", "cleo"):
        assertArrived(await station.server.message(box, token), content)


@pytest.mark.parametrize(("host", "authority"), [("mx.test", STRANGERS), ("other.test", AUTHORITY)], ids=["unknown authority", "wrong name"])
@pytest_twisted.ensureDeferred
async def test_a_station_that_cannot_prove_who_it_is_is_told_nothing(host: str, authority: Any, peer: Peer) -> None:
    with pytest.raises(TLSFailed):
        await reach(peer("dovecot").ports.starttls, host=host, authority=authority, lmtp=True)
