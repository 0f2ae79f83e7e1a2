"""The workloads, one row each.

Knows what the load generator is asked to do and which delivery the server needs. Must not know any server.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MEBIBYTE = 1_048_576


class Storage(Enum):
    """What the server does with the messages."""

    DISCARD = "discard"
    KEEP = "keep"


class Measure(Enum):
    """The figure that a workload is about."""

    MESSAGES = "msg/s"
    OCTETS = "MB/s"
    MEMORY = "KiB/connection"


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        name: as it is asked for.
        title: for people.
        arguments: for the load generator, without port and length.
        warmUp: messages before anything is measured.
        measure: the figure that counts.
        storage: what the server does with the messages.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    warmUp: int = 500
    measure: Measure = Measure.MESSAGES
    storage: Storage = Storage.DISCARD

    @property
    def idle(self) -> bool:
        """True when connections are only held open."""
        return "--idle" in self.arguments

    @property
    def secure(self) -> bool:
        """True when TLS begins with the connection."""
        return "--tls" in self.arguments

    @property
    def commands(self) -> int:
        """Commands of a client for one message, its body counted as one."""
        recipients = int(self.arguments[self.arguments.index("--recipients") + 1]) if "--recipients" in self.arguments else 1
        # MAIL, DATA and the body; EHLO and QUIT with a connection for each message.
        return recipients + 3 + (2 if "--reconnect" in self.arguments else 0)


def _workload(name: str, title: str, arguments: str, **more: object) -> Workload:
    return Workload(name, title, tuple(arguments.split()), **more)  # type: ignore[arg-type]


# Servers bound the connections of one address: whatever opens many comes from many loopback addresses.
WORKLOADS = {
    row.name: row
    for row in (
        _workload("W1", "1 KiB, lockstep, 16 connections", "--connections 16 --size 1024"),
        _workload("W2", "1 KiB, a connection for each message, 16 at a time", "--connections 16 --size 1024 --reconnect --sources 50"),
        _workload("W3", "1 KiB, pipelined transactions, 16 connections", "--connections 16 --size 1024 --pipelined"),
        _workload("W4", "10 MiB, 4 connections", f"--connections 4 --size {10 * MEBIBYTE}", warmUp=4, measure=Measure.OCTETS),
        _workload(
            "W4d",
            "10 MiB, every 10th line dot-stuffed, 4 connections",
            f"--connections 4 --size {10 * MEBIBYTE} --stuff 10",
            warmUp=4,
            measure=Measure.OCTETS,
        ),
        _workload("W5", "10 MiB over TLS, 4 connections", f"--connections 4 --size {10 * MEBIBYTE} --tls", warmUp=4, measure=Measure.OCTETS),
        _workload("W5s", "1 KiB over TLS, lockstep, 16 connections", "--connections 16 --size 1024 --tls"),
        _workload("W6", "5,000 idle connections", "--connections 5000 --idle --sources 50", warmUp=0, measure=Measure.MEMORY),
        _workload("W6t", "5,000 idle connections with TLS", "--connections 5000 --idle --sources 50 --tls", warmUp=0, measure=Measure.MEMORY),
        _workload("W7", "1 KiB, 100 recipients, lockstep, 16 connections", "--connections 16 --size 1024 --recipients 100", warmUp=50),
        _workload("W7p", "1 KiB, 100 recipients, pipelined, 16 connections", "--connections 16 --size 1024 --recipients 100 --pipelined", warmUp=50),
        *(
            _workload(name, f"4 KiB, kept on disk, {count} connections", f"--connections {count} --size 4096", warmUp=200, storage=Storage.KEEP)
            for name, count in (("W8", 64), ("W8a", 1), ("W8b", 16), ("W8c", 256))
        ),
    )
}
