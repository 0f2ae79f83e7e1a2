"""The path grammar against a reader that goes through the text octet by octet, as the ABNF of RFC 5321 4.1.2 and 4.1.3 is written."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address

import pytest
from descriptions import describe
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import Stage

from twisted_smtplite.dialogue.grammar import PathError, PathTooLong, parsePath
from twisted_smtplite.model.address import Address
from twisted_smtplite.model.limits import Limits

_ATEXT = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~")
_ALNUM = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class _NoPathError(Exception):
    """The text begins with no path."""


class _Reader:
    """A cursor on the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise _NoPathError
        self.at += 1

    def run(self, allowed: set[str], *, wide: bool = False) -> str:
        start = self.at
        while (char := self.peek()) and (char in allowed or (wide and char >= "\u00a0")):
            self.at += 1
        return self.text[start : self.at]


def _domain(reader: _Reader) -> str:
    labels = []
    while True:
        label = reader.run(_ALNUM | {"-"}, wide=True)
        if not label or label.startswith("-") or label.endswith("-"):
            raise _NoPathError
        labels.append(label)
        if reader.peek() != ".":
            return ".".join(labels)
        reader.take(".")


def _literal(reader: _Reader) -> str:
    reader.take("[")
    content = reader.run({chr(code) for code in range(33, 127)} - set("[\\]"))
    reader.take("]")
    tag, colon, rest = content.partition(":")
    if content.lower().startswith("ipv6:"):
        good = "%" not in rest and _parses(IPv6Address, rest)
    elif colon:
        good = bool(tag) and set(tag) <= _ALNUM | {"-"} and not tag.endswith("-") and bool(rest)
    else:
        good = _parses(IPv4Address, ".".join(part.lstrip("0") or "0" for part in content.split("."))) and all(
            1 <= len(part) <= 3 for part in content.split(".")
        )
    if not good:
        raise _NoPathError
    return f"[{content}]"


def _parses(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True


def _localPart(reader: _Reader) -> str:
    if reader.peek() == '"':
        reader.take('"')
        local = ""
        while (char := reader.peek()) != '"':
            if char == "\\":
                reader.take("\\")
                char = reader.peek()
                if not " " <= char <= "~":
                    raise _NoPathError
            elif not (" " <= char <= "~" or char >= "\u00a0"):
                raise _NoPathError
            reader.take(char)
            local += char
        reader.take('"')
        return local
    atoms = [reader.run(_ATEXT, wide=True)]
    while reader.peek() == ".":
        reader.take(".")
        atoms.append(reader.run(_ATEXT, wide=True))
    if not all(atoms):
        raise _NoPathError
    return ".".join(atoms)


def _oracle(text: str) -> tuple[Address, str]:
    """The address of the path that the text begins with, and what follows behind a space; without any limit of length."""
    reader = _Reader(text)
    reader.take("<")
    address = Address("", "")
    if reader.peek() != ">":
        if reader.peek() == "@":
            reader.take("@")
            _domain(reader)
            while reader.peek() == ",":
                reader.take(",")
                reader.take("@")
                _domain(reader)
            reader.take(":")
        local = _localPart(reader)
        reader.take("@")
        address = Address(local, _literal(reader) if reader.peek() == "[" else _domain(reader))
    reader.take(">")
    if reader.at < len(text):
        reader.take(" ")
    return address, text[reader.at :]


_PIECES = (
    "<", ">", "<", ">", "@", ".", ",", ":", " ", '"', "\\", "-", "_", "[", "]", "a", "b1", "mx.test", "x--y", "ü", "例", "+", "/", "!#$%&'*", "(c)",
    ";", "=", "192.0.2.1", "IPv6:", "::1", "2001:db8::", "tag:x", "256.1.1.1", "01.2.3.4", "1.2.3", "postmaster", '"a b"', '"\\""', "@relay.test:",
    "@r.test,@s.test:",
    "\u0080", "\u200d", "\U0001f600", "\x7f", "%eth0",
)  # fmt: skip
_atom = st.text("ab1-+_!ü", min_size=1, max_size=5)
_local = st.lists(_atom, min_size=1, max_size=3).map(".".join) | st.text('a "\\@>.ü~', max_size=6).map(lambda text: f'"{text}"')
_host = st.lists(st.text("ab1-ü", min_size=1, max_size=4), min_size=1, max_size=3).map(".".join) | st.sampled_from(
    [
        "[192.0.2.1]",
        "[IPv6:::1]",
        "[ipv6:1:2:3:4:5:6:7:8]",
        "[IPv6:1:2:3:4:5:6:7:8:9]",
        "[x:y]",
        "[-:x]",
        "[x-:y]",
        "[999.1.1.1]",
        "[]",
        "[IPv6:::ffff:1.2.3.4]",
    ]
)
_route = st.just("") | st.lists(_host.map("@{}".format), min_size=1, max_size=2).map(lambda hosts: ",".join(hosts) + ":")
_wellMeant = st.builds("<{}{}@{}>{}".format, _route, _local, _host, st.sampled_from(["", "", " ", " SIZE=1", "x", ">"]))
_soup = st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)
_broken = st.builds(
    lambda text, at, piece: text[: at % (len(text) + 1)] + piece + text[at % (len(text) + 1) :],
    _wellMeant,
    st.integers(0, 60),
    st.sampled_from(_PIECES),
)
_paths = _wellMeant | _soup | _soup.map(lambda text: f"<{text}>") | _broken

