"""EXTERNAL: the client has shown who it is by its TLS certificate (RFC 4422 Appendix A).

Knows the message. Must not know which user a certificate stands for.
"""

from __future__ import annotations

from collections.abc import Collection

from ...model.envelope import SessionInfo
from ..sasl import External, Steps, lookUp, respond
from ..saslprep import prepare


def external(session: SessionInfo, offered: Collection[str]) -> Steps:
    """EXTERNAL: the response is the name of whom the client wants to be, or empty."""
    response = yield from respond(b"")
    try:
        actAs = prepare(response.decode()) if response else ""
    except UnicodeDecodeError:
        return None
    if actAs is None or session.certificate is None:
        return None
    return (yield from lookUp(External(session.certificate, actAs)))
