from __future__ import annotations

import ast
import inspect
from dataclasses import Field, FrozenInstanceError, fields
from typing import Any

import pytest

from twisted_smtplite.model import limits
from twisted_smtplite.model.limits import BareLineEnds, Limits

NUMBERS: list[Field[Any]] = [field for field in fields(Limits) if field.metadata]
OTHERS = [field.name for field in fields(Limits) if not field.metadata]


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_each_limit_takes_its_least_and_nothing_less(field: Field[Any]) -> None:
    least: Any = field.metadata["least"]
    refused: tuple[Any, ...] = (least - 1, float("nan"), float("inf"))
    assert getattr(Limits(**{field.name: least}), field.name) == least
    for value in refused:
        with pytest.raises(ValueError, match=f"{field.name} is {value}: it must be at least {least}"):
            Limits(**{field.name: value})


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_each_limit_can_become_an_option(field: Field[Any]) -> None:
    assert field.metadata["option"].replace("-", "").isalpha()
    assert field.metadata["unit"] in {"octets", "count", "seconds", "octets/s"}
    assert field.metadata["meaning"]
    # "0: no limit" is said where 0 is allowed and means that.
    if "0: no limit" in field.metadata["meaning"]:
        assert field.metadata["least"] == 0


def test_option_names_are_unique() -> None:
    names = [field.metadata["option"] for field in NUMBERS]
    assert sorted(set(names)) == sorted(names)


def test_what_is_no_number_has_a_docstring() -> None:
    tree = ast.parse(inspect.getsource(limits.Limits)).body[0]
    assert isinstance(tree, ast.ClassDef)
    documented = [
        statement.target.id
        for statement, after in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and isinstance(after, ast.Expr)
    ]
    assert set(OTHERS) <= set(documented)


@pytest.mark.parametrize(
    ("name", "least"),
    [("recipients", 100), ("commandLine", 512), ("localPart", 64), ("domain", 255), ("path", 256), ("receivedFields", 100)],
)
def test_limits_begin_at_what_rfc_5321_asks_for(name: str, least: int) -> None:
    assert Limits.__dataclass_fields__[name].metadata["least"] == least
    assert getattr(Limits(), name) >= least


def test_defaults_are_the_safe_ones() -> None:
    assert Limits().bareLineEnds is BareLineEnds.REFUSE
    assert Limits().lenientPaths is False
    assert Limits().commandTimeout >= 300


def test_limits_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().errors = 1  # type: ignore[misc]
