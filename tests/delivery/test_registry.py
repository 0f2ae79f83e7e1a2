from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.logger import capturedLogs

import twisted.plugins
from twisted_smtplite.delivery.maildir import MaildirDelivery
from twisted_smtplite.delivery.null import NullDelivery
from twisted_smtplite.delivery.registry import ENTRY_POINTS, allDeliveries, deliveryNames, makeDelivery

BUILT_IN = ["callable", "console", "maildir", "memory", "mx", "null", "relay", "sqlite"]

MODULE = """
from zope.interface import implementer
from twisted_smtplite.interfaces import IDeliveryPlugin
from twisted_smtplite.delivery.base import DeliveryPlugin
from twisted_smtplite.delivery.null import NullDelivery

@implementer(IDeliveryPlugin)
class Plugin:
    name = {name!r}
    description = "from outside"
    argumentHelp = ""

    def makeDelivery(self, argument, reactor):
        return {made}

plugin = Plugin()
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

    def offer(module: str, text: str = "", *, name: str = "outside", made: str = "NullDelivery()", entry: str = "", dropin: bool = False) -> None:
        (plugins if dropin else tmp_path).joinpath(f"{module}.py").write_text(text or MODULE.format(name=name, made=made))
        if entry:
            points.append(EntryPoint(name, f"{module}:{entry}", ENTRY_POINTS))

    return offer


def reports(events: Any) -> list[str]:
    """The sources of what was reported in the log by us."""
    return [str(event.get("source", event.get("module"))) for event in events if "source" in event or "module" in event]


def test_the_built_in_ones_are_always_there() -> None:
    assert set(BUILT_IN) <= set(deliveryNames())
    for plugin in allDeliveries():
        assert plugin.description
        assert plugin.name in deliveryNames()


@pytest.mark.parametrize("way", [{"entry": "plugin"}, {"entry": "Plugin"}, {"dropin": True}], ids=["object", "class", "twisted plugin"])
def test_a_delivery_from_outside_is_found(offer: Any, way: dict[str, Any]) -> None:
    offer(f"outside_{len(str(way))}", **way)
    assert deliveryNames() == sorted([*BUILT_IN, "outside"])
    assert isinstance(makeDelivery("outside:x", reactor), NullDelivery)


def test_one_that_is_offered_in_both_ways_is_found_once(offer: Any) -> None:
    offer("outside_both", entry="Plugin")
    offer("outside_dropin", "from outside_both import plugin, Plugin\nother = Plugin()", dropin=True)
    with capturedLogs() as events:
        assert deliveryNames() == sorted([*BUILT_IN, "outside"])
    assert reports(events) == []


def test_of_two_with_one_name_the_first_is_used_and_the_other_reported(offer: Any) -> None:
    offer("first_module", entry="plugin")
    offer("second_module", entry="plugin")
    offer(
        "third_module", 'from twisted_smtplite.delivery.base import DeliveryPlugin\nplugin = DeliveryPlugin("null", "mine", "", len)', entry="plugin"
    )
    with capturedLogs() as events:
        plugins = {plugin.name: plugin for plugin in allDeliveries()}
    assert type(plugins["outside"]).__module__ == "first_module"
    assert plugins["null"].description != "mine"
    assert reports(events) == ["outside = second_module:plugin", "outside = third_module:plugin"]


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("raise RuntimeError('broken')", "plugin"),
        ("this is no Python", "plugin"),
        ("", "missing"),
        ("plugin = 5", "plugin"),
        (MODULE.format(name="Bad Name:", made=""), "plugin"),
        (MODULE.format(name="", made=""), "plugin"),
        ("class Plugin:\n    def __init__(self, argument): pass", "Plugin"),
    ],
    ids=["raises", "syntax", "missing", "another object", "bad name", "no name", "arguments"],
)
def test_a_broken_entry_point_is_reported_by_name_and_breaks_nothing_else(offer: Any, text: str, entry: str) -> None:
    module = f"broken_{abs(hash(text + entry))}"
    offer(module, text, entry=entry, name="broken")
    offer("working_" + module, entry="plugin")
    with capturedLogs() as events:
        assert deliveryNames() == sorted([*BUILT_IN, "outside"])
    assert reports(events) == [f"broken = {module}:{entry}"]


def test_a_broken_plugin_module_is_reported_by_name_and_breaks_nothing_else(offer: Any) -> None:
    offer("broken_dropin", "raise RuntimeError('broken')", dropin=True)
    offer("working_dropin", dropin=True)
    with capturedLogs() as events:
        assert deliveryNames() == sorted([*BUILT_IN, "outside"])
    assert reports(events) == ["twisted.plugins.broken_dropin"]


def test_a_plugin_module_that_breaks_after_it_was_cached_is_reported_by_name(offer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    offer("fickle_dropin", dropin=True)
    assert "outside" in deliveryNames()
    monkeypatch.delattr("twisted.plugins.fickle_dropin.plugin")
    with capturedLogs() as events:
        assert deliveryNames() == BUILT_IN
    assert reports(events) == ["twisted.plugins.fickle_dropin.plugin"]


def test_a_built_in_name_loads_nobody_elses_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: pytest.fail("looked for plugins"))
    delivery = makeDelivery(f"maildir:{tmp_path}/a:b", reactor)
    assert isinstance(delivery, MaildirDelivery)
    assert delivery.path == f"{tmp_path}/a:b"


def test_an_unknown_name_is_said_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^unknown delivery 'maildri:x': the known ones are callable, console, maildir, .*sqlite$"):
        makeDelivery("maildri:x", reactor)


def test_a_bad_argument_is_said_with_the_whole_word() -> None:
    with pytest.raises(ValueError, match=r"^delivery 'null:x': it takes no argument$"):
        makeDelivery("null:x", reactor)


def test_a_plugin_that_fails_is_logged_and_said(offer: Any) -> None:
    offer("failing_maker", entry="plugin", made="1 / 0")
    with capturedLogs() as events, pytest.raises(ValueError, match=r"^delivery 'outside' cannot be made: ZeroDivisionError: division by zero$"):
        makeDelivery("outside", reactor)
    assert [event["spec"] for event in events if "spec" in event] == ["outside"]


def test_a_plugin_that_makes_something_else_is_said(offer: Any) -> None:
    offer("strange_maker", entry="plugin", made="5")
    with pytest.raises(ValueError, match=r"^delivery 'outside' is not one: int provides no interface of deliveries$"):
        makeDelivery("outside", reactor)
