"""SASLprep, RFC 4013."""

from __future__ import annotations

import pytest

from twisted_smtplite.dialogue.saslprep import prepare


# RFC 4013 3, and some more.
@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\x07", None),
        ("\u0627\u0031", None),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("\u0627a\u0628", None),
        ("a\u0627", None),
        ("", None),
        ("\u00ad", None),
        ("pass\u00a0word", "pass word"),
        ("pass word", "pass word"),
        ("pass\x7fword", None),
        ("u\u0308", "\u00fc"),
        ("\ue000", None),
        ("\ud800", None),
        # Younger than the tables.
        ("\U0001f511", "\U0001f511"),
    ],
)
def test_a_text_is_prepared_or_refused(text: str, prepared: str | None) -> None:
    assert prepare(text) == prepared
