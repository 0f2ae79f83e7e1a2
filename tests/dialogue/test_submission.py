from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.dialogue.submission import LONGEST_HEADER, Completion, headerRefusal, missingFields, recipientRefusal, senderRefusal
from twisted_smtplite.model import replies
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Envelope, SessionInfo
from twisted_smtplite.model.message import Message

FIELDS = {b"date": b"Date: now\r\n", b"message-id": b"Message-ID: <1@mx>\r\n"}
DATE, ID = FIELDS.values()


@pytest.mark.parametrize(
    ("domain", "complete"),
    [("a.test", True), ("[192.0.2.1]", True), ("[IPv6:2001:db8::1]", True), ("sales", False), ("sales.", False), ("xn--nxa.test", True)],
)
def test_domains_are_complete_or_refused(domain: str, complete: bool) -> None:
    assert senderRefusal(Address("a", domain)) is (None if complete else replies.SENDER_UNQUALIFIED)
    assert recipientRefusal(Address("a", domain)) is (None if complete else replies.RECIPIENT_UNQUALIFIED)


def test_paths_without_a_domain_are_fit() -> None:
    assert senderRefusal(Address("", "")) is None
    assert recipientRefusal(Address("postmaster", "")) is None


@pytest.mark.parametrize(
    ("section", "field"),
    [
        (b"From: A <a@b.test>\r\nTo: b@[192.0.2.1], undisclosed-recipients:;\r\nCc: root\r\nMessage-ID: <1@sales>\r\n", None),
        (b"", None),
        (b"From: a@b.test\r\nto: c@d.test,\r\n e@sales\r\n", "To"),
        (b"Sender: a@localhost\r\nFrom: a@sales.\r\n", "Sender"),
        (b"To: a@b.test\r\nTO: a@b\r\n", "To"),
    ],
)
def test_domains_in_address_fields_are_complete_or_refused(section: bytes, field: str | None) -> None:
    assert headerRefusal(section) == (replies.unqualifiedIn(field) if field else None)


@pytest.mark.parametrize("end", [b"\r\n", b"\r\ntext\r\n", b""])
def test_a_refusal_is_known_with_the_header_section_wherever_the_text_is_cut(end: bytes) -> None:
    message = b"Subject: x\r\nTo: a@b.test,\r\n c@sales\r\n" + end
    for cut in range(len(message)):
        completion = Completion(lambda: FIELDS)
        for piece in (message[:cut], message[cut:]):
            completion.feed(piece)
        completion.end()
        assert completion.refusal == replies.unqualifiedIn("To")


def test_addresses_in_the_text_are_nobodys_business() -> None:
    completion = Completion(lambda: FIELDS)
    completion.feed(b"To: a@b.test\r\n\r\nTo: a@sales\r\n")
    completion.feed(b"\r\nTo: a@sales\r\n")
    completion.end()
    assert completion.refusal is None


