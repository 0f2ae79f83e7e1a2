"""How a command ends that could not do what it was asked for: a status that scripts can tell apart, and one sentence.

Knows the numbers of sysexits.h, which programs that call ``sendmail`` know too, and how outcomes become one of them. Must not know the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import NoReturn

from ..model.errors import AuthenticationFailed, SMTPClientError, Unsendable
from ..model.results import RecipientOutcome, Stage
from .plain import plain


class ExitStatus(IntEnum):
    """What a command that sends mail ends with, and `USAGE` every command. The values are those of sysexits.h."""

    SENT = 0
    """Every message was accepted for every recipient (EX_OK)."""
    USAGE = 64
    """An option or argument is unknown or wrong; nothing was done (EX_USAGE)."""
    DATA = 65
    """A message cannot be sent: it names nobody to send it to, is malformed, or too large for the server (EX_DATAERR)."""
    INPUT = 66
    """What is to be sent cannot be read (EX_NOINPUT)."""
    NO_USER = 67
    """The server does not know a recipient, or not any more (EX_NOUSER)."""
    UNAVAILABLE = 69
    """It was refused for good, for another reason or for several (EX_UNAVAILABLE)."""
    TEMPORARY = 75
    """It failed for now: the same may be sent again later, to those who failed (EX_TEMPFAIL)."""
    NO_PERMISSION = 77
    """The server does not take the login, or demands one (EX_NOPERM)."""

    @property
    def permanent(self) -> bool:
        """True for what a later try does not mend."""
        return self not in (ExitStatus.SENT, ExitStatus.TEMPORARY)


# RFC 3463 3.2: bad or moved mailbox. RFC 5321 4.2.3: servers without enhanced codes say 550 or 553 to RCPT.
_NO_USER = {"5.1.1", "5.1.3", "5.1.6", "5.2.1"}
# RFC 4954 6: authentication required, or failed.
_NO_PERMISSION = {530, 534, 535, 538}


def ofOutcome(outcome: RecipientOutcome) -> ExitStatus:
    """The status for what became of one recipient."""
    if outcome.accepted:
        return ExitStatus.SENT
    if not outcome.permanent:
        return ExitStatus.TEMPORARY
    if outcome.code in _NO_PERMISSION:
        return ExitStatus.NO_PERMISSION
    unknown = outcome.enhanced in _NO_USER or (outcome.enhanced == "5.0.0" and outcome.code == 550)
    return ExitStatus.NO_USER if outcome.stage is Stage.RCPT and unknown else ExitStatus.UNAVAILABLE


def ofError(error: SMTPClientError) -> ExitStatus:
    """The status for what kept a whole message from being sent."""
    if error.temporary:
        return ExitStatus.TEMPORARY
    if isinstance(error, Unsendable):
        return ExitStatus.DATA
    return ExitStatus.NO_PERMISSION if isinstance(error, AuthenticationFailed) or error.reply.code in _NO_PERMISSION else ExitStatus.UNAVAILABLE


def together(statuses: Iterable[ExitStatus]) -> ExitStatus:
    """One status for many: `TEMPORARY` only where a later try may mend all, and where failures for good differ, `UNAVAILABLE`."""
    found = set(statuses)
    permanent = [status for status in found if status.permanent]
    if len(permanent) > 1:
        return ExitStatus.UNAVAILABLE
    if permanent:
        return permanent[0]
    return ExitStatus.TEMPORARY if ExitStatus.TEMPORARY in found else ExitStatus.SENT


def fail(sentence: str, status: int = 1) -> NoReturn:
    """Ends the process with a sentence on standard error.

    Raises:
        SystemExit: always, with `status`.
    """
    sentence = f"smtplite: {plain(sentence)}"
    if status == 1:
        sys.exit(sentence)
    sys.stderr.write(f"{sentence}\n")
    sys.exit(status)
