"""What a supervisor and its workers tell each other, and over which file descriptors.

Knows the words only. A worker hears an order, as one line of JSON, on its standard input, and later `RETIRE`; the end of its standard input
means that the supervisor is gone. It says its log on standard output, and on `PULSE` that it is ready, then that it lives. Nothing of this
stands on a command line or in the environment, where others could read it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

PULSE = 3
"""The file descriptor of a worker's signs of life."""

READY = b"R"
"""The worker accepts connections."""

ALIVE = b"."
"""The worker's reactor runs."""

RETIRE = b"retire\n"
"""Another worker has taken over: accept no more, and end when the sessions have ended."""

FIRST_SOCKET = 4
"""Inherited sockets have this file descriptor and those behind it."""


@dataclass(frozen=True)
class Order:
    """What a worker shall be.

    Attributes:
        arguments: the command line of the server.
        number: which worker; 0 only checks whether it could work, says why it could not in one sentence, and ends.
        reactor: the module whose reactor to run.
        form: of the log, a key of `log.FORMS`.
        bare: log without times, for a log that adds them.
        sockets: what it inherits: the option that asked for a socket, and its file descriptor.
        interval: seconds between two signs of life.
        user: None, or the user id to check as.
        group: None, or the group id to check as.
    """

    arguments: Sequence[str]
    number: int = 0
    reactor: str = ""
    form: str = "text"
    bare: bool = False
    sockets: Sequence[tuple[str, int]] = ()
    interval: float = 5.0
    user: int | None = None
    group: int | None = None

    def toLine(self) -> bytes:
        """The order as it is sent."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def fromLine(cls, line: bytes) -> Order:
        """The order that was sent as `line`."""
        return cls(**json.loads(line))
