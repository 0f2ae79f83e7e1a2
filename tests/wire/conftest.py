"""What the tests of TLS on the wire share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
import pytest_twisted
from tlsstage import Creator, Server


@pytest.fixture
def serve() -> Generator[Callable[..., Server], None, None]:
    servers: list[Server] = []

    def serve(tls: Any = None, **options: Any) -> Server:
        servers.append(Server(tls or Creator(), **options))
        return servers[-1]

    yield serve
    for server in servers:
        pytest_twisted.blockon(server.listening.stopListening())
        pytest_twisted.blockon(server.factory.drain())
