"""The service: composition, addresses, the order of starting and stopping."""

from __future__ import annotations

import smtplib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import MultiService, Service
from twisted.internet import reactor as globalReactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from twisted_smtplite.app.service import CannotListen, SMTPService, addressText
from twisted_smtplite.delivery.base import AcceptingDelivery
from twisted_smtplite.delivery.memory import MemoryDelivery
from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.wire.factory import SMTPServerFactory

reactor: Any = globalReactor


def send(address: IPv4Address, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", address.port, timeout=10) as client:
        client.sendmail("a@client.test", [recipient], b"Subject: x\r\n\r\nhello\r\n")


@pytest_twisted.ensureDeferred
async def test_two_services_in_one_process_each_have_their_mail_and_their_address() -> None:
    deliveries = [MemoryDelivery(), MemoryDelivery()]
    services = [SMTPService.forDelivery(delivery, reactor, "tcp:0:interface=127.0.0.1") for delivery in deliveries]
    application = MultiService()
    for service in services:
        service.setServiceParent(application)
    application.startService()
    try:
        ports = [service.addresses[0].port for service in services]  # type: ignore[attr-defined]
        assert len(set(ports) - {0}) == 2
        for service, name in zip(services, ("one", "two"), strict=True):
            await deferToThread(send, service.addresses[0], f"{name}@mx.test")
    finally:
        await application.stopService()
    got = [[str(message.recipients[0].address) for message in (m.envelope for m in delivery.messages)] for delivery in deliveries]
    assert got == [["one@mx.test"], ["two@mx.test"]]


@pytest_twisted.ensureDeferred
async def test_one_service_listens_in_several_places_and_can_be_started_again(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    service = SMTPService.forDelivery(MemoryDelivery(), reactor, "tcp:0:interface=127.0.0.1", f"unix:{socket}", "tcp:0:interface=127.0.0.1")
    for _ in range(2):
        service.startService()
        first, second, third = service.addresses
        assert isinstance(first, IPv4Address)
        assert isinstance(third, IPv4Address)
        assert addressText(second) == f"unix {socket}"
        assert first.port != third.port
        await deferToThread(send, third, "x@mx.test")
        await service.stopService()
        assert service.addresses == []
        assert not socket.exists()


class Recorder(AcceptingDelivery, Service):
    """A delivery that is a service, and notes what happens to it."""

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def startMessage(self, session: object, envelope: object) -> IMessage:
        raise AssertionError("no message comes")

    def startService(self) -> None:
        super().startService()
        self.events.append("delivery starts")

    def stopService(self) -> None:
        super().stopService()
        self.events.append("delivery stops")


@implementer(IStreamServerEndpoint)
class Endpoint:
    """Listens when the test says so, and notes it."""

    def __init__(self, events: list[str], result: Any = None) -> None:
        self.events = events
        self.result = succeed(self) if result is None else result
        self.closed: Deferred[None] = Deferred()

    def listen(self, protocolFactory: object) -> Any:
        self.events.append("listens")
        return self.result

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 25)

    def stopListening(self) -> Deferred[None]:
        self.events.append("closes")
        return self.closed


class Draining(SMTPServerFactory):
    """Drains when the test says so."""

    def __init__(self, delivery: object, events: list[str]) -> None:
        super().__init__(delivery, MemoryReactorClock(), limits=Limits())
        self.events = events
        self.drained: Deferred[None] = Deferred()

    def drain(self) -> Deferred[None]:
        self.events.append("drains")
        return self.drained


def test_the_delivery_starts_before_listening_and_stops_after_draining() -> None:
    events: list[str] = []
    delivery, endpoint = Recorder(events), Endpoint(events)
    factory = Draining(delivery, events)
    service = SMTPService(factory, [endpoint], delivery)
    service.startService()
    assert events == ["delivery starts", "listens"]
    stopped: list[object] = []
    service.stopService().addBoth(stopped.append)
    assert events[2:] == ["closes"]
    endpoint.closed.callback(None)
    assert events[3:] == ["drains"]
    assert stopped == []
    factory.drained.callback(None)
    assert events[4:] == ["delivery stops"]
    assert stopped == [None]


class Stopping:
    """A service that is about to stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.failures: list[CannotListen] = []
        self.endpoint = Endpoint(self.events)
        self.factory = Draining(Recorder(self.events), self.events)
        self.service = SMTPService(self.factory, [self.endpoint], Recorder(self.events))
        monkeypatch.setattr(self.service, "listeningFailed", self.failures.append)
        self.service.startService()
        self.events.clear()
        self.service.stopService()
        self.endpoint.result = succeed(self.endpoint)

    def finish(self) -> list[str]:
        """It has stopped. Returns what has happened since it was about to."""
        self.endpoint.closed.callback(None)
        self.factory.drained.callback(None)
        return self.events


STOPPED = ["closes", "drains", "delivery stops"]


def test_a_start_while_it_stops_waits_until_it_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Stopping(monkeypatch)
    it.service.startService()
    assert it.finish() == [*STOPPED, "delivery starts", "listens"]
    assert it.service.running


def test_who_is_stopped_again_meanwhile_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Stopping(monkeypatch)
    it.service.startService()
    it.service.stopService()
    assert "listens" not in it.finish()
    assert not it.service.running


def test_an_endpoint_that_fails_then_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Stopping(monkeypatch)
    it.endpoint.result = fail(OSError(98, "Address already in use"))
    it.service.startService()
    assert it.finish() == [*STOPPED, "delivery starts", "listens", "delivery stops"]
    assert [failure.cause for failure in it.failures] == ["Address already in use"]


def test_ports_that_were_opened_with_privileges_are_not_opened_twice() -> None:
    events: list[str] = []
    delivery = Recorder(events)
    service = SMTPService(Draining(delivery, events), [Endpoint(events)], delivery)
    service.privilegedStartService()
    service.privilegedStartService()
    service.startService()
    assert events == ["listens", "delivery starts"]


def test_a_delivery_that_belongs_to_somebody_else_is_left_to_them() -> None:
    events: list[str] = []
    delivery = Recorder(events)
    delivery.setServiceParent(MultiService())
    service = SMTPService(Draining(delivery, events), [Endpoint(events)], delivery)
    service.startService()
    assert events == ["listens"]


def test_an_endpoint_that_fails_at_once_raises_and_leaves_nothing_running() -> None:
    events: list[str] = []
    delivery = Recorder(events)
    good, bad = Endpoint(events), Endpoint(events, fail(OSError(13, "Permission denied")))
    service = SMTPService(Draining(delivery, events), [good, bad], delivery)
    with pytest.raises(CannotListen, match=r"^Permission denied$") as raised:
        service.startService()
    assert raised.value.endpoint is bad
    assert events == ["delivery starts", "listens", "listens", "closes", "delivery stops"]
    assert service.addresses == []


def test_an_endpoint_that_fails_later_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    result: Deferred[object] = Deferred()
    failures: list[CannotListen] = []
    service = SMTPService(Draining(Recorder(events), events), [Endpoint(events, result)])
    monkeypatch.setattr(service, "listeningFailed", failures.append)
    service.startService()
    assert service.addresses == []
    result.errback(RuntimeError("no network"))
    assert [failure.cause for failure in failures] == ["no network"]


def test_stopping_gives_up_an_endpoint_that_is_not_open_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    cancelled: list[object] = []
    failures: list[CannotListen] = []
    factory = Draining(Recorder(events), events)
    factory.drained.callback(None)
    service = SMTPService(factory, [Endpoint(events, Deferred(cancelled.append))])
    monkeypatch.setattr(service, "listeningFailed", failures.append)
    service.startService()
    stopped: list[object] = []
    service.stopService().addBoth(stopped.append)
    assert (len(cancelled), failures, stopped) == (1, [], [None])


@pytest.fixture
def busy() -> Generator[int, None, None]:
    port = reactor.listenTCP(0, SMTPServerFactory(MemoryDelivery(), reactor), interface="127.0.0.1")
    yield port.getHost().port
    pytest_twisted.blockon(port.stopListening())


def test_a_busy_port_is_told_in_words(busy: int) -> None:
    endpoint = serverFromString(reactor, f"tcp:{busy}:interface=127.0.0.1")
    service = SMTPService(SMTPServerFactory(MemoryDelivery(), reactor), [endpoint])
    with pytest.raises(CannotListen, match=r"^Address already in use$"):
        service.privilegedStartService()


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (IPv4Address("TCP", "127.0.0.1", 25), "tcp 127.0.0.1:25"),
        (IPv6Address("TCP", "::1", 25), "tcp [::1]:25"),
        (UNIXAddress("/run/smtp.sock"), "unix /run/smtp.sock"),
        (UNIXAddress(None), "unix "),
    ],
)
def test_addresses_read_alike(address: Any, text: str) -> None:
    assert addressText(address) == text
