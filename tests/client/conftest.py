"""What the tests of the client share: servers to send to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
import pytest_twisted
from tlsstage import Creator, Server
from twisted.internet.defer import maybeDeferred


@pytest.fixture
def serve() -> Generator[Callable[..., Server], None, None]:
    servers: list[Server] = []

    def serve(**options: Any) -> Server:
        servers.append(Server(Creator(), **options))
        return servers[-1]

    yield serve
    for server in servers:
        # Perhaps the test has done that.
        pytest_twisted.blockon(maybeDeferred(server.listening.stopListening))
        pytest_twisted.blockon(server.factory.drain())