_WIDE = Limits(path=100_000, domain=100_000, localPart=100_000)


def _grammarsAgree(text: str) -> None:
    try:
        expected: tuple[Address, str] | None = _oracle(text)
    except _NoPathError:
        expected = None
    try:
        parsed: tuple[Address, str] | None = parsePath(text, _WIDE)
    except PathError:
        parsed = None
    if expected is None or parsed is None:
        assert parsed == expected
    else:
        # Addresses compare as the RFC compares; here every letter counts.
        assert (tuple(parsed[0]), parsed[1]) == (tuple(expected[0]), expected[1])


@settings(max_examples=500, deadline=None)
@given(_paths)
def test_a_path_is_read_as_the_grammar_is_written(text: str) -> None:
    _grammarsAgree(text)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=10_000, deadline=None)
@given(_paths)
def test_a_path_is_read_as_the_grammar_is_written_deeply(text: str) -> None:
    _grammarsAgree(text)


@settings(max_examples=200, deadline=None)
@given(_wellMeant)
def test_an_address_written_out_is_read_back_as_itself(text: str) -> None:
    try:
        address, _ = parsePath(text, _WIDE)
    except PathError:
        return
    again, rest = parsePath(f"<{address}>", _WIDE)
    assert (tuple(again), rest) == (tuple(address), "")


@settings(max_examples=200, deadline=None)
@given(_wellMeant | _broken)
def test_mail_takes_exactly_what_the_grammar_takes(text: str) -> None:
    text = text.split(" ", maxsplit=1)[0] + " SMTPUTF8"
    try:
        sender = parsePath(text, Limits())[0]
        code = b"250 2.1.0 "
    except PathError:
        code = b"501 5.1.7 "
    stage = Stage()
    stage.connect()
    stage.transport.send(b"EHLO client.test\r\n")
    stage.transport.written.clear()
    stage.transport.send(f"MAIL FROM:{text}\r\n".encode())
    written = bytes(stage.transport.written)
    # Controls are refused before anybody looks for a path.
    assert written.startswith(code) or (written.startswith(b"501 5.5.2 ") and any("\x7f" <= char <= "\x9f" for char in text))
    if written.startswith(b"250"):
        stage.transport.send(b"RCPT TO:<b@mx.test>\r\nDATA\r\n")
        assert describe(stage.delivery.envelopes[0]) == f"<{sender}> smtputf8 -> <b@mx.test>"


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 80), st.integers(1, 300), st.booleans())
def test_lengths_are_limited_in_octets(local: int, domain: int, wide: bool) -> None:
    limits = Limits()
    letter = "ü" if wide else "a"
    text = f"<{letter * local}@{letter * domain}>"
    size = len(letter.encode())
    fits = local * size <= limits.localPart and domain * size <= limits.domain and len(text.encode()) <= limits.path
    if fits:
        assert parsePath(text, limits) == (Address(letter * local, letter * domain), "")
    else:
        with pytest.raises(PathTooLong):
            parsePath(text, limits)