CASES = [
    # Everything is there.
    (b"Date: x\r\nMessage-ID: y\r\n\r\ntext\r\n", b"Date: x\r\nMessage-ID: y\r\n\r\ntext\r\n"),
    (b"DATE : x\r\nmessage-id:\r\n y\r\n\r\n", b"DATE : x\r\nmessage-id:\r\n y\r\n\r\n"),
    # What is missing stands at the end of the section.
    (b"Subject: x\r\n\r\ntext\r\n", b"Subject: x\r\n" + DATE + ID + b"\r\ntext\r\n"),
    (b"Date: x\r\n\r\ntext\r\n", b"Date: x\r\n" + ID + b"\r\ntext\r\n"),
    (b"Message-ID: x\r\nSubject: y\r\n z\r\n\r\n", b"Message-ID: x\r\nSubject: y\r\n z\r\n" + DATE + b"\r\n"),
    # Neither the text nor a value nor a name that begins alike is a field.
    (b"Subject: x\r\n\r\nDate: x\r\nMessage-ID: y\r\n", b"Subject: x\r\n" + DATE + ID + b"\r\nDate: x\r\nMessage-ID: y\r\n"),
    (b"Subject: x\r\n Date: x\r\nDate-Sent: y\r\n\r\n", b"Subject: x\r\n Date: x\r\nDate-Sent: y\r\n" + DATE + ID + b"\r\n"),
    # No text, or no header section, or nothing.
    (b"Subject: x\r\n", b"Subject: x\r\n" + DATE + ID),
    (b"\r\ntext\r\n", DATE + ID + b"\r\ntext\r\n"),
    (b"text\r\n", DATE + ID + b"\r\ntext\r\n"),
    (b"text\r\n\r\nmore\r\n", DATE + ID + b"\r\ntext\r\n\r\nmore\r\n"),
    (b" folded\r\nDate: x\r\n\r\n", DATE + ID + b"\r\n folded\r\nDate: x\r\n\r\n"),
    (b"Subject: x\r\ntext\r\n\r\n", b"Subject: x\r\n" + DATE + ID + b"\r\ntext\r\n\r\n"),
    (b"", DATE + ID),
    # A section without its line end, as BDAT can send it.
    (b"Subject: x", DATE + ID + b"Subject: x"),
    (b"Date: x\r\nMessage-ID: y", b"Date: x\r\nMessage-ID: y"),
]


@pytest.mark.parametrize(("message", "completed"), CASES)
def test_what_is_missing_is_added_wherever_the_text_is_cut(message: bytes, completed: bytes) -> None:
    rng = Random(1)
    for cuts in ([], range(1, len(message)), *([rng.randrange(len(message) + 1) for _ in range(3)] for _ in range(20))):
        places = sorted({0, *cuts, len(message)})
        completion = Completion(lambda: FIELDS)
        given = b"".join(completion.feed(message[start:end]) for start, end in pairwise(places))
        assert given + completion.end() == completed


@pytest.mark.parametrize("line", [b"X: y\r\n", b"a: " + b"b" * 70_000 + b"\r\n", b"x" * 200_000 + b": y\r\n"])
def test_a_section_that_is_too_long_is_let_go_untouched(line: bytes) -> None:
    message = line * (LONGEST_HEADER // len(line) + 2) + b"\r\ntext\r\n"
    completion = Completion(lambda: FIELDS)
    longest = 0
    given = b""
    for start in range(0, len(message), 1000):
        given += completion.feed(message[start : start + 1000])
        longest = max(longest, start + 1000 - len(given))
    assert given + completion.end() == message
    assert longest <= LONGEST_HEADER + 1000


def test_a_long_text_without_a_section_is_completed_all_the_same() -> None:
    text = b"lines of text\r\n" * 10_000
    completion = Completion(lambda: FIELDS)
    given = b"".join(completion.feed(text[start : start + 1000]) for start in range(0, len(text), 1000)) + completion.end()
    assert given == DATE + ID + b"\r\n" + text


@given(st.lists(st.sampled_from([b"Date: x", b"message-id:", b" z", b"\r\n", b"\n", b"\r", b"text", b":", b"X-Y: z"]), max_size=12))
def test_nothing_is_lost_or_changed(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    completion = Completion(lambda: FIELDS)
    given = b"".join(map(completion.feed, pieces)) + completion.end()
    for added in (DATE + ID, DATE, ID):
        if added in given:
            before, _, after = given.partition(added)
            assert message in (before + after, before + after.removeprefix(b"\r\n"))
            return
    assert given == message


def test_the_fields_are_what_a_message_needs() -> None:
    fields = missingFields(SessionInfo("S1", "mx.test"), Envelope("E1", Address("a", "b"), receivedAt=1e9))
    message = Message(b"".join(fields.values()) + b"\r\n")
    assert fields[b"message-id"] == b"Message-ID: <E1@mx.test>\r\n"
    assert fields[b"date"].startswith(b"Date: ")
    assert not message.defects
