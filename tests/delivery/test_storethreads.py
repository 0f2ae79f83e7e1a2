from __future__ import annotations

from threading import Event, Thread, current_thread

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFromThreads

from twisted_smtplite.delivery.threads import Threads


@pytest_twisted.ensureDeferred
async def test_work_is_done_elsewhere_and_answered_here() -> None:
    threads = Threads(IReactorFromThreads(reactor), 2, "some")
    here = current_thread()
    answer = threads.run(current_thread)
    where = await answer.addCallback(lambda result: (result, current_thread()))
    assert where[0].name == "some-0"
    assert where[1] is here
    threads.stop()


@pytest_twisted.ensureDeferred
async def test_what_work_raises_is_its_answer() -> None:
    threads = Threads(IReactorFromThreads(reactor), 1, "some")

    def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await threads.run(fail)
    assert await threads.run(lambda: 2) == 2
    threads.stop()


@pytest_twisted.ensureDeferred
async def test_there_are_as_many_threads_as_are_needed_at_a_time_and_no_more_than_allowed() -> None:
    threads = Threads(IReactorFromThreads(reactor), 2, "some")
    assert await threads.run(current_thread) is await threads.run(current_thread)
    go = Event()
    answers = [threads.run(lambda: go.wait() and current_thread().name) for _ in range(3)]
    go.set()
    assert {await answer for answer in answers} <= {"some-0", "some-1"}
    threads.stop()


def noThread(thread: Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest_twisted.ensureDeferred
async def test_where_no_thread_can_be_started_work_is_done_by_those_that_are_there_or_here(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(IReactorFromThreads(reactor), 2, "some")
    go = Event()
    with monkeypatch.context() as full:
        full.setattr(Thread, "start", noThread)
        assert await threads.run(current_thread) is current_thread()
    first = threads.run(lambda: go.wait() and current_thread().name)
    with monkeypatch.context() as full:
        full.setattr(Thread, "start", noThread)
        second = threads.run(lambda: current_thread().name)
    go.set()
    assert [await first, await second] == ["some-0", "some-0"]
    threads.stop()


@pytest_twisted.ensureDeferred
async def test_stopping_waits_for_all_that_was_handed_over() -> None:
    threads = Threads(IReactorFromThreads(reactor), 2, "some")
    done: list[int] = []
    answers = [threads.run(lambda number=number: done.append(number)) for number in range(20)]  # type: ignore[misc]
    threads.stop()
    assert sorted(done) == list(range(20))
    for answer in answers:
        await answer


@pytest_twisted.ensureDeferred
async def test_stopping_waits_for_what_follows_from_the_answers() -> None:
    threads = Threads(IReactorFromThreads(reactor), 2, "some")
    heard: list[object] = []

    def fail() -> None:
        raise OSError("broken")

    answer = threads.run(lambda: 1).addCallback(lambda one: threads.run(lambda: one + 1))
    answer.addCallback(heard.append).addCallback(lambda _: threads.run(fail)).addErrback(lambda failure: heard.append(failure.type))
    threads.stop()
    assert heard == [2, OSError]
