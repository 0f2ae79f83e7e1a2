"""Why sending could not even begin, or not go on: the exceptions of the client. Their types are stable; their texts are for people.

Knows what each means and whether a later try makes sense. Must not know how they come about.

What a peer says to one sender, recipient or text is no exception but an outcome (`results.RecipientOutcome`). These are for what concerns a whole
connection, or a message that cannot be put on the wire at all.
"""

from __future__ import annotations

from .results import PeerReply, Stage


class SMTPClientError(Exception):
    """Base of all that can be raised for sending.

    Attributes:
        reply: what the peer said, or a local reply that says the same: its code and status tell whether a later try makes sense.
        stage: how far it had come.
        host: whom it happened with, where that is known.
        where: what was connected to: host and port, or the path of a socket; empty where that is not known.
    """

    def __init__(self, reply: PeerReply, stage: Stage, host: str = "", where: str = "") -> None:
        super().__init__(reply, stage, host, where)
        self.reply = reply
        self.stage = stage
        self.host = host
        self.where = where

    @property
    def temporary(self) -> bool:
        """True when a later try makes sense."""
        return self.reply.temporary

    def __str__(self) -> str:
        whom = self.where or self.host
        return f"{whom}: {self.reply}" if whom else str(self.reply)


class ConnectionFailed(SMTPClientError):
    """No connection, or it was lost, or the peer took too long, before the message was on its way."""


class PeerRefused(SMTPClientError):
    """The peer refuses the session: its greeting, or its reply to EHLO and HELO (RFC 5321 3.1)."""


class ProtocolViolation(SMTPClientError):
    """The peer does not speak SMTP: a malformed, endless or uncalled-for reply, or octets smuggled in behind STARTTLS."""


class TLSFailed(SMTPClientError):
    """The protection that was asked for is not to be had: no STARTTLS, a failed handshake, a certificate that does not verify."""


class AuthenticationFailed(SMTPClientError):
    """The peer refuses the credentials, or has no mechanism that may be used with them."""


class Unsendable(SMTPClientError):
    """This message cannot go to this peer: it is too large for it, or needs an extension that it does not offer; or to none, being malformed."""
