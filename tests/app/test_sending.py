"""Messages on their way: how many at a time, what is told of each, and when it is of no use to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_smtplite.app.envelopes import EnvelopeChoices, makeLetter
from twisted_smtplite.app.progress import Silence
from twisted_smtplite.app.sending import Sending
from twisted_smtplite.app.sendresults import Results
from twisted_smtplite.app.sources import Found, Gone
from twisted_smtplite.client.content import Content
from twisted_smtplite.model.envelope import Envelope
from twisted_smtplite.model.errors import ConnectionFailed, Unsendable
from twisted_smtplite.model.results import Delivery, PeerReply, RecipientOutcome, Stage

HEAD = b"From: ann@client.test\nTo: ben@mx.test, cara@mx.test\n\n"


class Sender:
    """Takes messages, and waits to be told what becomes of them."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Envelope, Deferred[Delivery]]] = []

    def send(self, envelope: Envelope, content: Content) -> Deferred[Delivery]:
        result: Deferred[Delivery] = Deferred()
        self.waiting.append((envelope, result))
        return result

    def answer(self, *codes: int, stage: Stage = Stage.TEXT, local: bool = False) -> None:
        envelope, result = self.waiting.pop(0)
        replies = [PeerReply(code, None, ("said",), local) for code in codes]
        result.callback(
            Delivery(tuple(RecipientOutcome(to, stage, reply) for to, reply in zip(envelope.recipients, replies, strict=True)), "mx.test")
        )

    def fail(self, error: Exception) -> None:
        self.waiting.pop(0)[1].errback(error)


class Run:
    """A run of `Sending` over some messages."""

    def __init__(self, messages: Sequence[Found | Gone], most: int = 2, *, single: bool = True) -> None:
        self.sender = Sender()
        self.taken = 0
        clock = Clock()
        self.results = Results(clock.seconds)
        choices = EnvelopeChoices(headerToo=True)
        sending = Sending(
            self.sender, self._counted(messages), lambda found: makeLetter(found.source, choices), self.results, Silence(), single=single
        )
        self.done = Deferred.fromCoroutine(sending.run(most))
        clock.advance(2)

    def _counted(self, messages: Sequence[Found | Gone]) -> Iterator[Found | Gone]:
        for message in messages:
            self.taken += 1
            yield message


def found(count: int) -> list[Found | Gone]:
    return [Found(f"{number}.eml", HEAD, len(HEAD)) for number in range(count)]


def test_no_more_are_read_than_are_on_their_way(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(found(5))
    for finished in range(4):
        assert (run.taken, len(run.sender.waiting)) == (min(5, finished + 2), min(2, 5 - finished))
        run.sender.answer(250, 250)
    run.sender.answer(250, 250)
    assert run.done.called and run.results.status == 0
    run.results.summary()
    assert capsys.readouterr() == ("5 of 5 messages sent; 2.00 s, 2 messages/s\n", "")


def test_each_failure_is_told_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run([*found(3), Gone("gone.eml", "No such file"), Found("lost.eml", b"From: ann@client.test\n\n", 1), *found(1)], most=10)
    run.sender.answer(250, 550)
    run.sender.answer(451, 451, local=True)
    run.sender.fail(Unsendable(PeerReply(552, "5.3.4", ("too large",), True), Stage.MAIL, "mx.test"))
    run.sender.answer(250, 250)
    assert run.done.called and run.results.status == 69
    run.results.summary()
    told = capsys.readouterr()
    assert told.out == "1 of 6 messages sent, 1 to some of their recipients, 3 recipients refused; 2.00 s, 1 messages/s\n"
    assert sorted(told.err.splitlines()) == [
        "0.eml: <cara@mx.test>: 550 said",
        "1.eml: <ben@mx.test>: 451 said (it may have arrived)",
        "1.eml: <cara@mx.test>: 451 said (it may have arrived)",
        "2.eml: mx.test: 552 5.3.4 too large",
        "gone.eml: No such file",
        "lost.eml: it does not say who is to get it, in To, Cc or Bcc",
    ]


def refused() -> ConnectionFailed:
    return ConnectionFailed(PeerReply(451, "4.4.1", ("nobody there",), True), Stage.CONNECT, "mx.test")


@pytest.mark.parametrize(("single", "tried"), [(True, 2), (False, 5)])
def test_one_server_that_is_not_there_is_left_alone(single: bool, tried: int, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(found(5), single=single)
    while run.sender.waiting:
        run.sender.fail(refused())
    assert run.done.called and run.results.unsent == tried and run.results.status == 75
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ("smtplite: the other messages were not tried" if single else "4.eml: mx.test: 451 4.4.1 nobody there")


def test_who_breaks_it_off_hears_which_are_uncertain(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(found(5))
    run.done.cancel()
    failures: list[object] = []
    run.done.addErrback(lambda failure: failures.append(failure.value))
    assert isinstance(failures[0], CancelledError)
    assert capsys.readouterr().err.splitlines() == [f"{number}.eml: broken off: it may have arrived or not" for number in range(2)]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError("odd")])
def test_a_file_that_breaks_while_it_is_read_is_told(error: OSError, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(found(1))
    run.sender.fail(error)
    assert run.results.status == 66
    assert capsys.readouterr().err == f"0.eml: {error.strerror or 'odd'}\n"


def test_one_message_has_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    act: Callable[[Run], None]
    for act, word in ((lambda run: run.sender.answer(250, 250), "sent"), (lambda run: run.sender.fail(refused()), "not sent")):
        run = Run(found(1))
        act(run)
        run.results.summary()
        assert capsys.readouterr().out == f"{word}; 2.00 s\n"
