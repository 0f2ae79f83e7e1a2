"""Networks: who is in one."""

from __future__ import annotations

import pytest

from twisted_smtplite.model.networks import Networks, isAddress


@pytest.mark.parametrize(
    ("networks", "host", "inside"),
    [
        (("192.0.2.0/24",), "192.0.2.255", True),
        (("192.0.2.0/24",), "192.0.3.0", False),
        (("192.0.2.7",), "192.0.2.7", True),
        (("192.0.2.7",), "::ffff:192.0.2.7", True),
        (("2001:db8::/32", "192.0.2.7"), "2001:db8:1::1", True),
        (("2001:db8::/32",), "192.0.2.7", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("0.0.0.0/0", "::/0"), "", False),
        (("unix",), "", True),
        (("unix",), "192.0.2.7", False),
        (("0.0.0.0/0",), "mx.test", False),
        ((), "192.0.2.7", False),
        ((), "", False),
    ],
)
def test_a_client_is_in_a_network_or_not(networks: tuple[str, ...], host: str, inside: bool) -> None:
    assert (host in Networks(networks)) is inside


def test_a_list_without_networks_is_false() -> None:
    assert not Networks()
    assert Networks(["unix"]) and Networks(["::1"])


@pytest.mark.parametrize("text", ["", "mx.test", "192.0.2.1/24", "192.0.2.0/33", "192.0.2", "UNIX"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Networks([text])


@pytest.mark.parametrize(
    ("host", "is_"), [("192.0.2.1", True), ("2001:db8::1", True), ("mx.test", False), ("192.0.2", False), ("[::1]", False), ("", False)]
)
def test_an_address_is_no_name(host: str, is_: bool) -> None:
    assert isAddress(host) is is_


def test_the_list_as_text() -> None:
    assert str(Networks(["127.0.0.1", "unix", "2001:db8::/32"])) == "127.0.0.1/32, 2001:db8::/32, unix"
    assert str(Networks()) == ""
