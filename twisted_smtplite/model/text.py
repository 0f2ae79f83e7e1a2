"""Octets of a message made text, whatever they are: charsets, encoded words (RFC 2047), transfer encodings (RFC 2045 6).

Knows how senders label text, rightly and wrongly. Nothing here raises, and all of it takes time and memory linear in its input. Must not know
which field or part the octets come from.
"""

from __future__ import annotations

import binascii
import re
from encodings.aliases import aliases

# Only names in this table are looked up: Python remembers each unknown name for ever, and knows codecs that mail must not choose (punycode and
# idna take quadratic time, unicode_escape is no charset). Behind the aliases: charsets that have none, and labels seen in mail.
_CODECS = aliases | {codec: codec for codec in aliases.values()}
_CODECS |= {codec: codec for codec in ("cp720", "cp737", "cp856", "cp874", "cp1006", "koi8_t", "koi8_u", "mac_arabic", "mac_croatian", "utf_8_sig")}
_CODECS |= {"iso_8859_8_i": "iso8859_8", "unicode_1_1_utf_7": "utf_7", "windows_874": "cp874", "x_gbk": "gbk", "x_sjis": "cp932"}
_NAME_BREAKS = re.compile(r"[^a-z0-9.]+")

# RFC 2047 2: =?charset?encoding?text?= ; RFC 2231 5 puts *language behind the charset.
_WORD_START = re.compile(r"=\?([^?\s]+)\?([BbQq])\?")
_LINE_BREAKS = re.compile(r"[\r\n]+")

# Looks at each run of white space from its beginning only, or a long one inside a line would take quadratic time.
_TRAILING_SPACE = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n|\Z)")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64 + b"="))


def decodeText(octets: bytes, charset: str = "") -> str:
    """The text in `octets`, decoded by `charset`; what cannot be decoded shows as U+FFFD.

    Without a charset, or with an unknown one or US-ASCII, it is read as UTF-8 (RFC 6532 3.2), or when it is not that, as ISO-8859-1, where each
    octet is a character. The result can always be encoded again: it holds no surrogates.
    """
    codec = _CODECS.get(_NAME_BREAKS.sub("_", charset.lower()).strip("_"), "ascii") if charset else "ascii"
    if codec != "ascii":
        try:
            text = octets.decode(codec, "replace")
        except LookupError:  # a codec of another platform, or not one for text
            pass
        else:
            # UTF-7 can spell half a surrogate pair.
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if codec == "utf_7" else text
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def decodeWords(text: str) -> str:
    """`text` with its encoded words decoded (RFC 2047), wherever they stand; on one line, whatever they hold."""
    if "=?" not in text:
        return _LINE_BREAKS.sub(" ", text)
    pieces: list[str] = []
    run: list[bytes] = []
    runCharset = ""
    at = 0
    while (word := _WORD_START.search(text, at)) and (end := text.find("?=", word.end())) >= 0:
        gap = text[at : word.start()]
        charset = word[1].partition("*")[0].lower()
        # RFC 2047 6.2: white space between two encoded words is not shown. Senders cut characters in two there, so one charset is decoded whole.
        adjacent = at > 0 and not gap.strip()
        if not adjacent or charset != runCharset:
            pieces.append(decodeText(b"".join(run), runCharset))
            run = []
        if not adjacent:
            pieces.append(gap)
        runCharset = charset
        encoded = text[word.end() : end].encode("utf-8", "replace")
        run.append(decodeBase64(encoded) if word[2] in "Bb" else binascii.a2b_qp(encoded, header=True))
        at = end + 2
    pieces += (decodeText(b"".join(run), runCharset), text[at:])
    return _LINE_BREAKS.sub(" ", "".join(pieces))


def decodeQuotedPrintable(octets: bytes) -> bytes:
    """The octets that quoted-printable stands for (RFC 2045 6.7); what is no code in it stays as it is."""
    # RFC 2045 6.7 (3): white space at the end of a line was added on the way.
    return binascii.a2b_qp(_TRAILING_SPACE.sub(b"", octets))


def decodeBase64(octets: bytes) -> bytes:
    """The octets that base64 stands for: characters outside its alphabet are skipped, padding ends it and may be missing (RFC 2045 6.8)."""
    digits = octets.translate(None, _NOT_BASE64).partition(b"=")[0]
    if len(digits) % 4 == 1:  # six bits make no octet
        digits = digits[:-1]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
