"""The log lines of a worker: those of any server, with the worker's number in front.

Knows the forms of `log`. Must not know where the lines go.
"""

from __future__ import annotations

from twisted.logger import LogEvent, eventAsText

from .log import Form, JSONForm, TextForm


class WorkerTextForm(TextForm):
    """``2026-01-31T12:00:00+0100 [smtplite] worker=1 message id=...``.

    Args:
        number: of the worker.
        bare: leave out the time and the name of the logger.
    """

    def __init__(self, number: int, bare: bool = False) -> None:
        super().__init__()
        self._mark = f"worker={number} "
        self._bare = bare

    def line(self, seconds: float, body: str) -> str:
        """See the class."""
        return f"{self._mark}{body}\n" if self._bare else super().line(seconds, self._mark + body)

    def event(self, event: LogEvent) -> str | None:
        """An event, marked behind the name of its logger."""
        if self._bare:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            return f"{self._mark}{text}\n" if text else None
        head, found, rest = (super().event(event) or "").partition("] ")
        return f"{head}{found}{self._mark}{rest}" if found else None


class WorkerJSONForm(JSONForm):
    """``{"time":"...","worker":1,"event":"message",...}``.

    Args:
        number: of the worker.
        bare: leave out the time.
    """

    def __init__(self, number: int, bare: bool = False) -> None:
        super().__init__()
        self._mark = f'"worker":{number},'
        self._bare = bare

    def line(self, seconds: float, body: str) -> str:
        """See the class."""
        return f"{{{self._mark}{body}\n" if self._bare else super().line(seconds, self._mark + body)


def workerForm(form: str, number: int, bare: bool) -> Form:
    """The form of a worker's log.

    Args:
        form: a key of `log.FORMS`.
        number: of the worker.
        bare: see `WorkerTextForm`.
    """
    return (WorkerJSONForm if form == "json" else WorkerTextForm)(number, bare)
