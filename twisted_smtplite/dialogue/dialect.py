"""The dialect of a server: what all its sessions share, in the form that a session reads fastest.

Knows which extensions and mechanisms are offered to a session, and owns the parameters. Must not know the order of commands (`session`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from ..model import replies
from ..model.envelope import Envelope, Parameter, Recipient, SessionInfo
from ..model.limits import Limits
from ..model.profile import Profile
from ..model.reply import Reply
from .extensions import EXTENSIONS, Extension, MailParser, RcptParser
from .mechanisms import MECHANISMS

_Parser = TypeVar("_Parser")


class Dialect:
    """What the sessions of a server share.

    Attributes:
        limits: the bounds.
        profile: the choices.
        expands: True if a delivery answers EXPN.
        honours: the keywords of extensions that the delivery acts on.
        consulting: True if somebody is to be asked about names in EHLO, and about users.
        now: the time, in seconds since the epoch.
        lineLength: octets of the longest command line without its CRLF.

    Raises:
        ValueError: two extensions own the same parameter, or the profile names a mechanism that there is not.
    """

    def __init__(
        self,
        limits: Limits,
        extensions: Iterable[Extension] = EXTENSIONS,
        *,
        profile: Profile = Profile(),  # noqa: B008 - a frozen value
        expands: bool = False,
        honours: Collection[str] = (),
        consulting: bool = False,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.limits = limits
        self.profile = profile
        self.expands = expands
        self.consulting = consulting
        self.honours = frozenset(honours)
        self.now = now
        for name in profile.mechanisms:
            if name not in MECHANISMS or not MECHANISMS[name].installed():
                raise ValueError(f"mechanism {name}: it is unknown, or what it needs is not installed")
        self._extensions = tuple(extensions)
        self._mail: dict[str, tuple[Extension, MailParser]] = {}
        self._rcpt: dict[str, tuple[Extension, RcptParser]] = {}
        for extension in self._extensions:
            twice = (self._mail.keys() & extension.mail.keys()) | (self._rcpt.keys() & extension.rcpt.keys())
            if twice:
                raise ValueError(f"extension {extension.keyword}: another one owns the parameter {min(twice)}")
            self._mail.update((keyword, (extension, parser)) for keyword, parser in extension.mail.items())
            self._rcpt.update((keyword, (extension, parser)) for keyword, parser in extension.rcpt.items())
        # RFC 5321 4.5.3.1.4: extensions that are offered, in the clear or inside TLS, make the line longer.
        anybody = (SessionInfo("", ""), SessionInfo("", "", tls=True))
        offered = [row for row in self._extensions if any(self.offer(row, session) is not None for session in anybody)]
        self.lineLength = limits.commandLine - 2 + sum(row.lineGrowth for row in offered)
        # What the rows of this package offer depends on little, and is remembered. Others may look at whatever they like: they are asked each time.
        self._known = [row for row in self._extensions if row in EXTENSIONS]
        self._others = [row for row in self._extensions if row not in EXTENSIONS]
        self._ehlo: dict[object, Reply] = {}

    def offer(self, extension: Extension, session: SessionInfo) -> str | None:
        """The text behind the keyword in the EHLO reply of this session, or None when the extension is not offered to it."""
        if extension.honoured and extension.keyword not in self.honours:
            return None
        return extension.advertise(session, self)

    def ehlo(self, session: SessionInfo) -> Reply:
        """The reply to EHLO (RFC 5321 4.1.1.1): one keyword a line."""
        reply = self._knownOffers(session)
        return reply if not self._others else Reply(250, None, (*reply.lines, *self._offers(self._others, session)))

    def _knownOffers(self, session: SessionInfo) -> Reply:
        """The reply as far as the rows of this package go. Made once for each state in which a session can ask, and each hour."""
        key = (
            session.hostname, session.trusted, session.tls,
            session.user is None, session.certificate is None, session.channelBinding is None, int(self.now()) // 3600,
        )  # fmt: skip
        reply = self._ehlo.get(key)
        if reply is None:
            if len(self._ehlo) > 50:
                self._ehlo.clear()
            reply = self._ehlo[key] = Reply(250, None, (session.hostname, *self._offers(self._known, session)))
        return reply

    def _offers(self, extensions: Iterable[Extension], session: SessionInfo) -> list[str]:
        """The lines of the reply that these extensions have in it."""
        offers = ((extension.keyword, self.offer(extension, session)) for extension in extensions)
        return [f"{keyword} {text}".rstrip() for keyword, text in offers if text is not None]

    def mechanisms(self, session: SessionInfo) -> list[str]:
        """The SASL mechanisms that this session may use, the preferred first."""
        secret = session.tls or self.profile.plaintextAuth
        rows = ((name, MECHANISMS[name]) for name in self.profile.mechanisms)
        return [name for name, row in rows if (secret or not row.revealing) and row.fits(session)]

    def readMail(self, parameters: Iterable[Parameter], envelope: Envelope, session: SessionInfo) -> Reply | None:
        """Reads the parameters of MAIL into the envelope; the Reply that refuses the first bad one, or None."""
        seen: set[str] = set()
        for keyword, value in parameters:
            parser = self._parserFor(self._mail, keyword, seen, session)
            refusal = parser if isinstance(parser, Reply) else parser(value, envelope, self.limits)
            if refusal is not None:
                return refusal
        return None

    def readRcpt(self, parameters: Iterable[Parameter], recipient: Recipient, envelope: Envelope, session: SessionInfo) -> Reply | None:
        """Reads the parameters of RCPT into the recipient; the Reply that refuses the first bad one, or None."""
        seen: set[str] = set()
        for keyword, value in parameters:
            parser = self._parserFor(self._rcpt, keyword, seen, session)
            refusal = parser if isinstance(parser, Reply) else parser(value, recipient, envelope)
            if refusal is not None:
                return refusal
        return None

    def _parserFor(self, owners: dict[str, tuple[Extension, _Parser]], keyword: str, seen: set[str], session: SessionInfo) -> _Parser | Reply:
        """Who reads this parameter; or the refusal: nobody owns it, its owner is not offered here, or it stands here for the second time."""
        name = keyword.upper()
        owner = owners.get(name)
        # RFC 5321 4.1.1.11: what is not implemented here, or not now, is 555.
        if owner is None or (self.offer(owner[0], session) is None and not (owner[0].lasting and session.user is not None)):
            return replies.unknownParameter(keyword)
        if name in seen:
            return replies.repeatedParameter(keyword)
        seen.add(name)
        return owner[1]
