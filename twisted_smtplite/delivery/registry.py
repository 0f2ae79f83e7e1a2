"""Finds deliveries by name: those that come with the package, twisted plugins, and entry points.

Knows which are built in. Must not know what a backend does, nor how plugins are found: that is `twisted_smtplite.plugins`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..interfaces import IDeliveryPlugin, IMessageDelivery, IMessageDeliveryFactory
from ..plugins import Plugins, divided

# For its effect: deliveries written for twisted.mail adapt to our interfaces.
from ..wire import twistedmail as _twistedmail  # noqa: F401

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

ENTRY_POINTS = "twisted_smtplite.deliveries"
"""The group of entry points in which packages offer deliveries."""

_BUILT_IN = ("callable", "console", "maildir", "memory", "null", "sqlite")
# By name, and not imported: the queue is a layer above, which sends with the client.
_IN_THE_QUEUE = {"relay": "twisted_smtplite.queue.plugins:relay", "mx": "twisted_smtplite.queue.plugins:mx"}
_plugins: Plugins[IDeliveryPlugin] = Plugins("delivery", IDeliveryPlugin, ENTRY_POINTS, __package__ or "", _BUILT_IN, _IN_THE_QUEUE)


def allDeliveries() -> list[IDeliveryPlugin]:
    """Every delivery that can be named, in the order of the names. Loads them all; what cannot be loaded is reported to the log."""
    return _plugins.all()


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
    delivery = _plugins.make(spec, lambda plugin, argument: plugin.makeDelivery(argument, reactor))
    if IMessageDelivery(delivery, None) is None and IMessageDeliveryFactory(delivery, None) is None:
        raise ValueError(f"delivery {spec!r} is not one: {type(delivery).__name__} provides no interface of deliveries")
    return delivery


def whyOneProcess(spec: str) -> str:
    """Why the delivery that is named so works in one process only; empty when processes can share it, or nobody knows it."""
    plugin = _plugins.find(divided(spec)[0])
    return getattr(plugin, "oneProcess", "")
