from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from twisted_smtplite.model import replies
from twisted_smtplite.model.envelope import SessionInfo
from twisted_smtplite.policy.registry import makePolicy


@pytest.mark.parametrize("early", [False, True])
def test_the_greeting_waits_and_early_talkers_are_refused(early: bool) -> None:
    clock = Clock()
    policy = cast(Any, makePolicy("greet-delay:2.5s", cast(Any, clock)))
    session = SessionInfo("S1", "mx.test", "192.0.2.1")
    answers: list[object] = []
    policy.connect(session).addCallback(answers.append)
    session.spokeEarly = early
    clock.advance(2.4)
    assert answers == []
    clock.advance(0.2)
    assert answers == [replies.EARLY_TALKER if early else None]


def test_a_client_on_a_unix_socket_does_not_wait() -> None:
    assert cast(Any, makePolicy("greet-delay:5", cast(Any, Clock()))).connect(SessionInfo("S1", "mx.test")) is None


@pytest.mark.parametrize("argument", ["", "0", "-1", "121", "nan", "inf", "soon", "5m"])
def test_an_argument_that_is_none_is_said(argument: str) -> None:
    with pytest.raises(ValueError, match="it needs a number of seconds up to 120"):
        makePolicy(f"greet-delay:{argument}", cast(Any, Clock()))
