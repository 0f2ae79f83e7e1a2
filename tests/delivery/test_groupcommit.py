from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_smtplite.delivery.groupcommit import GroupCommit


class Disk:
    """Commits when the test says so; items are their own results."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lots: list[list[str]] = []
        self.works: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.commits: GroupCommit[str, str] = GroupCommit(self.clock, self._inThread, self._commit)
        self.error: Exception | None = None

    def _commit(self, items: Sequence[str]) -> Sequence[str]:
        self.lots.append(list(items))
        if self.error is not None:
            raise self.error
        return [item.upper() for item in items]

    def _inThread(self, work: Callable[[], Any]) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.works.append((answer, work))
        return answer

    def finishOne(self) -> None:
        answer, work = self.works.pop(0)
        try:
            result = work()
        except OSError as error:
            answer.errback(error)
        else:
            answer.callback(result)

    def add(self, items: str) -> list[Deferred[str]]:
        return [self.commits.add(item) for item in items]


def results(answers: list[Deferred[str]]) -> list[object]:
    found: list[object] = []
    for answer in answers:
        answer.addErrback(lambda failure: failure.value)
        answer.addCallback(found.append)
    return found


def test_what_comes_in_one_turn_is_one_lot() -> None:
    disk = Disk()
    answers = disk.add("abc")
    assert disk.works == []
    disk.clock.advance(0)
    disk.finishOne()
    assert disk.lots == [["a", "b", "c"]]
    assert results(answers) == ["A", "B", "C"]


def test_what_comes_meanwhile_is_the_next_lot_and_only_one_is_on_its_way() -> None:
    disk = Disk()
    disk.add("a")
    disk.clock.advance(0)
    later = disk.add("bc")
    disk.clock.advance(1)
    assert len(disk.works) == 1
    disk.finishOne()
    disk.finishOne()
    assert disk.lots == [["a"], ["b", "c"]]
    assert results(later) == ["B", "C"]
    disk.add("d")
    disk.clock.advance(0)
    disk.finishOne()
    assert disk.lots[2:] == [["d"]]


def test_who_was_alone_waits_for_nobody() -> None:
    disk = Disk()
    disk.add("a")
    disk.clock.advance(0)
    disk.finishOne()
    disk.add("b")
    # Without another turn of the reactor.
    disk.finishOne()
    assert disk.lots == [["a"], ["b"]]


def test_after_a_lot_of_many_the_others_of_a_turn_are_waited_for() -> None:
    disk = Disk()
    disk.add("ab")
    disk.clock.advance(0)
    disk.finishOne()
    disk.add("cd")
    assert disk.works == []
    disk.clock.advance(0)
    disk.finishOne()
    assert disk.lots == [["a", "b"], ["c", "d"]]


def test_a_lot_has_an_end() -> None:
    disk = Disk()
    disk.add("x" * 300)
    disk.clock.advance(0)
    while disk.works:
        disk.finishOne()
    assert [len(lot) for lot in disk.lots] == [128, 128, 44]


def test_a_commit_that_raises_fails_its_lot_and_not_the_next() -> None:
    disk = Disk()
    disk.error = OSError("broken")
    first = disk.add("ab")
    disk.clock.advance(0)
    second = disk.add("c")
    disk.finishOne()
    disk.error = None
    disk.finishOne()
    assert list(map(str, results(first))) == ["broken", "broken"]
    assert results(second) == ["C"]


def test_who_stops_waiting_is_committed_all_the_same() -> None:
    disk = Disk()
    first, second = disk.add("ab")
    first.cancel()
    disk.clock.advance(0)
    disk.finishOne()
    assert disk.lots == [["a", "b"]]
    (cancelled,) = results([first])
    assert isinstance(cancelled, CancelledError)
    assert results([second]) == ["B"]


@pytest.mark.parametrize("error", [None, OSError("broken")])
def test_at_the_end_what_waits_is_committed_at_once(error: Exception | None) -> None:
    disk = Disk()
    disk.error = error
    answers = disk.add("ab")
    disk.commits.finish()
    assert results(answers) == ([error, error] if error else ["A", "B"])
    disk.clock.advance(0)
    assert disk.works == []
