"""The command ``smtplite sendmail``, also when the program is started as ``sendmail``, ``mailq`` or ``newaliases``: hands one message to a server.

Knows what programs expect of it. Must not know how mail is sent. There is no queue: when the command ends, the server has the message, or the
caller is told that it has not.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Mapping, Sequence
from email.utils import formataddr, formatdate, make_msgid
from time import monotonic
from typing import Any, BinaryIO, ClassVar, NoReturn

from twisted.python import usage

from .. import __version__
from ..client.addressing import parseAddress, parseAddresses
from ..client.connector import Connector
from ..dialogue.grammar import parseHeloName
from ..model.address import Address
from ..model.clientprofile import TLSUse
from ..model.limits import Limits
from ..wire.client import causeOf
from . import clientoptions
from .clientoptions import ClientOptions
from .envelopes import EnvelopeChoices, makeLetter
from .exitstatus import ExitStatus
from .newmessage import completed, readMessage
from .progress import Silence
from .sending import Sending
from .sendmailoptions import Mode, SendmailOptions, parseSendmail
from .sendresults import Results
from .sources import Found

_HELP = f"""Usage: smtplite sendmail [options] [ADDRESS ...] < MESSAGE
Hands a message to the server that $SMTPLITE_SERVER names ({clientoptions.DEFAULT_SERVER} where it names none), and waits until that has it.

  -t               send to the To, Cc and Bcc addresses of the message too
  -i, -oi          a line that is a dot does not end the message
  -f, -r ADDRESS   sender; <> for none
  -F NAME          name for a From field that is made
  -S HOST:PORT     server
  -N WHEN          ask for reports: never, or success,failure,delay; -R full|hdrs: what they return; -V TEXT: what they name
  -v               show the dialogue
  -bs              do not read a message: join standard input and output to the server
  -bp, -bi, -q     show an empty queue, or do nothing: there is no queue, and there are no aliases
