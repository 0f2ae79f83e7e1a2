"""Reports, as programs and people read them."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memoryqueue import GONE, NOBODY, TEXT
from queueing import anAddress, anEnvelope
from twisted.internet.defer import Deferred, succeed

from twisted_smtplite.client.content import Content
from twisted_smtplite.model.envelope import Envelope, Recipient
from twisted_smtplite.model.results import PeerReply
from twisted_smtplite.queue.entries import NewReport, QueuedMessage
from twisted_smtplite.queue.quote import Quote, quote
from twisted_smtplite.queue.report import report
from twisted_smtplite.queue.verdict import Action, Notice

NOW = 1_700_000_000.0
EIGHT_BIT = TEXT + "Grüße\r\n".encode()


def failed(address: str = "ben@mx.test", reply: PeerReply | None = NOBODY, **changes: Any) -> Notice:
    recipient = Recipient(anAddress(address), originalRecipient=changes.pop("original", None))
    return Notice(
        **{"action": Action.FAILED, "recipient": recipient, "status": "5.1.1", "reply": reply, "host": "mx.test", "lastAttempt": NOW - 60, **changes}
    )


def delayed(address: str = "ben@mx.test") -> Notice:
    return failed(address, GONE, action=Action.DELAYED, status="4.4.1", until=NOW + 86_400)


def relayed(address: str = "ben@mx.test") -> Notice:
    return failed(address, PeerReply(250, "2.0.0", ("Taken",)), action=Action.RELAYED, status="2.0.0")


def made(*notices: Notice, text: bytes = TEXT, whole: bool = True, **envelope: Any) -> NewReport:
    message = QueuedMessage("E1", anEnvelope(**{"receivedAt": NOW - 300, **envelope}), queuedAt=NOW - 300)
    header = text.partition(b"\r\n\r\n")[0] + b"\r\n"
    return report(message, notices or [failed()], Quote(header, text if whole else None), hostname="relay.test", newId="R1", now=NOW)


def parsed(new: NewReport) -> EmailMessage:
    found = email.message_from_bytes(new.text, policy=email.policy.SMTPUTF8)
    assert isinstance(found, EmailMessage) and not found.defects
    return found


def parts(new: NewReport) -> list[EmailMessage]:
    found = list(parsed(new).iter_parts())
    assert all(isinstance(part, EmailMessage) and not part.defects for part in found)
    return found  # type: ignore[return-value]


def status(new: NewReport) -> list[dict[str, str]]:
    """The fields of the second part: those of the message, then those of each recipient."""
    # The email package knows no message/global-delivery-status, so the part is cut out by hand.
    body = new.text.split(b"--" + parsed(new).get_boundary().encode())[2].partition(b"\r\n\r\n")[2]
    blocks = [email.message_from_bytes(block, policy=email.policy.SMTPUTF8) for block in body.strip().split(b"\r\n\r\n")]
    return [{name: " ".join(str(value).split()) for name, value in block.items()} for block in blocks]


def readable(new: NewReport) -> str:
    return str(parts(new)[0].get_content()).replace("\r\n", "\n")


def types(new: NewReport) -> list[str]:
    return [part.get_content_type() for part in parts(new)]


def test_a_report_is_of_three_parts_in_seven_bits() -> None:
    new = made()
    message = parsed(new)
    assert (message.get_content_type(), message.get_param("report-type")) == ("multipart/report", "delivery-status")
    assert types(new) == ["text/plain", "message/delivery-status", "message/rfc822"]
    assert new.text.isascii() and max(map(len, new.text.split(b"\r\n"))) <= 998
    assert new.text.count(b"\n") == new.text.count(b"\r\n") == new.text.count(b"\r")


def test_its_header_says_that_no_person_wrote_it_and_what_it_answers() -> None:
    message = parsed(made())
    assert str(message["From"]) == "Mail Delivery System <MAILER-DAEMON@relay.test>"
    assert str(message["To"]) == "ann@client.test"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert message["Message-ID"] == "<R1@relay.test>"
    assert message["In-Reply-To"] == message["References"] == "<1@client.test>"
    assert email.utils.parsedate_to_datetime(message["Date"]).timestamp() == NOW


def test_its_envelope_is_from_nobody_to_the_sender_and_never_reported() -> None:
    envelope = made(ret="FULL", requireTLS=True, priority=4).envelope
    assert (envelope.id, envelope.sender.isNull, envelope.ret) == ("R1", True, None)
    assert [(str(recipient.address), recipient.notify) for recipient in envelope.recipients] == [("ann@client.test", frozenset({"NEVER"}))]
    assert (envelope.requireTLS, envelope.priority, envelope.body, envelope.smtputf8) == (True, 4, "7BIT", False)
    assert made().envelope.requireTLS is False


def test_programs_read_what_became_of_each_recipient() -> None:
    new = made(failed(original=("rfc822", "Ben@old.test")), relayed("cleo@mx.test"), delayed("dora@far.test"), envelopeId="QQ 314")
    about, ben, cleo, dora = status(new)
    assert about == {"Reporting-MTA": "dns; relay.test", "Original-Envelope-Id": "QQ 314", "Arrival-Date": "Tue, 14 Nov 2023 22:08:20 -0000"}
    assert ben == {
        "Original-Recipient": "rfc822; Ben@old.test",
        "Final-Recipient": "rfc822; ben@mx.test",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.test",
        "Diagnostic-Code": "smtp; 550 5.1.1 Nobody of this name",
        "Last-Attempt-Date": "Tue, 14 Nov 2023 22:12:20 -0000",
    }
    assert (cleo["Action"], cleo["Status"], cleo["Diagnostic-Code"]) == ("relayed", "2.0.0", "smtp; 250 2.0.0 Taken")
    assert (dora["Action"], dora["Status"], dora["Diagnostic-Code"]) == ("delayed", "4.4.1", "X-Local; 421 4.4.1 No connection")
    assert dora["Will-Retry-Until"] == "Wed, 15 Nov 2023 22:13:20 -0000"
    assert "Remote-MTA" not in dora and "Original-Recipient" not in dora and "Will-Retry-Until" not in ben


def test_people_read_what_happened_to_which_message() -> None:
    text = readable(made(failed(), delayed("dora@far.test"), envelopeId="QQ314"))
    assert "This is the mail server relay.test." in text
    assert "Subject:  Hello" in text and "Queue id: E1" in text and "Yours:    QQ314" in text
    assert "could not be delivered" in text and "<ben@mx.test>\n    mx.test said: 550 5.1.1 Nobody of this name" in text
    assert (
        "You need not send it again: it will be tried until Wed, 15 Nov 2023" in text.replace("\n", " ")
        and "<dora@far.test>\n    421 4.4.1 No connection" in text
    )


@pytest.mark.parametrize(
    ("notices", "subject"),
    [
        ([failed(), relayed()], "Your message could not be delivered"),
        ([delayed(), relayed()], "Your message is delayed"),
        ([relayed()], "Your message was passed on"),
    ],
)
def test_the_subject_tells_the_worst(notices: list[Notice], subject: str) -> None:
    assert parsed(made(*notices))["Subject"] == subject


def test_what_ran_out_of_time_says_so_with_the_last_reply() -> None:
    new = made(failed(reply=GONE, status="5.4.7", expired=True))
    assert (status(new)[1]["Status"], status(new)[1]["Diagnostic-Code"]) == ("5.4.7", "X-Local; 421 4.4.1 No connection")
    assert "The time to deliver it is over. At last: 421 4.4.1 No connection" in readable(new)


def test_what_was_never_tried_says_so() -> None:
    new = made(failed(reply=None, status="5.4.7", expired=True, lastAttempt=None, host=""))
    assert set(status(new)[1]) == {"Final-Recipient", "Action", "Status"}
    assert "It could not be sent in the time that you set for it." in readable(new)


def test_the_report_in_the_documentation_is_the_one_that_is_sent() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "retries-and-reports.md").read_text()
    (shown,) = re.findall(r"^```text\n(From: Mail Delivery System.*?)^```", page, re.MULTILINE | re.DOTALL)
    sent = made().text.replace(TEXT, b"...\r\n").decode()
    assert shown == sent.replace("\r\n", "\n").removesuffix("\n--=_R1--\n")


# ---- What comes back.


@pytest.mark.parametrize(
    ("notices", "whole", "envelope"),
    [
        ([failed()], True, {"ret": "HDRS"}),
        ([failed()], True, {"requireTLS": True, "ret": "FULL"}),
        ([failed()], False, {"ret": "FULL"}),
        ([failed()], True, {"body": "BINARYMIME"}),
        ([delayed(), relayed()], True, {"ret": "FULL"}),
    ],
    ids=["not wanted", "secret", "too large", "binary", "no failure"],
)
def test_the_header_alone_comes_back(notices: list[Notice], whole: bool, envelope: dict[str, Any]) -> None:
    new = made(*notices, whole=whole, **envelope)
    assert types(new)[2] == "text/rfc822-headers"
    assert parts(new)[2].get_content() == TEXT.partition(b"\r\n\r\n")[0].decode() + "\r\n"
    assert b"hello" not in new.text


@pytest.mark.parametrize("text", [TEXT + b"x" * 999 + b"\r\n", TEXT + b"a\nb\r\n", TEXT + b"a\rb\r\n", TEXT + b"\0\r\n", TEXT + b"end"])
def test_a_message_that_is_no_text_comes_back_as_its_header(text: bytes) -> None:
    assert types(made(text=text))[2] == "text/rfc822-headers"


@pytest.mark.parametrize("ret", ["FULL", None])
def test_the_whole_message_comes_back_after_a_failure(ret: str | None) -> None:
    new = made(ret=ret)
    assert b"\r\n\r\n" + TEXT + b"\r\n--" in new.text
    assert parts(new)[2].get_content()["Subject"] == "Hello"


def test_octets_above_127_come_back_as_they_are() -> None:
    new = made(text=EIGHT_BIT)
    assert new.envelope.body == "8BITMIME" and not new.envelope.smtputf8
    assert (parsed(new)["Content-Transfer-Encoding"], parts(new)[2]["Content-Transfer-Encoding"]) == ("8bit", "8bit")
    assert EIGHT_BIT in new.text


def test_a_header_that_is_not_ascii_comes_back_encoded() -> None:
    header = b"Subject: Gr\xfc\xdfe\r\nX: " + b"y" * 1200 + b"\r\n"
    new = made(text=header + b"\r\nhello\r\n", ret="HDRS")
    assert new.text.isascii() and parts(new)[2]["Content-Transfer-Encoding"] == "quoted-printable"
    assert parts(new)[2].get_payload(decode=True) == header.replace(b"\r\n", b"\n") or parts(new)[2].get_payload(decode=True) == header
    assert "Subject:  Grüße" in readable(new)


def test_without_anything_of_the_message_there_are_two_parts() -> None:
    message = QueuedMessage("E1", anEnvelope())
    new = report(message, [failed()], Quote(), hostname="relay.test", newId="R1", now=NOW)
    assert types(new) == ["text/plain", "message/delivery-status"]
    assert parsed(new)["In-Reply-To"] is None


def test_a_message_cannot_end_the_part_that_it_is_in() -> None:
    new = made(text=TEXT + b"--=_R1--\r\n--=_R1=\r\n")
    assert types(new) == ["text/plain", "message/delivery-status", "message/rfc822"]
    assert b"--=_R1--" in parts(new)[2].get_content().as_bytes()


# ---- Mail beyond ASCII (RFC 6533).

UTF8 = "From: ärn@bücher.test\r\nSubject: Grüße\r\n\r\nhello\r\n".encode()


def test_internationalized_mail_is_reported_about_in_kind() -> None:
    new = made(failed("bén@bücher.test", original=("utf-8", "bén@old.test")), text=UTF8, smtputf8=True, sender="ärn@bücher.test")
    assert types(new) == ["text/plain", "message/global-delivery-status", "message/global"]
    assert parsed(new).get_param("report-type") == "global-delivery-status"
    assert (new.envelope.smtputf8, new.envelope.body) == (True, "8BITMIME")
    assert b"To: <" + "ärn@bücher.test".encode() in new.text
    assert b"\r\nOriginal-Recipient: utf-8; b\xc3\xa9n@old.test\r\nFinal-Recipient: utf-8; b\xc3\xa9n@b\xc3\xbccher.test\r\n" in new.text
    assert types(made(delayed(), text=UTF8, smtputf8=True))[2] == "message/global-headers"


def test_a_header_that_is_not_even_utf8_comes_back_encoded() -> None:
    new = made(text=b"Subject: \x80\r\n\r\nhello\r\n", smtputf8=True, ret="HDRS")
    assert types(new)[2] == "text/rfc822-headers" and new.text.isascii() and not new.envelope.smtputf8


def test_internationalized_mail_of_ascii_alone_is_reported_about_as_any() -> None:
    new = made(smtputf8=True)
    assert types(new) == ["text/plain", "message/delivery-status", "message/rfc822"]
    assert new.envelope.smtputf8 is False and new.text.isascii()


def test_a_sender_without_utf8_gets_none() -> None:
    new = made(
        failed(original=("utf-8", "bén+=\\@ö.test"), reply=PeerReply(550, "5.1.1", ("Kein Benützer \u2028 hier",))), text=EIGHT_BIT, ret="HDRS"
    )
    assert new.text.isascii()
    assert status(new)[1]["Original-Recipient"] == r"utf-8; b\x{E9}n\x{2B}\x{3D}\x{5C}@\x{F6}.test"
    assert status(new)[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 Kein Ben?tzer hier"
    assert "Kein Benützer" in readable(new)


# ---- Nothing that others say leaves its place.

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=2000)


@given(anything, anything, st.binary(max_size=300), st.booleans())
def test_whatever_others_say_a_report_has_its_three_parts_and_fields(said: str, host: str, header: bytes, utf8: bool) -> None:
    lines = tuple(said.split("\n"))
    text = b"Subject: " + header.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\r\nhello\r\n"
    new = made(failed(reply=PeerReply(550, None, lines), host=host), text=text, smtputf8=utf8)
    assert len(parts(new)) == 3
    assert len(status(new)) == 2
    assert max(map(len, new.text.split(b"\r\n"))) <= 998
    assert new.text.count(b"\r") == new.text.count(b"\n") == new.text.count(b"\r\n")
    assert new.text.isascii() or new.envelope.body == "8BITMIME"


# ---- How much is read of a message.


class Pieces:
    """A text in pieces, some of them later."""

    def __init__(self, *pieces: bytes) -> None:
        self.given = pieces
        self.asked = 0
        self.closed = False

    def pieces(self) -> Any:
        try:
            for number, piece in enumerate(self.given):
                self.asked += 1
                yield piece if number % 2 else succeed(piece)
        finally:
            self.closed = True


def quoteOf(content: Pieces, most: int = 1000) -> Quote:
    found: list[Quote] = []
    Deferred.fromCoroutine(quote(cast("Content", content), most)).addCallback(found.append)
    return found[0]


def test_a_short_message_is_read_as_a_whole() -> None:
    assert quoteOf(Pieces(TEXT[:30], TEXT[30:])) == Quote(TEXT.partition(b"\r\n\r\n")[0] + b"\r\n", TEXT)


def test_a_long_message_is_read_no_further_than_needed() -> None:
    content = Pieces(TEXT, *[b"x" * 65_536] * 100)
    assert quoteOf(content) == Quote(TEXT.partition(b"\r\n\r\n")[0] + b"\r\n", None)
    assert content.asked == 2 and content.closed


def test_an_endless_header_is_cut_at_the_end_of_a_line() -> None:
    found = quoteOf(Pieces(*[b"X: " + b"y" * 95 + b"\r\n"] * 1000))
    assert found.whole is None
    assert 65_400 < len(found.header) <= 65_536 and found.header.endswith(b"y\r\n")


@pytest.mark.parametrize(("text", "header"), [(b"", b""), (b"\r\nhello\r\n", b""), (b"A: b\r\n", b"A: b\r\n"), (b"A: b\r\n\r\n", b"A: b\r\n")])
def test_the_header_ends_at_the_empty_line(text: bytes, header: bytes) -> None:
    assert quoteOf(Pieces(text)) == Quote(header, text)


def test_the_envelope_of_a_report_is_one_that_can_be_sent() -> None:
    assert isinstance(made().envelope, Envelope) and made().envelope.size == len(made().text)
