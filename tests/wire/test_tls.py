"""TLS on real connections: what begins it, and what ends it. What must not slip in beside it is in `test_injection`."""

from __future__ import annotations

import smtplib
import ssl
import time

import pytest
import pytest_twisted
from tlsstage import Client, Serve, connectAndHear, reactor, trusting, upToHandshake, upToTLS
from twisted.internet.interfaces import IHandshakeListener
from twisted.logger import capturedLogs
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.profile import Profile
from twisted_smtplite.wire.factory import FunctionAuthenticator

eitherWay = pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])

# -- The ways in.


@pytest_twisted.ensureDeferred
async def test_after_starttls_the_session_begins_anew_and_mail_goes_through(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> None:
        with Client(port) as client:
            upToTLS(client)
            assert client.say(b"MAIL FROM:<before@client.test>\r\n").startswith(b"250 ")
            assert client.say(b"STARTTLS\r\n").startswith(b"503 ")
            assert client.say(b"RSET\r\n").startswith(b"250 ")
            assert client.say(b"STARTTLS now\r\n").startswith(b"501 ")
            assert client.say(b"starttls \r\n") == b"220 2.0.0 Go ahead with TLS\r\n"
            client.handshake()
            # RFC 3207 4.2: nothing of what was said before is known, and there is no second greeting.
            assert client.say(b"RCPT TO:<ben@mx.test>\r\n").startswith(b"503 ")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"503 ")
            heard = client.say(b"EHLO inside.test\r\n")
            assert b"STARTTLS" not in heard
            assert client.say(b"STARTTLS\r\n").startswith(b"503 5.5.1 ")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"250 ")
            assert client.say(b"RCPT TO:<ben@mx.test>\r\n").startswith(b"250 ")
            assert client.say(b"DATA\r\n").startswith(b"354 ")
            assert client.say(b"Subject: x\r\n\r\n" + b"line\r\n" * 50_000 + b".\r\n").startswith(b"250 ")
            assert client.say(b"QUIT\r\n").startswith(b"221 ")
            # RFC 8314 3.4: the server's alert comes before the end, so this is no error.
            client.socket.unwrap()  # type: ignore[attr-defined]

    await server.talk(play)
    (message,) = server.delivery.messages
    assert (str(message.envelope.sender), message.content.count(b"line\r\n")) == ("ann@client.test", 50_000)
    (session,) = server.observer.known
    assert session.protocol == "ESMTPS"
    assert (session.heloName, session.tls, session.tlsVersion, session.serverName) == ("inside.test", True, "TLSv1.3", "mx.test")
    assert session.tlsCipher.startswith("TLS_")
    assert session.certificate is None
    assert server.observer.causes == ["quit"]


@pytest_twisted.ensureDeferred
async def test_who_has_authenticated_in_clear_is_nobody_inside(serve: Serve) -> None:
    server = serve(profile=Profile(plaintextAuth=True, requireAuth=True, mechanisms=("PLAIN",)))
    server.factory.authenticator = FunctionAuthenticator(lambda session, check: check.user)

    def play(port: int) -> None:
        with Client(port) as client:
            upToTLS(client)
            assert client.say(b"AUTH PLAIN AGFubgB4\r\n").startswith(b"235 ")
            assert client.say(b"STARTTLS\r\n").startswith(b"220 ")
            client.handshake()
            # RFC 3207 4.2: AUTH is forgotten too, and may be said again.
            assert b"250-AUTH PLAIN\r\n" in client.say(b"EHLO inside.test\r\n")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"530 5.7.0 ")
            assert client.say(b"AUTH PLAIN AGFubgB4\r\n").startswith(b"235 ")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"250 ")
            assert client.say(b"QUIT\r\n").startswith(b"221 ")

    await server.talk(play)


@pytest_twisted.ensureDeferred
async def test_where_tls_comes_first_the_greeting_comes_inside(serve: Serve) -> None:
    server = serve(implicit=True)

    def play(port: int) -> None:
        with smtplib.SMTP_SSL("localhost", port, context=trusting(), timeout=10) as client:
            assert client.ehlo()[0] == 250
            assert not client.has_extn("starttls")
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    (session,) = server.observer.known
    assert (session.protocol, session.serverName) == ("ESMTPS", "localhost")


@pytest_twisted.ensureDeferred
async def test_a_client_that_asks_for_no_name_is_served_and_tls_1_2_will_do(serve: Serve) -> None:
    server = serve(implicit=True)
    context = trusting()
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def play(port: int) -> None:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=10) as client:
            # An address is no server name.
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    (session,) = server.observer.known
    assert (session.serverName, session.tlsVersion) == (None, "TLSv1.2")


@pytest_twisted.ensureDeferred
async def test_where_tls_is_required_only_the_way_to_it_is_open(serve: Serve) -> None:
    server = serve(profile=Profile(requireTLS=True))

    def play(port: int) -> None:
        with Client(port) as client:
            upToTLS(client)
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"530 5.7.0 ")
            assert client.say(b"STARTTLS\r\n").startswith(b"220 ")
            client.handshake()
            client.say(b"EHLO inside.test\r\n")
            assert client.say(b"MAIL FROM:<ann@client.test>\r\n").startswith(b"250 ")
            assert client.say(b"QUIT\r\n").startswith(b"221 ")

    await server.talk(play)


