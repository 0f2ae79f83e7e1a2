from __future__ import annotations

from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model.address import Address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("", ""), ""),
        (Address("postmaster", ""), "postmaster"),
        (Address("a", "b.test"), "a@b.test"),
        (Address("a.b+c", "b.test"), "a.b+c@b.test"),
        (Address("a", "[192.0.2.1]"), "a@[192.0.2.1]"),
        (Address("j\u00f6rg", "b\u00fccher.test"), "j\u00f6rg@b\u00fccher.test"),
        (Address("a b", "c.test"), '"a b"@c.test'),
        (Address("a@b", "c.test"), '"a@b"@c.test'),
        (Address("a..b", "c.test"), '"a..b"@c.test'),
        (Address(".a", "c.test"), '".a"@c.test'),
        (Address("", "c.test"), '""@c.test'),
        (Address('a"b\\c', "d.test"), '"a\\"b\\\\c"@d.test'),
    ],
)
def test_address_as_text(address: Address, text: str) -> None:
    assert str(address) == text


def test_null_path_and_postmaster_are_known() -> None:
    assert Address("", "").isNull
    assert not Address("", "b.test").isNull
    assert Address("PostMaster", "").isPostmaster
    assert Address("POSTMASTER", "b.test").isPostmaster
    assert not Address("postmaster2", "").isPostmaster


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Address("a", "B.Test"), Address("a", "b.tEST"), True),
        (Address("A", "b.test"), Address("a", "b.test"), False),
        (Address("Postmaster", "b.test"), Address("postmaster", "B.test"), True),
        (Address("postmaster", ""), Address("postmaster", "b.test"), False),
        (Address("a", "[IPv6:::A]"), Address("a", "[ipv6:::a]"), True),
        (Address("a", "b.test"), Address("a", "c.test"), False),
    ],
)
def test_addresses_compare_as_the_rfc_does(one: Address, other: Address, same: bool) -> None:
    assert (one == other) is same
    assert (one != other) is not same
    assert len({one, other}) == 2 - same


def test_address_equals_nothing_but_addresses() -> None:
    address = Address("a", "b.test")
    pair = ("a", "b.test")
    assert address != pair
    assert pair != address
    assert address != "a@b.test"
    assert address == ANY


@given(st.builds(Address, st.text(), st.text()), st.builds(Address, st.text(), st.text()))
def test_equal_addresses_have_equal_hashes(one: Address, other: Address) -> None:
    for twin in (other, Address(one.localPart, one.domain.swapcase())):
        assert (one == twin) == (twin == one)
        assert one != twin or hash(one) == hash(twin)
