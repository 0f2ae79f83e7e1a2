"""Several coroutines at once: results in order, the first failure after all have ended, and cancelling."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from twisted_smtplite.client.together import together


async def wait(waiting: Deferred[Any]) -> Any:
    return await waiting


def run(waits: list[Deferred[Any]], most: int | None = None) -> tuple[Deferred[Any], list[Any]]:
    results: list[Any] = []
    running = Deferred.fromCoroutine(together((wait(each) for each in waits), most))
    running.addBoth(results.append)
    return running, results


def test_results_come_in_order() -> None:
    waits: list[Deferred[Any]] = [Deferred() for _ in range(3)]
    _, results = run(waits)
    for number in (2, 0, 1):
        assert results == []
        waits[number].callback(number)
    assert results == [[0, 1, 2]]
    assert run([])[1] == [[]]


def test_the_first_failure_is_told_when_all_have_ended() -> None:
    waits: list[Deferred[Any]] = [Deferred() for _ in range(3)]
    _, results = run(waits)
    waits[2].errback(ValueError("two"))
    waits[1].errback(ValueError("one"))
    assert results == []
    waits[0].callback(None)
    assert results[0].getErrorMessage() == "one"


@pytest.mark.filterwarnings("error")
def test_cancelling_cancels_each_whether_begun_or_not() -> None:
    waits: list[Deferred[Any]] = [Deferred() for _ in range(3)]
    running, results = run(waits, 2)
    running.cancel()
    assert results[0].check(CancelledError)
    assert [each.called for each in waits] == [True, True, False]
    gc.collect()
