"""A service that brings the log of its process.

Knows how twistd asks an application for its log observer. Must not know what is served or logged.
"""

# Twisted has no types for what is subclassed here.
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.logger import ILogObserver
from twisted.python.components import Componentized

from .log import EventLines, LogStream


class LoggedService(Service):
    """What the services of the command line have in common.

    Attributes:
        lines: where the log lines go; set by the subclass.
    """

    lines: EventLines

    @property
    def stream(self) -> LogStream | None:
        """The observer that the process should log to, if it is ours to choose."""
        return self.lines if isinstance(self.lines, LogStream) else None

    def setServiceParent(self, parent: Any) -> None:
        """Gives twistd our observer on the way: it asks the application for one."""
        if self.stream is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.stream)
        super().setServiceParent(parent)

    def flushLog(self) -> None:
        """Writes what the log still holds."""
        if self.stream is not None:
            self.stream.flush()
