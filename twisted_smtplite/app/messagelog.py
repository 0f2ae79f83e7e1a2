"""The message log: one line for each message, and for what was refused or broke off; nothing for each command.

Knows which events are worth a line and which fields it has. Must not know how a line looks or where it goes: that is `log`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from zope.interface import implementer

from ..interfaces import ISessionObserver
from .log import EventLines, TextForm, peerText

if TYPE_CHECKING:
    from ..model.address import Address
    from ..model.envelope import Envelope, SessionInfo
    from ..model.reply import Reply

# A message may have thousands of recipients and a client may try thousands of addresses: a line names this many of them, and counts all.
_NAMED = 5


@dataclass(slots=True)
class _Refusals:
    """Commands of one session, one after the other, that were refused alike."""

    verb: str
    reply: Reply
    addresses: list[Address] = field(default_factory=list)
    count: int = 0


@implementer(ISessionObserver)
class MessageLog:
    """Writes the message log. Its events and their fields, in order:

    - ``message``: id session peer helo protocol from to recipients size reply; with ``user`` when the client has authenticated; with ``tls`` and
      ``cipher`` when the session is encrypted, and ``certificate`` when the client has shown one that could be verified; with ``forwarded`` when a
      trusted peer has told where the message came from (XFORWARD); with failures, failed,
      failure (how many recipients did not get it, the first five of them, the first one's reply) when the message was accepted for others.
    - ``refused-command``: session peer command reply count; with ``addresses``, the first five that were refused. Refusals in a row with the
      same verb and reply are one line, written when something else happens in the session.
    - ``refused-connection``: peer reply.
    - ``broken-session``: session peer helo cause messages, for a session that ended in another way than QUIT.

    Args:
        lines: where the lines go; each one a log event by default.
    """

    def __init__(self, lines: EventLines | None = None) -> None:
        self._lines = lines or EventLines(TextForm())
        form = self._form = self._lines.form
        self._message = form.template("message", "id", "session", "peer", "helo", "protocol", "from", "to", "recipients", "size", "reply")
        # What is the same for all messages of a session is rendered once.
        self._ofSession = lru_cache(maxsize=1000)(self._renderSession)
        self._refusedCommand = form.template("refused-command", "session", "peer", "command", "reply", "count")
        self._refusedConnection = form.template("refused-connection", "peer", "reply")
        self._brokenSession = form.template("broken-session", "session", "peer", "helo", "cause", "messages")
        # By session id. An entry lives from a refusal to the next event of its session.
        self._refusals: dict[str, _Refusals] = {}

    def sessionStarted(self, session: SessionInfo) -> None:
        """Not worth a line."""

    def sessionRefused(self, peer: str, reply: Reply) -> None:
        """A connection was turned away."""
        self._lines.line(self._refusedConnection % (self._form.word(peer), self._form.quoted(_text(reply)), ""))

    def messageFinished(self, session: SessionInfo, envelope: Envelope, size: int, reply: Reply, outcomes: Sequence[Reply]) -> None:
        """A message got its final reply."""
        if session.id in self._refusals:
            self._endRefusals(session)
        form = self._form
        recipients = envelope.recipients
        template, extra = self._ofSession(
            session.id, session.peerHost, session.peerPort, session.heloName, session.protocol,
            session.user, session.tlsVersion, session.tlsCipher, session.certificate,
        )  # fmt: skip
        if envelope.forwarded:
            extra += form.more("forwarded", form.pairs(envelope.forwarded))
        if len(outcomes) > 1 and reply.positive:
            extra += self._failures(envelope, outcomes)
        self._lines.line(
            template
            % (
                form.token(envelope.id),
                form.path(envelope.sender),
                form.paths([recipient.address for recipient in recipients[:_NAMED]]),
                len(recipients),
                size,
                form.quoted(_text(reply)),
                extra,
            )
        )

    def _renderSession(
        self, name: str, host: str, port: int, helo: str, protocol: str, user: str | None, version: str, cipher: str, certificate: str | None
    ) -> tuple[str, str]:
        """The template of a message line with the session's values in it, and the fields at its end that tell who the client is."""
        form = self._form
        constant = (form.token(name), form.token(peerText(host, port)), form.word(helo), form.token(protocol))
        template = self._message % ("%s", *[text.replace("%", "%%") for text in constant], *["%s"] * 6)
        extra = "" if user is None else form.more("user", form.word(user))
        if version:
            extra += form.more("tls", form.word(version)) + form.more("cipher", form.word(cipher))
        if certificate is not None:
            extra += form.more("certificate", form.word(certificate))
        return template, extra

    def _failures(self, envelope: Envelope, outcomes: Sequence[Reply]) -> str:
        failed = [(recipient.address, outcome) for recipient, outcome in zip(envelope.recipients, outcomes, strict=False) if not outcome.positive]
        if not failed:
            return ""
        form = self._form
        return (
            form.more("failures", len(failed))
            + form.more("failed", form.paths([address for address, _ in failed[:_NAMED]]))
            + form.more("failure", form.quoted(_text(failed[0][1])))
        )

    def commandRefused(self, session: SessionInfo, verb: str, argument: Address | None, reply: Reply) -> None:
        """MAIL, RCPT or DATA was refused: counted with its like."""
        refusals = self._refusals.get(session.id)
        if refusals is None or refusals.verb != verb or refusals.reply != reply:
            self._endRefusals(session)
            refusals = self._refusals[session.id] = _Refusals(verb, reply)
        refusals.count += 1
        if argument is not None and len(refusals.addresses) < _NAMED:
            refusals.addresses.append(argument)

    def _endRefusals(self, session: SessionInfo) -> None:
        refusals = self._refusals.pop(session.id, None)
        if refusals is None:
            return
        form = self._form
        reply = form.quoted(_text(refusals.reply))
        extra = form.more("addresses", form.paths(refusals.addresses)) if refusals.addresses else ""
        values = (
            form.token(session.id),
            form.token(peerText(session.peerHost, session.peerPort)),
            form.token(refusals.verb),
            reply,
            refusals.count,
            extra,
        )
        self._lines.line(self._refusedCommand % values)

    def sessionEnded(self, session: SessionInfo, cause: str, messages: int) -> None:
        """A session is over: a line unless it ended as it should."""
        self._endRefusals(session)
        if cause != "quit":
            form = self._form
            values = (
                form.token(session.id),
                form.token(peerText(session.peerHost, session.peerPort)),
                form.word(session.heloName),
                form.quoted(cause),
                messages,
                "",
            )
            self._lines.line(self._brokenSession % values)


def _text(reply: Reply) -> str:
    """The reply on one line. What goes on the wire is at hand, and mostly one line already: this costs a fifth of `str`."""
    wire = reply.wire
    return wire[:-2].decode("ascii") if wire.count(b"\n") == 1 else str(reply)
