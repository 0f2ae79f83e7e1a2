"""What every test gets: a cure for Hypothesis under pytest-twisted."""

from __future__ import annotations

from collections.abc import Generator

import pytest


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
