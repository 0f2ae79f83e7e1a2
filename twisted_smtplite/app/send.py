"""The command ``smtplite send``: sends messages from files, Maildirs, mboxes and standard input.

Knows the parts, and puts them together. Must not know how any of them works.
"""

# Twisted has no types for option parsers.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.python import usage

from ..model.clientprofile import ClientLimits
from ..model.errors import SMTPClientError
from .envelopes import EnvelopeChoices, makeLetter
from .exitstatus import ExitStatus, fail, together
from .plain import plain
from .progress import Silence, makeProgress
from .sending import Sending
from .sendoptions import SendOptions
from .sendresults import Results, recipientList
from .sources import Found, Gone, Sources

if TYPE_CHECKING:
    pass


def send(arguments: Sequence[str]) -> None:
    """Sends messages.

    Args:
        arguments: options, and what is to be sent.

    Raises:
        SystemExit: always but when all is well, with an `ExitStatus`; or with 128 and the number of the signal that broke it off.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # Names of files can be any octets, and addresses any letters.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = SendOptions(os.environ)
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        fail(f"send: {error}; --help shows the options", ExitStatus.USAGE)
    try:
        sources = Sources(options.names, sys.stdin.buffer)
    except OSError as error:
        fail(f"send: {error.filename}: {error.strerror}", ExitStatus.INPUT)
    except ValueError as error:
        fail(f"send: {error}", ExitStatus.INPUT)
    choices = EnvelopeChoices(
        sender=options.sender,
        recipients=tuple(options.recipients),
        headerToo=not options.recipients,
        notify=options.notify,
        ret=options["ret"] and options["ret"].upper(),
        envelopeId=options["envid"],
        requireTLS=bool(options["require-tls"]),
        priority=options.priority,
    )
    status = _show(sources, choices) if options["dry-run"] else _send(options, sources, choices)
    sys.exit(status)


def _show(sources: Sources, choices: EnvelopeChoices) -> int:
    """Shows who would get what."""
    return together([_showOne(found, choices) for found in sources])


def _showOne(found: Found | Gone, choices: EnvelopeChoices) -> ExitStatus:
    if isinstance(found, Gone):
        sys.stderr.write(plain(f"{found.name}: {found.reason}") + "\n")
        return ExitStatus.INPUT
    try:
        envelope, content = makeLetter(found.source, choices)
    except (ValueError, SMTPClientError) as error:
        sys.stderr.write(plain(f"{found.name}: {error}") + "\n")
        return ExitStatus.DATA
    whom = recipientList([each.address for each in envelope.recipients])
    print(plain(f"{found.name}: <{envelope.sender}> to {whom}; {content.size} octets"))
    return ExitStatus.SENT


def _send(options: SendOptions, sources: Sources, choices: EnvelopeChoices) -> int:
    from .running import BrokenOff, runToEnd
    from .senders import OneServer, Transcript, makePool, throughMX

    results = Results(monotonic, asJSON=bool(options["json"]), quiet=bool(options["quiet"]))
    progress = Silence() if options["quiet"] else makeProgress(sys.stderr, sources.octets, monotonic)

    async def main(reactor: Any) -> None:
        try:
            # One connection, and its dialogue can be read.
            connections = 1 if options["transcript"] else options.connections
            pool = makePool(reactor, options, connections, options.messagesPerConnection, Transcript() if options["transcript"] else None)
            server = options.destination
            sender = throughMX(pool, server.tls, reactor) if options["mx"] else OneServer(pool, server)
            sending = Sending(sender, iter(sources), lambda found: makeLetter(found.source, choices), results, progress, single=not options["mx"])
            await sending.run(connections * ClientLimits().pipelinedMessages)
            progress.close()
            results.summary()
            await pool.close()
        finally:
            progress.close()

    try:
        runToEnd(main)
    except BrokenOff as broken:
        results.summary()
        return 128 + broken.number
    return results.status
