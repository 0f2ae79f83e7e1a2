"""Routes: which hosts take a domain's mail, asked of a name server of our own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_twisted
from nameserver import NameServer, a, aaaa, cname, mx
from twisted.internet import reactor as globalReactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.names import dns

from twisted_smtplite.client.records import makeResolver
from twisted_smtplite.client.route import MailHost, MailRoutes, NoRoute, canonicalDomain
from twisted_smtplite.model.mxlimits import MXLimits
from twisted_smtplite.model.networks import Networks

reactor: Any = globalReactor
# Whatever the addresses of the machine are that the tests run on.
LOOPBACK = Networks(["127.0.0.0/8", "::1"])
Ask = Callable[..., NameServer]

ZONE: dict[str, list[Any]] = {
    "one.test": [mx(10, "mx1.test")],
    "two.test": [mx(20, "MX2.test"), mx(10, "mx1.test")],
    "twice.test": [mx(30, "mx1.test"), mx(20, "mx2.test"), mx(10, "mx1.test")],
    "equal.test": [mx(10, "mx1.test"), mx(10, "mx2.test"), mx(5, "mx3.test")],
    "implicit.test": [a("192.0.2.80"), aaaa("2001:db8::80")],
    "nowhere.test": [dns.Record_TXT(b"no address")],
    "null.test": [mx(0, ""), a("192.0.2.80")],
    "nullbeside.test": [mx(0, ""), mx(10, "mx1.test")],
    "homeless.test": [mx(10, "nohost.test"), mx(20, "nowhere.test"), a("192.0.2.80")],
    "strange.test": [mx(10, "mx 1.test"), mx(20, "mx1.test")],
    "numeric.test": [mx(10, "192.0.2.1"), a("192.0.2.80")],
    "alias.test": [cname("two.test")],
    "aliases.test": [cname("alias.test")],
    "circle.test": [cname("elcric.test")],
    "elcric.test": [cname("circle.test")],
    "lost.test": [cname("absent.test")],
    "hostalias.test": [mx(10, "mxalias.test")],
    "mxalias.test": [cname("mx1.test")],
    "backup.test": [mx(10, "mx1.test"), mx(20, "here.test"), mx(20, "mx2.test"), mx(30, "mx3.test")],
    "best.test": [mx(10, "here.test"), mx(20, "mx2.test")],
    "ours.test": [mx(10, "mx1.test"), mx(20, "unknown.test"), mx(20, "mx2.test")],
    "unknown.test": [a("192.0.2.99")],
    "loop.test": [a("127.0.0.1")],
    "loopmx.test": [mx(10, "loop.test")],
    "here.test": [a("192.0.2.98")],
    "mx1.test": [a("192.0.2.1"), a("192.0.2.2"), aaaa("2001:db8::1")],
    "mx2.test": [a("192.0.2.3")],
    "mx3.test": [aaaa("2001:db8::3")],
    "xn--mller-kva.test": [mx(10, "mx2.test")],
    "under_score.test": [mx(10, "mx2.test")],
    "crowd.test": [mx(number, f"host-with-a-long-name-{number}.crowd.test") for number in range(40)],
    **{f"host-with-a-long-name-{number}.crowd.test": [a(f"192.0.2.{number}")] for number in range(40)},
}


@pytest.fixture
def ask() -> Generator[Ask, None, None]:
    servers: list[NameServer] = []

    def ask(records: dict[str, list[Any]] = ZONE, **options: Any) -> NameServer:
        servers.append(NameServer(records, **options))
        return servers[-1]

    yield ask
    for server in servers:
        pytest_twisted.blockon(server.stop())


def routes(server: NameServer, **options: Any) -> MailRoutes:
    return MailRoutes(reactor, server.resolver, **{"shuffle": lambda hosts: None, "ownNames": ["Here.test."], "ownAddresses": LOOPBACK, **options})


async def find(server: NameServer | MailRoutes, domain: str, **options: Any) -> list[MailHost]:
    asked = server if isinstance(server, MailRoutes) else routes(server, **options)
    return await asked.find(domain)


def names(hosts: list[MailHost]) -> list[str]:
    return [host.name for host in hosts]


async def refusal(server: NameServer, domain: str, **options: Any) -> NoRoute:
    with pytest.raises(NoRoute) as caught:
        await find(server, domain, **options)
    assert caught.value.reply.local
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize(
    ("domain", "hosts"),
    [
        ("one.test", ["mx1.test"]),
        ("ONE.Test", ["mx1.test"]),
        ("two.test", ["mx1.test", "mx2.test"]),
        ("twice.test", ["mx1.test", "mx2.test"]),
        ("equal.test", ["mx3.test", "mx1.test", "mx2.test"]),
        ("implicit.test", ["implicit.test"]),
        ("nullbeside.test", ["mx1.test"]),
        ("strange.test", ["mx1.test"]),
        ("alias.test", ["mx1.test", "mx2.test"]),
        ("aliases.test", ["mx1.test", "mx2.test"]),
        ("hostalias.test", ["mxalias.test"]),
        ("müller.test", ["mx2.test"]),
        ("MÜLLER.TEST", ["mx2.test"]),
        ("xn--mller-kva.test", ["mx2.test"]),
        ("under_score.test", ["mx2.test"]),
        ("[192.0.2.7]", ["192.0.2.7"]),
        ("[IPv6:2001:db8:0::7]", ["2001:db8::7"]),
        ("backup.test", ["mx1.test"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_domain_has_hosts(ask: Ask, domain: str, hosts: list[str]) -> None:
    assert names(await find(ask(), domain)) == hosts


@pytest.mark.parametrize(
    ("domain", "code", "enhanced"),
    [
        ("absent.test", 550, "5.1.2"),
        ("lost.test", 550, "5.1.2"),
        ("nowhere.test", 550, "5.1.2"),
        ("null.test", 556, "5.1.10"),
        ("homeless.test", 550, "5.4.4"),
        ("numeric.test", 550, "5.4.4"),
        ("circle.test", 451, "4.4.3"),
        ("best.test", 554, "5.4.6"),
        ("loop.test", 554, "5.4.6"),
        ("loopmx.test", 554, "5.4.6"),
        ("[127.0.0.1]", 554, "5.4.6"),
        ("[IPv6:::1]", 554, "5.4.6"),
        ("[IPv6:::ffff:127.0.0.1]", 554, "5.4.6"),
        ("[IPv6:192.0.2.7]", 550, "5.1.2"),
        ("[2001:db8::7]", 550, "5.1.2"),
        ("[192.0.2.700]", 550, "5.1.2"),
        ("[tag:text]", 550, "5.1.2"),
        ("[", 550, "5.1.2"),
        ("", 550, "5.1.2"),
        (".test", 550, "5.1.2"),
        ("a..test", 550, "5.1.2"),
        ("a b.test", 550, "5.1.2"),
        ("a\x00.test", 550, "5.1.2"),
        ("a" * 64 + ".test", 550, "5.1.2"),
        ("a." * 124 + "test", 550, "5.1.2"),
        ("mü ller.test", 550, "5.1.2"),
        ("ü" * 64 + ".test", 550, "5.1.2"),
        ("\u2488.test", 550, "5.1.2"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_domain_has_none(ask: Ask, domain: str, code: int, enhanced: str) -> None:
    error = await refusal(ask(), domain)
    assert (error.reply.code, error.reply.enhanced) == (code, enhanced)


@pytest_twisted.ensureDeferred
async def test_addresses_of_both_versions_take_turns(ask: Ask) -> None:
    assert (await find(ask(), "one.test"))[0].addresses == ("192.0.2.1", "2001:db8::1", "192.0.2.2")
    assert (await find(ask(), "one.test", ipVersions=(6, 4)))[0].addresses == ("2001:db8::1", "192.0.2.1", "192.0.2.2")


@pytest_twisted.ensureDeferred
async def test_a_version_without_a_way_is_not_asked_for(ask: Ask) -> None:
    server = ask()
    assert (await find(server, "one.test", ipVersions=(6,)))[0].addresses == ("2001:db8::1",)
    assert (await refusal(server, "two.test", ipVersions=(6,), ownNames=["mx1.test"])).reply.enhanced == "5.4.6"
    assert names(await find(server, "two.test", ipVersions=(6,))) == ["mx1.test"]
    assert ("mx1.test", dns.A) not in server.zone.asked


@pytest_twisted.ensureDeferred
async def test_equal_hosts_come_in_random_order(ask: Ask) -> None:
    found = routes(ask(), shuffle=lambda hosts: hosts.reverse())
    assert names(await find(found, "equal.test")) == ["mx3.test", "mx2.test", "mx1.test"]
    # The order of the first time is not remembered with the hosts.
    orders = {tuple(names(await find(routes(ask(), shuffle=None), "equal.test"))) for _ in range(40)}
    assert orders == {("mx3.test", "mx1.test", "mx2.test"), ("mx3.test", "mx2.test", "mx1.test")}


@pytest_twisted.ensureDeferred
async def test_a_remembered_domain_is_shuffled_anew(ask: Ask) -> None:
    found = routes(ask(), shuffle=None)
    assert {tuple(names(await find(found, "equal.test"))) for _ in range(60)} == {
        ("mx3.test", "mx1.test", "mx2.test"),
        ("mx3.test", "mx2.test", "mx1.test"),
    }


@pytest_twisted.ensureDeferred
async def test_hosts_as_good_as_this_one_are_dropped_where_its_address_tells(ask: Ask) -> None:
    own = Networks(["192.0.2.99"])
    assert names(await find(ask(), "ours.test", ownAddresses=own)) == ["mx1.test"]
    assert names(await find(ask(), "ours.test")) == ["mx1.test", "unknown.test", "mx2.test"]
    # Loopback is this host's own where nothing else is said.
    assert (await refusal(ask(), "loopmx.test", ownAddresses=None)).reply.enhanced == "5.4.6"
    assert names(await find(ask(), "loopmx.test", ownAddresses=own)) == ["loop.test"]
    assert names(await find(ask(), "[127.0.0.1]", ownAddresses=own)) == ["127.0.0.1"]


@pytest_twisted.ensureDeferred
async def test_a_long_list_is_cut_behind_the_preferred(ask: Ask) -> None:
    # It is also too long for one datagram: the resolver asks again by TCP.
    hosts = await find(ask(), "crowd.test", limits=MXLimits(hosts=3))
    assert [host.preference for host in hosts] == [0, 1, 2]


@pytest_twisted.ensureDeferred
async def test_trouble_with_mx_records_never_leads_to_the_address(ask: Ask) -> None:
    server = ask()
    server.zone.broken.add("implicit.test")
    error = await refusal(server, "implicit.test")
    assert (error.reply.code, error.reply.enhanced) == (451, "4.4.3")
    assert error.temporary


@pytest_twisted.ensureDeferred
async def test_a_silent_name_server_is_given_up(ask: Ask) -> None:
    server = ask(timeout=(60,))
    server.zone.silent.add("one.test")
    clock = Clock()
    asking = Deferred.fromCoroutine(MailRoutes(clock, server.resolver).find("one.test"))
    clock.advance(MXLimits().lookupTimeout)
    with pytest.raises(NoRoute, match=r"451 4\.4\.3"):
        await asking


@pytest.mark.parametrize(("broken", "hosts"), [({"mx1.test"}, ["mx2.test"]), ({"mx1.test", "mx2.test"}, None)])
@pytest_twisted.ensureDeferred
async def test_a_host_that_cannot_be_looked_up_leaves_the_others(ask: Ask, broken: set[str], hosts: list[str] | None) -> None:
    server = ask()
    server.zone.broken = broken
    if hosts is None:
        assert (await refusal(server, "two.test")).reply.enhanced == "4.4.3"
    else:
        found = routes(server)
        assert names(await find(found, "two.test")) == hosts
        # And is looked for again.
        server.zone.broken = set()
        assert names(await find(found, "two.test")) == ["mx1.test", "mx2.test"]


@pytest_twisted.ensureDeferred
async def test_answers_are_remembered_for_as_long_as_they_are_true(ask: Ask) -> None:
    server = ask({"short.test": [mx(10, "mx1.test", 30)], "long.test": [mx(10, "mx2.test", 900)], "mx1.test": [a("192.0.2.1", 90)],
                  "mx2.test": [a("192.0.2.2", 900)], "never.test": [mx(10, "mx2.test", 0)]})  # fmt: skip
    # The clock of the routes alone stands still.
    clock = Clock()
    found = MailRoutes(clock, server.resolver, ownAddresses=LOOPBACK, limits=MXLimits(cacheTime=100))

    async def asks(domain: str) -> bool:
        before = len(server.zone.asked)
        await find(found, domain)
        return len(server.zone.asked) > before

    assert [await asks("short.test"), await asks("short.test"), await asks("long.test"), await asks("LONG.test")] == [True, False, True, False]
    assert [await asks("never.test"), await asks("never.test")] == [True, True]
    clock.advance(29)
    assert [await asks("short.test"), await asks("long.test")] == [False, False]
    clock.advance(1)
    assert [await asks("short.test"), await asks("long.test")] == [True, False]
    clock.advance(70)
    assert await asks("long.test")


@pytest_twisted.ensureDeferred
async def test_only_so_many_domains_are_remembered(ask: Ask) -> None:
    server = ask()
    found = routes(server, limits=MXLimits(cachedDomains=2))
    for domain in ("one.test", "two.test", "one.test", "equal.test"):
        await find(found, domain)
    before = len(server.zone.asked)
    await find(found, "one.test")
    assert len(server.zone.asked) == before
    await find(found, "two.test")
    assert len(server.zone.asked) > before


@pytest_twisted.ensureDeferred
async def test_who_asks_at_the_same_time_waits_for_the_same_answer(ask: Ask) -> None:
    server = ask()
    found = routes(server)
    asking = [Deferred.fromCoroutine(found.find("one.test")) for _ in range(5)]
    # One that gives up takes nothing from the others.
    asking[0].cancel()
    with pytest.raises(CancelledError):
        await asking[0]
    assert [names(await each) for each in asking[1:]] == [["mx1.test"]] * 4
    assert [question for question in server.zone.asked if question[1] == dns.MX] == [("one.test", dns.MX)]


def test_spellings_of_one_domain_are_one() -> None:
    assert {canonicalDomain(name) for name in ("MÜLLER.example", "müller.example", "xn--MLLER-kva.Example")} == {"xn--mller-kva.example"}
    assert canonicalDomain("[IPv6:2001:DB8::1]") == "[ipv6:2001:db8::1]"


@pytest_twisted.ensureDeferred
async def test_the_systems_own_resolver_knows_the_hosts_file() -> None:
    class Reactor(Clock):
        """Nothing is sent: the answer is in the file."""

    found = MailRoutes(Reactor(), ownAddresses=Networks())
    hosts = await found._addresses("localhost")
    assert any(ip_address(address).is_loopback for address in hosts[0])
    assert makeResolver(Reactor()) is not None
