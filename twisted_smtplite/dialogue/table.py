"""The table of commands: for each verb its rules, and the function that does it.

Knows which command is refused in which phase, what it may carry, and what may come before TLS and AUTH. What a command does is in `commands`. To add
a command, add a row here and a function there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ..model import replies
from ..model.address import Address
from ..model.profile import Profile
from ..model.reply import Reply
from . import commands, xclient
from .steps import Phase, Step

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        run: takes the session and the argument; returns a Reply or a Step.
        help: what HELP says of it: syntax, then meaning. Empty: HELP does not list it.
        wrong: the phases in which it is refused, with the reply.
        bare: True if it takes no argument.
        trusted: True if it is for trusted peers alone.
        beforeTLS: True if it is allowed before STARTTLS where TLS is required (RFC 3207 4).
        beforeAuth: True if it is allowed before AUTH where that is required (RFC 4954 6).
        path: takes the session, the address and the parameters, for a line whose path was read already: MAIL and RCPT as most clients send them.
        refusals: `wrong` as a tuple with one entry for each phase.
    """

    run: Callable[[Session, str], Reply | Step]
    help: tuple[str, ...] = ()
    wrong: Mapping[Phase, Reply] = field(default_factory=dict)
    bare: bool = False
    trusted: bool = False
    beforeTLS: bool = False
    beforeAuth: bool = False
    path: Callable[[Session, Address, str], Reply | Step] | None = None
    refusals: tuple[Reply | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "refusals", tuple(self.wrong.get(phase) for phase in Phase))


_NO_MAIL = {Phase.START: replies.HELO_FIRST, Phase.READY: replies.MAIL_FIRST}
# RFC 3030 2: DATA and BDAT do not mix, and between the chunks there is nothing to say about sender and recipients.
_IN_CHUNKS = {Phase.CHUNKS: replies.CHUNKS_OPEN}
_IN_TRANSACTION = dict.fromkeys((Phase.MAIL, Phase.RCPT, Phase.CHUNKS), replies.NOT_IN_TRANSACTION)
_NESTED = dict.fromkeys((Phase.MAIL, Phase.RCPT, Phase.CHUNKS), replies.NESTED_MAIL)

COMMANDS: dict[str, Command] = {
    "EHLO": Command(
        commands.ehlo,
        ("EHLO name", "Opens the session and lists the extensions; ends a transaction"),
        beforeTLS=True,
        beforeAuth=True,
    ),
    "HELO": Command(commands.helo, ("HELO name", "Opens the session without extensions; ends a transaction"), beforeAuth=True),
    "MAIL": Command(
        commands.mail,
        ("MAIL FROM:<address> [parameters]", "Begins a transaction; <> is the null sender"),
        wrong={Phase.START: replies.HELO_FIRST, **_NESTED},
        path=commands.mailFrom,
    ),
    "RCPT": Command(
        commands.rcpt,
        ("RCPT TO:<address> [parameters]", "Adds a recipient; may be repeated"),
        wrong={**_NO_MAIL, **_IN_CHUNKS},
        path=commands.rcptTo,
    ),
    # RFC 5321 3.3, RFC 2920 3.2: without a valid recipient 503 or 554, never 354.
    "DATA": Command(
        commands.data,
        ("DATA", "Sends the message: lines up to one with a single dot"),
        wrong={**_NO_MAIL, **_IN_CHUNKS, Phase.MAIL: replies.NO_RECIPIENTS},
        bare=True,
    ),
    # BDAT is refused by its function: its chunk has to be read, whatever becomes of it.
    "BDAT": Command(commands.bdat, ("BDAT size [LAST]", "Sends a chunk of the message: so many octets")),
    "RSET": Command(commands.rset, ("RSET", "Ends the transaction, and nothing else"), bare=True, beforeTLS=True, beforeAuth=True),
    "NOOP": Command(commands.noop, ("NOOP [text]", "Does nothing"), beforeTLS=True, beforeAuth=True),
    "QUIT": Command(commands.quit_, ("QUIT", "Ends the session"), bare=True, beforeTLS=True, beforeAuth=True),
    "VRFY": Command(commands.vrfy, ("VRFY address", "Asks whether an address is known")),
    "EXPN": Command(commands.expn, ("EXPN list", "Asks for the members of a mailing list")),
    "HELP": Command(commands.help_, ("HELP [command]", "Tells about a command"), beforeAuth=True),
    "STARTTLS": Command(
        commands.starttls,
        ("STARTTLS", "Encrypts the session; all that was said before is forgotten"),
        wrong=_IN_TRANSACTION,
        bare=True,
        beforeTLS=True,
        beforeAuth=True,
    ),
    "AUTH": Command(
        commands.auth,
        ("AUTH mechanism [response]", "Says who you are"),
        wrong={Phase.START: replies.HELO_FIRST, **_IN_TRANSACTION},
        beforeAuth=True,
    ),
    "XCLIENT": Command(
        xclient.xclient,
        ("XCLIENT attribute=value ...", "Says which client a trusted proxy speaks for; the session begins anew"),
        wrong=_IN_TRANSACTION,
        trusted=True,
        beforeAuth=True,
    ),
    "XFORWARD": Command(
        xclient.xforward,
        ("XFORWARD attribute=value ...", "Says for the log where the next message came from"),
        wrong=_IN_TRANSACTION,
        trusted=True,
        beforeAuth=True,
    ),
    # RFC 5321 4.2.4, Appendix F: known, and not implemented.
    **dict.fromkeys(("SEND", "SOML", "SAML", "TURN"), Command(commands.obsolete)),
    # A browser, or a web page that was made to talk to this port, must not get to say more.
    **dict.fromkeys(
        ("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PRI"),
        Command(commands.notSMTP, beforeTLS=True, beforeAuth=True),
    ),
}

# RFC 2033 4.1: LHLO in place of EHLO and HELO, which are not known. 4.2: DATA without an accepted recipient is 503.
LMTP_COMMANDS: dict[str, Command] = {
    "LHLO": replace(COMMANDS["EHLO"], help=("LHLO name", "Opens the session and lists the extensions; ends a transaction")),
    **{verb: row for verb, row in COMMANDS.items() if verb not in ("EHLO", "HELO")},
    "DATA": replace(COMMANDS["DATA"], wrong={**_NO_MAIL, **_IN_CHUNKS, Phase.MAIL: replies.NO_RECIPIENTS_LMTP}),
}


@lru_cache
def commandTable(profile: Profile, *, encrypted: bool, authenticated: bool) -> dict[str, Command]:
    """The rows that rule a session: those of the protocol, refused where TLS or AUTH must come first. Made once for each combination.

    Args:
        profile: the choices of the server.
        encrypted: True inside TLS.
        authenticated: True once the client has authenticated.
    """
    table = LMTP_COMMANDS if profile.lmtp else COMMANDS
    if profile.requireTLS and not encrypted:
        return {verb: row if row.beforeTLS else _refused(row, replies.TLS_FIRST) for verb, row in table.items()}
    # RFC 6409 4.3: a submission server refuses MAIL without AUTH, by 530.
    if (profile.requireAuth or profile.submission) and not authenticated:
        return {verb: row if row.beforeAuth else _refused(row, replies.AUTH_FIRST) for verb, row in table.items()}
    return table


def _refused(row: Command, reply: Reply) -> Command:
    """The row, refused in every phase."""
    if row.run is commands.bdat:
        return replace(row, run=lambda session, argument: commands.bdatRefused(session, argument, reply))
    return replace(row, wrong=dict.fromkeys(Phase, reply), bare=False)
