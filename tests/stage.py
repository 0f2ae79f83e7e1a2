"""The stage that dialogues are played on: one server, its clients, and a clock that stands still until it is moved.

Knows the public contract of the server (`twisted_smtplite.interfaces`, `SMTPServerFactory`) and nothing of its inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from types import MappingProxyType

from actors import Breakage, ScriptedDelivery, StrictObserver, StrictTransport
from tlsclient import TLSClient, certified
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import alsoProvides

from twisted_smtplite.dialogue.sasl import Check
from twisted_smtplite.interfaces import IExpandList, IVerifyAddress
from twisted_smtplite.model.envelope import SessionInfo
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.networks import Networks
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.wire.factory import SMTPServerFactory
from twisted_smtplite.wire.proxy import ProxyFactory
from twisted_smtplite.wire.tls import implicitTLS


class Stage:
    """One server and one client.

    Args:
        limits: the server's.
        slow: answers come later.
        leaky: input comes through a pause.
        rng: where the slow answers take their delays from.
        extras: ``verify``, ``expand``: what else the delivery provides.
        profile: the server's.
        users: the passwords of those who may authenticate.
        tls: ``starttls`` or ``implicit``: the server has a certificate, for STARTTLS or from the beginning of a connection.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        hostname: str = "mx.test",
        peer: str = "192.0.2.1",
        slow: bool = False,
        leaky: bool = False,
        rng: Random | None = None,
        extras: Sequence[str] = (),
        profile: Profile | None = None,
        users: Mapping[str, str] = MappingProxyType({}),
        offer: Sequence[str] = (),
        proxies: Sequence[str] = (),
        xclients: Sequence[str] = (),
        policies: Callable[[Stage], Sequence[object]] = lambda stage: (),
        tls: str = "",
    ) -> None:
        self.clock = Clock()
        self.delivery = ScriptedDelivery(self.clock, slow=slow, rng=rng)
        for extra in extras:
            alsoProvides(self.delivery, {"verify": IVerifyAddress, "expand": IExpandList}[extra])
        self.observer = StrictObserver()
        self._users = users
        self.factory = SMTPServerFactory(
            self.delivery,
            self.clock,
            hostname=hostname,
            limits=limits or Limits(),
            observer=self.observer,
            profile=profile,
            authenticate=self._authenticate,
            offer=offer,
            xclients=xclients,
            policies=policies(self),
            tls=certified() if tls else None,
        )
        inside = implicitTLS(self.factory, certified(), self.clock) if tls == "implicit" else self.factory
        self._entrance = ProxyFactory(inside, Networks(proxies), self.clock, self.factory.limits)
        self._entrance.doStart()
        self.crowd: list[StrictTransport] = []
        self.peer = peer
        # What leaks through a pause is what TLS had read already: it comes from above TLS, not from below.
        self._leaky = leaky and not tls
        self.transport = StrictTransport(peer, leaky=self._leaky)

    def _authenticate(self, session: SessionInfo, check: Check) -> object:
        return self.delivery.pace(lambda: check.user if self._users.get(check.user) == check.password else None)

    def connect(self) -> None:
        """The client connects."""
        self.transport = self._connection(self.peer)
        self.settle()

    def join(self, peer: str) -> None:
        """Somebody else connects and stays."""
        self.crowd.append(self._connection(peer))
        self.settle()

    def _connection(self, peer: str) -> StrictTransport:
        transport = StrictTransport(peer, leaky=self._leaky)
        protocol = self._entrance.buildProtocol(transport.getPeer())
        assert protocol is not None
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def beginTLS(self, serverName: str = "") -> None:
        """From now on the client speaks TLS; `say` begins the handshake."""
        self.transport.client = TLSClient(serverName)

    def say(self, data: bytes) -> None:
        """The client says this: inside TLS, where it speaks that."""
        client = self.transport.client
        self.transport.send(client.say(data) if client else data)
        # Its answers: in the handshake, and at the end.
        while client and (octets := client.say()):
            self.transport.send(octets)

    def settle(self) -> None:
        """Lets everything happen that needs no time."""
        for _ in range(100_000):
            moved = self.transport.deliver()
            now = self.clock.seconds()
            if any(call.getTime() <= now for call in self.clock.getDelayedCalls()):
                self.clock.advance(0)
                moved = True
            if not moved:
                return
        raise AssertionError("the server does not come to rest")

    def wait(self, seconds: float) -> None:
        """Time passes, from event to event."""
        self.settle()
        end = self.clock.seconds() + seconds
        while (due := min((call.getTime() for call in self.clock.getDelayedCalls()), default=end + 1)) <= end:
            self.clock.rightNow = max(due, self.clock.rightNow)
            self.settle()
        self.clock.rightNow = end

    def leave(self, reason: Exception | None = None) -> None:
        """The connection ends, and the others with it."""
        for transport in (self.transport, *self.crowd):
            transport.hangUp(reason)
        self.settle()

    def assertInvariants(self) -> None:
        """What must hold when the session is over, whatever was said in it."""
        assert not self.transport.connected
        for record in self.delivery.messages:
            assert record.over == 1, f"a message had {record.completed} eomReceived and {len(record.lost)} connectionLost"
        assert self.delivery.idle, "a question was left open: its Deferred must be cancelled when the client leaves"
        assert not self.observer.open, "a session was not reported as ended"
        assert self.factory.sessions == 0, f"{self.factory.sessions} sessions left"
        left = [call for call in self.clock.getDelayedCalls() if call.active()]
        assert not left, f"timers left behind: {left}"
        assertWellFormed(bytes(self.transport.written))


