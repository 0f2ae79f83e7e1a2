"""Fixtures for meetings with other people's programs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from listener import AUTHORITY, STRANGERS, Listener
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
