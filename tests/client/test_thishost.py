"""Which addresses are this host's own."""

from __future__ import annotations

import socket

import pytest

from twisted_smtplite.client.thishost import ThisHost


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("::", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("mx.test", False),
        ("", False),
    ],
)
def test_some_addresses_are_always_or_never_its_own(address: str, own: bool) -> None:
    assert (address in ThisHost()) is own


@pytest.mark.parametrize(("family", "far"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")])
def test_the_address_that_others_see_is_its_own(family: socket.AddressFamily, far: str) -> None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            address = probe.getsockname()[0]
    except OSError:
        pytest.skip("no way to the outside")
    assert address in ThisHost()


def test_what_is_no_text_is_no_address() -> None:
    assert 1 not in ThisHost()
