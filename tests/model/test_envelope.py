from __future__ import annotations

import pytest

from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, Parameter, Recipient, SessionInfo


@pytest.mark.parametrize(
    ("extended", "tls", "user", "protocol"),
    [
        (False, False, None, "SMTP"),
        (False, True, None, "SMTP"),
        (True, False, None, "ESMTP"),
        (True, True, None, "ESMTPS"),
        (True, False, "ann", "ESMTPA"),
        (True, True, "ann", "ESMTPSA"),
        (True, False, "", "ESMTPA"),
    ],
)
def test_protocol_names_of_rfc_3848(extended: bool, tls: bool, user: str | None, protocol: str) -> None:
    assert SessionInfo("s", "mx.test", extended=extended, tls=tls, user=user).protocol == protocol


def test_envelope_begins_empty_and_shares_nothing() -> None:
    one, other = Envelope("1", Address("", "")), Envelope("2", Address("a", "b.test"), (Parameter("SIZE", "1"), Parameter("SMTPUTF8", None)))
    one.recipients.append(Recipient(Address("c", "d.test")))
    assert other.recipients == []
    assert (one.body, one.size, one.smtputf8, one.parameters) == ("7BIT", None, False, ())
    assert one.recipients[0].parameters == ()


def test_what_policies_found_is_made_when_it_is_asked_for() -> None:
    for noted in (SessionInfo("S1", "mx.test"), Envelope("E1", Address("a", "b"))):
        assert noted.results == {}
        noted.results["spf"] = "pass"
        assert noted.results == {"spf": "pass"}
        assert "spf" not in repr(noted)


def test_fields_for_the_top_stand_above_those_before() -> None:
    envelope = Envelope("E1", Address("a", "b"))
    envelope.addField("X-One", "1 ")
    envelope.addField("X-Two", "2")
    assert envelope.topFields == b"X-Two: 2\r\nX-One: 1\r\n"


@pytest.mark.parametrize(
    "value",
    [
        "mx.test; spf=pass smtp.mailfrom=a.test; " * 10,
        "x" * 300,
        "a " + "x" * 300 + " b",
        "a" + " " * 200 + "b",
        "x" * 75 + " y",
        " ".join("x" * (number % 90) for number in range(200)),
        "",
    ],
)
def test_long_fields_are_folded_at_spaces(value: str) -> None:
    envelope = Envelope("E1", Address("a", "b"))
    envelope.addField("X-Long", value)
    text = envelope.topFields.decode()
    assert text.removesuffix("\r\n").replace("\r\n", "") == f"X-Long: {value.strip()}"
    lines = text.split("\r\n")[:-1]
    assert all(line.strip() for line in lines)
    assert all(line.startswith(" ") for line in lines[1:])
    # A longer line has no space to fold it at, but for those it begins with.
    assert all(len(line) <= 78 or " " not in line.removeprefix("X-Long: ").strip() for line in lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("X Y", "x"), ("X:", "x"), ("Ä", "x"), ("X", "a\r\nb"), ("X", "a\nb"), ("X", "a\x00"), ("X", "ä"), ("X" * 71, "x"), ("X\n", "x")],
)
def test_what_is_no_field_is_refused(name: str, value: str) -> None:
    envelope = Envelope("E1", Address("a", "b"))
    with pytest.raises(ValueError, match="is no header field for this message"):
        envelope.addField(name, value)
    assert envelope.topFields == b""


def test_an_internationalized_message_may_have_utf8_in_its_fields() -> None:
    envelope = Envelope("E1", Address("a", "b"), smtputf8=True)
    envelope.addField("X", "ä")
    assert envelope.topFields == "X: ä\r\n".encode()
