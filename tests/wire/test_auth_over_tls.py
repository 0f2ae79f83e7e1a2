"""AUTH on real connections, with a password file behind it: every mechanism, secrets that show nowhere, and guesses that come to an end."""

from __future__ import annotations

import hashlib
import hmac
import smtplib
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from auth.rooms import cheapKeys, passwordFile
from tlsstage import Client, Serve, Server, reactor, trusting, upToHandshake
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs

from twisted_smtplite.app.wiretrace import WireTrace
from twisted_smtplite.auth.authenticator import Authenticator
from twisted_smtplite.auth.checkers import PasswordFileChecker
from twisted_smtplite.auth.threads import FewThreads
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile

USER, PASSWORD, TOKEN = "tim", "tanstaaftanstaaf", "mF_9.B5f-4.1JqM"
LIMITS = Limits(authDelay=0, authFailures=4)


def fromFile(path: Path, limits: Limits = LIMITS) -> Authenticator:
    checker = PasswordFileChecker(passwordFile(path, **{USER: cheapKeys(PASSWORD)}), FewThreads(reactor, 2))
    return Authenticator([checker], reactor, limits=limits, tokens=lambda session, check: USER if check.token == TOKEN else None)


def serving(serve: Serve, authenticator: Authenticator, **choices: Any) -> Server:
    server: Server = serve(profile=Profile(**{"mechanisms": authenticator.mechanisms, **choices}), limits=LIMITS)
    server.factory.authenticator = authenticator
    return server


def encoded(text: str) -> bytes:
    return b64encode(text.encode())


def answered(client: Client, *responses: str | Callable[[bytes], str]) -> bytes:
    """What the server says in the end. A response may be made of the challenge."""
    heard = b"334 \r\n"
    for response in responses:
        assert heard.startswith(b"334 "), heard
        made = response if isinstance(response, str) else response(b64decode(heard[4:]))
        heard = client.say(encoded(made) + b"\r\n")
    return heard


def byPlain(client: Client, secret: str) -> bytes:
    return client.say(b"AUTH PLAIN " + encoded(f"\0{USER}\0{secret}") + b"\r\n")


