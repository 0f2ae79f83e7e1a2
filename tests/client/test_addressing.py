from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.client.addressing import _address, _split, fromHeaders, parseAddress, parseAddresses
from twisted_smtplite.model.address import Address

LIKE_ADDRESSES = st.lists(st.sampled_from(["a", "@", ".", "<", ">", ",", ";", ":", '"', "(", ")", "[", "]", "\\", " ", "=?utf-8?q?", "?=", "ä"])).map(
    "".join
)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", []),
        ("a@b.test", ["a@b.test"]),
        ("<a@b.test>", ["a@b.test"]),
        ("Ann <a@b.test>, Ben\n\t<c@d.test>", ["a@b.test", "c@d.test"]),
        ("a@b.test,, c@d.test,", ["a@b.test", "c@d.test"]),
        ('"Ann, the \\"first\\" <x@y>" <a@b.test>', ["a@b.test"]),
        ("=?utf-8?q?a,b_=3Cx?= <a@b.test>", ["a@b.test"]),
        ("a@b.test (Ann (the first, \\) really), y@z)", ["a@b.test"]),
        ("Ann <a@b.test (work)> (x)", ["a@b.test"]),
        ('"a b"@c.test', ['"a b"@c.test']),
        ('"a"."b"@c.test', None),
        ("a . b @ c . test", ["a.b@c.test"]),
        ("a@[192.0.2.1], b@[IPv6:2001:db8::1]", ["a@[192.0.2.1]", "b@[IPv6:2001:db8::1]"]),
        ("Ann: a@b.test, Ben <c@d.test>;, e@f.test", ["a@b.test", "c@d.test", "e@f.test"]),
        ("undisclosed-recipients:;", []),
        ("<@one.test,@two.test:a@b.test>", ["a@b.test"]),
        ("bän@müller.test", ["bän@müller.test"]),
        ("(only a comment", []),
        # What is none is named.
        ("ben", None),
        ("Ann b@c.test", None),
        ("a@b.test c@d.test", None),
        ("Ann <a@b.test> c@d.test", None),
        ("<a@b.test> <c@d.test>", None),
        ("Ann <>", None),
        ("<>, a@b.test", None),
        ("a..b@c.test", None),
        ("a@b.test>", None),
        ("a@b@c.test", None),
        ("a@[192.0.2.999]", None),
        ("a@b.test\0", None),
        ('"a@b.test', None),
    ],
)
def test_addresses_in_a_list(text: str, addresses: list[str] | None) -> None:
    if addresses is None:
        with pytest.raises(ValueError, match="is no address"):
            parseAddresses(text)
    else:
        assert [str(address) for address in parseAddresses(text)] == addresses


@given(LIKE_ADDRESSES)
def test_any_text_gives_addresses_or_is_refused(text: str) -> None:
    try:
        found = parseAddresses(text)
    except ValueError:
        return
    # What was read is read as the same again.
    assert [parseAddress(str(address)) for address in found] == found


SPELLINGS = [
    "a@b",
    "Ann",
    "<a@b>",
    "<",
    ">",
    ",",
    " ",
    '"x"',
    '"x,',
    "=?utf-8?q?a@b,c?=",
    "@",
    ".",
    "-",
    "(x)",
    "\r\n ",
    "\0",
    "ä",
    64 * "a",
    200 * "b",
]


@given(st.lists(st.sampled_from(SPELLINGS), max_size=6).map("".join))
def test_usual_lists_are_read_as_the_others_are(text: str) -> None:
    def read(parse: Callable[[str], Iterable[Address]]) -> object:
        try:
            return list(parse(text))
        except ValueError:
            return None

    assert read(parseAddresses) == read(lambda whole: [_address(spelt, "") for spelt in _split(whole)])


