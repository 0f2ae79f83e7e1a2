"""SASL on the client's side (RFC 4422): which mechanism to take, and what to say in it.

Knows the messages of each mechanism, and the lines that carry them (RFC 4954). Must not know how octets travel. A mechanism is a generator: it
yields responses and is sent the server's challenges. What it yields first is its initial response; one in which the server speaks first yields
nothing there. It raises `Mistrust` when the server cannot be what it should be.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple, TypeAlias

from ..model.clientprofile import Credentials
from .saslprep import prepare

_ITERATIONS = re.compile(r",i=([^,]*)")
_NUMBER = re.compile(r"[0-9]{1,9}")
_ITERATIONS_ALLOWED = range(4096, 1_000_001)
# RFC 4954 4, RFC 5321 4.5.3.1.4: an initial response that makes the line too long is left for the challenge.
_LINE_LENGTH = 512

Responses: TypeAlias = Generator[bytes, bytes, None]


class Mistrust(Exception):
    """The server has not proved that it knows the password, what it says makes no sense, or there is nothing to show; the text says which."""


class Channel(NamedTuple):
    """What a mechanism may know of the connection.

    Attributes:
        secure: True inside TLS.
        host: the server's name.
        binding: the data of ``tls-server-end-point`` (RFC 5929 4), or None.
        bindable: True if the server offers a mechanism that binds to it.
    """

    secure: bool
    host: str = ""
    binding: bytes | None = None
    bindable: bool = False


@dataclass(frozen=True, slots=True)
class ClientMechanism:
    """One mechanism.

    Attributes:
        run: begins an exchange.
        suits: True if it can be done with these credentials.
        rounds: how many responses there must have been before success is believed.
        serverFirst: True if there is no initial response (RFC 4954 4).
        revealing: True if it shows the password to whoever listens.
        secureOnly: True if it is for TLS alone, whatever is allowed for passwords.
        byName: True if it is taken only by who names it.
    """

    run: Callable[[Credentials, Channel], Responses]
    suits: Callable[[Credentials, Channel], bool]
    rounds: int = 1
    serverFirst: bool = False
    revealing: bool = False
    secureOnly: bool = False
    byName: bool = False


def _plain(credentials: Credentials, channel: Channel) -> Responses:
    """RFC 4616 2: [authzid] NUL authcid NUL passwd."""
    yield "\0".join((credentials.actAs, _prepared(credentials.user), _password(credentials))).encode()


def _login(credentials: Credentials, channel: Channel) -> Responses:
    """The name and the password to two prompts, whatever these say. A server takes the name as the initial response too, but not every one."""
    yield b""
    yield _prepared(credentials.user).encode()
    yield _password(credentials).encode()


def _cramMD5(credentials: Credentials, channel: Channel) -> Responses:
    """RFC 2195 2: the name, and a keyed digest of the challenge."""
    challenge = yield b""
    digest = hmac.new(_password(credentials).encode(), challenge, "md5").hexdigest()
    yield f"{_prepared(credentials.user)} {digest}".encode()


def _scram(name: str) -> Callable[[Credentials, Channel], Responses]:
    def run(credentials: Credentials, channel: Channel) -> Responses:
        """RFC 5802 5, by the library scramp; a server that does not know the password is found out at its last message."""
        import scramp

        binding = None if channel.binding is None else ("tls-server-end-point", channel.binding)
        # RFC 5802 6: a client that could bind says so where no such mechanism is offered. The library says it whenever it has the data.
        if not name.endswith("-PLUS") and channel.bindable:
            binding = None
        try:
            client = scramp.ScramClient([name], _prepared(credentials.user), _password(credentials), channel_binding=binding)
            challenge = (yield client.get_client_first().encode()).decode()
            # Too few tell too much of the password to who only plays the server (RFC 7677 4); too many keep us busy, and this thread with us.
            counts = _ITERATIONS.findall(challenge)
            if len(counts) != 1 or not _NUMBER.fullmatch(counts[0]) or int(counts[0]) not in _ITERATIONS_ALLOWED:
                raise Mistrust(f"{name}: the server asks for {' and '.join(counts)[:80] or 'no'} iterations")
            client.set_server_first(challenge)
            client.set_server_final((yield client.get_client_final().encode()).decode())
        except (scramp.ScramException, ValueError, LookupError) as error:
            raise Mistrust(f"{name}: {error}") from error
        yield b""

    return run


def _oauthBearer(credentials: Credentials, channel: Channel) -> Responses:
    """RFC 7628 3.1. A refusal comes as a challenge, and is acknowledged (3.2.3)."""
    name = credentials.user.replace("=", "=3D").replace(",", "=2C")
    host = f"host={channel.host}\x01" if channel.host else ""
    yield f"n,{'a=' + name if name else ''},\x01{host}auth=Bearer {_token(credentials)}\x01\x01".encode()
    yield b"\x01"


def _xoauth2(credentials: Credentials, channel: Channel) -> Responses:
    yield f"user={credentials.user}\x01auth=Bearer {_token(credentials)}\x01\x01".encode()
    yield b""


def _external(credentials: Credentials, channel: Channel) -> Responses:
    """RFC 4422 Appendix A: whom to act as; the proof is the certificate."""
    yield credentials.actAs.encode()


def _hasPassword(credentials: Credentials, channel: Channel) -> bool:
    return credentials.password is not None and credentials.token is None


def _hasPasswordAlone(credentials: Credentials, channel: Channel) -> bool:
    # These cannot say on whose behalf.
    return _hasPassword(credentials, channel) and not credentials.actAs


def _canScram(credentials: Credentials, channel: Channel) -> bool:
    return _hasPasswordAlone(credentials, channel) and find_spec("scramp") is not None


def _canBind(credentials: Credentials, channel: Channel) -> bool:
    return _canScram(credentials, channel) and channel.binding is not None


def _hasToken(credentials: Credentials, channel: Channel) -> bool:
    return credentials.token is not None


def _always(credentials: Credentials, channel: Channel) -> bool:
    return True


CLIENT_MECHANISMS: dict[str, ClientMechanism] = {
    "SCRAM-SHA-256-PLUS": ClientMechanism(_scram("SCRAM-SHA-256-PLUS"), _canBind, rounds=3),
    "SCRAM-SHA-256": ClientMechanism(_scram("SCRAM-SHA-256"), _canScram, rounds=3),
    "OAUTHBEARER": ClientMechanism(_oauthBearer, _hasToken, secureOnly=True),
    "XOAUTH2": ClientMechanism(_xoauth2, _hasToken, secureOnly=True),
    "PLAIN": ClientMechanism(_plain, _hasPassword, revealing=True),
    "LOGIN": ClientMechanism(_login, _hasPasswordAlone, rounds=2, serverFirst=True, revealing=True),
    "CRAM-MD5": ClientMechanism(_cramMD5, _hasPasswordAlone, serverFirst=True),
    "EXTERNAL": ClientMechanism(_external, _always, byName=True),
}
"""The mechanisms, the strongest first: the order in which they are taken.

