"""What somebody on the way slips in beside STARTTLS, in clear, on either side of a real handshake: it is never run (RFC 3207 6).

The client is a victim: it waits for 220, makes its handshake and knows nothing of what was put in behind its back.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import pytest_twisted
from tlsstage import Client, Serve, Server, trusting, upToHandshake, upToTLS

INJECTED = b"EHLO injected.test\r\nMAIL FROM:<injected@evil.test>\r\nRCPT TO:<ben@mx.test>\r\nDATA\r\nSubject: injected\r\n\r\n.\r\n"
BEHIND = {
    "one segment": [b"STARTTLS\r\n" + INJECTED],
    "a segment of its own": [b"STARTTLS\r\n", INJECTED],
    "a cut in the verb": [b"START", b"TLS\r\n" + INJECTED],
    "a cut in the line end": [b"STARTTLS\r", b"\n" + INJECTED],
    "a cut in the first command": [b"STARTTLS\r\nEHLO inj", b"ected.test\r\n" + INJECTED],
    "a half command": [b"STARTTLS\r\nMAIL FROM:<injected"],
    "one octet": [b"STARTTLS\r\n\r"],
    "line by line": [b"STARTTLS\r\n", *INJECTED.splitlines(keepends=True)],
    "octet by octet": [bytes([octet]) for octet in b"STARTTLS\r\n" + INJECTED[:40]],
}


def assertNothingRan(server: Server, heard: bytes) -> None:
    """Of what was slipped in nothing had an effect, and nobody answered it."""
    assert server.delivery.messages == []
    assert [session.heloName for session in server.observer.sessions if "injected" in session.heloName] == []
    assert b"250" not in heard and b"354" not in heard, heard
    assert len(server.observer.causes) == 1


def send(client: Client, pieces: Sequence[bytes], pause: float) -> bytes:
    """Sends the pieces as segments of their own, then does what a client does. Returns what it heard in clear."""
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    heard = b""
    try:
        for piece in pieces:
            client.socket.sendall(piece)
            time.sleep(pause)
        heard = client.hear()
        if heard.startswith(b"220 "):
            client.handshake()
            # Python makes none, and says nothing, where the connection has been reset; so once more.
            client.socket.do_handshake()  # type: ignore[attr-defined]
            raise AssertionError("the handshake went well")
        heard += client.rest()
    except OSError:
        # The server is gone before it has read all, or says in TLS's own way that this is none.
        pass
    return heard


@pytest.mark.parametrize("pause", [0, 0.01], ids=["at once", "in steps"])
@pytest.mark.parametrize("pieces", BEHIND.values(), ids=BEHIND)
@pytest_twisted.ensureDeferred
async def test_what_comes_behind_starttls_never_runs_however_it_is_cut(pieces: Sequence[bytes], pause: float, serve: Serve) -> None:
    server = serve()

    def play(port: int) -> bytes:
        with Client(port) as client:
            upToTLS(client)
            return send(client, pieces, pause)

    heard = await server.talk(play)
    assertNothingRan(server, heard)
    assert heard in (b"", b"220 2.0.0 Go ahead with TLS\r\n", b"554 5.5.0 Nothing may follow STARTTLS before the handshake\r\n")
    if len(pieces) == 1:
        assert heard.startswith(b"554 ") or not heard


class Handshake:
    """A client's side of TLS with every flight in the hand, so that something can be put between them."""

    def __init__(self, client: Client) -> None:
        self._socket = client.socket
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inside = trusting().wrap_bio(self._incoming, self._outgoing, server_hostname="mx.test")

    def step(self) -> bool:
        """Makes the next flight; returns True when it is the last."""
        try:
            self._inside.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def flight(self, data: bytes = b"") -> bytes:
        """What is to be sent, with commands for the inside."""
        if data:
            self._inside.write(data)
        return self._outgoing.read()

    def hear(self) -> None:
        """Takes what the server sends."""
        piece = self._socket.recv(65536)
        if not piece:
            raise ConnectionError("the server is gone")
        self._incoming.write(piece)

    def finish(self) -> None:
        """Makes all flights up to the last, which is not sent yet."""
        while not self.step():
            self._socket.sendall(self.flight())
            self.hear()

    def inside(self) -> bytes:
        """All that the server says inside TLS until it ends."""
        heard = b""
        try:
            while True:
                try:
                    text = self._inside.read(65536)
                except ssl.SSLWantReadError:
                    self.hear()
                    continue
                if not text:
                    # The server has ended its side.
                    break
                heard += text
        except (ConnectionError, ssl.SSLError):
            pass
        return heard


@contextmanager
def negotiating(port: int) -> Iterator[tuple[Client, Handshake]]:
    """A client that has said STARTTLS, before its handshake."""
    with Client(port) as client:
        upToHandshake(client)
        yield client, Handshake(client)


@pytest.mark.parametrize("place", ["before the first flight", "behind the first flight", "before the last flight", "behind the last flight"])
@pytest_twisted.ensureDeferred
async def test_clear_text_between_the_flights_of_a_handshake_never_runs(place: str, serve: Serve) -> None:
    server = serve()

    def play(port: int) -> bytes:
        with negotiating(port) as (client, handshake):
            handshake.step()
            first = handshake.flight()
            client.socket.sendall(INJECTED + first if place == "before the first flight" else first)
            if place == "behind the first flight":
                client.socket.sendall(INJECTED)
            try:
                handshake.finish()
            except (ConnectionError, ssl.SSLError):
                return b""
            last = handshake.flight()
            client.socket.sendall(INJECTED + last if place == "before the last flight" else last + INJECTED)
            return handshake.inside()

    assertNothingRan(server, await server.talk(play))
    assert server.observer.causes[0].startswith("TLS failed")


@pytest_twisted.ensureDeferred
async def test_clear_text_between_the_records_of_a_session_ends_it_and_never_runs(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> bytes:
        with negotiating(port) as (client, handshake):
            handshake.finish()
            client.socket.sendall(handshake.flight(b"NOOP\r\n") + INJECTED + handshake.flight(b"VRFY x\r\n"))
            return handshake.inside()

    heard = await server.talk(play)
    # What came before it was the client's own.
    assert heard.count(b"\r\n") <= 1 and b"252" not in heard
    assertNothingRan(server, heard.replace(b"250 2.0.0", b""))
    assert server.observer.causes[0].startswith("TLS failed")


@pytest_twisted.ensureDeferred
async def test_commands_that_share_the_record_with_the_last_flight_are_the_clients_own(serve: Serve) -> None:
    server = serve()

    def play(port: int) -> bytes:
        with negotiating(port) as (client, handshake):
            handshake.finish()
            client.socket.sendall(handshake.flight(b"EHLO inside.test\r\nNOOP\r\nQUIT\r\n"))
            return handshake.inside()

    heard = await server.talk(play)
    assert [line[:4] for line in heard.splitlines() if line[3:4] == b" "] == [b"250 ", b"250 ", b"221 "]
    assert server.observer.causes == ["quit"]


@pytest_twisted.ensureDeferred
async def test_a_client_that_speaks_in_clear_where_tls_comes_first_is_told_nothing(serve: Serve) -> None:
    server = serve(implicit=True)

    def play(port: int) -> bytes:
        with Client(port) as client:
            client.socket.sendall(INJECTED)
            return client.rest()

    heard = await server.talk(play)
    assert b"220" not in heard
    assertNothingRan(server, heard)
    assert server.observer.causes[0].startswith("TLS failed")
