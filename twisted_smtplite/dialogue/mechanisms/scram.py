"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), by the library scramp.

Knows how to ask that library. Must not know where keys are kept. The library is imported when the first client wants the mechanism: it comes with
the extra ``auth``.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ...model.envelope import SessionInfo
from ..sasl import Keys, Steps, StoredKeys, respond

# RFC 5321 4.5.3.1.5: what fits into a reply line of 512 octets, in base64. The client's nonce comes back in it.
_LONGEST = 378
_BINDING = "tls-server-end-point"
# RFC 5802 7: gs2-header, then name and nonce in this order; not every version of the library insists.
_CLIENT_FIRST = re.compile(rb"(?:[ny]|p=[A-Za-z0-9.-]+),(?:a=[^,]*)?,n=[^,]+,r=[^,]+(?:,.*)?", re.DOTALL)


def scramSHA256(session: SessionInfo, offered: Collection[str]) -> Steps:
    """SCRAM-SHA-256. Where -PLUS was offered too, a client that believes otherwise has been lied to, and fails (RFC 5802 6)."""
    return _scram("SCRAM-SHA-256", session.channelBinding if "SCRAM-SHA-256-PLUS" in offered else None)


def scramSHA256Plus(session: SessionInfo, offered: Collection[str]) -> Steps:
    """SCRAM-SHA-256-PLUS: the same, bound to the TLS channel."""
    return _scram("SCRAM-SHA-256-PLUS", session.channelBinding)


def _scram(name: str, channelBinding: bytes | None, nonce: str | None = None) -> Steps:
    """The exchange.

    Args:
        name: of the mechanism.
        channelBinding: the data that a client may bind to; None offers no binding.
        nonce: the server's; by default one that nobody could know.
    """
    import scramp

    mechanism = scramp.ScramMechanism(name)
    binding = None if channelBinding is None else (_BINDING, channelBinding)
    first = yield from respond(b"")
    user = _userIn(first, name, binding)
    if user is None:
        return None
    keys = yield Keys(user, "SCRAM-SHA-256")
    if not isinstance(keys, StoredKeys):
        return None
    stored = (keys.salt, keys.storedKey, keys.serverKey, keys.iterations)
    server = mechanism.make_server(lambda _: stored, channel_binding=binding, s_nonce=nonce)
    try:
        server.set_client_first(first.decode())
        challenge = server.get_server_first().encode()
        if len(challenge) > _LONGEST:
            return None
        final = yield from respond(challenge)
        server.set_client_final(final.decode())
    except (scramp.ScramException, UnicodeDecodeError):
        return None
    # RFC 4954 4: what the server has to say at the end is one more challenge, and the response to it is empty.
    if (yield from respond(server.get_server_final().encode())):
        return None
    return user


def _userIn(first: bytes, name: str, binding: tuple[str, bytes] | None) -> str | None:
    """The name in the client's first message, or None if that is malformed.

    The library wants to know the keys at once, but they may be known only later. So it is told first that there is no such user.
    """
    import scramp

    names: list[str] = []
    if not _CLIENT_FIRST.fullmatch(first):
        return None
    try:
        scramp.ScramMechanism(name).make_server(names.append, channel_binding=binding).set_client_first(first.decode())
    except (scramp.ScramException, UnicodeDecodeError):
        # Nobody is known to it, so this is the way it always ends.
        pass
    return names[0] if names else None
