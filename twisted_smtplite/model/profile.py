"""How a server behaves on one of its ports: the choices that are not limits.

Knows names and defaults only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The choices. The default is a server that receives mail in the clear from anybody.

    Attributes:
        lmtp: True speaks LMTP (RFC 2033): LHLO, and a reply for each recipient. Not for port 25.
        submission: True is a submission server (RFC 6409): who sends must have authenticated, and a missing Date or Message-ID is added.
        startTLS: True offers STARTTLS (RFC 3207); the factory sets it where it has a certificate.
        requireTLS: True refuses all but the way to TLS with 530 until the session is encrypted (RFC 3207 4).
        requireAuth: True refuses mail with 530 until the client has authenticated (RFC 4954 6).
        plaintextAuth: True offers mechanisms that reveal the password also outside TLS.
        mechanisms: names of the SASL mechanisms that are offered, the preferred first.
    """

    lmtp: bool = False
    submission: bool = False
    startTLS: bool = False
    requireTLS: bool = False
    requireAuth: bool = False
    plaintextAuth: bool = False
    mechanisms: tuple[str, ...] = ()
