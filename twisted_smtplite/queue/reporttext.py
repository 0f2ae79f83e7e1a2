"""The part of a report that people read.

Knows words. Must not know MIME.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from textwrap import wrap

from ..model.headers import Headers
from .entries import QueuedMessage
from .quote import Quote
from .verdict import Action, Notice

_WIDTH = 76
_MOST_REPLY, _MOST_SUBJECT = 600, 150
_LEADS = {
    Action.FAILED: "could not be delivered to the following recipients. No more attempts will be made.",
    Action.DELAYED: "has not yet been delivered to the following recipients. You need not send it again: it will be tried until {until}.",
    Action.RELAYED: "was passed on for the following recipients, to a server that does not report about delivery. You may hear no more of it.",
}


def readable(message: QueuedMessage, notices: Sequence[Notice], quoted: Quote, hostname: str) -> str:
    """What the report says, as text with LF line ends.

    Args:
        message: what is reported about.
        notices: what there is to say.
        quoted: what is known of the message.
        hostname: the name of this server.
    """
    arrival = formatdate(message.envelope.receivedAt or message.queuedAt)
    paragraphs = [f"This is the mail server {hostname}.", _about(message, quoted, arrival)]
    for action, lead in _LEADS.items():
        those = [notice for notice in notices if notice.action is action]
        if those:
            until = formatdate(max(notice.until or 0.0 for notice in those))
            paragraphs.append("\n".join(wrap("It " + lead.format(until=until), _WIDTH)))
            paragraphs += [_recipient(notice) for notice in those]
    return "\n\n".join(paragraphs) + "\n"


def _about(message: QueuedMessage, quoted: Quote, arrival: str) -> str:
    subject = " ".join((Headers(quoted.header).decoded("Subject") or "").split())
    shown = "".join(character if character.isprintable() else "\ufffd" for character in subject[:_MOST_SUBJECT])
    lines = [
        "This is about your message:",
        "",
        *([f"    Subject:  {shown}"] if shown else []),
        f"    Received: {arrival}",
        f"    Queue id: {message.id}",
    ]
    if message.envelope.envelopeId is not None:
        lines.append(f"    Yours:    {message.envelope.envelopeId}")
    return "\n".join(lines)


def _recipient(notice: Notice) -> str:
    return "\n".join([f"  <{notice.recipient.address}>", *wrap(_reason(notice), _WIDTH, initial_indent="    ", subsequent_indent="    ")])


def _reason(notice: Notice) -> str:
    reply = notice.reply
    if reply is None:
        return "It could not be sent in the time that you set for it." if notice.expired else ""
    said = str(reply)[:_MOST_REPLY]
    if notice.expired:
        return f"The time to deliver it is over. At last: {said}"
    if reply.local or not notice.host:
        return said
    return f"{notice.host} said: {said}"
