"""What holds for every client, whatever it says and however the network cuts it."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import pytest
from descriptions import describe
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import TO_TLS, TRANSACTION, cutAt, cuts, scripts, verdicts, ways
from stage import Stage, assertWellFormed, noFailures
from verdicts import verdictFor

from twisted_smtplite.model.limits import BareLineEnds, Limits
from twisted_smtplite.model.profile import Profile

_LIMITS = (
    Limits(),
    Limits(errors=0, bareLineEnds=BareLineEnds.NORMALISE),
    Limits(messageSize=60, textLine=50, lenientPaths=True, commands=12, transactions=2),
)
# FUTURERELEASE is not offered: its keyword names a time, which may change from one play to the next.
_OPTIONS: dict[str, Any] = {
    "profile": Profile(mechanisms=("PLAIN", "LOGIN"), plaintextAuth=True),
    "users": {"ann": "secret"},
    "offer": ("DSN", "DELIVERBY", "MT-PRIORITY", "RRVS"),
    "xclients": ("192.0.2.0/24",),
}


class Told(NamedTuple):
    """What a client and a delivery saw of a session."""

    written: bytes
    delivered: list[tuple[str, bytes]]
    lost: int
    closed: bool
    questions: list[str]


def _converse(
    pieces: list[bytes], given_: list[str], limits: Limits, *, slow: bool = False, leaky: bool = False, seed: int = 0, tls: str = ""
) -> Told:
    stage = Stage(limits, slow=slow, leaky=leaky, rng=Random(seed), tls=tls, **_OPTIONS)
    rng = Random(seed)
    with noFailures(lambda: stage.delivery.breakages):
        stage.delivery.script.extend(verdictFor(text, stage) for text in given_)
        stage.connect()
        for piece in pieces:
            if stage.transport.closed and not leaky:
                break
            if stage.transport.encrypted and stage.transport.client is None and rng.random() < 0.9:
                stage.beginTLS()
            stage.say(piece)
            if rng.random() < 0.5:
                stage.settle()
        stage.settle()
        closed = stage.transport.closed
        stage.leave()
        stage.assertInvariants()
    messages = stage.delivery.messages
    return Told(
        bytes(stage.transport.written),
        [(describe(message.envelope), message.body) for message in messages if message.completed],
        sum(bool(message.lost) for message in messages),
        closed,
        stage.delivery.questions,
    )


def _nothingRaises(data: bytes, places: list[int], given_: list[str], limits: Limits, slow: bool, leaky: bool, tls: str) -> None:
    pieces = [*TO_TLS, *cutAt(data, places)] if tls == "starttls" else cutAt(data, places)
    told = _converse(pieces, given_, limits, slow=slow, leaky=leaky and not tls, seed=len(data), tls=tls)
    assertWellFormed(told.written)


def _cutsDoNotMatter(data: bytes, places: list[int], given_: list[str], limits: Limits, seed: int) -> None:
    expected = _converse([data], given_, limits)
    assert _converse(cutAt(data, places), given_, limits) == expected
    assert _converse(cutAt(data, places), given_, limits, slow=True, seed=seed) == expected
    assert _converse([data], given_, limits, slow=True, leaky=True, seed=seed) == expected
    if len(data) < 400:
        assert _converse([bytes([octet]) for octet in data], given_, limits, seed=seed) == expected


_noise = st.binary(max_size=300) | scripts | st.builds(bytes.__add__, st.just(TRANSACTION), st.binary(max_size=60))
_everyday = settings(max_examples=100, deadline=None)
_deep = settings(max_examples=4_000, deadline=None)
_limits = st.sampled_from(_LIMITS)
_seeds = st.integers(0, 1000)


@_everyday
@given(_noise, cuts, verdicts, _limits, st.booleans(), st.booleans(), ways)
def test_no_input_raises_and_every_reply_is_well_formed(
    data: bytes, places: list[int], given_: list[str], limits: Limits, slow: bool, leaky: bool, tls: str
) -> None:
    _nothingRaises(data, places, given_, limits, slow, leaky, tls)


@_everyday
@given(scripts, cuts, verdicts, _limits, _seeds)
def test_replies_and_deliveries_do_not_depend_on_cuts_or_on_the_pace_of_the_delivery(
    data: bytes, places: list[int], given_: list[str], limits: Limits, seed: int
) -> None:
    _cutsDoNotMatter(data, places, given_, limits, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@_deep
@given(_noise, cuts, verdicts, _limits, st.booleans(), st.booleans(), ways)
def test_no_input_raises_and_every_reply_is_well_formed_deeply(
    data: bytes, places: list[int], given_: list[str], limits: Limits, slow: bool, leaky: bool, tls: str
) -> None:
    _nothingRaises(data, places, given_, limits, slow, leaky, tls)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@_deep
@given(scripts, cuts, verdicts, _limits, _seeds)
def test_replies_and_deliveries_do_not_depend_on_cuts_or_on_the_pace_of_the_delivery_deeply(
    data: bytes, places: list[int], given_: list[str], limits: Limits, seed: int
) -> None:
    _cutsDoNotMatter(data, places, given_, limits, seed)
