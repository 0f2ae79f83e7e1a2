"""Writing a little to a peer that is waiting for it.

Knows one shortcut and when it may be taken. `transport.write` only notes what is to be sent and sends it when the reactor comes round again, which
costs two changes of what the kernel watches and one more wake-up: a third of the time of a command that a client sends and waits for.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ITransport
from twisted.internet.tcp import Client, Server
from zope.interface import classImplements, implementedBy


def send(transport: ITransport, data: bytes) -> None:
    """Writes `data`: at once where the transport is a plain TCP connection with nothing left to send before it, else the usual way.

    What the kernel does not take at once, and every trouble, is left to `transport.write`.
    """
    # Exactly these classes: what derives from it (TLS put under it, a unix socket with its ancillary data) sends in its own way.
    if (
        (type(transport) is Server or type(transport) is Client)
        and transport.connected
        and not transport.disconnecting
        and not transport.dataBuffer
        and not transport._tempDataBuffer  # noqa: SLF001 - what was written in this turn of the reactor; nothing public tells
    ):
        try:
            sent = transport.socket.send(data)
        except OSError:
            # The kernel takes nothing now, or never again: `write` finds out which, and what follows from it.
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)


class Prompt:
    """A plain TCP connection whose `write` is `send`: for what stands on a connection and writes by itself, such as TLS."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Server | Client) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Writes `data`, at once where that can be."""
        send(self._transport, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


classImplements(Prompt, *implementedBy(Server))  # type: ignore[misc, no-untyped-call]
