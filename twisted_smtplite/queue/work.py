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

    @property
    def mayHave(self) -> bool:
        """True where the server has taken the message, or may have."""
        return self.outcome.accepted or self.outcome.uncertain


@dataclass(slots=True, eq=False)
class Work:
    """One message that was taken from the store, or as many of its recipients as were.

    Attributes:
        message: the message, as it was when it was taken first.
        taken: how many of its recipients are.
        more: True when there are more that are due.
        open: how many of its transactions wait or are in flight.
        failures: what was heard and is not judged yet: it waits for other recipients of the message.
        gathering: the timer that ends this waiting, or None.
        notices: what the sender is to be told, and no report is made of yet.
        reports: reports that are made, and not recorded yet.
        changed: recipients of whom something is known that is not recorded.
        recording: True while it is being recorded.
        putBack: True when nothing became of some of them.
    """

    message: QueuedMessage
    taken: int = 0
    more: bool = False
    open: int = 0
    failures: list[Attempt] = field(default_factory=list)
    gathering: IDelayedCall | None = None
    notices: list[Notice] = field(default_factory=list)
    reports: list[NewReport] = field(default_factory=list)
    changed: list[Progress] = field(default_factory=list)
    recording: bool = False
    putBack: bool = False

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
        offered: True once there was a connection for it.
        begun: True once a server may have the message.
        withdrawn: True when somebody has held the message, or taken recipients out, before that.
    """

    work: Work
    destination: str
    progress: list[Progress]
    began: float = 0.0
    offered: bool = False
    begun: bool = False
    withdrawn: bool = False
