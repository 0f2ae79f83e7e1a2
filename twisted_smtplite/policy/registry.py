"""Finds policies by name: those that come with the package, twisted plugins, and entry points.

Knows which are built in. Must not know what a policy does, nor how plugins are found: that is `twisted_smtplite.plugins`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..interfaces import IPolicyPlugin, ISessionPolicy
from ..plugins import Plugins

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

ENTRY_POINTS = "twisted_smtplite.policies"
"""The group of entry points in which packages offer policies."""

_BUILT_IN = ("greet-delay", "networks", "rate", "recipients", "senders", "user-senders")
_plugins: Plugins[IPolicyPlugin] = Plugins("policy", IPolicyPlugin, ENTRY_POINTS, __package__ or "", _BUILT_IN)


def allPolicies() -> list[IPolicyPlugin]:
    """Every policy that can be named, in the order of the names. Loads them all; what cannot be loaded is reported to the log."""
    return _plugins.all()


def makePolicy(spec: str, reactor: IReactorCore) -> ISessionPolicy:
    """Makes the policy that ``NAME`` or ``NAME:ARGUMENT`` names.

    Args:
        spec: as on the command line.
        reactor: the reactor that the server will run in.

    Raises:
        ValueError: there is no such policy, or it does not take the argument. The text is one sentence for the user.
    """
    made = _plugins.make(spec, lambda plugin, argument: plugin.makePolicy(argument, reactor))
    policy: ISessionPolicy | None = ISessionPolicy(made, None)
    if policy is None:
        raise ValueError(f"policy {spec!r} is not one: {type(made).__name__} does not provide ISessionPolicy")
    return policy
