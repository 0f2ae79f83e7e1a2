"""Which status says what: the numbers of sysexits.h, by what became of recipients and messages."""

from __future__ import annotations

import pytest

from twisted_smtplite.app.exitstatus import ExitStatus, fail, ofError, ofOutcome, together
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Recipient
from twisted_smtplite.model.errors import AuthenticationFailed, ConnectionFailed, PeerRefused, SMTPClientError, Unsendable
from twisted_smtplite.model.results import PeerReply, RecipientOutcome, Stage


@pytest.mark.parametrize(
    ("code", "enhanced", "stage", "status"),
    [
        (250, None, Stage.TEXT, 0),
        (250, "2.1.5", Stage.RCPT, 75),
        (451, "4.3.0", Stage.TEXT, 75),
        (550, None, Stage.RCPT, 67),
        (550, "5.1.1", Stage.RCPT, 67),
        (550, "5.7.1", Stage.RCPT, 69),
        (550, "5.1.1", Stage.TEXT, 69),
        (554, None, Stage.RCPT, 69),
        (530, "5.7.0", Stage.MAIL, 77),
        (552, "5.3.4", Stage.MAIL, 69),
    ],
)
def test_the_status_of_a_recipient(code: int, enhanced: str | None, stage: Stage, status: int) -> None:
    assert ofOutcome(RecipientOutcome(Recipient(Address("ben", "mx.test")), stage, PeerReply(code, enhanced))) == status


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        (ConnectionFailed, 451, 75),
        (PeerRefused, 421, 75),
        (PeerRefused, 554, 69),
        (Unsendable, 552, 65),
        (AuthenticationFailed, 535, 77),
        (AuthenticationFailed, 454, 75),
    ],
)
def test_the_status_of_a_message_that_was_not_sent(kind: type[SMTPClientError], code: int, status: int) -> None:
    assert ofError(kind(PeerReply(code), Stage.MAIL)) == status


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 75], 75),
        ([67, 67, 0], 67),
        ([67, 75], 67),
        ([67, 65], 69),
    ],
)
def test_the_status_of_all_together(statuses: list[int], status: int) -> None:
    assert together(map(ExitStatus, statuses)) == status


def test_a_failure_is_a_sentence_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        fail("no", ExitStatus.USAGE)
    assert (raised.value.code, capsys.readouterr().err) == (64, "smtplite: no\n")
    with pytest.raises(SystemExit, match="smtplite: no"):
        fail("no")
