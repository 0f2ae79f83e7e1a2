"""The AUTH exchange (RFC 4954 4): base64, cancelling, and one SASL mechanism at work.

Knows how SASL is carried in SMTP. Must not know a mechanism from the inside (`mechanisms`), nor who checks passwords.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Collection

from ..model import replies
from ..model.envelope import SessionInfo
from ..model.reply import Reply
from .mechanisms import MECHANISMS
from .sasl import Challenge, Check, Conclusion
from .steps import AskCredentials

# RFC 4954 4: the longest line that any mechanism here needs, without its CRLF.
LINE_LENGTH = 12_286
# RFC 4648 4: groups of four, and only the last one is padded.
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Exchange:
    """One AUTH command and what follows it, up to its final reply.

    Args:
        name: the mechanism's name.
        session: what is known of the client.
        offered: the names of all mechanisms that it may use.

    Attributes:
        user: who has authenticated, once the final reply says so.
        name: the mechanism's name.
    """

    __slots__ = ("_conclusion", "_serverFirst", "_steps", "name", "user")

    def __init__(self, name: str, session: SessionInfo, offered: Collection[str]) -> None:
        self.name = name
        self.user: str | None = None
        self._conclusion: Conclusion | None = None
        self._serverFirst = MECHANISMS[name].serverFirst
        self._steps = MECHANISMS[name].run(session, offered)

    def start(self, initial: str) -> Reply | AskCredentials:
        """Begins; `initial` is the initial response as it stands on the line, empty when there is none."""
        challenge = next(self._steps)
        if not initial:
            return _asReply(challenge)
        if self._serverFirst:
            return replies.INITIAL_RESPONSE_UNEXPECTED
        # RFC 4954 4: "=" is an empty initial response.
        return self.respond("" if initial == "=" else initial)

    def respond(self, line: str) -> Reply | AskCredentials:
        """Takes the client's line in answer to a challenge."""
        if line == "*":
            return replies.AUTH_CANCELLED
        response = _decode(line)
        return replies.BAD_BASE64 if response is None else self._goOn(response)

    def answer(self, value: object) -> Reply | AskCredentials:
        """Takes the answer to a question."""
        if self._conclusion is None:
            return self._goOn(value)
        self.user = self._conclusion.user
        return replies.AUTH_FAILED if self.user is None else replies.AUTHENTICATED

    def _goOn(self, value: object) -> Reply | AskCredentials:
        """The mechanism's next step."""
        try:
            return _asReply(self._steps.send(value))
        except StopIteration as end:
            self._conclusion = Conclusion(self.name, end.value)
            return AskCredentials(self._conclusion)


def _asReply(step: Challenge | Check) -> Reply | AskCredentials:
    """A challenge as the client hears it; a check as it is asked."""
    if isinstance(step, Challenge):
        # RFC 4954 4: an empty challenge is "334 ", with the space.
        return Reply(334, None, b64encode(step.data).decode())
    return AskCredentials(step)


def _decode(text: str) -> bytes | None:
    """The octets that base64 stands for, or None: RFC 4954 4 has nothing in it ignored."""
    return b64decode(text) if _BASE64.fullmatch(text) else None
