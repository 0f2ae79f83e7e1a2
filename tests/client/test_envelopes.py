from __future__ import annotations

from typing import Any

import pytest

from twisted_smtplite.client.content import Content
from twisted_smtplite.client.envelopes import envelopeFor
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import DeliverBy, Recipient

MESSAGE = Content.of(b"From: Ann <ann@client.test>\nTo: ben@mx.test\nBcc: eve@mx.test\n\nHello\n")


def test_an_envelope_is_taken_from_the_header_section() -> None:
    envelope = envelopeFor(MESSAGE)
    assert str(envelope.sender) == "ann@client.test"
    assert [str(recipient.address) for recipient in envelope.recipients] == ["ben@mx.test", "eve@mx.test"]
    assert (envelope.body, envelope.smtputf8, envelope.size) == ("7BIT", False, MESSAGE.size)
    assert envelope.id.isalnum()
    assert envelope.id != envelopeFor(MESSAGE).id


def test_who_is_named_comes_before_the_header_section() -> None:
    envelope = envelopeFor(MESSAGE, "", Recipient(Address("a", "b.test")))
    assert envelope.sender.isNull
    assert [str(recipient.address) for recipient in envelope.recipients] == ["a@b.test"]
    assert [str(recipient.address) for recipient in envelopeFor(MESSAGE, "x@y.test").recipients] == ["ben@mx.test", "eve@mx.test"]
    assert str(envelopeFor(MESSAGE, recipients="Ben <b@mx.test>").sender) == "ann@client.test"
    # A text whose header section nobody can see needs none.
    assert str(envelopeFor(Content.of(iter([b""])), Address("a", "b.test"), "c@d.test").sender) == "a@b.test"


def test_each_recipient_is_there_once_in_the_place_of_the_first() -> None:
    own = Recipient(Address("b", "mx.test"), notify=frozenset({"NEVER"}))
    envelope = envelopeFor(MESSAGE, None, [own, "c@mx.test", Address("b", "MX.TEST"), "c@mx.test"], notify="FAILURE")
    assert [(str(each.address), each.notify) for each in envelope.recipients] == [("b@mx.test", {"NEVER"}), ("c@mx.test", {"FAILURE"})]


@pytest.mark.parametrize(
    ("content", "sender", "recipient", "body", "smtputf8"),
    [
        (Content.of(b"\r\nb\xc3\xa4n\r\n"), "a@b.test", "c@d.test", "8BITMIME", False),
        (Content.of(b"X: \xc3\xa4\r\n\r\n"), "a@b.test", "c@d.test", "8BITMIME", True),
        (Content.of(b"X: a\r\n\r\n"), "ä@b.test", "c@d.test", "7BIT", True),
        (Content.of(b"X: a\r\n\r\n"), "a@b.test", "c@dä.test", "7BIT", True),
        (Content.of(b"X: a\r\n\r\n\0", binary=True), "a@b.test", "c@d.test", "BINARYMIME", False),
    ],
)
def test_the_text_and_the_addresses_say_how_it_is_declared(content: Content, sender: str, recipient: str, body: str, smtputf8: bool) -> None:
    envelope = envelopeFor(content, sender, recipient)
    assert (envelope.body, envelope.smtputf8) == (body, smtputf8)


def test_wishes_are_passed_on() -> None:
    late = DeliverBy(60, "R", False)
    envelope = envelopeFor(
        MESSAGE, notify=["SUCCESS", "DELAY"], ret="HDRS", envelopeId="id 1", requireTLS=True, priority=-9, deliverBy=late, holdUntil=5.0
    )
    assert (envelope.ret, envelope.envelopeId, envelope.requireTLS, envelope.priority, envelope.deliverBy, envelope.holdUntil) == (
        "HDRS",
        "id 1",
        True,
        -9,
        late,
        5.0,
    )
    assert {recipient.notify for recipient in envelope.recipients} == {frozenset({"SUCCESS", "DELAY"})}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"sender": "ann"}, "'ann' is no address"),
        ({"recipients": "a@b.test, c@d.test"}, "is not one address, but 2"),
        ({"recipients": ["a@b.test", "ben"]}, "'ben' is no address"),
        ({"recipients": []}, "there is no recipient"),
        ({"recipients": ""}, "the null path cannot be a recipient"),
        ({"notify": "SOMETIMES"}, "notify is \\['SOMETIMES'\\]"),
        ({"notify": ["NEVER", "DELAY"]}, "notify is"),
        ({"notify": []}, "notify is"),
        ({"ret": "ALL"}, "ret is 'ALL'"),
        ({"envelopeId": "ä"}, "envelopeId is"),
        ({"envelopeId": ""}, "envelopeId is"),
        ({"envelopeId": "x" * 101}, "envelopeId is"),
        ({"priority": 10}, "priority is 10"),
    ],
)
def test_what_is_none_is_named(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        envelopeFor(MESSAGE, **given)


def test_somebody_has_to_send_it_and_somebody_to_get_it() -> None:
    with pytest.raises(ValueError, match="the message does not say who sends it"):
        envelopeFor(Content.of(b"To: a@b.test\n\n"))
    with pytest.raises(ValueError, match="there is no recipient"):
        envelopeFor(Content.of(b"From: a@b.test\n\n"))