@implementer(IHandshakeListener)
class Wrapper(ProtocolWrapper):
    """Stands between the server and its connection, as a trace of the wire does."""

    heard = b""

    def dataReceived(self, data: bytes) -> None:
        Wrapper.heard += data
        super().dataReceived(data)

    def handshakeCompleted(self) -> None:
        self.wrappedProtocol.handshakeCompleted()  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_what_wraps_a_session_goes_on_to_see_what_is_said(serve: Serve) -> None:
    server = serve(wrap=Wrapper)

    def play(port: int) -> None:
        with smtplib.SMTP("localhost", port, timeout=10) as client:
            client.starttls(context=trusting())
            client.sendmail("ann@client.test", ["ben@mx.test"], b"Subject: x\r\n\r\nhello\r\n")

    await server.talk(play)
    assert [session.tlsVersion for session in server.observer.known] == ["TLSv1.3"]
    assert b"hello\r\n.\r\nQUIT\r\n" in Wrapper.heard
    assert server.observer.causes == ["quit"]


@pytest_twisted.ensureDeferred
async def test_a_wrapper_that_does_not_know_of_tls_ends_the_session_instead_of_going_on_as_before(serve: Serve) -> None:
    server = serve(wrap=ProtocolWrapper)

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToTLS(client)
            client.socket.sendall(b"STARTTLS\r\n")
            return client.rest()

    with capturedLogs() as events:
        await server.talk(play)
    (failure,) = [event.get("log_failure") or event["failure"] for event in events if event.get("isError") or "log_failure" in event]
    assert failure.check(TypeError)


# -- How it ends.


@eitherWay
@pytest_twisted.ensureDeferred
async def test_a_failed_handshake_is_one_cause_and_nothing_else(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit)

    def play(port: int) -> None:
        with Client(port) as client:
            upToHandshake(client, implicit=implicit)
            with pytest.raises(ssl.SSLCertVerificationError):
                # This one trusts somebody else.
                client.handshake(ssl.create_default_context())

    await server.talk(play)
    assert server.observer.causes == ["TLS failed: tlsv1 alert unknown ca"]


@eitherWay
@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_in_the_handshake_has_left_and_no_more(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit)

    def play(port: int) -> None:
        with Client(port) as client:
            upToHandshake(client, implicit=implicit)
            client.socket.sendall(b"\x16\x03\x01")

    await server.talk(play)
    assert server.observer.causes == ["connection lost"]


@eitherWay
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_does_not_end_is_ended(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit, limits=Limits(handshakeTimeout=1))

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToHandshake(client, implicit=implicit)
            return client.rest()

    assert await server.talk(play) == b""
    assert server.observer.causes == ["Timeout in the TLS handshake"]


@pytest_twisted.ensureDeferred
async def test_a_client_that_never_ends_its_side_is_cut_off(serve: Serve) -> None:
    server = serve(implicit=True, limits=Limits(closeTimeout=1))

    def play(port: int) -> Client:
        client = Client(port)
        client.handshake()
        client.hear()
        assert client.say(b"QUIT\r\n").startswith(b"221 ")
        return client

    (await server.talk(play)).socket.close()
    assert server.observer.causes == ["quit"]


@pytest_twisted.ensureDeferred
async def test_an_error_that_ends_the_session_is_heard_inside_tls(serve: Serve) -> None:
    server = serve(implicit=True, limits=Limits(errors=1))

    def play(port: int) -> None:
        with Client(port) as client:
            client.handshake()
            client.hear()
            assert client.say(b"NONSENSE\r\n" + b"x" * 100_000).startswith(b"421 ")
            # Not cut off: the alert is there.
            assert client.socket.recv(10) == b""

    await server.talk(play)


@pytest_twisted.ensureDeferred
async def test_who_is_one_too_many_where_tls_comes_first_is_turned_away_without_a_handshake(serve: Serve) -> None:
    server = serve(implicit=True, limits=Limits(connections=1))

    def play(port: int) -> None:
        with Client(port) as first:
            first.handshake()
            first.hear()
            assert connectAndHear(port) == b""
            assert first.say(b"QUIT\r\n").startswith(b"221 ")

    await server.talk(play)
    assert [reply.code for reply in server.observer.refused] == [421]


@eitherWay
@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_during_a_handshake_says_so_inside(implicit: bool, serve: Serve) -> None:
    server = serve(implicit=implicit)

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToHandshake(client, implicit=implicit)
            while not server.observer.sessions:
                time.sleep(0.01)
            reactor.callFromThread(server.factory.drain)
            client.handshake()
            return client.rest()

    assert (await server.talk(play)).startswith(b"421 4.3.2 ")
    # Fires when the server, too, has seen the end.
    await server.factory.drain()
    assert server.factory.sessions == 0
