"""What the runner has in its hands: messages it has taken, and the transactions in which they go out.

Knows values only. Must not know the store or the sender.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall

from ..model.results import RecipientOutcome
from .entries import NewReport, Progress, QueuedMessage
from .verdict import Notice


class Attempt(NamedTuple):
    """An outcome that was heard and is not judged yet.

    Attributes:
        progress: whose.
        outcome: what was heard.
        host: from whom, or empty.
        extensions: what that server offers.
        time: when, in seconds since the epoch.
    """

    progress: Progress
    outcome: RecipientOutcome
    host: str
    extensions: AbstractSet[str]
    time: float


@dataclass(slots=True, eq=False)
class Work:
    """One message that was taken from the store.

    Attributes:
        message: the message.
        open: how many of its transactions wait or are in flight.
        failures: what was heard and is not judged yet: it waits for other recipients of the message.
        gathering: the timer that ends this waiting, or None.
        notices: what the sender is to be told, and no report is made of yet.
        reports: reports that are made, and not recorded yet.
        changed: True when the progress is not what was recorded last.
        recording: True while it is being recorded.
        recorded: True once the store has recorded it, and so has let go of it.
    """

    message: QueuedMessage
    open: int = 0
    failures: list[Attempt] = field(default_factory=list)
    gathering: IDelayedCall | None = None
    notices: list[Notice] = field(default_factory=list)
    reports: list[NewReport] = field(default_factory=list)
    changed: bool = False
    recording: bool = False
    recorded: bool = False

    @property
    def idle(self) -> bool:
        """True when there is nothing left to do with it."""
        return not (self.open or self.failures or self.changed or self.recording)


@dataclass(slots=True, eq=False)
class Transaction:
    """Recipients of one message that go to the same destination together.

    Attributes:
        work: the message.
        destination: where to.
        progress: theirs.
        began: when it was begun, in seconds since the epoch; 0 while it waits.
    """

    work: Work
    destination: str
    progress: list[Progress]
    began: float = 0.0
