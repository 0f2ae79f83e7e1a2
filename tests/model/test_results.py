from __future__ import annotations

import pytest

from twisted_smtplite.model.address import Address
from twisted_smtplite.model.envelope import Recipient
from twisted_smtplite.model.results import Delivery, PeerReply, RecipientOutcome, Stage

BEN = Recipient(Address("ben", "mx.test"))


@pytest.mark.parametrize(
    ("code", "positive", "temporary", "permanent", "status"),
    [(250, True, False, False, "2.0.0"), (354, True, False, False, "2.0.0"), (451, False, True, False, "4.0.0"), (550, False, False, True, "5.0.0")],
)
def test_the_class_of_a_reply_is_in_its_code(code: int, positive: bool, temporary: bool, permanent: bool, status: str) -> None:
    reply = PeerReply(code)
    assert (reply.positive, reply.temporary, reply.permanent, reply.status) == (positive, temporary, permanent, status)


def test_a_reply_is_shown_on_one_line() -> None:
    assert str(PeerReply(550, "5.1.1", ("No such user", "", "here"))) == "550 5.1.1 No such user here"
    assert str(PeerReply(250)) == "250"
    assert PeerReply(550, "5.1.1").status == "5.1.1"


@pytest.mark.parametrize(
    ("stage", "code", "local", "accepted", "uncertain"),
    [
        (Stage.TEXT, 250, False, True, False),
        (Stage.RCPT, 250, False, False, False),
        (Stage.TEXT, 451, False, False, False),
        (Stage.TEXT, 451, True, False, True),
        (Stage.DATA, 451, True, False, False),
    ],
)
def test_only_the_answer_to_the_text_accepts(stage: Stage, code: int, local: bool, accepted: bool, uncertain: bool) -> None:
    outcome = RecipientOutcome(BEN, stage, PeerReply(code, None, ("said",), local))
    assert (outcome.accepted, outcome.uncertain) == (accepted, uncertain)
    assert (outcome.code, outcome.enhanced, outcome.text) == (code, f"{code // 100}.0.0", "said")
    assert (outcome.temporary, outcome.permanent) == (code == 451, False)


def test_a_delivery_tells_who_got_the_message() -> None:
    good = RecipientOutcome(BEN, Stage.TEXT, PeerReply(250))
    bad = RecipientOutcome(BEN, Stage.RCPT, PeerReply(550))
    delivery = Delivery((good, bad), "mx.test", frozenset({"DSN"}))
    assert (delivery.accepted, delivery.refused, delivery.complete) == ([good], [bad], False)
    assert Delivery((good,)).complete
