"""How far a long command has come, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from twisted.internet.task import Clock

from twisted_smtplite.app.progress import Progress, Silence, makeProgress


class Terminal(io.StringIO):
    """A terminal that keeps what is shown on it."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """What was shown."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def go(progress: Progress, clock: Clock, seconds: float, messages: int) -> None:
    for _ in range(messages):
        clock.advance(seconds / messages)
        progress.advance(1000)
    progress.close()


def test_a_terminal_has_a_bar(terminal: Terminal) -> None:
    clock = Clock()
    go(makeProgress(terminal, lambda: 100_000, clock.seconds), clock, 5, 100)
    shown = terminal.shown()
    assert re.search(r"\b(\d\d) messages [^\r]* \1% ", shown)
    assert re.search(r"\b100 messages .*\b100%", shown)
    # Not one for each message.
    assert len(re.findall("messages", shown)) < 60


def test_without_an_end_the_bar_counts(terminal: Terminal) -> None:
    clock = Clock()
    go(makeProgress(terminal, lambda: None, clock.seconds), clock, 5, 100)
    assert "100 messages" in terminal.shown()


def test_what_is_over_soon_has_no_bar(terminal: Terminal) -> None:
    clock = Clock()
    go(makeProgress(terminal, lambda: 100_000, clock.seconds), clock, 0.4, 100)
    assert terminal.shown() == ""


def test_a_terminal_without_rich_and_a_file_have_a_line_now_and_then(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for stream in (terminal, io.StringIO()):
        clock = Clock()
        go(makeProgress(stream, lambda: 100_000, clock.seconds), clock, 25, 100)
        assert stream.getvalue().splitlines() == ["smtplite: 40 messages, 40 %", "smtplite: 80 messages, 80 %"]


def test_a_line_says_no_more_than_is_known() -> None:
    clock, stream = Clock(), io.StringIO()
    go(makeProgress(stream, lambda: None, clock.seconds), clock, 25, 100)
    assert stream.getvalue().splitlines() == ["smtplite: 40 messages", "smtplite: 80 messages"]


def test_silence_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    go(Silence(), Clock(), 100, 100)
    assert capfd.readouterr() == ("", "")
