"""Domain names beyond ASCII."""

from __future__ import annotations

import pytest

from twisted_smtplite.model.idn import asciiDomain


@pytest.mark.parametrize(
    ("domain", "ascii7"),
    [
        ("mx.test", "mx.test"),
        ("_Odd_.MX.test", "_Odd_.MX.test"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("m\u00fcller.example", "xn--mller-kva.example"),
        ("M\u00dcLLER.Example", "xn--mller-kva.example"),
        ("mu\u0308ller.example", "xn--mller-kva.example"),
        # IDNA 2008 keeps what IDNA 2003 made "ss".
        ("stra\u00dfe.example", "xn--strae-oqa.example"),
        ("\u4f8b\u3002\u6d4b\u8bd5", "xn--fsq.xn--0zwm56d"),
    ],
)
def test_a_domain_has_an_ascii_form(domain: str, ascii7: str) -> None:
    assert asciiDomain(domain) == ascii7


@pytest.mark.parametrize("domain", ["\u2603.test", "\u00fc..test", "-\u00fc.test", "\u00fc" * 64, "\u0644a.test", "\udcff.test"])
def test_what_has_none_is_no_domain(domain: str) -> None:
    with pytest.raises(ValueError, match=r"is no domain name: .") as caught:
        asciiDomain(domain)
    assert str(caught.value).isprintable()
