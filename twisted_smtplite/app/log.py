"""Log lines: their two forms, and the stream that writes them many at a time.

Knows how a line looks as text and as JSON, and where lines go. Must not know what happened: `messagelog` does. An event of twisted.logger costs
25 to 40 microseconds; a line that is formatted once and written with the others of its reactor turn costs a tenth, and that makes a line for
each message affordable. What a client said enters a line only through `word`, `path` and `quoted`, whose results hold no control character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from threading import Lock
from typing import TYPE_CHECKING, Protocol, cast

from twisted.logger import ILogObserver, LogEvent, Logger, eventAsText, formatEventAsClassicLogText
from twisted.python.logfile import LogFile as TwistedLogFile
from zope.interface import implementer

from ..model.address import Address

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_log = Logger(namespace="smtplite")
# JSON with ASCII only: whatever the text holds, what comes out is printable and on one line.
_encode = json.JSONEncoder().encode
# Printable ASCII without space, quote, angle brackets and backslash: reads unquoted in key=value text and cannot be taken for another field.
_isPlain = re.compile(r"[!#-;=?-\[\]-~]+").fullmatch
# An address as nearly all are: needs no quotes, neither as an address nor here. Others take the long way.
_isUsual = re.compile(r"<[A-Za-z0-9_+=-]+(?:\.[A-Za-z0-9_+=-]+)*@[A-Za-z0-9.-]+>").fullmatch


class Form(Protocol):
    """How a line looks. A line is a body, made by a template and rendered values, behind the time."""

    def token(self, text: str) -> str:
        """Renders what the server itself made of plain characters: an id, a peer, a verb."""

    def word(self, text: str) -> str:
        """Renders a name that the client chose."""

    def quoted(self, text: str) -> str:
        """Renders a phrase: a reply, a cause."""

    def path(self, address: Address) -> str:
        """Renders a reverse-path or forward-path."""

    def paths(self, addresses: Sequence[Address]) -> str:
        """Renders several of them."""

    def pairs(self, values: Mapping[str, str]) -> str:
        """Renders values that a peer chose, by names that it did not."""

    def template(self, event: str, *names: str) -> str:
        """The %-template of the body of an `event` line: one ``%s`` for each field in `names`, and one at the end for what `more` adds."""

    def more(self, name: str, rendered: object) -> str:
        """A field that only some lines of an event have."""

    def bare(self, body: str) -> str:
        """The line without time and line end, for a log that adds them."""

    def line(self, seconds: float, body: str) -> str:
        """The whole line with its end. `seconds` are since the epoch."""

    def event(self, event: LogEvent) -> str | None:
        """The whole line, or lines, of an event of twisted.logger; None when there is nothing to say."""


class TextForm:
    """``2026-01-31T12:00:00+0100 [smtplite] message id=... from=<a@b.test> ...``: the look of other Twisted logs, with key=value fields."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def token(self, text: str) -> str:
        """The text as it is."""
        return text

    def word(self, text: str) -> str:
        """The text as it is when it is plain, else quoted."""
        return text if _isPlain(text) else _encode(text)

    def quoted(self, text: str) -> str:
        """The text in double quotes."""
        return _encode(text)

    def path(self, address: Address) -> str:
        """``<a@b.test>``, in double quotes when the address holds more than plain characters."""
        local, domain = address
        text = f"<{local}@{domain}>"
        if _isUsual(text):
            return text
        text = str(address)
        return f"<{text}>" if not text or _isPlain(text) else _encode(f"<{text}>")

    def paths(self, addresses: Sequence[Address]) -> str:
        """``<a@b.test>,<c@d.test>``."""
        return self.path(addresses[0]) if len(addresses) == 1 else ",".join([self.path(address) for address in addresses])

    def pairs(self, values: Mapping[str, str]) -> str:
        """``NAME="value",NAME="value"``."""
        return ",".join([f"{name}={_encode(value)}" for name, value in values.items()])

    def template(self, event: str, *names: str) -> str:
        """``event name=%s name=%s%s``."""
        return " ".join([event, *(f"{name}=%s" for name in names)]) + "%s"

    def more(self, name: str, rendered: object) -> str:
        """`` name=value``."""
        return f" {name}={rendered}"

    def bare(self, body: str) -> str:
        """The body itself."""
        return body

    def line(self, seconds: float, body: str) -> str:
        """``time [smtplite] body``, the time being local with its offset from UTC."""
        second = int(seconds)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second).astimezone().strftime("%Y-%m-%dT%H:%M:%S%z [smtplite] ")
        return f"{self._prefix}{body}\n"

    def event(self, event: LogEvent) -> str | None:
        """As Twisted's own log files have it."""
        return formatEventAsClassicLogText(event)


