"""The text of a queued message."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from twisted_smtplite.client.content import Content
from twisted_smtplite.queue.text import QueuedText

ASCII = b"Subject: x\r\n\r\n"
UTF8 = b"Subject: \xc3\xa4\r\n\r\n"


@pytest.mark.parametrize("large", [False, True], ids=["in-the-database", "in-a-file"])
@pytest.mark.parametrize(
    ("header", "declared", "utf8"),
    [(ASCII, True, False), (UTF8, True, True), (ASCII, False, False), (UTF8, False, False)],
)
def test_what_was_declared_as_internationalized_may_need_no_smtputf8(header: bytes, declared: bool, utf8: bool, large: bool, tmp_path: Path) -> None:
    octets = header + b"\xc3\xa4" * 100_000 + b"\r\n"
    (tmp_path / "1").write_bytes(octets)
    message: Any = SimpleNamespace(id="1", size=len(octets), envelope=SimpleNamespace(body="8BITMIME", smtputf8=declared))
    text: Content = QueuedText(message, lambda queueId: (None, "1", True) if large else (octets, None, True), str(tmp_path), Mock())
    assert text.utf8 is utf8
    assert b"".join(text.pieces()) == octets  # type: ignore[arg-type]
