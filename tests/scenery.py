"""What stands on the stage before a dialogue begins: the settings in the head of a transcript."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from policies import policyFor
from stage import Stage
from transcript import Dialogue, TranscriptError

from twisted_smtplite.model.limits import BareLineEnds, Limits
from twisted_smtplite.model.profile import Profile


@dataclass
class Scenery:
    """The settings of a dialogue.

    Attributes:
        options: for `Stage`.
        crowd: the addresses of clients that are there already.
        policies: the policies, as `policyFor` reads them.
    """

    options: dict[str, Any] = field(default_factory=dict)
    crowd: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, dialogue: Dialogue) -> Scenery:
        """Reads the settings.

        Raises:
            TranscriptError: there is no such setting.
        """
        scenery = cls()
        options = scenery.options
        for word, values in dialogue.settings:
            if word == "limits":
                options["limits"] = _limits(values)
            elif word == "profile":
                options["profile"] = _profile(values)
            elif word == "policy":
                scenery.policies.append(" ".join(values))
            elif word == "users":
                options["users"] = dict(value.split(":", 1) for value in values)
            elif word in ("hostname", "peer", "tls"):
                options[word] = values[0]
            elif word in ("offer", "proxies", "xclients"):
                options[word] = values
            elif word == "delivery":
                options["extras"] = values
            elif word == "crowd":
                scenery.crowd = [values[1] if len(values) > 1 else "192.0.2.1"] * int(values[0])
            else:
                raise TranscriptError(f"{dialogue.name}: unknown setting {word}")
        return scenery

    def makePolicies(self, stage: Stage) -> list[object]:
        """Makes the policies for a stage."""
        return [policyFor(text, stage) for text in self.policies]


def _limits(values: list[str]) -> Limits:
    kinds = {row.name: row.type for row in fields(Limits)}
    given: dict[str, Any] = {}
    for value in values:
        name, _, text = value.partition("=")
        if name == "bareLineEnds":
            given[name] = BareLineEnds(text)
        elif name == "lenientPaths":
            given[name] = text == "true"
        else:
            given[name] = (int if kinds[name] == "int" else float)(text)
    return Limits(**given)


def _profile(values: list[str]) -> Profile:
    given: dict[str, Any] = {}
    for value in values:
        name, _, text = value.partition("=")
        given[name] = tuple(text.split(",")) if name == "mechanisms" else text == "true"
    return Profile(**given)
