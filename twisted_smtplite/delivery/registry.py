"""Finds deliveries by name: those that come with the package, twisted plugins, and entry points.

Knows how plugins are found, and that some of them are broken: such a one is reported by its name and stops nobody else. Must not know what a
backend does. Nothing is looked for before somebody asks, and a built-in name never loads anybody's plugin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.plugin import getCache
from twisted.python.modules import getModule

import twisted.plugins

from ..interfaces import IDeliveryPlugin, IMessageDelivery, IMessageDeliveryFactory
from .base import DeliveryPlugin

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

ENTRY_POINTS = "twisted_smtplite.deliveries"
"""The group of entry points in which packages offer deliveries."""

# Each is a module here with a `plugin`. A table, so that they are found in a bare checkout and without twisted's plugin cache.
_BUILT_IN = ("callable", "console", "maildir", "memory", "null", "sqlite")
_NAME = re.compile("[a-z0-9-]+")
_log = Logger(namespace="smtplite")


def allDeliveries() -> list[IDeliveryPlugin]:
    """Every delivery that can be named, in the order of the names. Loads them all; what cannot be loaded is reported to the log."""
    found = {name: _builtIn(name) for name in _BUILT_IN}
    for source, plugin in _thirdParty():
        earlier = found.setdefault(plugin.name, plugin)
        if not _same(earlier, plugin):
            _log.error("Delivery {name!r} of {source} is not used: another one has this name", name=plugin.name, source=source)
    return [found[name] for name in sorted(found)]


def deliveryNames() -> list[str]:
    """The names of all deliveries, in order."""
    return [plugin.name for plugin in allDeliveries()]


def makeDelivery(spec: str, reactor: IReactorCore) -> object:
    """Makes the delivery that ``NAME`` or ``NAME:ARGUMENT`` names.

    Args:
        spec: as on the command line.
        reactor: the reactor that the server will run in.

    Returns:
        An object that provides or adapts to `IMessageDelivery` or `IMessageDeliveryFactory`.

    Raises:
        ValueError: there is no such delivery, or it does not take the argument. The text is one sentence for the user.
    """
    name, _, argument = spec.partition(":")
    plugin = _find(name)
    if plugin is None:
        raise ValueError(f"unknown delivery {spec!r}: the known ones are {', '.join(deliveryNames())}")
    try:
        delivery = plugin.makeDelivery(argument, reactor)
    except ValueError as error:
        raise ValueError(f"delivery {spec!r}: {error}") from error
    except Exception as error:
        _log.failure("Delivery {spec!r} cannot be made", spec=spec)
        raise ValueError(f"delivery {spec!r} cannot be made: {type(error).__name__}: {error}") from error
    if IMessageDelivery(delivery, None) is None and IMessageDeliveryFactory(delivery, None) is None:
        raise ValueError(f"delivery {spec!r} is not one: {type(delivery).__name__} provides no interface of deliveries")
    return delivery


def whyOneProcess(spec: str) -> str:
    """Why the delivery that is named so works in one process only; empty when processes can share it, or nobody knows it."""
    plugin = _find(spec.partition(":")[0])
    return getattr(plugin, "oneProcess", "")


def _find(name: str) -> IDeliveryPlugin | None:
    if name in _BUILT_IN:
        return _builtIn(name)
    return next((plugin for plugin in allDeliveries() if plugin.name == name), None)


def _builtIn(name: str) -> IDeliveryPlugin:
    plugin: IDeliveryPlugin = import_module(f"{__package__}.{name}").plugin
    return plugin


def _same(one: IDeliveryPlugin, other: IDeliveryPlugin) -> bool:
    """True if a package offers one delivery in both ways, as an object or as two objects of its own class."""
    return one == other or (type(one) is type(other) and not isinstance(one, DeliveryPlugin))


def _thirdParty() -> Iterator[tuple[str, IDeliveryPlugin]]:
    """What others offer and can be used, each with the name of where it was found."""
    for source, candidate in _candidates():
        try:
            plugin: IDeliveryPlugin | None = IDeliveryPlugin(candidate(), None)
        except Exception:  # noqa: BLE001 - a broken plugin may raise anything
            _log.failure("Delivery plugin {source} cannot be loaded", source=source)
            continue
        if plugin is None:
            _log.error("Delivery plugin {source} does not provide IDeliveryPlugin", source=source)
        elif not _NAME.fullmatch(plugin.name):
            _log.error("Delivery plugin {source} has an impossible name: {name!r}", source=source, name=plugin.name)
        else:
            yield source, plugin


def _candidates() -> Iterator[tuple[str, Callable[[], object]]]:
    """What may be a plugin: the name of its place, and how to load it."""
    for point in metadata.entry_points(group=ENTRY_POINTS):
        yield f"{point.name} = {point.value}", lambda point=point: _instance(point.load())  # type: ignore[misc]
    # Not getPlugins: it does not say which of its modules is broken.
    cache = getCache(twisted.plugins)  # type: ignore[no-untyped-call]
    for module in sorted(module.name for module in getModule(twisted.plugins.__name__).iterModules()):  # type: ignore[no-untyped-call]
        dropin = cache.get(module.rpartition(".")[2])
        if dropin is None:
            # Its traceback is in the log already. That module may hold anything, but the delivery that somebody misses may be in there.
            _log.warn("Plugin module {module} cannot be imported", module=module)
            continue
        for cached in dropin.plugins:
            if any(interface.isOrExtends(IDeliveryPlugin) for interface in cached.provided):
                yield f"{module}.{cached.name}", cached.load


def _instance(found: object) -> object:
    return found() if isinstance(found, type) else found
