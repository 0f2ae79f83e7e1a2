"""Work in few threads."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Thread
from typing import Any
from unittest.mock import Mock

import pytest
from auth.rooms import HeldThreads, settled
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.threadpool import ThreadPool

from twisted_smtplite.auth.threads import FewThreads


def begun(few: FewThreads, result: Any) -> Deferred[Any]:
    def work() -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return Deferred.fromCoroutine(few.call(work))


def test_so_many_run_and_the_others_wait_for_their_turn() -> None:
    held = HeldThreads(atOnce=False)
    few = FewThreads(held, 2)  # type: ignore[arg-type]
    answers = [begun(few, number) for number in range(4)]
    assert len(held.waiting) == 2
    held.run()
    assert len(held.waiting) == 2
    for _ in range(3):
        held.run()
    assert [settled(answer) for answer in answers] == [0, 1, 2, 3]


def test_what_is_raised_arrives() -> None:
    few = FewThreads(HeldThreads(), 1)  # type: ignore[arg-type]
    assert isinstance(settled(begun(few, KeyError("a"))), KeyError)
    assert settled(begun(few, 1)) == 1


def test_who_hangs_up_while_a_thread_works_does_not_start_another() -> None:
    held = HeldThreads(atOnce=False)
    few = FewThreads(held, 1)  # type: ignore[arg-type]
    first, second = begun(few, 1), begun(few, 2)
    first.cancel()
    assert isinstance(settled(first), CancelledError)
    assert len(held.waiting) == 1
    held.run()
    held.run()
    assert settled(second) == 2


def test_who_hangs_up_while_he_waits_leaves_the_queue() -> None:
    held = HeldThreads(atOnce=False)
    few = FewThreads(held, 1)  # type: ignore[arg-type]
    _first, second, third = begun(few, 1), begun(few, 2), begun(few, 3)
    second.cancel()
    assert isinstance(settled(second), CancelledError)
    held.run()
    held.run()
    assert settled(third) == 3 and not held.waiting


def test_where_no_thread_can_be_started_the_turn_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPool(0, 1)
    pool.start()
    few = FewThreads(Mock(getThreadPool=lambda: pool, callFromThread=lambda function, *arguments: done.put((function, arguments))), 1)
    done: SimpleQueue[Any] = SimpleQueue()
    with monkeypatch.context() as full:
        full.setattr(Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        assert isinstance(settled(begun(few, 1)), RuntimeError)
    answer = begun(few, 2)
    try:
        function, arguments = done.get(timeout=20)
        function(*arguments)
        assert settled(answer) == 2
    finally:
        # Twisted would wait for the one that was not started.
        pool.threads[:] = [thread for thread in pool.threads if thread.ident is not None]
        pool.stop()
