from __future__ import annotations

import pytest

from twisted_smtplite.model import errors
from twisted_smtplite.model.errors import ConnectionFailed, SMTPClientError
from twisted_smtplite.model.results import PeerReply, Stage

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SMTPClientError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_what_was_heard_from_whom_and_when(kind: type[SMTPClientError]) -> None:
    error = kind(PeerReply(421, "4.3.2", ("Going down",)), Stage.GREETING, "mx.test")
    assert (error.reply.code, error.stage, error.host) == (421, Stage.GREETING, "mx.test")
    assert str(error) == "mx.test: 421 4.3.2 Going down"
    assert error.temporary


def test_an_error_without_a_host_says_the_reply_alone() -> None:
    error = ConnectionFailed(PeerReply(554, "5.4.4", ("No way",), local=True), Stage.CONNECT)
    assert str(error) == "554 5.4.4 No way"
    assert not error.temporary


def test_the_kinds_are_stable() -> None:
    assert sorted(kind.__name__ for kind in KINDS) == [
        "AuthenticationFailed",
        "ConnectionFailed",
        "PeerRefused",
        "ProtocolViolation",
        "SMTPClientError",
        "TLSFailed",
        "Unsendable",
    ]
