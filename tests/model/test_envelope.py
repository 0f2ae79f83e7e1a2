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