Other options of sendmail are taken, and mean nothing; other modes, such as -bd, -bt and -bv, and unknown options end with 64.
SMTPLITE_TLS, SMTPLITE_USER and SMTPLITE_PASSWORD in the environment are for TLS and a login.
"""


class _Server(ClientOptions):
    """The options for the server, which come from the environment and ``-S``."""

    serverOption = "-S"

    optParameters: ClassVar[list[list[object]]] = [
        [row.name, None, None, ""] for row in (*clientoptions.ROWS, *clientoptions.SECURITY_ROWS) if row.value
    ]
    optFlags: ClassVar[list[tuple[object, ...]]] = [(name, None, "") for name in clientoptions.FLAGS]


def sendmail(arguments: Sequence[str]) -> None:
    """Does what a program wants of ``sendmail``.

    Raises:
        SystemExit: always, with an `ExitStatus`.
    """
    try:
        options = parseSendmail(arguments)
    except ValueError as error:
        _fail(str(error), ExitStatus.USAGE)
    if options.mode in _SHOWN:
        print(_SHOWN[options.mode], end="")
        sys.exit(ExitStatus.SENT)
    try:
        server = _server(options, os.environ)
    except usage.UsageError as error:
        _fail(str(error), ExitStatus.USAGE)
    if options.mode is Mode.DIALOGUE:
        sys.exit(_dialogue(server))
    sys.exit(_send(options, server, sys.stdin.buffer))


_SHOWN = {
    Mode.HELP: _HELP,
    Mode.VERSION: f"twisted-smtplite {__version__}\n",
    Mode.QUEUE: "Mail queue is empty\n",
    Mode.FLUSH: "",
    Mode.ALIASES: "",
}


def _fail(sentence: str, status: ExitStatus) -> NoReturn:
    sys.stderr.write(f"sendmail: {sentence}\n")
    sys.exit(status)


def _server(options: SendmailOptions, environment: Mapping[str, str]) -> _Server:
    server = _Server()
    server.parseOptions([] if options.server is None else ["--server", options.server])
    # Whoever calls this waits for no user.
    server.checkClient({"SMTPLITE_PASSWORD": "", **environment})
    return server


def _send(options: SendmailOptions, server: _Server, stdin: BinaryIO) -> int:
    """Reads a message, and hands it to the server."""
    domain = mailDomain()
    try:
        sender = _sender(options, domain)
        recipients = [address for each in options.recipients for address in parseAddresses(each, domain)]
    except ValueError as error:
        _fail(str(error), ExitStatus.USAGE)
    if not recipients and not options.fromHeader:
        _fail("nobody is named to send to: give addresses, or -t for those of the message", ExitStatus.USAGE)
    origin = sender if not sender.isNull else Address(loginName(), domain)
    content = completed(
        readMessage(stdin, dots=options.dots),
        {
            "Message-ID": lambda: make_msgid(domain=domain),
            "Date": lambda: formatdate(localtime=True),
            "From": lambda: fromField(fullName() if options.fullName is None else options.fullName, origin),
        },
    )
    choices = EnvelopeChoices(
        sender=sender,
        recipients=tuple(recipients),
        headerToo=options.fromHeader,
        domain=domain,
        notify=options.notify,
        ret=options.ret,
        envelopeId=options.envelopeId,
    )
    return deliver(server, choices, content, verbose=options.verbose)


def deliver(server: ClientOptions, choices: EnvelopeChoices, content: bytes, *, verbose: bool) -> int:
    """Sends one message, and says on standard error what went wrong. Returns the `ExitStatus`."""
    from .running import BrokenOff, runToEnd
    from .senders import OneServer, Transcript, makePool

    results = Results(monotonic, quiet=True)
    found = Found("sendmail", content, len(content))

    async def main(reactor: Any) -> None:
        pool = makePool(reactor, server, 1, 1, Transcript() if verbose else None)
        sender = OneServer(pool, server.destination)
        await Sending(sender, iter((found,)), lambda each: makeLetter(each.source, choices), results, Silence(), single=True).run(1)
        await pool.close()

    try:
        runToEnd(main)
    except BrokenOff as broken:
        return 128 + broken.number
    return results.status


def _dialogue(server: _Server) -> int:
    """Joins the program to the server."""
    from .running import BrokenOff, runToEnd
    from .stdiopipe import join

    destination = server.destination
    if destination.credentials is not None or destination.tls in (TLSUse.ENCRYPTED, TLSUse.REQUIRED, TLSUse.IMPLICIT):
        _fail("-bs passes on what the program says, as it is: there is no TLS and no login that it does not ask for itself", ExitStatus.USAGE)

    async def main(reactor: Any) -> None:
        await join(Connector(reactor).endpoint(destination), reactor)

    try:
        runToEnd(main)
    except BrokenOff as broken:
        return 128 + broken.number
    except Exception as error:  # noqa: BLE001 - whatever an endpoint or a connection fails with
        # The program listens to SMTP, and hears it in SMTP.
        print(f"421 4.4.1 {destination} cannot be reached\r\n", end="")
        sys.stderr.write(f"sendmail: {destination}: {causeOf(error)}\n")
        return ExitStatus.TEMPORARY
    return ExitStatus.SENT


def _sender(options: SendmailOptions, domain: str) -> Address:
    if options.sender is None:
        return Address(loginName(), domain)
    try:
        return parseAddress(options.sender, domain)
    except ValueError as error:
        raise ValueError(f"-f {options.sender}: {error}") from None


def fromField(name: str, address: Address) -> str:
    """The value of a From field. What the caller gives as a name can be anything, but stays a name."""
    name = " ".join(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())
    try:
        return formataddr((name, str(address)))
    except UnicodeError:
        # RFC 6532 3.2: such an address has no form in ASCII.
        return f"<{address}>"


def loginName() -> str:
    """Whom this process belongs to."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "nobody"


def fullName() -> str:
    """What the owner of this process is called, or the empty string."""
    try:
        return os.environ.get("NAME") or pwd.getpwuid(os.getuid()).pw_gecos.partition(",")[0]
    except KeyError:
        return ""


def mailDomain() -> str:
    """What an address without a domain belongs to: this computer."""
    name = socket.gethostname()
    return name if parseHeloName(name, Limits()) == name else "localhost"
