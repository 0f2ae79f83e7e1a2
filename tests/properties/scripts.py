"""What clients say, as material for the property tests and the fuzz run: commands good and bad, text, ends of text, and plain noise."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

COMMANDS = (
    b"EHLO client.test", b"EHLO [192.0.2.1]", b"HELO client.test", b"ehlo", b"HELO [bad", b"EHLO a b",
    b"MAIL FROM:<a@client.test>", b"MAIL FROM:<>", b"MAIL FROM:<a@client.test> SIZE=100 BODY=8BITMIME", b"MAIL FROM:<a@client.test> SMTPUTF8",
    b"MAIL FROM:<a@client.test> SIZE=99999999999", b"MAIL FROM:<a@client.test> FOO=1", b"MAIL FROM:<\xc3\xbc@client.test> SMTPUTF8",
    b"MAIL FROM:<a@@client.test>", b"MAIL FROM: <a@client.test>", b"MAIL", b"mail from:<\"a b\"@[IPv6:::1]> size=1",
    b"RCPT TO:<b@mx.test>", b"RCPT TO:<b@mx.test>", b"RCPT TO:<postmaster>", b"RCPT TO:<@relay.test:b@mx.test>", b"RCPT TO:<>",
    b"RCPT TO:<\xc3\xbc@mx.test>", b"RCPT TO:<b@mx.test> NOTIFY=NEVER", b"rcpt to:<b@mx..test>", b"RCPT",
    b"DATA", b"DATA", b"data ", b"DATA x", b"RSET", b"RSET x", b"NOOP", b"NOOP x", b"QUIT", b"QUIT x", b"HELP", b"HELP MAIL", b"HELP x",
    b"VRFY b", b"VRFY", b"EXPN b", b"FOO", b"TURN", b"", b" ", b"GET / HTTP/1.1", b"NO\x00OP", b"NOOP \xff", b"\x16\x03\x01",
    b"x" * 700, b"NOOP " + b"x" * 558, b"LHLO client.test", b"STARTTLS", b"STARTTLS x",
    b"MAIL FROM:<a@client.test> BODY=BINARYMIME", b"MAIL FROM:<a@client.test> RET=HDRS ENVID=a+2Bb PRDR", b"MAIL FROM:<a@client.test> AUTH=<> BY=1;R",
    b"MAIL FROM:<a@client.test> MT-PRIORITY=-9 REQUIRETLS", b"MAIL FROM:<a@client.test> ENVID=a+zz", b"MAIL FROM:<a@client.test> BY=0;R",
    b"RCPT TO:<c@mx.test> NOTIFY=DELAY,SUCCESS ORCPT=rfc822;a+40b", b"RCPT TO:<c@mx.test> ORCPT=utf-8;\\x{EB}", b"RCPT TO:<b@mx.test> NOTIFY=x",
    b"RCPT TO:<c@mx.test> RRVS=2014-04-03T23:01:00Z;C", b"BDAT", b"BDAT x", b"BDAT 0", b"BDAT 0 LAST", b"BDAT 7 LAST", b"bdat 99999999999 last",
    b"AUTH PLAIN AGFubgBzZWNyZXQ=", b"AUTH PLAIN AGFubgB3cm9uZw==", b"AUTH PLAIN", b"AUTH PLAIN =", b"AUTH PLAIN !", b"AUTH LOGIN",
    b"AUTH LOGIN YW5u", b"auth login", b"AUTH", b"AUTH FOO", b"AUTH PLAIN a b", b"AUTH SCRAM-SHA-256 biws", b"*", b"=", b"YW5u", b"c2VjcmV0",
    b"AGFubgBzZWNyZXQ=",
    b"XCLIENT ADDR=203.0.113.9 LOGIN=ann", b"XCLIENT ADDR=[UNAVAILABLE] HELO=x PROTO=SMTP", b"XCLIENT FOO=1", b"XFORWARD NAME=a+2Bb SOURCE=LOCAL",
    b"XFORWARD PORT=x",
)  # fmt: skip
TEXT = (
    b"Subject: x", b"Received: by mx.test", b"text", b"..", b"...x", b".x", b". ", b"", b"x" * 1200, b"\xff\xfe", b"\x00",
    b"bare\rCR", b"bare\nLF", b"\n.\n", b"\r", b"\n", b".\r", b".\n", b"\r.\r", b"QUIT", b"MAIL FROM:<evil@client.test>",
)  # fmt: skip
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"", b"\x00\r\n")
END_OF_TEXT = (b".\r\n", b".\r\n", b"\r\n.\r\n", b"\r\n.\r\nQUIT\r\n")
_ENVELOPE = b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@mx.test>\r\n"
TRANSACTION = _ENVELOPE + b"DATA\r\n"
# Each travels for itself; what follows goes into TLS.
TO_TLS = (b"EHLO client.test\r\n", b"STARTTLS\r\n")
# The chunks of a message follow.
IN_CHUNKS = _ENVELOPE
BINARY_IN_CHUNKS = _ENVELOPE.replace(b"<a@client.test>", b"<a@client.test> BODY=BINARYMIME")
LOGINS = (
    b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n",
    b"AUTH PLAIN\r\nAGFubgBzZWNyZXQ=\r\n",
    b"AUTH LOGIN\r\nYW5u\r\nc2VjcmV0\r\n",
    b"AUTH LOGIN YW5u\r\n*\r\n",
)


def chunk(text: bytes, *, last: bool, miscounted: int = 0) -> bytes:
    """BDAT with a chunk behind it; `miscounted` is how many octets its size is wrong by."""
    return b"BDAT %d%b\r\n%b" % (max(0, len(text) + miscounted), b" LAST" * last, text)


_line = st.builds(bytes.__add__, st.sampled_from(COMMANDS + TEXT), st.sampled_from(ENDS))
_command = st.sampled_from([command + b"\r\n" for command in COMMANDS])
_message = st.builds(
    lambda lines, end: TRANSACTION + b"".join(lines) + end,
    st.lists(st.builds(bytes.__add__, st.sampled_from(TEXT), st.sampled_from(ENDS)), max_size=6),
    st.sampled_from(END_OF_TEXT),
)
_miscounts = st.sampled_from((0,) * 8 + (-1, 1, 7))
_chunk = st.builds(
    lambda lines, last, miscounted: chunk(b"".join(lines), last=last, miscounted=miscounted),
    st.lists(st.builds(bytes.__add__, st.sampled_from(TEXT), st.sampled_from(ENDS)), max_size=3),
    st.booleans(),
    _miscounts,
)
_chunks = st.builds(
    lambda start, chunks, end: start + b"".join(chunks) + end,
    st.sampled_from((IN_CHUNKS, IN_CHUNKS, BINARY_IN_CHUNKS)),
    st.lists(_chunk, max_size=3),
    st.sampled_from((chunk(b"", last=True), chunk(b"end\r\n", last=True), b"RSET\r\n", b"")),
)
_login = st.sampled_from(LOGINS)
_noise = st.binary(max_size=20) | st.text("\r\n.\0 x", max_size=8).map(str.encode)

scripts: st.SearchStrategy[bytes] = st.lists(st.one_of(_command, _command, _message, _chunks, _chunk, _login, _line, _noise), max_size=14).map(
    b"".join
)
"""A whole session's input."""

texts: st.SearchStrategy[bytes] = st.lists(
    st.one_of(st.sampled_from(TEXT + ENDS + END_OF_TEXT), st.text("\r\n.\0x", max_size=6).map(str.encode), st.binary(max_size=8)), max_size=14
).map(b"".join)
"""What may come behind DATA."""

verdicts: st.SearchStrategy[list[str]] = st.lists(
    st.sampled_from(["ok", "ok", "ok", "550 5.1.1 No", "451 4.3.0 Later", "refuse 553 5.1.3 Bad", "raise", "250 2.5.0 Fine"]), max_size=8
)
"""What the delivery answers, before it says yes to everything."""


def cutAt(data: bytes, places: list[int]) -> list[bytes]:
    """`data` cut at these places (modulo its length)."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


ways: st.SearchStrategy[str] = st.sampled_from(("", "", "starttls", "implicit"))
"""How TLS begins, for `Stage`; mostly not at all."""

cuts: st.SearchStrategy[list[int]] = st.lists(st.integers(0, 5000), max_size=12)
"""Places to cut at, for `cutAt`."""
