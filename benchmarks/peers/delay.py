"""Stands between a client and a server on a far host: delay.py PORT SECONDS passes on what comes after SECONDS, in each direction."""

from __future__ import annotations

import asyncio
import socket
import sys


class End(asyncio.Protocol):
    """One end; what it hears is told at the other, later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self.other: End

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        transport.writelines(self._waiting)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._delay, self.other.tell, data)

    def tell(self, data: bytes) -> None:
        if self._transport is None:
            self._waiting.append(data)
        else:
            self._transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        asyncio.get_running_loop().call_later(self._delay, self.other.leave)

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def main() -> None:
    port, delay = int(sys.argv[1]), float(sys.argv[2])
    loop = asyncio.get_running_loop()
    reaching = set()

    def accepted() -> End:
        near, far = End(delay), End(delay)
        near.other, far.other = far, near
        task = loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", port))
        reaching.add(task)
        task.add_done_callback(reaching.discard)
        return near

    server = await loop.create_server(accepted, "127.0.0.1", 0)
    await server.serve_forever()


asyncio.run(main())