class JSONForm:
    """``{"time":"2026-01-31T11:00:00.000Z","event":"message","id":...}``: one object a line."""

    def __init__(self) -> None:
        # A second and what stands for it, as one value: events come from several threads.
        self._known = (-1, "")

    def token(self, text: str) -> str:
        """A JSON string."""
        return f'"{text}"'

    def word(self, text: str) -> str:
        """A JSON string."""
        return _encode(text)

    def quoted(self, text: str) -> str:
        """A JSON string."""
        return _encode(text)

    def path(self, address: Address) -> str:
        """A JSON string, empty for the null path."""
        return _encode(str(address))

    def paths(self, addresses: Sequence[Address]) -> str:
        """A JSON array of strings."""
        return "[" + ",".join([_encode(str(address)) for address in addresses]) + "]"

    def pairs(self, values: Mapping[str, str]) -> str:
        """A JSON object of strings."""
        return _encode(dict(values))

    def template(self, event: str, *names: str) -> str:
        """``"event":"...","name":%s,"name":%s%s}``: all of the object behind its time."""
        return ",".join([f'"event":"{event}"', *(f'"{name}":%s' for name in names)]) + "%s}"

    def more(self, name: str, rendered: object) -> str:
        """``,"name":value``."""
        return f',"{name}":{rendered}'

    def bare(self, body: str) -> str:
        """The object without a time."""
        return "{" + body

    def line(self, seconds: float, body: str) -> str:
        """The object with its time in UTC, to the millisecond."""
        known, prefix = self._known
        second = int(seconds)
        if second != known:
            prefix = datetime.fromtimestamp(second, timezone.utc).strftime('{"time":"%Y-%m-%dT%H:%M:%S.')
            self._known = (second, prefix)
        return f'{prefix}{int((seconds - second) * 1000):03d}Z",{body}\n'

    def event(self, event: LogEvent) -> str | None:
        """``"event":"log"`` with level, logger and text; a traceback stands in the text."""
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if not text:
            return None
        level = event.get("log_level")
        logger = event.get("log_system") or event.get("log_namespace") or "-"
        values = (self.word(level.name if level else "-"), self.word(str(logger)), self.word(text), "")
        return self.line(event.get("log_time") or 0.0, self.template("log", "level", "logger", "text") % values)


FORMS: dict[str, type[TextForm | JSONForm]] = {"text": TextForm, "json": JSONForm}
"""The values of ``--log-format``."""


def peerText(host: str, port: int) -> str:
    """A client as the log names it: ``address:port``, ``[address]:port`` for IPv6, ``unix`` for one on a unix socket, which has no host."""
    if not host:
        return "unix"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class EventLines:
    """Lines as events of twisted.logger: for an application that has its own log.

    Args:
        form: how a line looks.
    """

    def __init__(self, form: Form) -> None:
        self.form = form

    def line(self, body: str) -> None:
        """Logs one line."""
        _log.info("{line}", line=self.form.bare(body))

    def relay(self, text: str) -> None:
        """Logs whole lines that another process of this server has made."""
        for line in text.splitlines():
            _log.info("{line}", line=line)


