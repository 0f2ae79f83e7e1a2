"""The limits of a sender by MX: what they refuse."""

from __future__ import annotations

from dataclasses import fields

import pytest

from twisted_smtplite.model.mxlimits import MXLimits


@pytest.mark.parametrize("name", [row.name for row in fields(MXLimits)])
def test_each_has_a_least(name: str) -> None:
    least = 2 if name == "attempts" else 1
    assert getattr(MXLimits(**{name: least}), name) == least
    for value in (least - 1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"{name} is {value}: it must be at least {least}, and finite"):
            MXLimits(**{name: value})  # type: ignore[arg-type]
