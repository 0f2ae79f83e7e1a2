"""Who may relay is said when the server starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from twisted_smtplite.app.log import EventLines, TextForm
from twisted_smtplite.app.options import Options
from twisted_smtplite.app.tap import buildServer

RELAY = "relay:mail.test"
NETWORKS = "?networks=127.0.0.0/8,2001:db8::/32,unix"
SENTENCES = {
    "nobody": "Nobody may relay, all mail is refused: add users (--password-file or --auth), or networks (--delivery '...?networks=127.0.0.0/8')",
    "users": "Mail for everywhere is taken of users who have authenticated",
    "networks": "Mail for everywhere is taken of clients in 127.0.0.0/8, 2001:db8::/32, unix",
    "both": "Mail for everywhere is taken of users who have authenticated and clients in 127.0.0.0/8, 2001:db8::/32, unix",
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--delivery", RELAY], "nobody"),
        (["--delivery", "mx"], "nobody"),
        (["--delivery", RELAY, "--password-file", "users", "--allow-plaintext-auth"], "users"),
        (["--delivery", "mx" + NETWORKS], "networks"),
        (["--delivery", RELAY + NETWORKS, "--password-file", "users", "--allow-plaintext-auth"], "both"),
        (["--delivery", "null"], None),
    ],
)
def test_who_may_relay_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users").write_text("")
    (tmp_path / "users").chmod(0o600)
    options = Options()
    options.parseOptions(["--port", "0", *arguments])
    reactor: Any = MemoryReactorClock()
    with capturedLogs() as events:
        buildServer(options, reactor, EventLines(TextForm()))
    lines = [formatEvent(event) for event in events]
    assert [sentence for sentence in SENTENCES.values() if sentence in lines] == ([SENTENCES[said]] if said else [])
