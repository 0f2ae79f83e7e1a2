"""Finds plugins by name: those that come with the package, twisted plugins, and entry points.

Knows how plugins are found, and that some of them are broken: such a one is reported by its name and stops nobody else. Must not know what any of
them does. Nothing is looked for before somebody asks, and a built-in name never loads anybody's plugin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module, metadata
from typing import Generic, Protocol, TypeVar

from twisted.logger import Logger
from twisted.plugin import getCache
from twisted.python.modules import getModule
from zope.interface.interface import InterfaceClass

import twisted.plugins

_NAME = re.compile("[a-z0-9-]+")
_log = Logger(namespace="smtplite")


class Named(Protocol):
    """What all plugins have."""

    name: str
    description: str
    argumentHelp: str


P = TypeVar("P", bound=Named)


class Plugins(Generic[P]):
    """The plugins of one kind.

    Args:
        kind: what one of them is called, for people.
        interface: what it provides.
        entryPoints: the group of entry points in which packages offer it.
        package: where the built-in ones are.
        builtIn: their names; each is a module of the package, without the hyphens, that has a `plugin`. A table, so that they are found in a
            bare checkout and without twisted's plugin cache.
        elsewhere: built-in ones that are in another layer: name -> ``module:attribute``.
    """

    def __init__(
        self, kind: str, interface: InterfaceClass, entryPoints: str, package: str, builtIn: Sequence[str], elsewhere: Mapping[str, str] | None = None
    ) -> None:
        self._kind = kind
        self._interface = interface
        self._entryPoints = entryPoints
        # By name: the module, and what it calls the plugin.
        self._builtIn = {name: f"{package}.{name.replace('-', '')}:plugin" for name in builtIn} | dict(elsewhere or {})

    def all(self) -> list[P]:
        """Every plugin that can be named, in the order of the names. Loads them all; what cannot be loaded is reported to the log."""
        found = {name: self._load(name) for name in self._builtIn}
        for source, plugin in self._thirdParty():
            earlier = found.setdefault(plugin.name, plugin)
            if not _same(earlier, plugin):
                _log.error("{kind} {name!r} of {source} is not used: another one has this name", kind=self._kind.capitalize(), name=plugin.name,
                           source=source)  # fmt: skip
        return [found[name] for name in sorted(found)]

    def find(self, name: str) -> P | None:
        """The plugin of this name, or None."""
        if name in self._builtIn:
            return self._load(name)
        return next((plugin for plugin in self.all() if plugin.name == name), None)

    def make(self, spec: str, call: Callable[[P, str], object]) -> object:
        """Makes what ``NAME``, ``NAME:ARGUMENT`` or ``NAME?OPTIONS`` names; the last is short for ``NAME:?OPTIONS``.

        Args:
            spec: as on the command line.
            call: has the plugin make it, with the argument.

        Raises:
            ValueError: there is no such plugin, or it does not take the argument. The text is one sentence for the user.
        """
        name, argument = divided(spec)
        plugin = self.find(name)
        if plugin is None:
            names = ", ".join(known.name for known in self.all())
            raise ValueError(f"unknown {self._kind} {spec!r}: the known ones are {names}")
        try:
            return call(plugin, argument)
        except ValueError as error:
            raise ValueError(f"{self._kind} {spec!r}: {error}") from error
        except Exception as error:
            _log.failure("{kind} {spec!r} cannot be made", kind=self._kind.capitalize(), spec=spec)
            raise ValueError(f"{self._kind} {spec!r} cannot be made: {type(error).__name__}: {error}") from error

    def _load(self, name: str) -> P:
        module, _, attribute = self._builtIn[name].partition(":")
        plugin: P = getattr(import_module(module), attribute)
        return plugin

    def _thirdParty(self) -> Iterator[tuple[str, P]]:
        """What others offer and can be used, each with the name of where it was found."""
        kind = self._kind.capitalize()
        for source, candidate in self._candidates():
            try:
                plugin: P | None = self._interface(candidate(), None)
            except Exception:  # noqa: BLE001 - a broken plugin may raise anything
                _log.failure("{kind} plugin {source} cannot be loaded", kind=kind, source=source)
                continue
            if plugin is None:
                _log.error("{kind} plugin {source} does not provide {interface}", kind=kind, source=source, interface=self._interface.__name__)
            elif not _NAME.fullmatch(plugin.name):
                _log.error("{kind} plugin {source} has an impossible name: {name!r}", kind=kind, source=source, name=plugin.name)
            else:
                yield source, plugin

    def _candidates(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What may be a plugin: the name of its place, and how to load it."""
        for point in metadata.entry_points(group=self._entryPoints):
            yield f"{point.name} = {point.value}", lambda point=point: _instance(point.load())  # type: ignore[misc]
        # Not getPlugins: it does not say which of its modules is broken.
        cache = getCache(twisted.plugins)  # type: ignore[no-untyped-call]
        for module in sorted(module.name for module in getModule(twisted.plugins.__name__).iterModules()):  # type: ignore[no-untyped-call]
            dropin = cache.get(module.rpartition(".")[2])
            if dropin is None:
                # Its traceback is in the log already. That module may hold anything, but what somebody misses may be in there.
                _log.warn("Plugin module {module} cannot be imported", module=module)
                continue
            for cached in dropin.plugins:
                if any(interface.isOrExtends(self._interface) for interface in cached.provided):
                    yield f"{module}.{cached.name}", cached.load


def divided(spec: str) -> tuple[str, str]:
    """The name and the argument in what stands on the command line."""
    name, _, argument = spec.partition(":")
    short, mark, _ = name.partition("?")
    # With a question mark in front of the first colon, that colon is in the value of an option.
    return (short, spec[len(short) :]) if mark else (name, argument)


def _same(one: object, other: object) -> bool:
    """True if a package offers one plugin in both ways, as an object or as two objects of its own class."""
    # Plugins that are nothing but their values, of a class of ours, are compared by these.
    return one == other or (type(one) is type(other) and type(one).__module__.partition(".")[0] != __package__)


def _instance(found: object) -> object:
    return found() if isinstance(found, type) else found


def listing(plugins: Sequence[Named]) -> str:
    """The plugins with their arguments, as a user reads them."""
    lines: list[str] = []
    for plugin in plugins:
        lines.append(f"{plugin.name}: {plugin.description}")
        lines += (f"    {line}" for line in plugin.argumentHelp.splitlines())
    return "\n".join(lines)
