"""Whose turn it is: transactions by destination, so that a slow or dead one never holds up the others.

Knows counts, priorities and the times at which a destination may be asked again. Must not know the store, the sender or a clock: the time comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, nsmallest
from typing import TypeAlias

from ..model.results import PeerReply
from .limits import RunnerLimits
from .work import Transaction

_LEAST_PUT_OFF, _MOST_PUT_OFF = 10.0, 3600.0
"""Seconds for which a transaction is put off that would have to wait behind many."""
_PACE_WEIGHT = 0.2
"""How much the newest transaction counts in the mean of the time that one takes."""
_STALE = 64
"""Entries of a heap that may be out of date, beside as many as there are destinations."""
_PROBE_SPREAD = 0.1
"""By up to this part of the wait recipients are put off beyond it, so that they do not all come with the probe."""


class Destination:
    """One place where mail goes.

    Attributes:
        name: its name.
        inFlight: how many transactions are under way.
        trouble: why it could not be reached when it was last tried, or None.
        host: with whom that was.
        until: it is not tried before this time, in seconds since the epoch.
        turn: the number of its last turn, 0 when it had none.
        entry: what stands for it among those that may have a turn; None when it may not.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inFlight = 0
        self.trouble: PeerReply | None = None
        self.host = ""
        self.until = 0.0
        self.turn = 0
        self.entry: _Entry | None = None
        self._wait = 0.0
        # The seconds that each transaction adds to the time by which all are done, and when those will be done that were put off.
        self._pace = 0.0
        self._placed = 0.0
        self._moved = 0.0
        # Higher priority first (RFC 6710 5), then in the order of coming.
        self._waiting: list[tuple[int, int, Transaction]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def priority(self) -> int:
        """That of the transaction that comes next, negated: smaller is more urgent."""
        return self._waiting[0][0]

    def push(self, transaction: Transaction, order: int) -> None:
        """Lets a transaction wait."""
        heappush(self._waiting, (-transaction.work.message.envelope.priority, order, transaction))

    def pop(self) -> Transaction:
        """The transaction whose turn it is."""
        return heappop(self._waiting)[2]

    def keep(self, count: int) -> list[Transaction]:
        """Lets the next `count` wait, and returns the others, in their order."""
        kept = nsmallest(count, self._waiting)
        rest = sorted(self._waiting)[len(kept) :]
        self._waiting = kept
        return [transaction for _, _, transaction in rest]

    def closed(self, now: float) -> bool:
        """True when it is not to be tried now."""
        return self.trouble is not None and now < self.until

    def slots(self, most: int) -> int:
        """How many more transactions may begin: of one in trouble, one that probes."""
        return (1 if self.trouble is not None else most) - self.inFlight

    def begun(self, now: float) -> None:
        """A transaction begins."""
        if not self.inFlight:
            self._moved = now
        self.inFlight += 1

    def ended(self, began: float, now: float) -> None:
        """A transaction has ended, and what was learned of the destination is told to `opened` or `failed`."""
        self._pace += ((now - began) / self.inFlight - self._pace) * _PACE_WEIGHT
        self._moved = now
        self.inFlight -= 1

    def isSlow(self, now: float) -> bool:
        """True when those that wait will do so for long, as far as can be told."""
        stands = (now - self._moved) / self.inFlight if self.inFlight else 0.0
        return len(self._waiting) * max(self._pace, stands) > _LEAST_PUT_OFF

    def reopen(self, now: float) -> None:
        """Somebody wants it to be tried now."""
        self.until = min(self.until, now)

    def opened(self) -> None:
        """It was reached."""
        self.trouble = None
        self._wait = 0.0

    def failed(self, trouble: PeerReply, host: str, now: float, limits: RunnerLimits, draw: float) -> None:
        """It could not be reached. Those that fail while it is closed already had begun before, and count as one."""
        if not self.closed(now):
            self._wait = min(self._wait * 2 or limits.firstProbe, limits.longestProbe)
            self.until = now + self._wait * (0.9 + 0.2 * draw)
        self.trouble, self.host = trouble, host

    def suspendedUntil(self, draw: float) -> float:
        """When a recipient is due again who was put off because the destination is closed."""
        return self.until + self._wait * _PROBE_SPREAD * draw

    def place(self, now: float) -> float:
        """When a transaction is due again that has to go behind all that wait and were put off before it."""
        behind = max(now + _LEAST_PUT_OFF, now + len(self._waiting) * self._pace, self._placed + self._pace)
        self._placed = min(behind, now + _MOST_PUT_OFF)
        return self._placed


_Entry: TypeAlias = tuple[int, int, int, Destination]
"""Its priority and its last turn, both smaller for what comes first; a number that makes it unique; whose it is."""


class Destinations:
    """All destinations that something waits for, is under way to, or that cannot be reached.

    Args:
        limits: how much at a time.
        draw: gives random numbers from 0 to 1.
    """

    def __init__(self, limits: RunnerLimits, draw: Callable[[], float]) -> None:
        self._limits = limits
        self._draw = draw
        self._all: dict[str, Destination] = {}
        self._awaited: dict[str, Destination] = {}
        self._order = 0
        self._turns = 0
        self._entries = 0
        # Those that may have a turn: with nothing under way, and with something. What is out of date is left in them until it comes to the top.
        self._idle: list[_Entry] = []
        self._busy: list[_Entry] = []
        self._tidied = 0.0
        self.inFlight = 0
        """How many transactions are under way in all."""

    def __getitem__(self, name: str) -> Destination:
        found = self._all.get(name)
        if found is None:
            found = self._all[name] = Destination(name)
        return found

    def add(self, transaction: Transaction) -> None:
        """Lets a transaction wait for its turn."""
        self._order += 1
        destination = self._awaited[transaction.destination] = self[transaction.destination]
        destination.push(transaction, self._order)
        if destination.entry is None or destination.entry[0] != destination.priority:
            self._enter(destination)

    def next(self, now: float) -> Transaction | None:
        """The transaction that is to begin now, which counts as being under way from here; None when none may.

        Of the destinations that may have one, that with the most urgent message has its turn; of those, the one whose last turn is longest ago.
        """
        limits = self._limits
        if self.inFlight >= limits.inFlight:
            return None
        firsts = [self._first(self._idle)]
        # The last quarter is for those that have nothing under way.
        if self.inFlight < limits.inFlight - limits.inFlight // 4:
            firsts.append(self._first(self._busy))
        ready = [entry for entry in firsts if entry is not None]
        if not ready:
            return None
        chosen = min(ready)[3]
        self._turns += 1
        chosen.turn = self._turns
        self.inFlight += 1
        chosen.begun(now)
        transaction = chosen.pop()
        if not len(chosen):
            del self._awaited[chosen.name]
        self._enter(chosen)
        transaction.began = now
        return transaction

    def ended(self, transaction: Transaction, now: float, trouble: PeerReply | None, host: str) -> list[Transaction]:
        """A transaction has ended, in `trouble` when its destination was not reached. Returns those that wait for a destination now closed."""
        destination = self[transaction.destination]
        destination.ended(transaction.began, now)
        self.inFlight -= 1
        if trouble is None:
            destination.opened()
            self._leave(destination)
            return []
        destination.failed(trouble, host, now, self._limits, self._draw())
        self._forget(now)
        return self._keep(destination, 0)

    def released(self, transaction: Transaction) -> None:
        """A transaction has come to nothing, and nothing was learned of its destination."""
        destination = self[transaction.destination]
        destination.inFlight -= 1
        self.inFlight -= 1
        self._leave(destination)

    def crowd(self, count: int, recipients: int, now: float) -> list[Transaction]:
        """Transactions that are to be put off, to make room for others: of those that most others wait in front of, for long.

        About as many as are to be had up to `count`, and up to those that have so many recipients.
        """
        crowd: list[Transaction] = []
        slow = [destination for destination in self._awaited.values() if len(destination) > self._limits.perDestination and destination.isSlow(now)]
        while (count > 0 or recipients > 0) and slow:
            largest = max(slow, key=len)
            if len(largest) <= self._limits.perDestination:
                break
            some = self._keep(largest, max(self._limits.perDestination, len(largest) // 2))
            crowd += some
            count -= len(some)
            recipients -= sum(len(transaction.progress) for transaction in some)
        return crowd

    def clear(self) -> list[Transaction]:
        """All that wait, which do so no longer."""
        return [transaction for destination in list(self._awaited.values()) for transaction in self._keep(destination, 0)]

    def _leave(self, destination: Destination) -> None:
        """Something is no longer under way: it may have another turn, or is nothing to know any more."""
        self._enter(destination)
        if not len(destination) and not destination.inFlight and destination.trouble is None:
            del self._all[destination.name]

    def _keep(self, destination: Destination, count: int) -> list[Transaction]:
        rest = destination.keep(count)
        if not len(destination):
            self._awaited.pop(destination.name, None)
        self._enter(destination)
        return rest

    def _enter(self, destination: Destination) -> None:
        """Notes whether it may have a turn, and when. To be called when anything has changed that decides it."""
        destination.entry = None
        if not len(destination) or destination.slots(self._limits.perDestination) <= 0:
            return
        self._entries += 1
        destination.entry = entry = (destination.priority, destination.turn, self._entries, destination)
        heap = self._busy if destination.inFlight else self._idle
        heappush(heap, entry)
        if len(heap) > 2 * len(self._awaited) + _STALE:
            heap[:] = [entry for entry in heap if entry[3].entry is entry]
            heapify(heap)

    @staticmethod
    def _first(heap: list[_Entry]) -> _Entry | None:
        while heap and heap[0][3].entry is not heap[0]:
            heappop(heap)
        return heap[0] if heap else None

    def _forget(self, now: float) -> None:
        """Forgets the troubles that nobody has come to know the end of; now and then, since there may be many."""
        if abs(now - self._tidied) < self._limits.firstProbe:
            return
        self._tidied = now
        for destination in list(self._all.values()):
            if not len(destination) and not destination.inFlight and now > destination.until + self._limits.longestProbe:
                del self._all[destination.name]
