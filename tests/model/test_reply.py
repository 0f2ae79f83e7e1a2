from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model import replies
from twisted_smtplite.model.reply import Refused, Reply

CATALOGUE = [value for value in vars(replies).values() if isinstance(value, Reply)]
LINES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=1500)


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (Reply(250), b"250 2.0.0 \r\n"),
        (Reply(250, "2.1.0", "OK"), b"250 2.1.0 OK\r\n"),
        (Reply(450, text="Later"), b"450 4.0.0 Later\r\n"),
        (Reply(550, text="No"), b"550 5.0.0 No\r\n"),
        (Reply(354, text="Go"), b"354 Go\r\n"),
        (Reply(220, None, "mx.test ESMTP"), b"220 mx.test ESMTP\r\n"),
        (Reply(250, None), b"250 \r\n"),
        (Reply(250, None, ()), b"250 \r\n"),
        (Reply(250, None, ("mx.test", "SIZE 1", "HELP")), b"250-mx.test\r\n250-SIZE 1\r\n250 HELP\r\n"),
        (Reply(550, "5.7.1", ("No", "Never")), b"550-5.7.1 No\r\n550 5.7.1 Never\r\n"),
        (Reply(599 - 40, "5.999.999", "a\tb"), b"559 5.999.999 a\tb\r\n"),
    ],
)
def test_reply_on_the_wire(reply: Reply, wire: bytes) -> None:
    assert reply.wire == wire


@pytest.mark.parametrize("code", [-1, 0, 25, 199, 260, 299, 360, 560, 600, 999, 2500])
def test_code_out_of_range_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match="reply code"):
        Reply(code)


@pytest.mark.parametrize("enhanced", ["5.1.1", "4.0.0", "2", "2.0", "2.0.0.0", "2.01.0", "2.0.1000", "3.0.0", "2.0.0 ", "x", "2.0.0\n"])
def test_enhanced_code_that_does_not_fit_is_refused(enhanced: str) -> None:
    with pytest.raises(ValueError, match="enhanced status code"):
        Reply(250, enhanced)


def test_enhanced_code_does_not_fit_an_intermediate_reply() -> None:
    with pytest.raises(ValueError, match="enhanced status code"):
        Reply(354, "3.0.0")


@pytest.mark.parametrize("text", ["a\r\nb", "a\rb", "a\n", "\0", "\x7f", "caf\u00e9", ("fine", "not\nfine")])
def test_text_that_a_reply_cannot_hold_is_refused(text: str | tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="reply text"):
        Reply(250, None, text)


def test_long_text_is_folded_at_spaces() -> None:
    words = " ".join(["word"] * 300)
    lines = Reply(550, "5.7.1", words).wire.decode().split("\r\n")
    assert lines.pop() == ""
    assert all(len(line) + 2 <= 512 for line in lines)
    assert [line[:10] for line in lines] == ["550-5.7.1 "] * (len(lines) - 1) + ["550 5.7.1 "]
    assert " ".join(line[10:] for line in lines) == words


def test_text_without_spaces_is_folded_anyway() -> None:
    lines = Reply(250, None, "x" * 1000).wire.split(b"\r\n")
    assert [len(line) for line in lines] == [510, 498, 0]


@pytest.mark.parametrize(("size", "lines"), [(505, 1), (506, 1), (507, 2)])
def test_text_is_folded_only_where_512_octets_do_not_hold_it(size: int, lines: int) -> None:
    assert Reply(250, None, "x" * size).wire.count(b"\r\n") == lines


def test_space_at_the_fold_makes_no_empty_line() -> None:
    assert Reply(250, None, "x" * 506 + " ").wire == b"250 " + b"x" * 506 + b"\r\n"


@given(st.one_of(LINES, st.lists(LINES, max_size=5).map(tuple)), st.sampled_from([220, 250, 354, 421, 451, 550, 555]))
def test_every_reply_has_the_form_that_clients_read(text: str | tuple[str, ...], code: int) -> None:
    reply = Reply(code, text=text)
    *lines, rest = reply.wire.split(b"\r\n")
    assert rest == b""
    assert all(len(line) <= 510 and line[:3] == b"%d" % code for line in lines)
    assert [line[3:4] for line in lines] == [b"-"] * (len(lines) - 1) + [b" "]


def test_lines_positive_and_text_for_logs() -> None:
    assert Reply(250, None, "a").lines == ("a",)
    assert Reply(250, None, ()).lines == ("",)
    assert [Reply(code).positive for code in (250, 354, 451, 550)] == [True, True, False, False]
    assert str(Reply(550, "5.1.1", ("No", "user"))) == "550 5.1.1 No user"
    assert str(Reply(354)) == "354"


def test_replies_compare_by_what_they_say() -> None:
    assert Reply(250, text="OK") == Reply(250, "2.0.0", "OK")
    assert Reply(250, text="OK") != Reply(250, text="OK", closes=True)
    assert len({Reply(250), Reply(250, "2.0.0"), Reply(550)}) == 2


@pytest.mark.parametrize("reply", CATALOGUE, ids=str)
def test_catalogue_replies_fit_one_line_and_close_where_they_must(reply: Reply) -> None:
    assert reply.wire.count(b"\r\n") == 1
    # Besides 221 and 421 only what leaves nobody knowing where the next command begins.
    assert reply.closes == (reply.code in (221, 421) or reply in (replies.BDAT_SYNTAX, replies.TLS_PIPELINED))


def test_a_reply_221_or_421_always_closes() -> None:
    assert Reply(421, "4.3.2", "Full").closes
    assert not Reply(450, "4.3.2", "Full").closes


def test_replies_with_names_in_them() -> None:
    assert replies.greeting("mx.test").wire == b"220 mx.test ESMTP twisted-smtplite\r\n"
    assert replies.accepted("Q1").wire == b"250 2.0.0 Message accepted as Q1\r\n"
    assert [make("SIZE").code for make in (replies.unknownParameter, replies.badParameter, replies.repeatedParameter)] == [555, 501, 501]
    assert all("SIZE" in str(make("SIZE")) for make in (replies.unknownParameter, replies.badParameter, replies.repeatedParameter))


def test_refused_carries_a_negative_reply() -> None:
    reply = Reply(550, "5.1.1", "No such user")
    refused = Refused(reply)
    assert refused.reply is reply
    assert str(refused) == "550 5.1.1 No such user"


@pytest.mark.parametrize("code", [250, 354])
def test_refused_with_a_positive_reply_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match="refusal"):
        Refused(Reply(code))


def test_refused_can_be_copied_and_pickled() -> None:
    refused = Refused(Reply(451, text="Later"))
    assert copy.copy(refused).reply == refused.reply
    assert pickle.loads(pickle.dumps(refused)).reply.wire == refused.reply.wire