_LINE = re.compile(rb"([2-5][0-5][0-9])([ -])((?:([245]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})) )?[\t -~]*)")


def assertWellFormed(written: bytes) -> list[tuple[int, str | None, list[str]]]:
    """Checks everything a server said against RFC 5321 4.2 and RFC 2034 4.

    Returns:
        The replies as (code, enhanced code or None, texts).
    """
    assert written == b"" or written.endswith(b"\r\n"), "the last reply is not complete"
    replies: list[tuple[int, str | None, list[str]]] = []
    open_ = False
    for line in written.split(b"\r\n")[:-1]:
        assert len(line) <= 510, f"a reply line of {len(line) + 2} octets"
        match = _LINE.fullmatch(line)
        assert match, f"not a reply line: {line!r}"
        code, enhanced = int(match[1]), match[4].decode() if match[4] else None
        if open_:
            assert replies[-1][:2] == (code, enhanced), f"a reply changes its codes: {line!r}"
            replies[-1][2].append(match[3].decode())
        else:
            replies.append((code, enhanced, [match[3].decode()]))
        assert enhanced is None or int(enhanced[0]) == code // 100, f"the codes disagree: {line!r}"
        open_ = match[2] == b"-"
    assert not open_, "the last reply is not complete"
    for index, (code, enhanced, texts) in enumerate(replies):
        # RFC 2034 4: all but the greeting, the answers to EHLO and HELO, and 3yz.
        bare = index == 0 or code // 100 == 3 or code == 501 or (code in (220, 250) and texts[0].split(" ")[0] in ("mx.test", "localhost"))
        assert enhanced is not None or bare, f"no enhanced status code: {code} {texts}"
    return replies


@contextmanager
def noFailures(expected: Callable[[], int]) -> Generator[None, None, None]:
    """Fails if anything but `expected()` breakages and wrong answers is logged as an error meanwhile."""
    failures: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event or event["log_level"].name in ("error", "critical"):
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    # A wrong answer is logged by the server itself, with the answer.
    strange = [event for event in failures if "answer" not in event and not ("log_failure" in event and event["log_failure"].check(Breakage))]
    if strange:
        detail = strange[0].get("log_failure")
        raise AssertionError(f"logged as an error: {strange[0].get('log_format')}\n{detail.getTraceback() if detail else strange[0]}")
    assert len(failures) == expected(), f"{expected()} breakages, {len(failures)} logged"
