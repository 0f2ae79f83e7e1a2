"""SCRAM on the client's side, against the library's server; and the commands of a transaction by themselves."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import scramp

from twisted_smtplite.dialogue.clientauth import Channel, ClientExchange, Mistrust, choose
from twisted_smtplite.dialogue.commandlines import mailCommand
from twisted_smtplite.dialogue.peer import Peer
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.clientprofile import Credentials
from twisted_smtplite.model.envelope import Envelope
from twisted_smtplite.model.errors import Unsendable
from twisted_smtplite.model.results import PeerReply

_ANN = Credentials(user="ann", password="secret")
_BINDING = ("tls-server-end-point", b"\x01" * 32)


def _decoded(line: bytes) -> str:
    return base64.b64decode(line.split(b" ")[-1]).decode()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _serverOf(name: str, password: str = "secret", binding: Any = None) -> Any:
    mechanism = scramp.ScramMechanism(name)
    stored = mechanism.make_auth_info(password, iteration_count=4096)
    return mechanism.make_server(lambda user: stored, channel_binding=binding)


def _converse(exchange: ClientExchange, server: Any) -> None:
    server.set_client_first(_decoded(exchange.begin()))
    server.set_client_final(_decoded(exchange.respond(_encoded(server.get_server_first()))))
    assert exchange.respond(_encoded(server.get_server_final())) == b"\r\n"
    exchange.check()


@pytest.mark.parametrize(
    ("name", "channel", "binding"),
    [
        ("SCRAM-SHA-256", Channel(secure=False), None),
        ("SCRAM-SHA-256", Channel(secure=True, binding=_BINDING[1]), None),
        ("SCRAM-SHA-256", Channel(secure=True, binding=_BINDING[1], bindable=True), None),
        ("SCRAM-SHA-256-PLUS", Channel(secure=True, binding=_BINDING[1], bindable=True), _BINDING),
    ],
)
def test_client_and_server_prove_to_each_other_that_they_know_the_password(name: str, channel: Channel, binding: Any) -> None:
    _converse(ClientExchange(name, _ANN, channel), _serverOf(name, binding=binding))


def test_a_binding_to_another_channel_fails() -> None:
    exchange = ClientExchange("SCRAM-SHA-256-PLUS", _ANN, Channel(secure=True, binding=b"\x02" * 32, bindable=True))
    with pytest.raises(scramp.ScramException):
        _converse(exchange, _serverOf("SCRAM-SHA-256-PLUS", binding=_BINDING))


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    exchange = ClientExchange("SCRAM-SHA-256", _ANN, Channel(secure=True))
    server = _serverOf("SCRAM-SHA-256")
    server.set_client_first(_decoded(exchange.begin()))
    exchange.respond(_encoded(server.get_server_first()))
    with pytest.raises(Mistrust, match="SCRAM-SHA-256: "):
        exchange.respond(_encoded("v=" + base64.b64encode(b"\0" * 32).decode()))


@pytest.mark.parametrize("first", ["r=x", "r=x,s=QQ==,i=100", "r=x,s=QQ==,i=99999999"])
def test_too_few_and_too_many_iterations_are_refused(first: str) -> None:
    exchange = ClientExchange("SCRAM-SHA-256", _ANN, Channel(secure=True))
    exchange.begin()
    with pytest.raises(Mistrust, match="iterations"):
        exchange.respond(_encoded(first))


@pytest.mark.parametrize(
    ("offered", "credentials", "channel", "plaintext", "chosen"),
    [
        ("PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256", _ANN, Channel(secure=True), False, ["SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"]),
        ("PLAIN LOGIN CRAM-MD5", _ANN, Channel(secure=False), False, ["CRAM-MD5"]),
        ("PLAIN LOGIN", _ANN, Channel(secure=False), True, ["PLAIN", "LOGIN"]),
        ("SCRAM-SHA-256-PLUS PLAIN", _ANN, Channel(secure=True, binding=b"x"), False, ["SCRAM-SHA-256-PLUS", "PLAIN"]),
        ("SCRAM-SHA-256-PLUS PLAIN", _ANN, Channel(secure=True), False, ["PLAIN"]),
        ("PLAIN LOGIN SCRAM-SHA-256", Credentials(user="a", password="b", actAs="c"), Channel(secure=True), False, ["PLAIN"]),
        ("PLAIN XOAUTH2 OAUTHBEARER", Credentials(user="a", token="t"), Channel(secure=True), False, ["OAUTHBEARER", "XOAUTH2"]),
        ("EXTERNAL", _ANN, Channel(secure=True), False, []),
        ("GSSAPI", _ANN, Channel(secure=True), False, []),
    ],
)
def test_the_strongest_mechanism_that_both_know_comes_first(
    offered: str, credentials: Credentials, channel: Channel, plaintext: bool, chosen: list[str]
) -> None:
    assert choose(offered.split(), credentials, channel, plaintext=plaintext) == chosen


def _mail(envelope: Envelope, *keywords: str) -> bytes:
    peer = Peer(PeerReply(250, None, ("mx.test", *keywords)))
    return mailCommand(envelope, None, peer, secure=False, verified=False, recipients=1)


def test_eight_bits_are_not_declared_to_who_does_not_take_them() -> None:
    with pytest.raises(Unsendable, match="8BITMIME"):
        _mail(Envelope("X", Address("a", "b"), body="8BITMIME"))


def test_what_is_no_unicode_is_not_sent() -> None:
    with pytest.raises(Unsendable, match="no Unicode"):
        _mail(Envelope("X", Address("a\ud800", "b"), smtputf8=True), "SMTPUTF8")


def test_secrets_are_not_shown() -> None:
    assert repr(_ANN) == "Credentials('ann', ...)"
