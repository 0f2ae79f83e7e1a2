"""The ESMTP extensions: one row each, and the dialect that a server makes of them.

Knows keywords, when they are advertised, the MAIL and RCPT parameters they own and how these are read into the envelope. Must not know the
order of commands (`session`). To add an extension, add a row to `EXTENSIONS` and a field to the envelope; a delivery adds its own rows by
providing `IExtendDialogue`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..model import replies
from ..model.envelope import Envelope, Parameter, Recipient, SessionInfo
from ..model.limits import Limits
from ..model.reply import Reply

MailParser: TypeAlias = Callable[[str | None, Envelope, Limits], "Reply | None"]
"""Reads the value of a MAIL parameter (None without ``=``) into the envelope; returns a 4yz or 5yz Reply to refuse it."""
RcptParser: TypeAlias = Callable[[str | None, Recipient, Envelope], "Reply | None"]
"""Reads the value of a RCPT parameter into the recipient; returns a 4yz or 5yz Reply to refuse it."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One ESMTP extension (RFC 5321 2.2).

    Attributes:
        keyword: the EHLO keyword.
        rfc: where it is specified, for the documentation.
        advertise: the text behind the keyword in the EHLO reply, or None while the extension is not offered to this session.
        mail: the MAIL parameters it owns, by upper-case keyword.
        rcpt: the RCPT parameters it owns, by upper-case keyword.
        lineGrowth: octets that its parameters add to the longest command line (RFC 5321 4.5.3.1.4).
    """

    keyword: str
    rfc: str
    advertise: Callable[[SessionInfo, Dialect], str | None] = lambda session, dialect: ""
    mail: Mapping[str, MailParser] = field(default_factory=dict)
    rcpt: Mapping[str, RcptParser] = field(default_factory=dict)
    lineGrowth: int = 0


class Dialect:
    """What all sessions of a server share: its limits and extensions, in the form that the session reads fastest.

    Attributes:
        limits: the bounds.
        expands: True if a delivery answers EXPN.
        mail: all MAIL parameters, by upper-case keyword.
        rcpt: all RCPT parameters, by upper-case keyword.
        lineLength: octets of the longest command line without its CRLF.

    Raises:
        ValueError: two extensions own the same parameter.
    """

    def __init__(self, limits: Limits, extensions: Iterable[Extension], *, expands: bool = False) -> None:
        self.limits = limits
        self.expands = expands
        self._extensions = tuple(extensions)
        self.mail: dict[str, MailParser] = {}
        self.rcpt: dict[str, RcptParser] = {}
        for extension in self._extensions:
            twice = (self.mail.keys() & extension.mail.keys()) | (self.rcpt.keys() & extension.rcpt.keys())
            if twice:
                raise ValueError(f"extension {extension.keyword}: another one owns the parameter {min(twice)}")
            self.mail.update(extension.mail)
            self.rcpt.update(extension.rcpt)
        self.lineLength = limits.commandLine - 2 + sum(extension.lineGrowth for extension in self._extensions)
        self._ehlo: dict[tuple[str, bool, bool], Reply] = {}

    def ehlo(self, session: SessionInfo) -> Reply:
        """The reply to EHLO (RFC 5321 4.1.1.1): one keyword a line. Made once for each state in which a session can ask."""
        key = (session.hostname, session.tls, session.user is not None)
        reply = self._ehlo.get(key)
        if reply is None:
            offers = ((extension.keyword, extension.advertise(session, self)) for extension in self._extensions)
            lines = [f"{keyword} {text}".rstrip() for keyword, text in offers if text is not None]
            reply = self._ehlo[key] = Reply(250, None, (session.hostname, *lines))
        return reply

    def readMail(self, parameters: Iterable[Parameter], envelope: Envelope) -> Reply | None:
        """Reads the parameters of MAIL into the envelope; the Reply that refuses the first bad one, or None."""
        seen: set[str] = set()
        for keyword, value in parameters:
            parser = self.mail.get(keyword.upper())
            refusal = _unusable(keyword, parser, seen) or (parser and parser(value, envelope, self.limits))
            if refusal:
                return refusal
        return None

    def readRcpt(self, parameters: Iterable[Parameter], recipient: Recipient, envelope: Envelope) -> Reply | None:
        """Reads the parameters of RCPT into the recipient; the Reply that refuses the first bad one, or None."""
        seen: set[str] = set()
        for keyword, value in parameters:
            parser = self.rcpt.get(keyword.upper())
            refusal = _unusable(keyword, parser, seen) or (parser and parser(value, recipient, envelope))
            if refusal:
                return refusal
        return None


def _unusable(keyword: str, parser: object, seen: set[str]) -> Reply | None:
    """Why this parameter cannot be read at all: nobody owns it, or it is here for the second time."""
    if parser is None:
        return replies.unknownParameter(keyword)
    if keyword.upper() in seen:
        return replies.repeatedParameter(keyword)
    seen.add(keyword.upper())
    return None


def _size(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    # RFC 1870 5: 1 to 20 digits.
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 20):
        return replies.badParameter("SIZE")
    envelope.size = int(value)
    # RFC 1870 6.1: a message that is declared too large is refused at once.
    return replies.TOO_LARGE_DECLARED if 0 < limits.messageSize < envelope.size else None


def _body(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    # RFC 6152 3: the value is a keyword, in any case.
    if value is None or value.upper() not in ("7BIT", "8BITMIME"):
        return replies.badParameter("BODY")
    envelope.body = value.upper()
    return None


def _smtputf8(value: str | None, envelope: Envelope, limits: Limits) -> Reply | None:
    # RFC 6531 3.4: the parameter takes no value.
    if value is not None:
        return replies.badParameter("SMTPUTF8")
    envelope.smtputf8 = True
    return None


def _sizeLimit(session: SessionInfo, dialect: Dialect) -> str:
    # RFC 1870 4: 0 says that there is no fixed limit.
    return str(dialect.limits.messageSize)


def _ifExpanding(session: SessionInfo, dialect: Dialect) -> str | None:
    # RFC 5321 3.5.2: EXPN is listed where it is supported.
    return "" if dialect.expands else None


EXTENSIONS = (
    Extension("PIPELINING", "RFC 2920"),
    Extension("SIZE", "RFC 1870", _sizeLimit, mail={"SIZE": _size}, lineGrowth=26),
    Extension("8BITMIME", "RFC 6152", mail={"BODY": _body}, lineGrowth=17),
    Extension("SMTPUTF8", "RFC 6531", mail={"SMTPUTF8": _smtputf8}, lineGrowth=10),
    Extension("ENHANCEDSTATUSCODES", "RFC 2034"),
    Extension("EXPN", "RFC 5321", _ifExpanding),
    Extension("HELP", "RFC 5321"),
)
