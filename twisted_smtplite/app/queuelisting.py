"""What ``smtplite queue`` shows: for people, and as JSON for programs.

Knows forms. Must not know where the values come from. What is shown to people holds nothing that a terminal could take for an order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from email.utils import formatdate

from ..model.envelope import Envelope
from ..queue.admin import Totals
from ..queue.entries import Progress, QueuedMessage, State
from ..queue.serial import envelopeText, recipientText
from .quantity import sizeText


def listed(message: QueuedMessage, now: float) -> str:
    """A message in the list: a line, and one for each of its recipients."""
    marks = [word for word, applies in (("held", message.held), ("report", message.report)) if applies]
    first = f"{message.id}  {_size(message.size)}  {_date(message.queuedAt)}  <{message.envelope.sender}>{''.join(f'  {mark}' for mark in marks)}"
    return _plain("\n".join([first, *(f"    {_progress(progress, now)}" for progress in message.progress)]))


def shown(message: QueuedMessage, now: float, header: bytes | None) -> str:
    """All of a message but its text."""
    envelope = message.envelope
    facts = [
        ("Id", message.id),
        ("Sender", f"<{envelope.sender}>"),
        ("Submitted by", message.user or ""),
        ("Arrived", _date(message.queuedAt)),
        ("Size", f"{message.size} octets"),
        ("State", "held" if message.held else "report" if message.report else ""),
        *_asked(envelope),
    ]
    lines = [f"{name + ':':<14}{value}" for name, value in facts if value]
    lines.append("Recipients:")
    for progress in message.progress:
        recipient = progress.recipient
        notify = f" notify {','.join(sorted(recipient.notify))}" if recipient.notify is not None else ""
        original = f" original {';'.join(recipient.originalRecipient)}" if recipient.originalRecipient else ""
        lines.append(f"    {_progress(progress, now)}{notify}{original}")
    text = "the text cannot be read" if header is None else header.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")
    return _plain("\n".join([*lines, "", text]))


def totals(of: Totals, running: bool, now: float) -> str:
    """The statistics."""
    lines = [
        f"messages: {of.messages}, held: {of.held}, reports: {of.reports}, size: {_size(of.octets)}",
        f"oldest:   {'none' if of.oldest is None else f'{_date(of.oldest)}, {_span(now - of.oldest)} ago'}",
        f"due:      {of.due} now{'' if of.next is None or of.next <= now else f', the next in {_span(of.next - now)}'}",
        f"sending:  {'yes' if running else 'no server runs this queue'}",
    ]
    for domain in of.domains:
        when = "now" if domain.next <= now else f"in {_span(domain.next - now)}"
        lines.append(f"    {domain.domain or '(no domain)'}: {domain.recipients} waiting, {domain.tried} of them again, the next {when}")
    return _plain("\n".join(lines))


def messageJSON(message: QueuedMessage) -> dict[str, object]:
    """A message for programs. Times are in seconds since the epoch."""
    return {
        "id": message.id,
        "sender": str(message.envelope.sender),
        "user": message.user,
        "size": message.size,
        "queuedAt": message.queuedAt,
        "priority": message.envelope.priority,
        "held": message.held,
        "report": message.report,
        "recipients": [_progressJSON(progress) for progress in message.progress],
    }


def shownJSON(message: QueuedMessage, header: bytes | None, text: bytes | None) -> dict[str, object]:
    """All of a message for programs; its text when that is asked for."""
    asked = [json.loads(recipientText(progress.recipient)) for progress in message.progress]
    values = {**messageJSON(message), "envelope": {**json.loads(envelopeText(message.envelope)), "recipients": asked}}
    for name, octets in (("header", header), ("text", text)):
        if octets is not None:
            values[name] = octets.decode("utf-8", "surrogateescape")
    return values


def totalsJSON(of: Totals, running: bool) -> dict[str, object]:
    """The statistics for programs."""
    return {**asdict(of), "running": running}


def summary(messages: Iterable[QueuedMessage]) -> str:
    """The last line of a list."""
    count = waiting = held = 0
    for message in messages:
        count += 1
        held += message.held
        waiting += sum(not progress.state.final for progress in message.progress)
    return f"{count} {'message' if count == 1 else 'messages'}, {waiting} {'recipient' if waiting == 1 else 'recipients'} waiting, {held} held"


def _progress(progress: Progress, now: float) -> str:
    words = [str(progress.recipient.address), progress.state.value]
    if progress.state is State.WAITING:
        words[1] += ", due now" if progress.nextAttempt <= now else f", due in {_span(progress.nextAttempt - now)}"
    if progress.attempts:
        words[1] += f", {progress.attempts} {'attempt' if progress.attempts == 1 else 'attempts'}"
    if progress.doubt is not None:
        words[1] += ", may have it already"
    if progress.reply is not None:
        # What no server has said is not put into its mouth.
        who = (f"{progress.host}: " if progress.host else "") if progress.reply.local else f"{progress.host or 'here'} said "
        words.append(f"{who}{progress.reply}")
    return ": ".join(words)


def _progressJSON(progress: Progress) -> dict[str, object]:
    reply = progress.reply
    return {
        "recipient": str(progress.recipient.address),
        "state": progress.state.value,
        "attempts": progress.attempts,
        "nextAttempt": progress.nextAttempt,
        "lastAttempt": progress.lastAttempt,
        "host": progress.host,
        "stage": progress.stage and progress.stage.value,
        "reply": reply and {"code": reply.code, "enhanced": reply.enhanced, "text": reply.text, "local": reply.local},
        "warned": progress.warned,
        "doubt": progress.doubt and progress.doubt.value,
    }


def _asked(envelope: Envelope) -> list[tuple[str, str]]:
    """What the client asked for beyond the usual."""
    by = envelope.deliverBy
    return [
        ("Body", envelope.body if envelope.body != "7BIT" else ""),
        ("SMTPUTF8", "yes" if envelope.smtputf8 else ""),
        ("Priority", str(envelope.priority or "")),
        ("Hold until", _date(envelope.holdUntil) if envelope.holdUntil else ""),
        (
            "Deliver by",
            "" if by is None else f"{_date(envelope.receivedAt + by.seconds)}, else {'return it' if by.mode == 'R' else 'tell the sender'}",
        ),
        ("Require TLS", "yes" if envelope.requireTLS else ""),
        ("Envelope id", envelope.envelopeId or ""),
        ("Return", envelope.ret or ""),
    ]


def _size(octets: int) -> str:
    return sizeText(octets) if octets < 1024 else f"{octets / 1024:.1f}k" if octets < 1024**2 else f"{octets / 1024**2:.1f}M"


def _date(seconds: float) -> str:
    return formatdate(seconds, localtime=True) if seconds < 0 else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _span(seconds: float) -> str:
    """About how long."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)
