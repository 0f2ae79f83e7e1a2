"""Sending by MX: what holds whatever the servers do."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mxworld import LATER, NEVER, OK, World, busy, closed, lacks, local, unreachable, untrusted
from twisted.internet.defer import Deferred, succeed

from twisted_smtplite.client.destination import Destination
from twisted_smtplite.client.route import MailHost
from twisted_smtplite.model.envelope import Envelope
from twisted_smtplite.model.results import Delivery, RecipientOutcome, Stage

LOST = local(451, "4.4.2")
NAMES = "abcd"
PER_RECIPIENT = st.sampled_from(
    [(Stage.TEXT, OK), (Stage.TEXT, LATER), (Stage.TEXT, LOST), (Stage.TEXT, NEVER), (Stage.RCPT, LATER), (Stage.RCPT, NEVER), (Stage.DATA, LOST)]
)
HOST = st.one_of(st.sampled_from([unreachable, busy, closed, untrusted, lacks]), st.fixed_dictionaries(dict.fromkeys(NAMES, PER_RECIPIENT)))


@given(hosts=st.lists(HOST, min_size=1, max_size=5), domains=st.lists(st.sampled_from(["a.test", "b.test"]), min_size=4, max_size=4))
def test_each_recipient_has_one_outcome_and_the_message_at_most_once(hosts: list[Any], domains: list[str]) -> None:
    # What each recipient was told, by each host that was asked.
    heard: dict[str, list[RecipientOutcome]] = {name: [] for name in NAMES}

    def manners(host: Any) -> Any:
        if callable(host):
            return host

        def answer(destination: Destination, envelope: Envelope) -> Deferred[Delivery]:
            outcomes = tuple(RecipientOutcome(recipient, *host[recipient.address.localPart]) for recipient in envelope.recipients)
            for each in outcomes:
                heard[each.recipient.address.localPart].append(each)
            return succeed(Delivery(outcomes, destination.host))

        return answer

    servers = {f"mx{number}": manners(host) for number, host in enumerate(hosts)}
    listed = [MailHost(name, number, (name,)) for number, name in enumerate(servers)]
    world = World(servers, {"a.test": listed, "b.test": listed[:1]})
    recipients = [f"{name}@{domain}" for name, domain in zip(NAMES, domains, strict=True)]
    delivery = world.deliver(*recipients)
    assert [str(each.recipient.address) for each in delivery.outcomes] == recipients
    for name, outcome in zip(NAMES, delivery.outcomes, strict=True):
        told = heard[name]
        # Whoever may have the message, or has refused it for good, was the last to be asked.
        assert all(each.temporary and each.stage is not Stage.TEXT for each in told[:-1])
        final = [each for each in told if each.stage is Stage.TEXT or (each.permanent and not each.reply.local)]
        assert final == [] or outcome == final[0]
        assert final != [] or not outcome.accepted
