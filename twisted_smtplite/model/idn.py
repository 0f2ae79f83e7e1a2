"""Domain names beyond ASCII, in the form that every server and resolver takes (RFC 5890 2.3.2.1).

Knows IDNA 2008. Must not know what the names are for.
"""

from __future__ import annotations


def asciiDomain(domain: str) -> str:
    """The domain with A-labels in place of U-labels; one that is ASCII as it is.

    Upper case, and characters that only look otherwise, are mapped first, as people write them (UTS 46).

    Raises:
        ValueError: it is no domain name; its text is a sentence.
    """
    if domain.isascii():
        return domain
    # It takes a while to load, and few need it.
    import idna

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"{domain!r} is no domain name: {error}") from error