def byLogin(client: Client, secret: str) -> bytes:
    assert client.say(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    return answered(client, USER, secret)


def byCramMD5(client: Client, secret: str) -> bytes:
    challenge = b64decode(client.say(b"AUTH CRAM-MD5\r\n")[4:])
    return answered(client, f"{USER} {hmac.new(secret.encode(), challenge, hashlib.md5).hexdigest()}")


def byScram(client: Client, secret: str, *, bound: bool = False) -> bytes:
    import scramp

    name = "SCRAM-SHA-256-PLUS" if bound else "SCRAM-SHA-256"
    binding = ("tls-server-end-point", hashlib.sha256(client.socket.getpeercert(True)).digest()) if bound else None
    exchange = scramp.ScramClient([name], USER, secret, channel_binding=binding)
    client.say(f"AUTH {name}\r\n".encode())

    def final(challenge: bytes) -> str:
        exchange.set_server_first(challenge.decode())
        message: str = exchange.get_client_final()
        return message

    def verified(challenge: bytes) -> str:
        exchange.set_server_final(challenge.decode())
        return ""

    return answered(client, exchange.get_client_first(), final, *([verified] if secret == PASSWORD else []))


def byScramPlus(client: Client, secret: str) -> bytes:
    return byScram(client, secret, bound=True)


def byOAuthBearer(client: Client, secret: str) -> bytes:
    token = TOKEN if secret == PASSWORD else secret
    client.say(b"AUTH OAUTHBEARER\r\n")
    return answered(client, f"n,a={USER},\x01auth=Bearer {token}\x01\x01", *([] if secret == PASSWORD else ["\x01"]))


def byXOAuth2(client: Client, secret: str) -> bytes:
    token = TOKEN if secret == PASSWORD else secret
    client.say(b"AUTH XOAUTH2\r\n")
    return answered(client, f"user={USER}\x01auth=Bearer {token}\x01\x01", *([] if secret == PASSWORD else [""]))


INSIDE = {
    "PLAIN": byPlain,
    "LOGIN": byLogin,
    "SCRAM-SHA-256": byScram,
    "SCRAM-SHA-256-PLUS": byScramPlus,
    "OAUTHBEARER": byOAuthBearer,
    "XOAUTH2": byXOAuth2,
}


@pytest.mark.parametrize("mechanism", INSIDE)
@pytest_twisted.ensureDeferred
async def test_inside_tls_each_mechanism_knows_the_user_and_nobody_else(mechanism: str, serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("scramp")
    server = serving(serve, fromFile(tmp_path / "users"))

    def play(port: int) -> None:
        with Client(port) as client:
            upToHandshake(client)
            client.handshake()
            offered = client.say(b"EHLO inside.test\r\n")
            assert b"AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 OAUTHBEARER XOAUTH2 PLAIN LOGIN\r\n" in offered
            assert INSIDE[mechanism](client, "wrong") == b"535 5.7.8 Authentication credentials invalid\r\n"
            assert INSIDE[mechanism](client, PASSWORD) == b"235 2.7.0 Authentication succeeded\r\n"
            assert client.say(b"QUIT\r\n").startswith(b"221 ")

    await server.talk(play)
    (session,) = server.observer.sessions
    assert (session.user, session.mechanism, session.tls) == (USER, mechanism, True)


IN_THE_CLEAR = {"PLAIN": byPlain, "LOGIN": byLogin, "CRAM-MD5": byCramMD5, "SCRAM-SHA-256": byScram}


@pytest.mark.parametrize("mechanism", IN_THE_CLEAR)
@pytest_twisted.ensureDeferred
async def test_no_secret_is_in_the_log_not_even_a_wrong_one(mechanism: str, serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("scramp")
    authenticator = fromFile(tmp_path / "users")
    if mechanism == "CRAM-MD5":
        authenticator = Authenticator([InMemoryUsernamePasswordDatabaseDontUse(tim=PASSWORD.encode())], reactor, limits=LIMITS)
    server = serving(serve, authenticator, mechanisms=(mechanism,), plaintextAuth=True)
    listening = reactor.listenTCP(0, WireTrace(server.factory), interface="127.0.0.1")
    sent: list[bytes] = []

    def play() -> None:
        with Client(listening.getHost().port) as client:
            say = client.say

            def record(data: bytes) -> bytes:
                sent.append(data.split()[-1] if data.split() else b"")
                return say(data)

            client.hear()
            client.say(b"EHLO client.test\r\n")
            client.say = record  # type: ignore[method-assign]
            assert IN_THE_CLEAR[mechanism](client, "hunter2-wrong").startswith(b"535 ")
            assert IN_THE_CLEAR[mechanism](client, PASSWORD).startswith(b"235 ")
            say(b"QUIT\r\n")

    try:
        with capturedLogs() as events:
            await deferToThread(play)
    finally:
        await listening.stopListening()
    log = "".join(f"{event!r}" for event in events)
    assert "EHLO client.test" in log
    secrets = [each.decode() for each in sent if each and each != mechanism.encode()]
    assert secrets
    assert [each for each in (*secrets, PASSWORD, "hunter2-wrong") if each in log] == []


@pytest_twisted.ensureDeferred
async def test_smtplib_logs_in_over_starttls_and_not_in_the_clear(serve: Serve, tmp_path: Path) -> None:
    server = serving(serve, fromFile(tmp_path / "users"), mechanisms=("PLAIN", "LOGIN"), requireAuth=True)

    def play(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.ehlo()
            with pytest.raises(smtplib.SMTPNotSupportedError):
                client.login(USER, PASSWORD)
            client._host = "mx.test"  # type: ignore[attr-defined]
            client.starttls(context=trusting())
            with pytest.raises(smtplib.SMTPSenderRefused, match="Authentication required"):
                client.sendmail("a@client.test", "b@mx.test", "x")
            client.login(USER, PASSWORD)
            client.sendmail("a@client.test", "b@mx.test", "x")

    await server.talk(play)
    assert len(server.delivery.messages) == 1


@pytest_twisted.ensureDeferred
async def test_guesses_are_counted_across_sessions_and_come_to_an_end(serve: Serve, tmp_path: Path) -> None:
    server = serving(serve, fromFile(tmp_path / "users"), mechanisms=("PLAIN",), plaintextAuth=True)

    def guess(port: int, secret: str) -> bytes:
        with Client(port) as client:
            client.hear()
            client.say(b"EHLO client.test\r\n")
            return byPlain(client, secret)[:4]

    for said in (b"535 ", b"535 ", b"535 ", b"421 ", b"421 "):
        assert await deferToThread(guess, server.port, "wrong") == said
    # Now it would be right, and nobody is told.
    assert await deferToThread(guess, server.port, PASSWORD) == b"421 "


@pytest_twisted.ensureDeferred
async def test_a_password_file_that_is_gone_is_a_temporary_failure(serve: Serve, tmp_path: Path) -> None:
    server = serving(serve, fromFile(tmp_path / "users"), mechanisms=("PLAIN",), plaintextAuth=True)
    (tmp_path / "users").unlink()

    def play(port: int) -> bytes:
        with Client(port) as client:
            client.hear()
            client.say(b"EHLO client.test\r\n")
            return byPlain(client, PASSWORD)

    with capturedLogs() as events:
        assert await deferToThread(play, server.port) == b"454 4.7.0 Temporary authentication failure\r\n"
    assert any("log_failure" in event for event in events)