def test_the_error_names_what_is_no_address() -> None:
    with pytest.raises(ValueError, match=r"^'ben' is no address: it has no domain$"):
        parseAddresses("a@b.test, ben")
    with pytest.raises(ValueError, match=r"^'a\.\.b@c' is no address$"):
        parseAddresses("a..b@c")


def test_long_lists_take_linear_time() -> None:
    assert len(parseAddresses("(" * 100_000)) == 0
    assert len(parseAddresses("a@b.test, " * 10_000)) == 10_000
    for part in (" ", "a", "a.", '"', '"" '):
        with suppress(ValueError):
            parseAddresses(part * 100_000)


def test_a_default_domain_completes_what_has_none() -> None:
    assert [str(address) for address in parseAddresses("root, Ben <ben>, a@b.test", "mx.test")] == ["root@mx.test", "ben@mx.test", "a@b.test"]


def test_one_address() -> None:
    assert parseAddress("Ann <a@b.test>") == Address("a", "b.test")
    for null in ("", "<>", " "):
        assert parseAddress(null).isNull
    for text in ("a@b.test, c@d.test", "()"):
        with pytest.raises(ValueError, match="is not one address, but"):
            parseAddress(text)


@pytest.mark.parametrize(
    ("section", "sender", "recipients"),
    [
        ("", None, []),
        ("From: a@b.test\nTo: c@d.test", "a@b.test", ["c@d.test"]),
        ("From: a@b.test, x@y.test\nSender: s@b.test", "s@b.test", []),
        ("From: a@b.test, x@y.test", "a@b.test", []),
        ("From: Nobody:;\nTo: c@d.test", None, ["c@d.test"]),
        ("To: 1@d.test\nCc: 2@d.test,\n\t3@d.test\nBcc: 4@d.test\nBcc: 5@d.test", None, [f"{number}@d.test" for number in range(1, 6)]),
        ("TO: c@d.test, c@D.TEST, C@d.test\ncc: c@d.test", None, ["c@d.test", "C@d.test"]),
        ("Reply-To: r@b.test\nX-To: x@b.test\nFrom: ä@b.test", "ä@b.test", []),
        # The first block of Resent fields, and no others.
        ("Resent-From: r@b.test\nResent-To: c@d.test\nFrom: a@b.test\nTo: x@d.test", "r@b.test", ["c@d.test"]),
        ("From: a@b.test\nTo: x@d.test\nResent-Sender: s@b.test\nResent-From: r@b.test\nResent-Bcc: c@d.test", "s@b.test", ["c@d.test"]),
        ("Resent-To: 1@d.test\nResent-From: 1@b.test\nResent-To: 2@d.test\nResent-Cc: 3@d.test", "1@b.test", ["1@d.test"]),
        ("Resent-To: 1@d.test\nReceived: x\nResent-From: 2@b.test\nResent-Cc: 2@d.test\nFrom: a@b.test", None, ["1@d.test"]),
        ("Received: x\nResent-To: 1@d.test\nSubject: x\nResent-From: 1@b.test", "1@b.test", ["1@d.test"]),
        ("X-Resent-To: 1@d.test\nTo: 2@d.test", None, ["2@d.test"]),
    ],
)
def test_whom_a_message_is_from_and_for(section: str, sender: str | None, recipients: list[str]) -> None:
    said = fromHeaders((section + "\n").encode())
    assert said.sender == (None if sender is None else parseAddress(sender))
    assert [str(recipient) for recipient in said.recipients] == recipients


def test_a_bad_address_is_named_with_its_field() -> None:
    with pytest.raises(ValueError, match=r"^Cc: 'ben' is no address: it has no domain$"):
        fromHeaders(b"To: a@b.test\r\nCc: ben\r\n")
    assert [str(recipient) for recipient in fromHeaders(b"Cc: ben\r\n", "mx.test").recipients] == ["ben@mx.test"]
    # Nobody asks for Reply-To.
    assert fromHeaders(b"Reply-To: ben\r\n").recipients == ()