CRAM-MD5 stands behind those that reveal the password: inside TLS these are safer, as its server must keep the password itself, and its digest can be
guessed at by whoever stands in between. Outside TLS they do not count unless allowed, and it is what is left.
"""


def choose(offered: Collection[str], credentials: Credentials, channel: Channel, *, plaintext: bool) -> list[str]:
    """The mechanisms that both sides know and that may be used, the best first.

    Args:
        offered: what the server offers, in upper case.
        credentials: what the client has to show.
        channel: where they would be shown.
        plaintext: True if mechanisms that reveal the password may run outside TLS.
    """
    wanted = [name.upper() for name in credentials.mechanisms] or [name for name, row in CLIENT_MECHANISMS.items() if not row.byName]
    return [
        name
        for name in wanted
        if name in offered
        and (row := CLIENT_MECHANISMS.get(name)) is not None
        and row.suits(credentials, channel)
        and (channel.secure or not (row.secureOnly or (row.revealing and not plaintext)))
    ]


def _prepared(text: str) -> str:
    """A name or a password in the form in which servers compare it (RFC 4013); as it is, where it has none."""
    return prepare(text) or text


def _password(credentials: Credentials) -> str:
    assert credentials.password is not None, "the mechanism suits the credentials"
    return _prepared(credentials.password)


def _token(credentials: Credentials) -> str:
    token = credentials.token
    assert token is not None, "the mechanism suits the credentials"
    if not callable(token):
        return token
    try:
        return token()
    except Exception as error:
        raise Mistrust(f"no token: {error}") from error


class ClientExchange:
    """One AUTH exchange: the lines that the client says in it (RFC 4954 4).

    Args:
        name: of the mechanism.
        credentials: what the client has to show.
        channel: where.
    """

    __slots__ = ("_initial", "_rounds", "_row", "_run", "name")

    def __init__(self, name: str, credentials: Credentials, channel: Channel) -> None:
        self.name = name
        self._row = CLIENT_MECHANISMS[name]
        self._run = self._row.run(credentials, channel)
        self._initial: bytes | None = None
        self._rounds = 0

    def begin(self) -> bytes:
        """The AUTH command, with its CRLF.

        Raises:
            Mistrust: these credentials cannot be put into the mechanism's words.
        """
        response = next(self._run)
        line = b"AUTH " + self.name.encode()
        if not self._row.serverFirst:
            full = line + b" " + (_base64(response) or b"=")
            if len(full) + 2 <= _LINE_LENGTH:
                line = full
                self._rounds = 1
            else:
                self._initial = response
        return line + b"\r\n"

    def respond(self, challenge: str) -> bytes:
        """The line that answers a challenge, the text of a 334, with its CRLF.

        Raises:
            Mistrust: there is no answer to this one. The exchange is to be cancelled.
        """
        try:
            octets = base64.b64decode(challenge.strip(), validate=True)
        except ValueError:
            raise Mistrust(f"{self.name}: a challenge that is not base64") from None
        if self._initial is not None:
            response, self._initial = self._initial, None
        else:
            try:
                response = self._run.send(octets)
            except StopIteration:
                raise Mistrust(f"{self.name}: one challenge too many") from None
        self._rounds += 1
        return _base64(response) + b"\r\n"

    def check(self) -> None:
        """The server says that the client has authenticated.

        Raises:
            Mistrust: it says so too early, before it has proved itself.
        """
        if self._rounds < self._row.rounds:
            raise Mistrust(f"{self.name}: success before the exchange was over")


def _base64(octets: bytes) -> bytes:
    return base64.b64encode(octets)
