"""What became of the messages of ``smtplite send``: counted, told to the user, and made the status that the command ends with.

Knows both forms of telling, text and JSON. Must not know how messages are found or sent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from ..model.envelope import Envelope
from ..model.errors import SMTPClientError
from ..model.results import Delivery, RecipientOutcome
from .exitstatus import ExitStatus, ofError, ofOutcome, together
from .plain import plain


class Results:
    """Counts and tells. Failures go to standard error; the summary, and everything as JSON, to standard output.

    Args:
        clock: the time in seconds.
        asJSON: True tells each message as a JSON object on a line of its own, and the summary as the last.
        quiet: True tells failures alone.
    """

    def __init__(self, clock: Callable[[], float], *, asJSON: bool = False, quiet: bool = False) -> None:
        self._clock = clock
        self._asJSON = asJSON
        self._quiet = quiet
        self._began = clock()
        self._statuses: set[ExitStatus] = set()
        self.sent = 0
        self.partly = 0
        self.unsent = 0
        self.refused = 0

    @property
    def status(self) -> ExitStatus:
        """That of everything so far."""
        return together(self._statuses)

    def delivered(self, name: str, envelope: Envelope, delivery: Delivery) -> None:
        """The server has decided on a message."""
        refused = delivery.refused
        if not refused:
            self.sent += 1
        elif len(refused) < len(delivery.outcomes):
            self.partly += 1
        else:
            self.unsent += 1
        self.refused += len(refused)
        if refused:
            self._statuses.update(map(ofOutcome, refused))
        if self._asJSON:
            self._object(message=name, sender=str(envelope.sender), peer=delivery.peer, recipients=[_outcome(each) for each in delivery.outcomes])
        else:
            for outcome in refused:
                self._complain(f"{name}: <{outcome.recipient.address}>: {outcome.reply}{_warning(outcome)}")

    def failed(self, name: str, error: SMTPClientError) -> None:
        """A message was not sent at all."""
        self.lost(name, ofError(error), str(error))

    def lost(self, name: str, status: ExitStatus, reason: str) -> None:
        """A message was not even tried."""
        self.unsent += 1
        self._statuses.add(status)
        if self._asJSON:
            self._object(message=name, error=reason, status=int(status))
        else:
            self._complain(f"{name}: {reason}")

    def givenUp(self) -> None:
        """There are more messages, which nobody has tried to send."""
        self._complain("smtplite: the other messages were not tried")

    def summary(self) -> None:
        """Tells how much there was of everything."""
        seconds = self._clock() - self._began
        messages = self.sent + self.partly + self.unsent
        rate = (self.sent + self.partly) / seconds if seconds > 0 else 0.0
        if self._asJSON:
            counts = {"sent": self.sent, "partly": self.partly, "unsent": self.unsent, "refused": self.refused}
            self._object(summary={**counts, "seconds": round(seconds, 3), "rate": round(rate, 1), "status": int(self.status)})
        elif not self._quiet:
            parts = [f"{self.sent} of {messages} messages sent"]
            parts += [f"{self.partly} to some of their recipients"] if self.partly else []
            if messages == 1:
                parts = ["sent" if self.sent else "sent to some of the recipients" if self.partly else "not sent"]
            parts += [_count(self.refused, "recipient") + " refused"] if self.refused else []
            _tell(sys.stdout, f"{', '.join(parts)}; {seconds:.2f} s" + (f", {rate:,.0f} messages/s" if messages > 1 else ""))

    def _object(self, **values: Any) -> None:
        _tell(sys.stdout, json.dumps(values))

    def _complain(self, sentence: str) -> None:
        _tell(sys.stderr, plain(sentence))


def _tell(stream: TextIO, line: str) -> None:
    """Writes a line. That nobody reads it, or the disk is full, is no reason to leave the rest unsent: the status still says what became of it."""
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except OSError:
        pass


def _outcome(outcome: RecipientOutcome) -> dict[str, object]:
    return {
        "address": str(outcome.recipient.address),
        "accepted": outcome.accepted,
        "code": outcome.code,
        "status": outcome.enhanced,
        "text": outcome.text,
        "stage": outcome.stage.value,
    }


def _warning(outcome: RecipientOutcome) -> str:
    """RFC 1047: a message may have arrived although nobody said so."""
    return " (it may have arrived)" if outcome.uncertain else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def recipientList(addresses: Sequence[object]) -> str:
    """Addresses for people, in angle brackets."""
    return ", ".join(f"<{address}>" for address in addresses)
