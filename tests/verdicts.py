"""What a delivery answers, in the words of the `?` mark of transcripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors import Breakage, Verdict, Wrong, raises, refusal
from stage import Stage
from transcript import TranscriptError
from twisted.internet.defer import CancelledError, Deferred

from twisted_smtplite.model.reply import Refused, Reply


def verdictFor(text: str, stage: Stage) -> Verdict:
    """What a `?` line means: a reply (``550 5.1.1 No such user``), or a word of `_WORDS`.

    Raises:
        TranscriptError: it is neither.
    """
    word, _, rest = text.partition(" ")
    if word.isdigit():
        return lambda: refusal(text)
    if word not in _WORDS:
        raise TranscriptError(f"unknown verdict {text!r}")
    return _WORDS[word](rest, stage)


def _closing(rest: str, stage: Stage) -> Verdict:
    plain = refusal(rest)
    return lambda: Reply(plain.code, plain.enhanced, plain.text, closes=True)


def _each(rest: str, stage: Stage) -> Verdict:
    outcomes = [verdictFor(each.strip(), stage)() for each in rest.split("|")]
    return lambda: outcomes


def _waiting(rest: str, stage: Stage) -> Verdict:
    seconds, _, then = rest.partition(" ")
    later = verdictFor(then, stage)
    return lambda: stage.delivery.waits(float(seconds)).addCallback(lambda _: later())


def _stubbornly(rest: str, stage: Stage) -> Verdict:
    seconds, _, then = rest.partition(" ")
    return lambda: Deferred.fromCoroutine(_stubborn(stage, float(seconds), verdictFor(then, stage)))


async def _stubborn(stage: Stage, seconds: float, then: Verdict) -> Any:
    late: Deferred[None] = Deferred()
    stage.clock.callLater(seconds, late.callback, None)
    try:
        await stage.delivery.waits(seconds)
    except CancelledError:
        # Not among the delivery's open questions: nobody waits for this one any more.
        await late
    return then()


def _breaking(rest: str, stage: Stage) -> Verdict:
    return lambda: Refused(refusal(rest)) if rest else Breakage()


def _wrong(rest: str, stage: Stage) -> Verdict:
    answer = verdictFor(rest, stage)() if rest else object()
    return lambda: Wrong(answer)


_WORDS: dict[str, Callable[[str, Stage], Verdict]] = {
    # Yes.
    "ok": lambda rest, stage: lambda: None,
    # Yes, and this is the queue id.
    "id": lambda rest, stage: lambda: rest,
    # A verdict for each recipient: `each ok | 550 5.2.2 Full`.
    "each": _each,
    # A refusal that is raised.
    "refuse": lambda rest, stage: raises(lambda: Refused(refusal(rest))),
    # A reply that closes the connection.
    "close": _closing,
    # Any other exception.
    "raise": lambda rest, stage: raises(Breakage),
    # On startMessage: the message fails while it is read, with an exception or this refusal.
    "breaks": _breaking,
    # An answer of the wrong type, or one that does not fit here.
    "wrong": _wrong,
    # No answer.
    "never": lambda rest, stage: lambda: stage.delivery.waits(None),
    # An answer after so many seconds: `wait 10 ok`.
    "wait": _waiting,
    # The same, from somebody who does not let himself be cancelled.
    "stubborn": _stubbornly,
}
