from __future__ import annotations

from dataclasses import MISSING, fields, replace
from types import MappingProxyType
from typing import Any

import pytest

from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import DeliverBy, Envelope, Parameter, Recipient, ValidSince
from twisted_smtplite.model.results import PeerReply
from twisted_smtplite.queue.serial import envelopeFrom, envelopeText, recipientFrom, recipientText, replyFrom, replyText

FULL_RECIPIENT = Recipient(
    Address("bén and \udcff", "MX.test"),
    (Parameter("NOTIFY", "never"), Parameter("x", None)),
    frozenset({"SUCCESS", "DELAY"}),
    ("rfc822", "a+b@c"),
    ValidSince(1e9, "R"),
)
FULL = Envelope(
    "E1",
    Address("Ann", "client.test"),
    (Parameter("Body", "BinaryMIME"), Parameter("SMTPUTF8", None)),
    [FULL_RECIPIENT, Recipient(Address("postmaster", ""))],
    12345,
    "BINARYMIME",
    True,
    1e9 + 0.25,
    "HDRS",
    "QQ+1",
    "",
    True,
    DeliverBy(-5, "N", True),
    -9,
    2e9,
    True,
    MappingProxyType({"ADDR": "192.0.2.1"}),
    b"X: \xff\r\n",
)


def again(envelope: Envelope) -> Envelope:
    return envelopeFrom(envelopeText(envelope), [recipientFrom(recipientText(recipient)) for recipient in envelope.recipients])


def test_every_field_comes_back() -> None:
    # A field that is added to the values has to be thought of here.
    for value in (FULL, FULL_RECIPIENT):
        for row in fields(value):
            assert row.name == "_results" or row.default is MISSING or getattr(value, row.name) != row.default, row.name
    back = again(FULL)
    assert back == FULL
    assert [str(one.address) for one in back.recipients] == [str(one.address) for one in FULL.recipients]
    assert back.recipients[0].parameters == FULL_RECIPIENT.parameters and type(back.recipients[0].notify) is frozenset
    assert type(back.deliverBy) is DeliverBy and type(back.parameters[0]) is Parameter and back.topFields == b"X: \xff\r\n"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sender": Address("", "")},
        {"submitter": "a@b"},
        {"deliverBy": None, "forwarded": None},
        {"recipients": [Recipient(Address("a", "b"))] * 3},
    ],
)
def test_so_does_what_is_left_out(changes: dict[str, Any]) -> None:
    for base in (Envelope("E", Address("a", "b")), FULL):
        assert again(replace(base, **changes)) == replace(base, **changes)


def test_what_policies_found_is_theirs_and_does_not_come_back() -> None:
    envelope = Envelope("E", Address("a", "b"))
    envelope.results["spam"] = object()
    assert again(envelope).results == {}


@pytest.mark.parametrize("reply", [None, PeerReply(250), PeerReply(550, "5.1.1", ("No\N{SNOWMAN}", "\ufffd"), local=True)])
def test_replies_come_back(reply: PeerReply | None) -> None:
    assert replyFrom(replyText(reply)) == reply


def test_the_text_is_short_and_any_database_takes_it() -> None:
    assert envelopeText(Envelope("E", Address("a", "b"), receivedAt=5.0)) == '{"id":"E","sender":["a","b"],"receivedAt":5.0}'
    assert recipientText(FULL_RECIPIENT).isascii()
