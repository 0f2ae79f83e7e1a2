"""The SASL mechanisms: one row each, the strongest first.

Knows which there are. How each one goes is in the modules beside. To add a mechanism, add a row here and a generator there.
"""

from __future__ import annotations

from importlib.util import find_spec

from ...model.envelope import SessionInfo
from ..sasl import Digest, External, Keys, Mechanism, Password, Token
from .bearer import oauthBearer, xoauth2
from .external import external
from .passwords import cramMD5, login, plain
from .scram import scramSHA256, scramSHA256Plus


def _hasScramp() -> bool:
    return find_spec("scramp") is not None


def _hasBinding(session: SessionInfo) -> bool:
    # RFC 5802 6: -PLUS binds to the TLS channel.
    return session.channelBinding is not None


def _hasCertificate(session: SessionInfo) -> bool:
    # RFC 4422 Appendix A: EXTERNAL is for who has shown who he is by other means.
    return session.certificate is not None


def _encrypted(session: SessionInfo) -> bool:
    # RFC 7628 3, RFC 6750 5.3: a bearer token is a secret that works for everybody; only inside TLS, whatever is allowed for passwords.
    return session.tls


MECHANISMS: dict[str, Mechanism] = {
    "SCRAM-SHA-256-PLUS": Mechanism(scramSHA256Plus, "RFC 7677", Keys, fits=_hasBinding, installed=_hasScramp),
    "SCRAM-SHA-256": Mechanism(scramSHA256, "RFC 7677", Keys, installed=_hasScramp),
    "EXTERNAL": Mechanism(external, "RFC 4422", External, fits=_hasCertificate),
    "OAUTHBEARER": Mechanism(oauthBearer, "RFC 7628", Token, fits=_encrypted),
    "XOAUTH2": Mechanism(xoauth2, "no RFC", Token, fits=_encrypted),
    "PLAIN": Mechanism(plain, "RFC 4616", Password, revealing=True),
    "LOGIN": Mechanism(login, "draft-murchison-sasl-login", Password, revealing=True),
    "CRAM-MD5": Mechanism(cramMD5, "RFC 2195", Digest, serverFirst=True, byName=True),
}
