from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_smtplite.model.parameters import parseParameters

SIZE = 20_000


@pytest.mark.parametrize(
    ("text", "word", "parameters"),
    [
        ("", "", {}),
        ("text/plain", "text/plain", {}),
        (" Text/HTML ; Charset=UTF-8 ;", "text/html", {"charset": "UTF-8"}),
        ('text/plain; charset="us-ascii"; format=flowed', "text/plain", {"charset": "us-ascii", "format": "flowed"}),
        ('a; x="1; y=2"; z = 3', "a", {"x": "1; y=2", "z": "3"}),
        ('a; x="say \\"hi\\""', "a", {"x": 'say "hi"'}),
        # RFC 2045 5.1: the examples with comments.
        ("text/plain; charset=us-ascii (Plain text)", "text/plain", {"charset": "us-ascii"}),
        ('text/plain (a (nested; "one) \\) still); charset=x', "text/plain", {"charset": "x"}),
        ("(first) text/plain; (a=b) charset (c) = (d) x (e)", "text/plain", {"charset": "x"}),
        ('a; x="(no comment)"', "a", {"x": "(no comment)"}),
        # RFC 2231 3, 4 and 4.1.
        ("a; url*0=ftp://; url*1=x.test/y", "a", {"url": "ftp://x.test/y"}),
        ("a; url*1=x.test; url*0=ftp://", "a", {"url": "ftp://x.test"}),
        ("a; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", "a", {"title": "This is ***fun***"}),
        ("a; title*0*=us-ascii'en'This%20is%20even; title*1*=%20more%20; title*2=\"isn't it!\"", "a", {"title": "This is even more isn't it!"}),
        ("a; n*=utf-8''%e2%82%ac", "a", {"n": "\u20ac"}),
        ("a; n*=iso-8859-1''%e9", "a", {"n": "\u00e9"}),
        ("a; n*=x-none''%e9", "a", {"n": "\u00e9"}),
        ("a; n*=%41'b", "a", {"n": "A'b"}),
        ("a; n=plain; n*=utf-8''better", "a", {"n": "better"}),
        ("a; n*=utf-8''better; n=plain", "a", {"n": "better"}),
        ("a; n*0=x; n*2=z", "a", {"n": "x"}),
        ("a; n*1=y", "a", {}),
        ("a; n*0=x; n*0=y; n*00=z", "a", {"n": "x"}),
        # Not as the RFCs want it, but as senders do.
        ("text/plain charset=utf-8", "text/plain", {"charset": "utf-8"}),
        ("a; name=two words.pdf; b=c", "a", {"name": "two words.pdf", "b": "c"}),
        ("a; name=file (1).pdf", "a", {"name": "file (1).pdf"}),
        ("a; name=file (1.pdf; b=c (d)", "a", {"name": "file (1.pdf", "b": "c (d)"}),
        ('a; name="C:\\docs\\a.txt"', "a", {"name": "C:\\docs\\a.txt"}),
        ('a; name="open; b=c', "a", {"name": "open; b=c"}),
        ('a; name="open\\', "a", {"name": "open"}),
        ('a; name="x"y', "a", {"name": "x"}),
        ("a; b=1; b=2", "a", {"b": "1"}),
        ("a;; =x; novalue; b=; c==d", "a", {"b": "", "c": "=d"}),
        ("; b=1", "", {"b": "1"}),
        ("a; n*99999=x; n*x=y; *=z", "a", {"n*99999": "x", "n*x": "y", "*": "z"}),
        ("a; b=\u00e9", "a", {"b": "\u00e9"}),
    ],
)
def test_word_and_parameters(text: str, word: str, parameters: dict[str, str]) -> None:
    assert parseParameters(text) == (word, parameters)


@given(st.one_of(st.text(), st.lists(st.sampled_from([";", "=", '"', "(", ")", "\\", "*", "*0", "*1*", "'", "%41", "a", "utf-8", " "])).map("".join)))
def test_parameters_never_raise(text: str) -> None:
    _, parameters = parseParameters(text)
    assert all(name == name.lower() for name in parameters)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a" + "; b=c" * SIZE, 1),
        ("a" + "".join(f"; b{i}=c" for i in range(SIZE)), SIZE),
        ("a; b*0=x" + "".join(f"; b*{i}*=%41" for i in range(1, SIZE)), 1 + SIZE - 10_000),
        ("a; b=c" + "(" * SIZE, 1),
        ("a; b=c" + "(" * SIZE + ")" * SIZE, 1),
        ("a; b=c" + "()(" * SIZE, 1),
        ("a; b=" + '"\\' * SIZE, 1),
        ("a; b*=" + "%" * SIZE, 1),
        ("a; b*=" + "'" * SIZE, 1),
    ],
    ids=["repeated", "many", "sections", "open", "deep", "never closed", "quotes", "percent", "apostrophes"],
)
def test_hostile_values_are_read(text: str, count: int) -> None:
    assert len(parseParameters(text)[1]) == count
