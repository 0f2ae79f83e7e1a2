"""The command line of ``sendmail``, as programs have used it for decades.

Knows which options mean something here, which are taken and mean nothing, and which cannot be had. Must not know how mail is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from getopt import GetoptError, gnu_getopt

# What sendmail, Postfix, Exim and OpenSMTPD take together; a colon stands behind what has a value.
_SHORT = "A:B:C:D:F:GIL:N:O:R:S:UV:X:b:d:e:f:h:imno:p:r:stvx"
_LONG = ("help", "version")
_NOTIFY = {"NEVER", "SUCCESS", "FAILURE", "DELAY"}


class Mode(Enum):
    """What the command is to do."""

    SEND = "m"
    """Send the message on standard input."""
    DIALOGUE = "s"
    """Let the program that started it talk to the server by itself."""
    QUEUE = "p"
    """Show what waits to be sent: nothing ever does."""
    ALIASES = "i"
    """Read the aliases anew: there are none."""
    FLUSH = "q"
    """Send what waits now."""
    HELP = "help"
    VERSION = "version"


@dataclass
class SendmailOptions:
    """What was asked for.

    Attributes:
        mode: what to do.
        fromHeader: True adds the recipients of the header fields.
        dots: True takes a line that is a dot for text; else it ends the message.
        sender: the sender as given, or None.
        fullName: the sender's name for a From field that is made.
        server: the server as given, or None.
        verbose: True shows the dialogue.
        notify: when to ask for reports (RFC 3461 4.1), or None.
        ret: what they return, ``"FULL"`` or ``"HDRS"``, or None.
        envelopeId: what they name, or None.
        recipients: as given.
    """

    mode: Mode = Mode.SEND
    fromHeader: bool = False
    dots: bool = False
    sender: str | None = None
    fullName: str | None = None
    server: str | None = None
    verbose: bool = False
    notify: frozenset[str] | None = None
    ret: str | None = None
    envelopeId: str | None = None
    recipients: list[str] = field(default_factory=list)


def parseSendmail(arguments: Sequence[str]) -> SendmailOptions:
    """Reads a command line.

    Raises:
        ValueError: an option is unknown, wrong, or cannot be had; one sentence.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    # -q has a value or none: -q30m is a daemon's, -q alone is not.
    flush = [argument for argument in arguments[:end] if argument.startswith("-q")]
    try:
        given, recipients = gnu_getopt([argument for argument in arguments[:end] if argument not in flush], _SHORT, _LONG)
    except GetoptError as error:
        raise ValueError(str(error)) from None
    options = SendmailOptions(mode=Mode.FLUSH if flush else Mode.SEND, recipients=[*recipients, *arguments[end + 1 :]])
    for name, value in given:
        act = _ACTIONS.get(name)
        if act is not None:
            act(options, value)
    return options


def _mode(options: SendmailOptions, value: str) -> None:
    if value not in ("m", "s", "p", "i"):
        raise ValueError(f"-b{value} is not to be had here: there are -bm, -bs, -bp and -bi; the server is smtplite serve")
    options.mode = Mode(value)


def _option(options: SendmailOptions, value: str) -> None:
    """-oi is one of dozens of settings; the others are about what is not here."""
    if value == "i":
        options.dots = True


def _notify(options: SendmailOptions, value: str) -> None:
    wanted = frozenset(value.upper().split(","))
    if not wanted <= _NOTIFY or ("NEVER" in wanted and len(wanted) > 1):
        raise ValueError(f"-N {value}: never is needed, or some of success, failure and delay")
    options.notify = wanted


def _ret(options: SendmailOptions, value: str) -> None:
    if value.upper() not in ("FULL", "HDRS"):
        raise ValueError(f"-R {value}: full or hdrs is needed")
    options.ret = value.upper()


def _envelopeId(options: SendmailOptions, value: str) -> None:
    if not (0 < len(value) <= 100 and value.isascii() and value.isprintable()):
        # RFC 3461 4.4: not longer than 100 characters.
        raise ValueError(f"-V {value}: 1 to 100 printable ASCII characters are needed")
    options.envelopeId = value


def _set(name: str, value: object = None) -> Callable[[SendmailOptions, str], None]:
    """Sets a field to what is given; to `value` where the option has none."""
    return lambda options, given: setattr(options, name, given if value is None else value)


_ACTIONS: dict[str, Callable[[SendmailOptions, str], None]] = {
    "-b": _mode,
    "-f": _set("sender"),
    "-r": _set("sender"),
    "-F": _set("fullName"),
    "-S": _set("server"),
    "-N": _notify,
    "-R": _ret,
    "-V": _envelopeId,
    "-i": _set("dots", True),
    "-o": _option,
    "-t": _set("fromHeader", True),
    "-v": _set("verbose", True),
    "--help": _set("mode", Mode.HELP),
    "--version": _set("mode", Mode.VERSION),
}
