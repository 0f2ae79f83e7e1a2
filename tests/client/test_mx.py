"""Sending by MX: whom a message is offered to, one after another, and what its recipients are told in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from mxworld import (
    LATER,
    NEVER,
    OK,
    Answer,
    World,
    babbles,
    busy,
    closed,
    dropped,
    lacks,
    local,
    lost,
    mute,
    raises,
    says,
    takes,
    unreachable,
    untrusted,
)
from twisted.internet.defer import CancelledError, Deferred

from twisted_smtplite.client.destination import Destination
from twisted_smtplite.client.mx import HostPolicy
from twisted_smtplite.client.route import MailHost, NoRoute
from twisted_smtplite.model.clientprofile import TLSUse
from twisted_smtplite.model.envelope import Envelope
from twisted_smtplite.model.errors import SMTPClientError
from twisted_smtplite.model.mxlimits import MXLimits
from twisted_smtplite.model.results import Delivery, PeerReply, Stage


def told(delivery: Delivery) -> list[tuple[str, int, str, str]]:
    return [(str(each.recipient.address), each.code, each.enhanced, each.stage.value) for each in delivery.outcomes]


@pytest.mark.parametrize(
    "first",
    [unreachable, mute, busy, closed, untrusted, babbles, lacks, dropped, *(says(stage, LATER) for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA))],
)
def test_the_next_host_takes_what_the_first_could_not(first: Answer) -> None:
    world = World({"mx1": first, "mx2": takes})
    delivery = world.deliver()
    assert (delivery.complete, delivery.peer) == (True, "mx2")
    assert world.offers == [("mx1-1", "x"), ("mx2-1", "x")]


@pytest.mark.parametrize(
    "first",
    [
        *(says(stage, NEVER) for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.TEXT)),
        says(Stage.TEXT, LATER),
        lost,
        takes,
    ],
)
def test_some_answers_are_final(first: Answer) -> None:
    world = World({"mx1": first, "mx2": takes})
    delivery = world.deliver()
    assert world.offers == [("mx1-1", "x")]
    assert delivery.peer == "mx1"


def test_a_lost_reply_to_the_text_stays_temporary_and_local() -> None:
    (only,) = World({"mx1": lost, "mx2": takes}).deliver().outcomes
    assert (only.stage, only.temporary, only.reply.local) == (Stage.TEXT, True, True)


def test_an_address_that_this_server_cannot_be_given_may_suit_the_next() -> None:
    assert World({"mx1": says(Stage.RCPT, local(553, "5.6.7")), "mx2": takes}).deliver().complete


@pytest.mark.parametrize(
    ("hosts", "code", "enhanced", "peer"),
    [
        ([unreachable, unreachable], 451, "4.4.1", ""),
        ([closed, closed], 554, "5.0.0", "mx2"),
        ([closed, unreachable], 451, "4.4.1", "mx1"),
        ([unreachable, closed], 451, "4.4.1", "mx2"),
        ([says(Stage.RCPT, LATER), unreachable], 451, "4.7.1", "mx1"),
        ([busy, unreachable], 421, "4.3.2", "mx1"),
        ([lacks, lacks], 550, "5.7.30", "mx2"),
        ([lacks, closed], 554, "5.0.0", "mx2"),
        ([closed, lacks], 554, "5.0.0", "mx2"),
        ([says(Stage.RCPT, LATER), says(Stage.RCPT, NEVER)], 550, "5.7.1", "mx2"),
    ],
)
def test_where_nobody_takes_it_a_later_try_makes_sense_if_anyone_was_in_trouble(hosts: Sequence[Answer], code: int, enhanced: str, peer: str) -> None:
    world = World({f"mx{number}": answer for number, answer in enumerate(hosts, 1)})
    delivery = world.deliver()
    assert (delivery.outcomes[0].code, delivery.outcomes[0].enhanced, delivery.peer) == (code, enhanced, peer)


def test_what_we_say_names_the_host_and_the_address() -> None:
    (only,) = World({"mx1": unreachable}).deliver().outcomes
    assert only.text == "mx1 [mx1-1]: so it is"


def test_each_recipient_has_a_way_of_his_own() -> None:
    special = {"y": (Stage.RCPT, LATER), "z": (Stage.RCPT, NEVER)}
    world = World({"mx1": says(Stage.TEXT, OK, **special), "mx2": says(Stage.TEXT, PeerReply(452, "4.2.2", ("full",)))})
    delivery = world.deliver("x@a.test", "y@a.test", "z@a.test")
    assert world.offers == [("mx1-1", "xyz"), ("mx2-1", "y")]
    assert told(delivery) == [
        ("x@a.test", 250, "2.0.0", "text"),
        ("y@a.test", 452, "4.2.2", "text"),
        ("z@a.test", 550, "5.7.1", "rcpt"),
    ]


def test_all_addresses_of_a_host_are_tried_before_the_next_host_and_not_too_many() -> None:
    hosts = [MailHost("mx1", 10, ("1", "2", "3")), MailHost("mx2", 20, ("4", "5", "6"))]
    world = World({"mx1": unreachable, "mx2": unreachable}, {"a.test": hosts}, limits=MXLimits(attempts=4))
    world.deliver()
    assert [address for address, _ in world.offers] == ["1", "2", "3", "4"]


def test_an_address_that_was_not_reached_is_left_alone_for_a_growing_while() -> None:
    world = World({"mx1": unreachable, "mx2": takes})

    def tried() -> list[str]:
        world.offers.clear()
        assert world.deliver().complete
        return [address for address, _ in world.offers]

    assert tried() == ["mx1-1", "mx2-1"]
    assert tried() == ["mx2-1"]
    world.clock.advance(60)
    assert tried() == ["mx1-1", "mx2-1"]
    world.clock.advance(119)
    assert tried() == ["mx2-1"]
    world.clock.advance(1)
    world.hosts["mx1"] = takes
    assert tried() == ["mx1-1"]
    world.hosts["mx1"] = unreachable
    assert tried() == ["mx1-1", "mx2-1"]
    world.clock.advance(60)
    assert tried() == ["mx1-1", "mx2-1"]


def test_where_all_are_left_alone_it_is_said_for_how_long() -> None:
    world = World({"mx1": mute})
    world.deliver()
    world.clock.advance(0.5)
    (only,) = world.deliver().outcomes
    assert only.text == "mx1 [mx1-1]: could not be reached, and is not tried again for 60 seconds"
    assert (only.code, only.enhanced, only.stage) == (451, "4.4.1", Stage.CONNECT)
    assert len(world.offers) == 1


@pytest.mark.parametrize("first", [busy, closed, untrusted, lacks, dropped, says(Stage.MAIL, LATER)])
def test_who_answers_is_not_left_alone(first: Answer) -> None:
    world = World({"mx1": first})
    world.deliver()
    world.deliver()
    assert len(world.offers) == 2


def test_addresses_that_are_left_alone_do_not_count_as_tried() -> None:
    hosts = [MailHost("mx1", 10, ("1", "2", "3")), MailHost("mx2", 20, ("4",))]
    world = World({"mx1": unreachable, "mx2": takes}, {"a.test": hosts}, limits=MXLimits(attempts=3))
    assert not world.deliver().complete
    assert world.deliver().complete


# -- several domains


def test_each_domain_has_its_own_transaction() -> None:
    domains = {"a.test": [MailHost("mx1", 10, ("1",))], "b.test": [MailHost("mx2", 10, ("2",))]}
    world = World({"mx1": takes, "mx2": says(Stage.RCPT, NEVER)}, domains)
    delivery = world.deliver("x@a.test", "y@b.test", "z@A.Test")
    assert sorted(world.offers) == [("1", "xz"), ("2", "y")]
    assert [each.code for each in delivery.outcomes] == [250, 550, 250]
    assert [str(each.recipient.address) for each in delivery.outcomes] == ["x@a.test", "y@b.test", "z@A.Test"]


def test_domains_with_the_same_hosts_share_one() -> None:
    first, second = MailHost("mx1", 10, ("1",)), MailHost("mx2", 10, ("2",))
    domains = {"a.test": [first, second], "b.test": [second, first], "c.test": [MailHost("mx1", 10, ("1",))]}
    world = World({"mx1": takes, "mx2": takes}, domains)
    assert world.deliver("w@a.test", "x@c.test", "y@b.test", "z@a.test").complete
    assert sorted(world.offers) == [("1", "wyz"), ("1", "x")]


def test_domains_that_want_other_protection_do_not_share() -> None:
    hosts = [MailHost("mx1", 10, ("1",))]

    def policy(domain: str, host: str) -> HostPolicy:
        return HostPolicy(TLSUse.REQUIRED if domain == "a.test" else TLSUse.OPPORTUNISTIC)

    world = World({"mx1": takes}, {"a.test": hosts, "b.test": hosts}, policy=policy, port=2525)
    assert world.deliver("x@a.test", "y@b.test").complete
    assert sorted((to.host, to.address, to.port, to.tls.value) for to in world.destinations) == [
        ("mx1", "1", 2525, "opportunistic"),
        ("mx1", "1", 2525, "required"),
    ]


def test_a_domain_without_a_route_leaves_the_others() -> None:
    domains = {"a.test": [MailHost("mx1", 10, ("1",))], "b.test": NoRoute(556, "5.1.10", "takes no mail"), "c.test": NoRoute(451, "4.4.3", "unknown")}
    delivery = World({"mx1": takes}, domains).deliver("x@b.test", "y@a.test", "z@c.test", "v@b.test", "postmaster@")
    assert told(delivery) == [
        ("x@b.test", 556, "5.1.10", "connect"),
        ("y@a.test", 250, "2.0.0", "text"),
        ("z@c.test", 451, "4.4.3", "connect"),
        ("v@b.test", 556, "5.1.10", "connect"),
        ("postmaster", 550, "5.1.2", "connect"),
    ]


def test_what_a_server_offers_counts_where_all_that_took_the_message_do() -> None:
    domains = {"a.test": [MailHost("mx1", 10, ("1",))], "b.test": [MailHost("mx2", 10, ("2",))]}
    world = World({"mx1": says(Stage.TEXT, OK, "DSN", "SIZE"), "mx2": says(Stage.TEXT, OK, "SIZE")}, domains)
    assert world.deliver("x@a.test").extensions == {"DSN", "SIZE"}
    assert world.deliver("x@a.test", "y@b.test").extensions == {"SIZE"}
    world.hosts["mx2"] = says(Stage.RCPT, NEVER)
    assert world.deliver("x@a.test", "y@b.test").extensions == {"DSN", "SIZE"}


def test_only_so_many_domains_are_served_at_a_time() -> None:
    open_: list[Deferred[Delivery]] = []
    waiting: list[tuple[Destination, Envelope]] = []

    def slowly(destination: Destination, envelope: Envelope) -> Deferred[Delivery]:
        waiting.append((destination, envelope))
        open_.append(Deferred())
        return open_[-1]

    domains = {f"{name}.test": [MailHost("mx1", 10, (name,))] for name in "abc"}
    world = World({"mx1": slowly}, domains, limits=MXLimits(domains=2))
    sending = world.begin("x@a.test", "y@b.test", "z@c.test")
    assert len(open_) == 2
    takes(*waiting[0]).chainDeferred(open_[0])
    assert len(open_) == 3
    for given, answer in list(zip(waiting, open_, strict=True))[1:]:
        takes(*given).chainDeferred(answer)
    results: list[Delivery] = []
    sending.addCallback(results.append)
    assert results[0].complete


# -- protection


def requires(**hosts: Answer) -> World:
    return World(dict(hosts), policy=lambda domain, host: HostPolicy(TLSUse.OPPORTUNISTIC, authentic=host != "unknown"))


def test_requiretls_asks_for_a_verified_server() -> None:
    world = requires(mx1=takes)
    assert world.deliver(requireTLS=True).complete
    assert world.destinations[0].tls is TLSUse.REQUIRED
    assert world.deliver().complete
    assert world.destinations[1].tls is TLSUse.OPPORTUNISTIC


def test_requiretls_goes_to_no_server_that_only_dns_tells_of() -> None:
    world = requires(unknown=takes)
    assert told(world.deliver(requireTLS=True)) == [("x@a.test", 550, "5.7.10", "connect")]
    assert world.offers == []
    assert requires(unknown=takes, mx2=takes).deliver(requireTLS=True).peer == "mx2"


def test_requiretls_goes_to_the_host_that_the_sender_has_named() -> None:
    for domain, host in [("a.test", "a.test"), ("[192.0.2.1]", "192.0.2.1")]:
        world = World({host: takes}, {domain: [MailHost(host, 0, ("192.0.2.1",))]})
        assert world.deliver(f"x@{domain}", requireTLS=True).complete


@pytest.mark.parametrize(
    ("first", "second", "code", "enhanced"),
    [
        (untrusted, untrusted, 550, "5.7.10"),
        (lacks, lacks, 550, "5.7.30"),
        (untrusted, lacks, 550, "5.7.30"),
        (untrusted, unreachable, 451, "4.4.1"),
    ],
)
def test_requiretls_without_a_server_that_has_it_is_refused_for_good(first: Answer, second: Answer, code: int, enhanced: str) -> None:
    delivery = requires(mx1=first, mx2=second).deliver(requireTLS=True)
    assert (delivery.outcomes[0].code, delivery.outcomes[0].enhanced) == (code, enhanced)


# -- the end


def test_to_cancel_ends_all_that_is_under_way() -> None:
    cancelled: list[str] = []

    def hangs(destination: Destination, envelope: Envelope) -> Deferred[Delivery]:
        return Deferred(lambda _: cancelled.append(destination.address))

    domains: dict[str, Any] = {"a.test": [MailHost("mx1", 10, ("1", "2"))], "b.test": [MailHost("mx2", 10, ("3",))], "c.test": Deferred()}
    # The second domain that cannot be looked up waits for the first.
    domains["d.test"] = []
    world = World({"mx1": hangs, "mx2": hangs}, domains, limits=MXLimits(domains=1))
    for recipients in (["x@a.test"], ["y@b.test", "x@a.test"], ["z@c.test", "y@d.test"]):
        failures: list[Any] = []
        sending = world.begin(*recipients)
        sending.addErrback(failures.append)
        sending.cancel()
        assert failures[0].check(CancelledError)
    assert cancelled == ["1", "3"]
    assert [address for address, _ in world.offers] == ["1", "3"]


def test_a_text_that_cannot_be_read_is_our_trouble_and_not_the_other_recipients() -> None:
    domains = {"a.test": [MailHost("mx1", 10, ("1", "2"))], "b.test": [MailHost("mx2", 10, ("3",))]}
    world = World({"mx1": raises(OSError("the disk is gone")), "mx2": takes}, domains)
    delivery = world.deliver("x@a.test", "y@b.test")
    assert told(delivery) == [("x@a.test", 451, "4.3.0", "data"), ("y@b.test", 250, "2.0.0", "text")]
    assert len(world.offers) == 2


def test_the_errors_of_the_client_need_no_address() -> None:
    domains = {"[192.0.2.1]": [MailHost("192.0.2.1", 0, ("192.0.2.1",))]}
    world = World({"192.0.2.1": raises(SMTPClientError(local(451, "4.4.0"), Stage.AUTH))}, domains)
    (only,) = world.deliver("x@[192.0.2.1]").outcomes
    assert (only.text, only.stage) == ("192.0.2.1: so it is", Stage.AUTH)
