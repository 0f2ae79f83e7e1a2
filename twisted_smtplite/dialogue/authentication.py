"""The AUTH exchange (RFC 4954 4): base64, cancelling, and one SASL mechanism at work.

Knows how SASL is carried in SMTP. Must not know a mechanism from the inside (`sasl`), nor who checks passwords.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

from ..model import replies
from ..model.envelope import SessionInfo
from ..model.reply import Reply
from .sasl import MECHANISMS, Challenge, Check, Failure, InitialResponseUnexpected, Next, Success
from .steps import AskCredentials

# RFC 4954 4: the longest line that any mechanism here needs, without its CRLF.
LINE_LENGTH = 12_286


class Exchange:
    """One AUTH command and what follows it, up to its final reply.

    Attributes:
        user: who has authenticated, once somebody has.
        name: the mechanism's name.
    """

    __slots__ = ("_mechanism", "name", "user")

    def __init__(self, name: str, session: SessionInfo) -> None:
        self.name = name
        self.user: str | None = None
        self._mechanism = MECHANISMS[name](session)

    def start(self, initial: str) -> Reply | AskCredentials:
        """Begins; `initial` is the initial response as it stands on the line, empty when there is none."""
        if not initial:
            response: bytes | None = None
        elif initial == "=":
            # RFC 4954 4: an empty initial response.
            response = b""
        else:
            response = _decode(initial)
            if response is None:
                return replies.BAD_BASE64
        try:
            return self._next(self._mechanism.start(response))
        except InitialResponseUnexpected:
            return replies.INITIAL_RESPONSE_UNEXPECTED

    def respond(self, line: str) -> Reply | AskCredentials:
        """Takes the client's line in answer to a challenge."""
        if line == "*":
            return replies.AUTH_CANCELLED
        response = _decode(line)
        return replies.BAD_BASE64 if response is None else self._next(self._mechanism.step(response))

    def answer(self, value: object) -> Reply | AskCredentials:
        """Takes the answer to a question."""
        return self._next(self._mechanism.answer(value))

    def _next(self, step: Next) -> Reply | AskCredentials:
        if isinstance(step, Challenge):
            # RFC 4954 4: an empty challenge is "334 ", with the space.
            return Reply(334, None, b64encode(step.data).decode())
        if isinstance(step, Success):
            self.user = step.user
            return replies.AUTHENTICATED
        if isinstance(step, Failure):
            return replies.AUTH_FAILED
        check: Check = step
        return AskCredentials(check)


def _decode(text: str) -> bytes | None:
    """The octets that base64 stands for, or None: RFC 4954 4 has nothing in it ignored."""
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
