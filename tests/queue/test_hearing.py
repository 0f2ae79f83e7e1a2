"""What the queue makes of a sender's answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.python.failure import Failure

from twisted_smtplite.model.errors import ConnectionFailed, PeerRefused
from twisted_smtplite.model.results import PeerReply, Stage
from twisted_smtplite.queue.hearing import hear


@pytest.mark.parametrize(
    ("error", "host"),
    [
        (ConnectionFailed(PeerReply(451, "4.4.1", ("no connection",), local=True), Stage.CONNECT, "mx.test", "mx.test:26"), "mx.test:26"),
        (ConnectionFailed(PeerReply(451, "4.4.1", ("no connection",), local=True), Stage.CONNECT, "mx.test"), "mx.test"),
        # RFC 3464 2.3.5: who has said something is named in a report, without a port.
        (PeerRefused(PeerReply(421, "4.3.2", ("busy",)), Stage.GREETING, "mx.test", "mx.test:26"), "mx.test"),
    ],
)
def test_a_server_that_was_not_reached_is_named_with_its_port(error: Exception, host: str) -> None:
    transaction: Any = SimpleNamespace(progress=[SimpleNamespace(recipient=None)])
    heard = hear(Failure(error), transaction, 0.0)
    assert heard.host == host
    assert [attempt.host for attempt in heard.attempts] == [host]
