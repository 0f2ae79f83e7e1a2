"""The ESMTP extensions: one row each.

Knows keywords, when they are advertised, and which parameters of MAIL and RCPT they own. How a value is read is in `parameters`, what a server
makes of the rows in `dialect`. To add an extension, add a row to `EXTENSIONS` and a field to the envelope; a delivery adds its own rows
by providing `IExtendDialogue`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ..model.envelope import Envelope, Recipient, SessionInfo
from ..model.limits import Limits
from ..model.reply import Reply
from . import parameters, xclient

if TYPE_CHECKING:
    from .dialect import Dialect

MailParser: TypeAlias = Callable[[str | None, Envelope, Limits], "Reply | None"]
"""Reads the value of a MAIL parameter (None without ``=``) into the envelope; returns a 4yz or 5yz Reply to refuse it."""
RcptParser: TypeAlias = Callable[[str | None, Recipient, Envelope], "Reply | None"]
"""Reads the value of a RCPT parameter into the recipient; returns a 4yz or 5yz Reply to refuse it."""


def _always(session: SessionInfo, dialect: Dialect) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Extension:
    """One ESMTP extension (RFC 5321 2.2).

    Attributes:
        keyword: the EHLO keyword.
        rfc: where it is specified, for the documentation.
        advertise: the text behind the keyword in the EHLO reply, or None while the extension is not offered to this session.
        honoured: True if it is offered only where the delivery says that it honours it (`IHonourExtensions`).
        mail: the MAIL parameters it owns, by upper-case keyword. They are taken only while the extension is offered.
        rcpt: the RCPT parameters it owns, by upper-case keyword. Likewise.
        lasting: True if they are also taken from who has authenticated.
        lineGrowth: octets that its parameters add to the longest command line (RFC 5321 4.5.3.1.4).
    """

    keyword: str
    rfc: str
    advertise: Callable[[SessionInfo, Dialect], str | None] = _always
    honoured: bool = False
    mail: Mapping[str, MailParser] = field(default_factory=dict)
    rcpt: Mapping[str, RcptParser] = field(default_factory=dict)
    lasting: bool = False
    lineGrowth: int = 0


def _sizeLimit(session: SessionInfo, dialect: Dialect) -> str:
    # RFC 1870 4: 0 says that there is no fixed limit.
    return str(dialect.limits.messageSize)


def _ifExpanding(session: SessionInfo, dialect: Dialect) -> str | None:
    # RFC 5321 3.5.2: EXPN is listed where it is supported.
    return "" if dialect.expands else None


def _ifNotSecure(session: SessionInfo, dialect: Dialect) -> str | None:
    # RFC 3207 4.2: not offered inside TLS.
    return "" if dialect.profile.startTLS and not session.tls else None


def _ifSecure(session: SessionInfo, dialect: Dialect) -> str | None:
    # RFC 8689 2: offered only inside TLS.
    return "" if session.tls else None


def _mechanisms(session: SessionInfo, dialect: Dialect) -> str | None:
    # RFC 4954 4: the mechanisms that this session may use; none after success.
    return " ".join(dialect.mechanisms(session)) or None if session.user is None else None


def _limits(session: SessionInfo, dialect: Dialect) -> str | None:
    # RFC 9422 3, 4: numbers of 1 to 6 digits, not 0.
    limits = dialect.limits
    values = (("MAILMAX", limits.transactions), ("RCPTMAX", limits.recipients), ("RCPTDOMAINMAX", limits.recipientDomains))
    return " ".join(f"{name}={value}" for name, value in values if 0 < value < 1_000_000) or None


def _deliverBy(session: SessionInfo, dialect: Dialect) -> str:
    # RFC 2852 3: the shortest time, where there is one.
    return str(dialect.limits.deliverByLeast or "")


def _futureRelease(session: SessionInfo, dialect: Dialect) -> str:
    # RFC 4865 3: the longest time, as an interval and as a date.
    longest = dialect.limits.holdTime
    return f"{longest} {parameters.formatDateTime(dialect.now() + longest)}"


def _xclient(session: SessionInfo, dialect: Dialect) -> str | None:
    return " ".join(xclient.XCLIENT) if session.trusted else None


def _xforward(session: SessionInfo, dialect: Dialect) -> str | None:
    return " ".join(xclient.XFORWARD) if session.trusted else None


EXTENSIONS = (
    Extension("PIPELINING", "RFC 2920"),
    Extension("SIZE", "RFC 1870", _sizeLimit, mail={"SIZE": parameters.size}, lineGrowth=26),
    Extension("8BITMIME", "RFC 6152", mail={"BODY": parameters.body}, lineGrowth=17),
    Extension("SMTPUTF8", "RFC 6531", mail={"SMTPUTF8": parameters.smtputf8}, lineGrowth=10),
    Extension("ENHANCEDSTATUSCODES", "RFC 2034"),
    Extension("CHUNKING", "RFC 3030"),
    Extension("BINARYMIME", "RFC 3030"),
    Extension("STARTTLS", "RFC 3207", _ifNotSecure),
    # RFC 4954 3(6): the longest AUTH parameter adds 500 octets. 5: who has authenticated may say for whom, though he is not offered AUTH again.
    Extension("AUTH", "RFC 4954", _mechanisms, mail={"AUTH": parameters.auth}, lasting=True, lineGrowth=500),
    Extension(
        "DSN",
        "RFC 3461",
        honoured=True,
        mail={"RET": parameters.ret, "ENVID": parameters.envid},
        rcpt={"NOTIFY": parameters.notify, "ORCPT": parameters.orcpt},
        # RFC 3461 5.4: lines of 1036 octets, for what the parameters of either command may add.
        lineGrowth=524,
    ),
    Extension("REQUIRETLS", "RFC 8689", _ifSecure, honoured=True, mail={"REQUIRETLS": parameters.requireTLS}, lineGrowth=11),
    Extension("DELIVERBY", "RFC 2852", _deliverBy, honoured=True, mail={"BY": parameters.deliverBy}, lineGrowth=17),
    Extension("MT-PRIORITY", "RFC 6710", honoured=True, mail={"MT-PRIORITY": parameters.priority}, lineGrowth=15),
    Extension(
        "FUTURERELEASE",
        "RFC 4865",
        _futureRelease,
        honoured=True,
        mail={"HOLDFOR": parameters.holdFor, "HOLDUNTIL": parameters.holdUntil},
        lineGrowth=34,
    ),
    Extension("RRVS", "RFC 7293", honoured=True, rcpt={"RRVS": parameters.validSince}, lineGrowth=43),
    Extension("PRDR", "draft-hall-prdr", mail={"PRDR": parameters.prdr}, lineGrowth=5),
    Extension("LIMITS", "RFC 9422", _limits),
    Extension("XCLIENT", "Postfix XCLIENT", _xclient),
    Extension("XFORWARD", "Postfix XFORWARD", _xforward),
    Extension("EXPN", "RFC 5321", _ifExpanding),
    Extension("HELP", "RFC 5321"),
)