class LogFile(Protocol):
    """What a stream writes to: an open text file, or a `TurnedLogFile`."""

    def write(self, data: str, /) -> object:
        """Takes text."""

    def flush(self) -> object:
        """Hands it to the operating system."""


class TurnedLogFile(TwistedLogFile):
    """A log file of Twisted's that goes on where it could not be turned: that closes the old one first, and the new one may not open."""

    def write(self, data: str) -> None:
        """Takes text."""
        if self._file.closed:
            self._openFile()  # type: ignore[no-untyped-call]
        super().write(data)  # type: ignore[no-untyped-call]


@implementer(ILogObserver)
class LogStream(EventLines):
    """The log of a process of our own: an observer of twisted.logger, and a way around it for the lines of messages.

    Events are written at once, lines at the end of the reactor turn; the order of all is kept. Until the first event shows that it was really
    installed as an observer, its lines are logged as events: so they are never lost, nor written where nobody looks.

    Args:
        form: how lines and events look.
        reactor: the reactor; it gives the time and ends the turn.
        file: where everything goes.
    """

    def __init__(self, form: Form, reactor: IReactorTime, file: LogFile) -> None:
        super().__init__(form)
        self._reactor = reactor
        self._file = file
        self._encoding = getattr(file, "encoding", None) or "utf-8"
        self._installed = False
        self._armed = False
        # Always the same list: each thread appends to it, also while another one takes out what it holds; the lock keeps writers in order. None of
        # them waits for it: a signal handler logs in the middle of anything, also of a write.
        self._lines: list[str] = []
        self._lock = Lock()

    def __call__(self, event: LogEvent) -> None:
        """Writes an event, in whichever thread it happened."""
        self._installed = True
        text = self.form.event(event)
        if text:
            self._lines.append(self._holdable(text))
            self.flush()

    def _holdable(self, text: str) -> str:
        """The text in what the file can hold: what it cannot must not take the lines that wait with it."""
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def relay(self, text: str) -> None:
        """Writes whole lines that another process of this server has made, when this turn of the reactor ends."""
        self._later(self._holdable(text))

    def line(self, body: str) -> None:
        """Takes one line; it is written when this turn of the reactor ends. Only in the reactor's thread."""
        if not self._installed:
            super().line(body)
            return
        self._later(self.form.line(self._reactor.seconds(), body))

    def _later(self, text: str) -> None:
        self._lines.append(text)
        if not self._armed:
            self._armed = True
            self._reactor.callLater(0, self._endTurn)

    def _endTurn(self) -> None:
        self._armed = False
        self.flush()

    def turn(self) -> None:
        """Has a `TurnedLogFile` begin a new file, when nobody writes to the old one. Only in the reactor's thread, not in a signal handler."""
        with self._lock:
            try:
                cast(TurnedLogFile, self._file).rotate()  # type: ignore[no-untyped-call]
            except OSError as error:
                _log.error("The log file cannot be turned: {cause}", cause=error.strerror)
        # Whoever came meanwhile has left it to us.
        self.flush()

    def flush(self) -> None:
        """Writes what waits; while another thread is writing, that one does."""
        # Once more after each write: whoever came meanwhile has left it to us.
        written = True
        while written and self._lines and self._lock.acquire(blocking=False):
            try:
                written = self._write()
            finally:
                self._lock.release()

    def _write(self) -> bool:
        """Returns False if that cannot be done now."""
        count = len(self._lines)
        text = "".join(self._lines[:count])
        del self._lines[:count]
        try:
            self._file.write(text)
            self._file.flush()
        except OSError:
            # The log is full or its reader is gone. There is nowhere to say so, and mail must not wait for a log.
            pass
        except RuntimeError:
            # A signal has come while this thread was writing to the same file elsewhere, and its handler logs. It comes with the next lines.
            self._lines[:0] = [text]
            return False
        return True
