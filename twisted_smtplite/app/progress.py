"""How far a long command has come, shown while it runs: as a bar on a terminal, as a line now and then elsewhere.

Knows both forms, and that nothing is shown of what is over soon. Must not know what is being done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from types import ModuleType

_BAR_AFTER = 0.5
_BAR_EVERY = 0.1
_LINE_EVERY = 10.0
"""Seconds."""


class Progress(Protocol):
    """What is told of the progress."""

    def advance(self, octets: int) -> None:
        """One more message is done, which took up so many octets."""

    def close(self) -> None:
        """That was all."""


class Silence:
    """Shows nothing."""

    def advance(self, octets: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """A line every ten seconds.

    Args:
        stream: where it is shown.
        total: tells the octets of all messages, None when nobody knows; asked when something is shown.
        clock: the time in seconds.
    """

    def __init__(self, stream: TextIO, total: Callable[[], int | None], clock: Callable[[], float]) -> None:
        self._stream = stream
        self._total = total
        self._clock = clock
        self._messages = 0
        self._octets = 0
        self._next = clock() + _LINE_EVERY

    def advance(self, octets: int) -> None:
        """Counts, and shows a line when it is time."""
        self._messages += 1
        self._octets += octets
        if self._clock() >= self._next:
            self._next = self._clock() + _LINE_EVERY
            total = self._total()
            part = f", {100 * self._octets // total} %" if total else ""
            self._stream.write(f"smtplite: {self._messages} messages{part}\n")
            self._stream.flush()

    def close(self) -> None:
        """Nothing."""


class Bar:
    """A bar that rich draws, from half a second on. What else is written to the terminal meanwhile stands above it.

    Args:
        rich: the module ``rich.progress``.
        stream: the terminal.
        total: tells the octets of all messages, None when nobody knows; asked when something is shown.
        clock: the time in seconds.
    """

    def __init__(self, rich: Callable[[], ModuleType], stream: TextIO, total: Callable[[], int | None], clock: Callable[[], float]) -> None:
        self._rich = rich
        self._stream = stream
        self._total = total
        self._clock = clock
        self._messages = 0
        self._octets = 0
        self._next = clock() + _BAR_AFTER
        self._bar: Any = None
        self._task: Any = None

    def advance(self, octets: int) -> None:
        """Counts, and draws when it is time."""
        self._messages += 1
        self._octets += octets
        if self._clock() >= self._next:
            self._draw()
            self._next = self._clock() + _BAR_EVERY

    def _draw(self) -> None:
        if self._bar is None:
            self._begin()
        self._bar.update(self._task, completed=self._octets, messages=self._messages, refresh=True)

    def _begin(self) -> None:
        rich = self._rich()
        from rich.console import Console

        columns = (
            rich.TextColumn("{task.fields[messages]} messages"),
            rich.BarColumn(),
            rich.TaskProgressColumn(),
            rich.TransferSpeedColumn(),
            rich.TimeRemainingColumn(),
        )
        # Drawn from here and by no thread, so that it costs nothing between two messages.
        shown = {"console": Console(file=self._stream), "auto_refresh": False, "transient": True, "redirect_stdout": sys.stdout.isatty()}
        self._bar = rich.Progress(*columns, **shown)
        self._task = self._bar.add_task("", total=self._total(), completed=self._octets, messages=self._messages)
        self._bar.start()

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._draw()
            self._bar.stop()


def makeProgress(stream: TextIO, total: Callable[[], int | None], clock: Callable[[], float]) -> Progress:
    """A bar if `stream` is a terminal and rich is installed (the extra ``progress``), else lines."""
    from importlib import import_module
    from importlib.util import find_spec

    if stream.isatty() and find_spec("rich") is not None:
        # It takes as long to load as some hundred messages to send.
        return Bar(lambda: import_module("rich.progress"), stream, total, clock)
    return Lines(stream, total, clock)
