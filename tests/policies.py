"""Policies for the dialogues: the real ones, those that say what they are told, and the same ones slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from actors import Breakage, Verdict
from stage import Stage
from verdicts import verdictFor
from zope.interface import implementer

from twisted_smtplite.interfaces import ISessionPolicy
from twisted_smtplite.policy.base import Policy
from twisted_smtplite.policy.registry import makePolicy

QUESTIONS = ("connect", "ehlo", "auth", "mail", "rcpt", "data", "endOfData")


def policyFor(text: str, stage: Stage) -> object:
    """``NAME:ARGUMENT`` as on the command line, or ``says QUESTION VERDICT``: to this question always that answer."""
    word, _, rest = text.partition(" ")
    policy: Any
    if word == "says":
        question, _, verdict = rest.partition(" ")
        assert question in QUESTIONS, f"no question: {question}"
        policy = Policy()
        setattr(policy, question, _Saying(verdictFor(verdict, stage), stage))
    else:
        policy = makePolicy(text, cast(Any, stage.clock))
    return PacedPolicy(policy, stage)


class _Saying:
    def __init__(self, verdict: Verdict, stage: Stage) -> None:
        self._verdict = verdict
        self._stage = stage
        self._told = False

    def __call__(self, *arguments: object) -> Any:
        try:
            answer = self._verdict()
        except Breakage:
            # What fails again and again is logged once.
            self._stage.delivery.breakages += not self._told
            self._told = True
            raise
        return answer


@implementer(ISessionPolicy)
class PacedPolicy:
    """A policy that is as slow as the delivery."""

    def __init__(self, policy: ISessionPolicy, stage: Stage) -> None:
        self.onFailure = policy.onFailure
        for question in QUESTIONS:
            setattr(self, question, self._paced(getattr(policy, question), stage))

    def _paced(self, ask: Callable[..., Any], stage: Stage) -> Callable[..., Any]:
        return lambda *arguments: stage.delivery.pace(lambda: ask(*arguments))
