"""The command ``smtplite queue``: looks at the queue of a relay, and changes it, also while a server runs it.

Knows its options and what each action is called. Must not know how the queue is kept, nor how it is shown.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

import getopt
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from io import TextIOWrapper
from typing import ClassVar, NamedTuple

from twisted.python import usage

from ..queue.admin import Administration, Choice, Done, NoQueue
from ..queue.entries import QueuedMessage
from ..queue.schema import DEFAULT_QUEUE
from .exitstatus import ExitStatus, fail
from .queuelisting import listed, messageJSON, shown, shownJSON, summary, totals, totalsJSON
from .rows import Row, helpText

_ROWS = (
    Row("queue", "DIR", "directory of the queue (default ./queue)"),
    Row("domain", "NAME", "list, flush, hold, release, drop: what waits for recipients in this domain"),
    Row("all", "", "hold, release, drop: all messages"),
    Row("held", "", "list: messages that are held"),
    Row("text", "", "show: the whole text of the message, and nothing else"),
    Row("json", "", "one JSON object a line, for programs"),
    Row("help", "", "show this and exit"),
)
_BEFORE = "Looks at the queue of a relay and changes it, whether a server runs it or not; a running one follows within a second."
_BEHIND = (
    "list shows what waits, show ID all that is known of a message. flush [ID ...] has those tried again now that were tried before. "
    "hold ID ... keeps messages from being sent, release ID ... lets them go, drop ID ... takes them out for good, and tells nobody. "
    "stats shows totals. Ends with 0; 64: an option is wrong; 1: a message is not there, or the queue cannot be used."
)


class Action(NamedTuple):
    """One thing to do.

    Attributes:
        act: does it. Returns the ids that are not there.
        options: those that it takes, beside ``queue``, ``json`` and ``help``.
        ids: True when it takes ids.
        bare: True when it can do without ids, domain and ``--all``.
    """

    act: Callable[[Administration, QueueOptions], Sequence[str]]
    options: Sequence[str]
    ids: bool = True
    bare: bool = True


class QueueOptions(usage.Options):
    """The options of ``smtplite queue``.

    Attributes:
        action: what to do.
        choice: which messages are meant.
    """

    synopsis = f"Usage: smtplite queue {'list|show|flush|hold|release|drop|stats'} [options] [ID ...]"
    optParameters: ClassVar[list[list[object]]] = [[row.name, None, None, row.meaning] for row in _ROWS if row.value]
    optFlags: ClassVar[list[list[object]]] = [[row.name, None, row.meaning] for row in _ROWS if not row.value and row.name != "help"]
    action: Action
    choice: Choice

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Options may stand before, between and behind the ids."""
        try:
            found, rest = getopt.gnu_getopt(list(options or ()), self.shortOpt, self.longOpt)
        except getopt.error as error:
            raise usage.UsageError(str(error)) from None
        super().parseOptions([part for name, value in found for part in ((name, value) if value else (name,))] + rest)

    def parseArgs(self, *arguments: str) -> None:
        """The action, and ids."""
        if not arguments or arguments[0] not in _ACTIONS:
            raise usage.UsageError(f"{f'{arguments[0]} is no action' if arguments else 'an action is needed'}: {', '.join(_ACTIONS)}")
        self["action"], ids = arguments[0], arguments[1:]
        self.action = _ACTIONS[arguments[0]]
        if ids and not self.action.ids:
            raise usage.UsageError(f"{self['action']} takes no ids")
        self.choice = Choice(ids or None)

    def postOptions(self) -> None:
        """What goes with what."""
        action, name = self.action, self["action"]
        for option in ("domain", "all", "held", "text"):
            if self[option] and option not in action.options:
                raise usage.UsageError(f"--{option} does not go with {name}")
        said = [text for text, given in (("ids", self.choice.ids), ("--domain", self["domain"]), ("--all", self["all"])) if given]
        if len(said) > 1:
            raise usage.UsageError(f"{name}: {' and '.join(said)} do not go together")
        if not said and not action.bare:
            needed = "ids, --domain or --all" if "all" in action.options else "an id"
            raise usage.UsageError(f"{name} needs {needed}")
        self.choice = self.choice._replace(domain=self["domain"])

    def getUsage(self, width: int | None = None) -> str:
        """The help."""
        return helpText(_BEFORE, (("Options", _ROWS),), _BEHIND, width)


