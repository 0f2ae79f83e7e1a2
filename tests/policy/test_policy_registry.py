"""How policies are found. What is the same for deliveries is tested there; here, that it is the same."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

import twisted.plugins
from twisted_smtplite.interfaces import IPolicyPlugin
from twisted_smtplite.plugins import listing
from twisted_smtplite.policy.base import Policy, PolicyPlugin
from twisted_smtplite.policy.registry import ENTRY_POINTS, allPolicies, makePolicy

BUILT_IN = ["greet-delay", "networks", "rate", "recipients", "senders", "user-senders"]
REACTOR = cast(Any, Clock())

MODULE = """
from twisted_smtplite.policy.base import Policy, PolicyPlugin

def make(argument, reactor):
    return {made}

plugin = PolicyPlugin({name!r}, "from outside", "", make)
"""


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Offers a module as a twisted plugin, or its attribute through an entry point."""
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(twisted.plugins, "__path__", [*twisted.plugins.__path__, str(plugins)])
    points: list[EntryPoint] = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)

    def offer(module: str, *, name: str = "outside", made: str = "Policy()", text: str = "", dropin: bool = False) -> None:
        (plugins if dropin else tmp_path).joinpath(f"{module}.py").write_text(text or MODULE.format(name=name, made=made))
        if not dropin:
            points.append(EntryPoint(name, f"{module}:plugin", ENTRY_POINTS))

    return offer


def names() -> list[str]:
    return [plugin.name for plugin in allPolicies()]


def test_the_built_in_ones_are_always_there_and_say_what_they_take() -> None:
    assert set(BUILT_IN) <= set(names())
    for plugin in allPolicies():
        assert IPolicyPlugin.providedBy(plugin)
        assert plugin.description
        assert plugin.name in listing([plugin])
    assert "\n    WHAT=N/TIME" in listing(allPolicies())


@pytest.mark.parametrize("dropin", [False, True])
def test_a_policy_from_outside_is_found(offer: Any, dropin: bool) -> None:
    offer(f"outside_policy_{dropin}", dropin=dropin)
    assert names() == sorted([*BUILT_IN, "outside"])
    assert isinstance(makePolicy("outside:x", REACTOR), Policy)


def test_a_broken_one_is_reported_by_name_and_breaks_nothing_else(offer: Any) -> None:
    offer("broken_policy", text="raise RuntimeError('broken')")
    offer("badly_named_policy", name="Bad Name")
    offer("no_policy", text="plugin = 5")
    offer("hijacking_policy", name="rate")
    offer("working_policy")
    with capturedLogs() as events:
        assert names() == sorted([*BUILT_IN, "outside"])
    assert [event["source"] for event in events] == [
        "outside = broken_policy:plugin",
        "Bad Name = badly_named_policy:plugin",
        "outside = no_policy:plugin",
        "rate = hijacking_policy:plugin",
    ]


def test_a_built_in_name_loads_nobody_elses_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: pytest.fail("looked for plugins"))
    assert makePolicy("rate:messages=1/m", REACTOR)


def test_an_unknown_name_is_said_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^unknown policy 'rates:x': the known ones are greet-delay, networks, .*user-senders$"):
        makePolicy("rates:x", REACTOR)


def test_what_is_made_must_be_a_policy(offer: Any) -> None:
    offer("strange_policy", made="5")
    with pytest.raises(ValueError, match=r"^policy 'outside' is not one: int does not provide ISessionPolicy$"):
        makePolicy("outside", REACTOR)


def test_a_plugin_that_fails_is_logged_and_said(offer: Any) -> None:
    offer("failing_policy", made="1 / 0")
    with capturedLogs() as events, pytest.raises(ValueError, match=r"^policy 'outside' cannot be made: ZeroDivisionError: division by zero$"):
        makePolicy("outside", REACTOR)
    assert [event["spec"] for event in events] == ["outside"]


def test_a_plugin_is_its_values() -> None:
    assert PolicyPlugin("a", "b", "c", lambda argument, reactor: argument).makePolicy("d", REACTOR) == "d"
