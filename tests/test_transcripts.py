"""The transcripts, each played in every way; and the language they are written in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from player import PLAYS, Departure, Play, Player
from transcript import Dialogue, TranscriptError, matches, parse, unescape

_FOLDER = Path(__file__).parent / "transcripts"
_DIALOGUES = [dialogue for path in sorted(_FOLDER.glob("*.smtp")) for dialogue in parse(path.read_text(), path)]


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.name)
@pytest.mark.parametrize("dialogue", _DIALOGUES, ids=lambda dialogue: dialogue.name)
def test_the_server_keeps_to_the_dialogue(dialogue: Dialogue, play: Play) -> None:
    Player(dialogue, play).run()


@pytest.mark.parametrize("dialogue", _DIALOGUES, ids=lambda dialogue: dialogue.name)
def test_each_dialogue_names_the_rule_that_it_shows(dialogue: Dialogue) -> None:
    section = r"RFC \d{4}(?: (?:\d+|[A-Z])(?:\.\d+)*(?:\(\d+\))?(?: to (?:\d+\.)*\d+)?)?"
    rule = rf"(?:{section}(?:, (?:{section}|\d+(?:\.\d+)*))*|smtplite): .*\."
    assert re.fullmatch(rule, dialogue.title), dialogue.title


def _dialogue(text: str) -> Dialogue:
    (dialogue,) = parse(f"# smtplite: a test.\n{text}", Path("here.smtp"))
    return dialogue


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("plain", b"plain"),
        (r"\r\n\t\0\\", b"\r\n\t\0\\"),
        (r"\x00\xff\xE4", b"\0\xff\xe4"),
        (r"a\{3*b}c", b"abbbc"),
        (r"\{2*x\r\n}", b"x\r\nx\r\n"),
        (r"\{2*\}}", b"}}"),
        ("ü", "ü".encode()),
        ("a{2*b}", b"a{2*b}"),
    ],
)
def test_escapes_stand_for_octets(text: str, octets: bytes) -> None:
    assert unescape(text) == octets


@pytest.mark.parametrize(
    ("pattern", "line", "matching"),
    [
        ("250 2.1.0 *", "250 2.1.0 Sender OK", True),
        ("250 2.1.0 *", "250 2.1.5 Sender OK", False),
        ("250 2.1.0 Sender OK", "250 2.1.0 Sender OK", True),
        ("250 2.1.0 Sender.OK", "250 2.1.0 Sender OK", False),
        ("250 mx.test*", "250 mx.test", True),
        ("250 mx.test*", "250-mx.test", False),
        ("501 *", "501 A name is needed", True),
        ("501 *", "501 5.5.4 A name is needed", False),
        ("501 5.* *", "501 5.5.4 A name is needed", True),
        ("SIZE *", "SIZE 100", True),
        ("EXPN*", "EXPN", True),
    ],
)
def test_a_star_stands_for_text_but_not_for_a_status_code(pattern: str, line: str, matching: bool) -> None:
    assert matches(pattern, line) is matching


def test_neighbours_travel_in_one_write() -> None:
    steps = _dialogue("C: NOOP\nC| NO\nC| OP\\r\\n\nSx2: 250 *\n=  a\n=  b\n").steps
    assert [(step.mark, step.data) for step in steps] == [("C", b"NOOP\r\nNOOP\r\n"), ("S", b""), ("S", b""), ("=", b"ab")]


def test_the_lines_of_a_reply_are_gathered() -> None:
    (step,) = _dialogue("S~ SIZE *\nS! EXPN\nS: 250-*\n").steps
    assert (step.mark, step.text, step.has, step.hasNot) == ("S*", "250 *", ("SIZE *",), ("EXPN",))


def test_dashes_separate_dialogues() -> None:
    dialogues = parse("# one\n! peer ::1\nS: 220 *\n---\n\n# two\nS.\n", Path("here.smtp"))
    assert [(each.name, each.title, each.settings) for each in dialogues] == [("here:1", "one", [("peer", ["::1"])]), ("here:5", "two", [])]


@pytest.mark.parametrize(
    "text",
    [
        "Q: what\n",
        "C:text\n",
        "S: 220 *\n! peer ::1\n",
        "C| \\q\n",
        "C: NOOP\n?  ok\nC: NOOP\n",
        "S~ SIZE\nC: NOOP\n",
        "S= text\n",
        "Sx2. \n!",
        "",
    ],
)
def test_what_is_not_in_the_language_is_refused(text: str) -> None:
    with pytest.raises(TranscriptError, match=r"^here.smtp:\d"):
        _dialogue(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("S: 221 *\n", "the server said     S: 220 mx.test"),
        ("S: 220 *\nC: NOOP\n", "the server also said  S: 250 2.0.0"),
        ("S: 220 *\nC: NOOP\nS: 250 *\n", "the server said     S: 250 2.0.0"),
        ("S: 220 *\nC: NOOP\nC: NOOP\nS: 250 2.0.0 *\nC: NOOP\n", "the server also said  S: 250 2.0.0"),
        ("S: 220 *\nS: 220 *\n", "the server said nothing"),
        ("S: 220 *\nS.\n", "the server did not close"),
        ("S: 220 *\nC: QUIT\nS: 221 2.0.0 *\n", "the server closed"),
        ("S: 220 *\n?  ok\n", "1 verdicts were not asked for"),
        ("S: 220 *\n=  text\n", "no message was delivered"),
        ("S: 220 *\n% mx.test\n", "the server does not speak TLS"),
        ("! tls implicit\nS: 220 *\n", "the server said nothing"),
        ("S: 220 *\nC: EHLO client.test\nS~ NOSUCH\nS: 250-*\n", "the reply lacks the line 'NOSUCH'"),
        ("S: 220 *\nC: EHLO client.test\nS! HELP*\nS: 250-*\n", "the reply has a line"),
    ],
)
def test_a_departure_is_told_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(Departure) as caught:
        Player(_dialogue(text), PLAYS[0]).run()
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("here.smtp:")


def test_a_message_that_the_transcript_does_not_know_of_is_a_departure() -> None:
    group = "C: HELO c\nC: MAIL FROM:<a@b>\nC: RCPT TO:<b@c>\nC: DATA\nC: .\n"
    text = f"S: 220 *\n{group}S: 250 *\nS: 250 2.1.0 *\nS: 250 2.1.5 *\nS: 354 *\nS: 250 2.0.0 *\n"
    with pytest.raises(Departure, match="1 messages were delivered, 0 are in the transcript"):
        Player(_dialogue(text), PLAYS[0]).run()