def queue(arguments: Sequence[str]) -> None:
    """Looks at a queue, or changes it.

    Raises:
        SystemExit: an option is wrong (64), a message is not there, or the queue cannot be used (1); one sentence on standard error.
    """
    options = QueueOptions()
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        fail(f"queue: {error}; --help shows the options", ExitStatus.USAGE)
    directory = options["queue"] or DEFAULT_QUEUE
    if isinstance(sys.stdout, TextIOWrapper):
        # Addresses may have characters that the terminal does not know.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        administration = Administration(directory)
        try:
            missing = options.action.act(administration, options)
        finally:
            administration.close()
    except NoQueue as error:
        fail(f"queue: {error}")
    except sqlite3.Error as error:
        fail(f"queue: the queue in {directory} cannot be used: {error}")
    except BrokenPipeError:
        # Whoever reads has seen enough; nor can the rest be written when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        fail(f"queue: the queue in {directory} cannot be used: {error.strerror or error}")
    if missing:
        fail(f"queue: there is no message {', '.join(missing)} in {administration.directory}")


def _list(administration: Administration, options: QueueOptions) -> Sequence[str]:
    found = administration.messages(options.choice, held=True if options["held"] else None)
    if options["json"]:
        for message in found:
            _printJSON(messageJSON(message))
        return ()

    def each() -> Iterator[QueuedMessage]:
        for message in found:
            print(listed(message, time.time()))
            yield message

    print(summary(each()))
    return ()


def _show(administration: Administration, options: QueueOptions) -> Sequence[str]:
    missing = dict.fromkeys(options.choice.ids or ())
    for message in administration.messages(options.choice):
        missing.pop(message.id, None)
        text = administration.text(message.id)
        header = None if text is None else text.partition(b"\r\n\r\n")[0] + b"\r\n"
        if options["json"]:
            _printJSON(shownJSON(message, header, text if options["text"] else None))
        elif options["text"]:
            sys.stdout.flush()
            sys.stdout.buffer.write(text or b"")
        else:
            print(shown(message, time.time(), header))
    return list(missing)


def _flush(administration: Administration, options: QueueOptions) -> Sequence[str]:
    return _changed(administration, options, "tried again now", lambda: administration.flush(options.choice, time.time()))


def _hold(administration: Administration, options: QueueOptions) -> Sequence[str]:
    return _changed(administration, options, "held", lambda: administration.hold(options.choice, held=True))


def _release(administration: Administration, options: QueueOptions) -> Sequence[str]:
    return _changed(administration, options, "released", lambda: administration.hold(options.choice, held=False))


def _drop(administration: Administration, options: QueueOptions) -> Sequence[str]:
    what = "dropped" if options["domain"] is None else f"dropped for {options['domain']}"
    return _changed(administration, options, what, lambda: administration.drop(options.choice))


def _changed(administration: Administration, options: QueueOptions, what: str, change: Callable[[], Done]) -> Sequence[str]:
    """Makes a change and says what it did. Returns the ids that are not there."""
    ids = options.choice.ids or ()
    there = {message.id for message in administration.messages(options.choice)} if ids else set()
    done = change()
    if options["json"]:
        _printJSON({options["action"]: list(done.ids), "underWay": dict(done.underWay)})
    else:
        for queueId in done.ids:
            print(f"{queueId} {what}")
        for queueId, count in done.underWay.items():
            print(f"{queueId} is on its way to {count} {'recipient' if count == 1 else 'recipients'} at this moment: that could not be stopped")
        print(f"{len(done.ids)} {'message' if len(done.ids) == 1 else 'messages'} {what}")
    return [queueId for queueId in ids if queueId not in there]


def _stats(administration: Administration, options: QueueOptions) -> Sequence[str]:
    now = time.time()
    of, running = administration.totals(now), administration.isRunning
    if options["json"]:
        _printJSON(totalsJSON(of, running))
    else:
        print(totals(of, running, now))
    return ()


def _printJSON(value: object) -> None:
    print(json.dumps(value))


_ACTIONS = {
    "list": Action(_list, ("domain", "held"), ids=False),
    "show": Action(_show, ("text",), bare=False),
    "flush": Action(_flush, ("domain", "all")),
    "hold": Action(_hold, ("domain", "all"), bare=False),
    "release": Action(_release, ("domain", "all"), bare=False),
    "drop": Action(_drop, ("domain", "all"), bare=False),
    "stats": Action(_stats, (), ids=False),
}
