from __future__ import annotations

from typing import Any

import pytest

from twisted_smtplite.client.destination import Destination
from twisted_smtplite.model.clientprofile import Credentials, TLSUse

LOGIN = Credentials(user="ann", password="secret")


@pytest.mark.parametrize(
    ("text", "host", "port", "endpoint", "tls", "shown"),
    [
        ("mx.test", "mx.test", 25, "", TLSUse.OPPORTUNISTIC, "mx.test:25"),
        ("mx.test:2525", "mx.test", 2525, "", TLSUse.OPPORTUNISTIC, "mx.test:2525"),
        ("mx.test:465", "mx.test", 465, "", TLSUse.IMPLICIT, "mx.test:465"),
        ("M\u00fcller.test:26", "xn--mller-kva.test", 26, "", TLSUse.OPPORTUNISTIC, "xn--mller-kva.test:26"),
        ("tls:m\u00fcller.test", "xn--mller-kva.test", 465, "", TLSUse.IMPLICIT, "xn--mller-kva.test:465"),
        ("192.0.2.1:25", "192.0.2.1", 25, "", TLSUse.OPPORTUNISTIC, "192.0.2.1:25"),
        ("[2001:db8::1]:2525", "2001:db8::1", 2525, "", TLSUse.OPPORTUNISTIC, "[2001:db8::1]:2525"),
        ("[2001:db8::1]", "2001:db8::1", 25, "", TLSUse.OPPORTUNISTIC, "[2001:db8::1]:25"),
        ("2001:db8::1", "2001:db8::1", 25, "", TLSUse.OPPORTUNISTIC, "[2001:db8::1]:25"),
        ("tls:mx.test", "mx.test", 465, "", TLSUse.IMPLICIT, "mx.test:465"),
        ("tls:mx.test:2525", "mx.test", 2525, "", TLSUse.IMPLICIT, "mx.test:2525"),
        ("unix:/run/lmtp.sock", "", 25, "unix:/run/lmtp.sock", TLSUse.NEVER, "unix:/run/lmtp.sock"),
        ("tcp:mx.test:25:timeout=5", "mx.test", 25, "tcp:mx.test:25:timeout=5", TLSUse.OPPORTUNISTIC, "tcp:mx.test:25:timeout=5"),
        (r"tcp:2001\:db8\:\:1:25", "2001:db8::1", 25, r"tcp:2001\:db8\:\:1:25", TLSUse.OPPORTUNISTIC, r"tcp:2001\:db8\:\:1:25"),
        ("tcp:host=mx.test:port=25", "", 25, "tcp:host=mx.test:port=25", TLSUse.OPPORTUNISTIC, "tcp:host=mx.test:port=25"),
    ],
)
def test_a_destination_is_read_from_text(text: str, host: str, port: int, endpoint: str, tls: TLSUse, shown: str) -> None:
    destination = Destination.of(text)
    assert (destination.host, destination.port, destination.endpoint, destination.tls, str(destination)) == (host, port, endpoint, tls, shown)


@pytest.mark.parametrize(
    ("given", "port", "tls"),
    [
        ({"credentials": LOGIN}, 587, TLSUse.REQUIRED),
        ({"credentials": LOGIN, "tls": TLSUse.IMPLICIT}, 465, TLSUse.IMPLICIT),
        ({"tls": TLSUse.IMPLICIT}, 465, TLSUse.IMPLICIT),
        ({"tls": TLSUse.NEVER}, 25, TLSUse.NEVER),
        ({"lmtp": True}, 24, TLSUse.OPPORTUNISTIC),
        ({"lmtp": True, "credentials": LOGIN}, 24, TLSUse.REQUIRED),
    ],
)
def test_what_is_not_said_is_what_is_usual(given: dict[str, Any], port: int, tls: TLSUse) -> None:
    destination = Destination.of("mx.test", **given)
    assert (destination.port, destination.tls, destination.plaintextAuth) == (port, tls, False)


def test_a_unix_socket_is_no_network() -> None:
    destination = Destination.of("unix:/run/smtp.sock", credentials=LOGIN)
    assert (destination.tls, destination.plaintextAuth) == (TLSUse.NEVER, True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no server"),
        ("a b", "names no server"),
        ("mx.test:", "names no server"),
        ("\u2603.test:25", "'\u2603.test:25' names no server: '\u2603.test' is no domain name: Codepoint U\\+2603 at position 1"),
        ("mx.test:0", "a port is a number from 1 to 65535"),
        ("mx.test:65536", "a port is a number"),
        ("[mx.test]:25", "'mx.test' is no IPv6 address"),
        ("tls:mx.test:465:certificate=x", "behind tls: come a host and a port alone"),
        ("mx.test:smtp", "'mx.test:smtp' names no server"),
        ("tcp:mx.test:25:color=red", "names no server"),
        ("ssl:mx.test:465", "ssl: does not verify names"),
    ],
)
def test_what_is_no_destination_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Destination.of(text)


def test_tls_from_the_beginning_is_not_combined_with_other_tls() -> None:
    assert Destination.of("tls:mx.test", tls=TLSUse.IMPLICIT).tls is TLSUse.IMPLICIT
    with pytest.raises(ValueError, match="begins with TLS, and so cannot be connected to with TLS never"):
        Destination.of("tls:mx.test", tls=TLSUse.NEVER)


@pytest.mark.parametrize(
    ("destination", "where"),
    [
        (Destination.of("mx.test"), "mx.test:25"),
        (Destination.of("tls:mx.test"), "mx.test:465"),
        (Destination.of("[2001:db8::1]:587"), "[2001:db8::1]:587"),
        (Destination.of("unix:/run/lmtp"), "/run/lmtp"),
        (Destination.of("unix:path=/run/a\\:b:timeout=5"), "/run/a:b"),
        (Destination.of("tcp:mx.test:2525"), "tcp:mx.test:2525"),
        (Destination(host="mx.test", address="192.0.2.1"), "mx.test [192.0.2.1]:25"),
        (Destination(host="mx.test", address="2001:db8::1"), "mx.test [2001:db8::1]:25"),
        (Destination(host="192.0.2.1", address="192.0.2.1"), "192.0.2.1:25"),
    ],
)
def test_a_destination_says_what_is_connected_to(destination: Destination, where: str) -> None:
    assert destination.where == where


def test_destinations_that_are_equal_may_share_connections() -> None:
    one, other = (Destination.of("mx.test", credentials=Credentials(user="ann", password="secret")) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert "secret" not in repr(one)
    assert one != Destination.of("mx.test")


def test_a_destination_says_how_a_client_behaves() -> None:
    profile = Destination.of("mx.test", credentials=LOGIN, lmtp=True, plaintextAuth=True).profile("client.test")
    assert (profile.hostname, profile.tls, profile.credentials, profile.lmtp, profile.plaintextAuth) == (
        "client.test",
        TLSUse.REQUIRED,
        LOGIN,
        True,
        True,
    )
    assert (profile.chunking, profile.pipelining) == (True, True)
    profile = Destination(host="mx.test", chunking=False, pipelining=False).profile("client.test")
    assert (profile.chunking, profile.pipelining) == (False, False)
