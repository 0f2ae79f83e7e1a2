from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from twisted_smtplite.interfaces import ISessionPolicy
from twisted_smtplite.model import replies
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Recipient, SessionInfo
from twisted_smtplite.model.reply import Reply
from twisted_smtplite.policy.rate import Rate, RatePolicy, TokenBuckets, byAddress, byPrefix, byUser
from twisted_smtplite.policy.registry import makePolicy

ENVELOPE = Envelope("E1", Address("a", "client.test"))
RECIPIENT = Recipient(Address("b", "mx.test"))


def session(peer: str = "192.0.2.1", user: str | None = None) -> SessionInfo:
    return SessionInfo("S1", "mx.test", peer, user=user)


def rate(argument: str, clock: Clock | None = None) -> Any:
    return cast(Any, makePolicy(f"rate:{argument}", cast(Any, clock or Clock())))


@pytest.mark.parametrize(
    ("text", "most", "seconds"),
    [("60/m", 60, 60), ("100/10m", 100, 600), ("1000/h", 1000, 3600), ("5000/d", 5000, 86400), ("5/30s", 5, 30), ("1/s", 1, 1)],
)
def test_rates(text: str, most: int, seconds: float) -> None:
    assert Rate.parse(text) == (most, seconds)


@pytest.mark.parametrize("text", ["", "60", "60/", "/m", "0/m", "60/0m", "-1/m", "60/w", "6 0/m", "1.5/m", "60/m ", "٣/m"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate such as 60/m"):
        Rate.parse(text)


def test_a_bucket_empties_and_fills_evenly() -> None:
    clock = Clock()
    buckets = TokenBuckets(Rate(3, 60), clock)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b")
    clock.advance(19)
    assert not buckets.take("a")
    clock.advance(1)
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    clock.advance(3600)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]


def test_who_goes_on_trying_is_not_kept_out_for_ever() -> None:
    clock = Clock()
    buckets = TokenBuckets(Rate(1, 60), clock)
    taken = 0
    for _ in range(600):
        taken += buckets.take("a")
        clock.advance(1)
    assert taken == 10


def test_memory_is_bounded_and_the_longest_unused_is_forgotten() -> None:
    buckets = TokenBuckets(Rate(1, 60), Clock(), keys=100)
    for number in range(100):
        assert buckets.take(str(number))
    assert not buckets.take("0")
    for number in range(100, 199):
        assert buckets.take(str(number))
    assert len(buckets) == 100
    assert not buckets.take("0")
    assert buckets.take("1")


def test_connections_messages_and_recipients_count_each_for_themselves() -> None:
    policy = rate("connections=1/m,messages=2/m,recipients=3/m")
    assert ISessionPolicy.providedBy(policy)
    connections = [policy.connect(session()) for _ in range(2)]
    messages = [policy.mail(session(), ENVELOPE) for _ in range(3)]
    recipients = [policy.rcpt(session(), ENVELOPE, RECIPIENT) for _ in range(4)]
    assert connections == [None, replies.RATE_OF_CONNECTIONS]
    assert messages == [None, None, replies.RATE_OF_MESSAGES]
    assert recipients == [None, None, None, replies.RATE_OF_RECIPIENTS]
    assert policy.auth(session(), "ann") is None


def test_what_has_no_rate_is_not_counted() -> None:
    policy = rate("messages=1/m")
    assert [policy.connect(session()) or policy.rcpt(session(), ENVELOPE, RECIPIENT) for _ in range(9)] == [None] * 9


@pytest.mark.parametrize(
    ("per", "one", "other", "together"),
    [
        (byAddress, "192.0.2.1", "192.0.2.2", False),
        (byAddress, "192.0.2.1", "::ffff:192.0.2.1", True),
        (byAddress, "2001:db8::1", "2001:db8::ffff", True),
        (byAddress, "2001:db8::1", "2001:db8:0:1::1", False),
        (byPrefix, "192.0.2.1", "192.0.2.200", True),
        (byPrefix, "192.0.2.1", "192.0.3.1", False),
        (byPrefix, "2001:db8:0:1::1", "2001:db8:0:2::1", True),
        (byPrefix, "2001:db8::1", "2001:db8:1::1", False),
    ],
)
def test_who_counts_together(per: Any, one: str, other: str, together: bool) -> None:
    policy = RatePolicy(Clock(), per, messages=Rate(1, 60))
    assert policy.mail(session(one), ENVELOPE) is None
    assert (policy.mail(session(other), ENVELOPE) is not None) is together


def test_clients_without_an_address_are_not_counted() -> None:
    policy = RatePolicy(Clock(), byAddress, connections=Rate(1, 60))
    assert [policy.connect(session("")) for _ in range(5)] == [None] * 5


def test_users_are_counted_wherever_they_come_from() -> None:
    policy = rate("messages=1/m,connections=2/m,per=user")
    assert policy.mail(session("192.0.2.1", "ann"), ENVELOPE) is None
    assert policy.mail(session("192.0.2.2", "ann"), ENVELOPE) is replies.RATE_OF_MESSAGES
    assert policy.mail(session("192.0.2.2", "ben"), ENVELOPE) is None
    assert [policy.mail(session("192.0.2.3"), ENVELOPE) for _ in range(3)] == [None] * 3
    assert [policy.connect(session()) for _ in range(3)] == [None] * 3
    assert [policy.auth(session(), "ann") for _ in range(3)] == [None, None, replies.RATE_OF_CONNECTIONS]
    assert byUser(session(user="ann")) == "ann"


@pytest.mark.parametrize("argument", ["", "per=user", "message=1/m", "messages", "messages=1", "messages=1/m,messages=2/m", "messages=1/m,per=world"])
def test_an_argument_that_is_none_is_said(argument: str) -> None:
    with pytest.raises(ValueError, match=r"^policy 'rate:"):
        rate(argument)


def test_refusals_are_temporary() -> None:
    for reply in (replies.RATE_OF_CONNECTIONS, replies.RATE_OF_MESSAGES, replies.RATE_OF_RECIPIENTS):
        assert isinstance(reply, Reply)
        assert (reply.code, (reply.enhanced or "")[:4]) in ((421, "4.7."), (452, "4.7."))
