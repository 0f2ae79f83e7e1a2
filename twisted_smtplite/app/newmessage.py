"""Makes a message of what a program writes into a pipe: where it ends, and the header fields that every message has.

Knows the customs of sendmail and what RFC 5322 3.6 demands. Must not know the envelope or the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

# RFC 5322 2.2, 4.5: the line of a header field; what does not begin with one has no header section.
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
# RFC 5322 3.6: a message has a date and an originator, and should have an identifier.
_NEEDED = re.compile(rb"^(date|from|message-id)[ \t]*:", re.MULTILINE | re.IGNORECASE)
_DOTS = (b".\n", b".\r\n", b".")


def readMessage(stream: BinaryIO, *, dots: bool) -> bytes:
    """Reads a message.

    Args:
        stream: where it comes from.
        dots: False ends it at a line that is nothing but a dot, else at the end of the stream alone.
    """
    if dots:
        return stream.read()
    lines = []
    for line in stream:
        if line in _DOTS:
            break
        lines.append(line)
    return b"".join(lines)


def completed(content: bytes, fields: dict[str, Callable[[], str]]) -> bytes:
    """The message with the header fields that it lacks, in front of the others.

    Args:
        content: what was read. Without a header section it is all body; the separator of an mbox in front of it is left out.
        fields: what makes the value of each field that a message needs, by its name. No value has a line end.
    """
    if content.startswith(b"From "):
        content = content.partition(b"\n")[2]
    lineEnd = b"\r\n" if content.partition(b"\n")[0].endswith(b"\r") else b"\n"
    if not _FIELD.match(content) and content[:1] not in (b"\n", b"\r"):
        content = lineEnd + content
    empty = re.search(rb"^\r?\n", content, re.MULTILINE)
    present = {found[1].lower() for found in _NEEDED.finditer(content, 0, empty.start() if empty else len(content))}
    missing = [f"{name}: {make()}".encode() + lineEnd for name, make in fields.items() if name.lower().encode() not in present]
    return b"".join([*missing, content])
