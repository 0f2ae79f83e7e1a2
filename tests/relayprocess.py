"""Two programs for the tests of a relay that is killed: the relay, with short waits, and the server that it sends to, which is never killed.

``python relayprocess.py relay DIRECTORY PORT NEXTPORT`` or ``python relayprocess.py collect DIRECTORY``; each prints its port when it listens.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import IO, Any

from twisted.internet import reactor as globalReactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from twisted_smtplite.client.destination import Destination
from twisted_smtplite.client.pool import SMTPPool
from twisted_smtplite.delivery.base import AcceptingDelivery
from twisted_smtplite.interfaces import IMessage
from twisted_smtplite.model.clientprofile import ClientLimits
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.model.networks import Networks
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.queue.limits import RunnerLimits
from twisted_smtplite.queue.relay import RelayDelivery
from twisted_smtplite.queue.runner import Runner
from twisted_smtplite.queue.schedule import Schedule
from twisted_smtplite.queue.store import QueueStore
from twisted_smtplite.wire.factory import SMTPServerFactory

reactor: Any = globalReactor

NOBODY = Reply(550, "5.1.1", "Nobody of this name")
LATER = Reply(451, "4.3.2", "Come again")
SHORT = Schedule(firstRetry=0.3, longestRetry=1)
LIMITS = RunnerLimits(firstProbe=0.2, longestProbe=1, drainTime=5, gatherTime=1)


class Emptying:
    """A runner that sends everything to one server on loopback."""

    def __init__(self, store: QueueStore, port: int, schedule: Schedule, limits: RunnerLimits, clientLimits: ClientLimits) -> None:
        pool = self.pool = SMTPPool(reactor, hostname="relay.test", limits=clientLimits)
        server = Destination(host="127.0.0.1", port=port)

        class Sender:
            def send(self, envelope: Envelope, content: Any) -> Any:
                return pool.send(server, envelope, content)

        self.runner = Runner(store, Sender(), reactor, hostname="relay.test", destination=lambda _: "next", schedule=schedule, limits=limits)

    def start(self) -> None:
        self.runner.start()

    def stop(self) -> Any:
        return self.runner.stop().addBoth(lambda _: self.pool.close())


def makeRelay(
    directory: str, port: int, schedule: Schedule = SHORT, limits: RunnerLimits = LIMITS, clientLimits: ClientLimits | None = None
) -> RelayDelivery:
    """A relay with short waits that sends everything to one server on loopback."""
    store = QueueStore(directory, reactor)
    return RelayDelivery(store, lambda: Emptying(store, port, schedule, limits, clientLimits or ClientLimits()), Networks(["127.0.0.0/8"]))


@implementer(IMessage)
class Arriving:
    """A message that is written down when it is complete, with its recipients, as a line of JSON."""

    def __init__(self, envelope: Envelope, output: IO[str]) -> None:
        self._envelope = envelope
        self._output = output
        self._chunks: list[bytes] = []

    def dataReceived(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def eomReceived(self) -> None:
        text = b"".join(self._chunks).decode("latin-1")
        json.dump({"recipients": [str(recipient.address) for recipient in self._envelope.recipients], "text": text}, self._output)
        self._output.write("\n")
        self._output.flush()

    def connectionLost(self, reason: Exception) -> None:
        pass


class Collector(AcceptingDelivery):
    """Takes mail, but none for ``nobody@``, and for ``later@`` only from the third time on that it is asked for one sender."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._asked: dict[str, int] = {}

    def validateTo(self, session: SessionInfo, envelope: Envelope, recipient: Recipient) -> Reply | None:
        if recipient.address.localPart == "nobody":
            return NOBODY
        if recipient.address.localPart.startswith("later"):
            asked = self._asked[str(recipient.address)] = self._asked.get(str(recipient.address), 0) + 1
            return LATER if asked < 3 else None
        return None

    def startMessage(self, session: SessionInfo, envelope: Envelope) -> Any:
        return Arriving(envelope, self._output)


def listen(delivery: Any, port: int, hostname: str) -> None:
    factory = SMTPServerFactory(delivery, reactor, hostname=hostname)
    opened = reactor.listenTCP(port, factory, interface="127.0.0.1", backlog=200)
    print(opened.getHost().port, flush=True)


def main(mode: str, directory: str, *ports: str) -> None:
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    starts: dict[str, Callable[[], None]] = {
        "relay": lambda: startRelay(directory, *map(int, ports)),
        "collect": lambda: listen(Collector(open(f"{directory}/arrived", "a")), 0, "mx.test"),  # noqa: PTH123, SIM115 - open to the end
    }
    reactor.callWhenRunning(starts[mode])
    reactor.run()


def startRelay(directory: str, port: int, following: int) -> None:
    delivery = makeRelay(directory, following)
    delivery.startService()
    reactor.addSystemEventTrigger("before", "shutdown", delivery.stopService)
    listen(delivery, port, "relay.test")


if __name__ == "__main__":
    main(*sys.argv[1:])
