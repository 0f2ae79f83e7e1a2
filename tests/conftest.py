"""What every test gets: a cure for Hypothesis under pytest-twisted, and signals that are heard."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest


def pytest_configure() -> None:
    # A job in the background of a script ignores SIGINT, one under nohup SIGHUP, and so would all that the tests start.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    # pytest-twisted wraps `inner_test` of a Hypothesis test at each call and leaves it wrapped, so the second parameter of a parametrized test
    # would run inside the wrapper of the first.
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    inner = getattr(hypothesis, "inner_test", None)
    try:
        return (yield)
    finally:
        if hypothesis is not None:
            hypothesis.inner_test = inner
