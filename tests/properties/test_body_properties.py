"""The body reader against a reader that is too simple to be wrong: it has the whole text before it and splits it into lines."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scripts import cutAt, cuts, texts

from twisted_smtplite.dialogue.body import DotReader
from twisted_smtplite.dialogue.body import Text as BodyText
from twisted_smtplite.model.limits import BareLineEnds, Limits
from twisted_smtplite.model.reply import Reply


class Text(NamedTuple):
    """A message as it should be read."""

    body: bytes
    rest: bytes
    unfit: set[tuple[int, str | None]]
    """The codes of all that is wrong with it; any of them may be the answer."""


def _oracle(data: bytes, limits: Limits) -> Text | None:
    """Reads `data` line by line; None when it does not end."""
    lines = data.split(b"\r\n")
    if b"." not in lines[:-1]:
        return None
    end = lines.index(b".")
    rest = b"\r\n".join(lines[end + 1 :])
    text = [line[1:] if line.startswith(b".") else line for line in lines[:end]]
    body = b"".join(line + b"\r\n" for line in text)
    unfit: set[tuple[int, str | None]] = set()
    if limits.bareLineEnds is BareLineEnds.REFUSE:
        if any(octet in line for line in text for octet in (b"\r", b"\n", b"\0")):
            unfit.add((550, "5.6.0"))
    else:
        # A CR with a NUL behind it is a bare CR: what is dropped joins nothing.
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"")
    if limits.textLine and any(len(line) + 2 > limits.textLine for line in text):
        unfit.add((554, "5.6.0"))
    header = text[: text.index(b"")] if b"" in text else text
    if sum(line.lower().startswith(b"received:") for line in header) > limits.receivedFields:
        unfit.add((554, "5.4.6"))
    if 0 < limits.messageSize < len(body):
        unfit.add((552, "5.3.4"))
    return Text(body, rest, unfit)


def _read(pieces: list[bytes], limits: Limits) -> tuple[bytes, bytes | None, Reply | None, int]:
    reader = DotReader(BodyText(limits))
    body, rest = b"", None
    for index, piece in enumerate(pieces):
        chunk, rest = reader.feed(piece)
        assert reader.text.refusal is None or not chunk
        body += chunk
        if rest is not None:
            rest += b"".join(pieces[index + 1 :])
            break
    return body, rest, reader.text.refusal, reader.text.size


def _agrees(data: bytes, pieces: list[bytes], limits: Limits) -> None:
    expected = _oracle(data, limits)
    body, rest, refusal, size = _read(pieces, limits)
    if expected is None:
        assert rest is None
        return
    assert rest == expected.rest
    if expected.unfit:
        assert refusal is not None and (refusal.code, refusal.enhanced) in expected.unfit
    else:
        assert refusal is None
        assert (body, size) == (expected.body, len(expected.body))


_limits = st.sampled_from(
    (
        Limits(),
        Limits(messageSize=0, textLine=0),
        Limits(messageSize=20, textLine=0),
        Limits(textLine=8),
        Limits(bareLineEnds=BareLineEnds.NORMALISE, textLine=0),
    )
)
_everyday = settings(max_examples=400, deadline=None)
_deep = settings(max_examples=20_000, deadline=None)
_received = st.lists(
    st.sampled_from(
        [b"Received: x\r\n", b"received:\r\n", b"X: Received:\r\n", b" Received: x\r\n", b"Received-SPF: x\r\n", b".Received: x\r\n", b"\r\n"]
    ),
    max_size=6,
).map(lambda lines: b"".join(lines) * 30 + b".\r\n")


@_everyday
@given(texts, cuts, _limits)
def test_any_text_is_read_as_line_by_line(data: bytes, places: list[int], limits: Limits) -> None:
    _agrees(data, cutAt(data, places), limits)


@settings(max_examples=100, deadline=None)
@given(st.text("\r\n.\0x", max_size=40).map(str.encode), _limits)
def test_any_text_is_read_alike_octet_by_octet(data: bytes, limits: Limits) -> None:
    data += b"\r\n.\r\nQUIT"
    _agrees(data, [bytes([octet]) for octet in data], limits)


@settings(max_examples=60, deadline=None)
@given(_received, cuts)
def test_hops_are_counted_as_line_by_line(data: bytes, places: list[int]) -> None:
    _agrees(data, cutAt(data, places), Limits())


@settings(max_examples=100, deadline=None)
@given(texts, cuts)
def test_what_waits_for_the_next_octets_is_never_more_than_a_terminator(data: bytes, places: list[int]) -> None:
    assume(_oracle(data, Limits()) is None)
    reader = DotReader(BodyText(Limits(bareLineEnds=BareLineEnds.NORMALISE, messageSize=0, textLine=0)))
    text = b"".join(reader.feed(piece)[0] for piece in cutAt(data, places))
    end = reader.feed(b"\r\n.\r\n")[0]
    assert len(end) <= len(b"\r\n\r\n.\r\n") and len(text + end) >= len(data.replace(b".", b"").replace(b"\0", b""))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@_deep
@given(texts, cuts, _limits)
def test_any_text_is_read_as_line_by_line_deeply(data: bytes, places: list[int], limits: Limits) -> None:
    _agrees(data, cutAt(data, places), limits)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=3000, deadline=None)
@given(_received, cuts)
def test_hops_are_counted_as_line_by_line_deeply(data: bytes, places: list[int]) -> None:
    _agrees(data, cutAt(data, places), Limits())
