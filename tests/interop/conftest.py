"""Fixtures for meetings with other people's programs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from dovecot import Dovecot
from eximserver import Exim
from listener import AUTHORITY, STRANGERS, Listener
from mailserver import MailServer
from opensmtpd import OpenSMTPD
from ownserver import OwnServer
from postfixserver import PostfixServer
from twisted.internet.defer import ensureDeferred


@pytest.fixture
def serve() -> Generator[Callable[..., Listener], None, None]:
    """Starts servers, which end with the test."""
    listeners: list[Listener] = []

    def start(**options: Any) -> Listener:
        listeners.append(Listener(**options))
        return listeners[-1]

    yield start
    for listener in listeners:
        pytest_twisted.blockon(ensureDeferred(listener.stop()))


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with the certificate of our authority, and with that of one that nobody here has a certificate from."""
    directory = tmp_path_factory.mktemp("authorities")
    files = {"ours": directory / "ours.pem", "strangers": directory / "strangers.pem"}
    AUTHORITY.cert_pem.write_to_path(str(files["ours"]))
    STRANGERS.cert_pem.write_to_path(str(files["strangers"]))
    return files


KINDS: dict[str, type[MailServer]] = {kind.name: kind for kind in (Dovecot, Exim, OpenSMTPD, OwnServer, PostfixServer)}


@pytest.fixture(scope="session")
def peer() -> Iterator[Callable[[str], MailServer]]:
    """Gives the mail server of a name, which starts when it is first asked for; skips the test where it cannot."""
    running: dict[str, MailServer] = {}

    def get(name: str) -> MailServer:
        kind = KINDS[name]
        if reason := kind.whyNot():
            pytest.skip(reason)
        if name not in running:
            # Without Dovecot there is nobody to ask about passwords, but all the rest goes.
            server = kind(get("dovecot").secrets) if kind is PostfixServer and Dovecot.whyNot() is None else kind()
            running[name] = server
            server.start()
        return running[name]

    yield get
    for server in reversed(running.values()):
        server.stop()
