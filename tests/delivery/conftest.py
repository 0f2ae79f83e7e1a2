"""What the tests of the stores share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from twisted_smtplite.delivery.maildir import MaildirDelivery


@pytest.fixture
def stopping() -> Iterator[Callable[[Any], Any]]:
    """Gives a delivery back, and stops it when the test is over."""
    deliveries: list[Any] = []

    def stopping(delivery: Any) -> Any:
        deliveries.append(delivery)
        return delivery

    yield stopping
    for delivery in deliveries:
        delivery.stopService()


@pytest.fixture
def makeMaildir(tmp_path: Path, stopping: Callable[[Any], Any]) -> Callable[..., MaildirDelivery]:
    """Makes a delivery to a Maildir, which is called ``in`` unless the test says otherwise."""
    return lambda path=tmp_path / "in", **options: stopping(MaildirDelivery(str(path), reactor, **options))
