from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model.addressfields import addressFields, domains

LISTS = [
    ("a@b.test", ["b.test"]),
    ("a@sales, B <b@c.test>,,<d@e.test>", ["sales", "c.test", "e.test"]),
    ("root", []),
    ("", []),
    ("a@", []),
    # Groups (RFC 5322 3.4), and names that look like one.
    ("undisclosed-recipients:;", []),
    ("Staff: a@b.test, C <c@sales>;, d@e.test", ["b.test", "sales", "e.test"]),
    ('"Staff: a@sales;" <a@b.test>', ["b.test"]),
    # Comments, also nested, hide all; one may stand within an address.
    ("a@b.test (home, a@sales)", ["b.test"]),
    ("(a@x (a@y) a@z \\) a@v) a@b.test (see c@d)", ["b.test"]),
    ("a@sales(.test)", ["sales"]),
    ("(unclosed a@sales", []),
    # Quoted strings, as names and as local parts (3.2.4).
    ('"x@sales, \\" <y@sales>" <a@b.test>', ["b.test"]),
    ('"a@sales"@b.test, "(" <c@d.test>', ["b.test", "d.test"]),
    ('"a"@sales', ["sales"]),
    ('"unclosed <a@sales>', []),
    ('"unclosed \\', []),
    # Domain literals (3.4.1).
    ("a@[192.0.2.1], <b@[IPv6:2001:db8::1]>, c@[a\\], d@sales], e@f.test", ["[]", "[]", "[]", "f.test"]),
    # Encoded words (RFC 2047), with what may not stand in them too.
    ("=?utf-8?q?J=C3=BCrgen?= <j@b.test>", ["b.test"]),
    ("=?utf-8?Q?Smith,_J@sales?= <j@b.test>, =?utf-8?b?YUBi?= <k@sales>", ["b.test", "sales"]),
    ('=?us-ascii?Q?"?= <j@b.test>', ["b.test"]),
    ("=?utf-8?q?a?=@sales", ["sales"]),
    # Folded fields, and white space around dots, as old messages have it (4.4).
    ("A\r\n <a@b.test>,\r\n\tc@d.test", ["b.test", "d.test"]),
    ("a . b @ c . test", ["c.test"]),
    # Routes mean nothing (4.4).
    ("R <@one,@two.test:a@b.test>", ["b.test"]),
    ("<@one.test:a@sales>", ["sales"]),
    # What stands before an address in angle brackets is a name, even a wrong one.
    ("me@home <a@b.test>", ["b.test"]),
    ("J. Q. Public @ work <a@b.test> at home", ["b.test"]),
    ("<>, < >, <a@b.test", ["b.test"]),
    # RFC 6532: UTF-8.
    ("jürgen@müller.test", ["müller.test"]),
]


@pytest.mark.parametrize(("value", "expected"), LISTS)
def test_each_address_gives_its_domain(value: str, expected: list[str]) -> None:
    assert list(domains(value)) == expected


def test_address_fields_are_found_in_any_case_with_their_folds() -> None:
    section = b"FROM : a@b.test\r\nSubject: x\r\n To: y\r\nTo-Do: z\r\nresent-reply-to:\r\n c@d.test\r\n\te@f.test\r\nX-To: z\nCc:\nBCC: \xe9@g"
    assert list(addressFields(section)) == [
        ("From", " a@b.test\r"),
        ("Resent-Reply-To", "\r\n c@d.test\r\n\te@f.test\r"),
        ("Cc", ""),
        ("Bcc", " é@g"),
    ]


@given(st.text(alphabet='a.@<>()[]"\\,;:=?Q \r\né'))
def test_nothing_is_too_strange_to_be_read(value: str) -> None:
    for domain in domains(value):
        assert domain == "".join(domain.split()) != ""
