"""Accepts connections over TLS.

asyncio's own TLS servers tell a protocol of its connection once the handshake is over, so that nobody would count those
that never end, or bound them. Here they take their place among the connections when they are accepted.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

OUT_OF_DESCRIPTORS = 1.0
"""Seconds to wait where no connection can be accepted."""


@dataclass(slots=True)
class Handshakes:
    """Those under way. Each has its ``context``, and ``within`` seconds for itself and for the end of its connection.

    ``has_room`` says whether a connection may be accepted; ``refused`` is told of those that may not, and ``failed`` of
    handshakes that come to nothing.
    """

    context: Callable[[], ssl.SSLContext]
    within: float
    has_room: Callable[[], bool]
    refused: Callable[[], None]
    failed: Callable[[], None]
    running: dict[asyncio.BaseProtocol, asyncio.Task[None]] = field(default_factory=dict)

    async def accept(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Connect ``protocol`` to whoever comes, for as long as this runs."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, _ = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(OUT_OF_DESCRIPTORS)
                continue
            if self.has_room():
                made = protocol()
                self.running[made] = loop.create_task(self._shake(connected, made))
            else:
                self.refused()
                connected.close()
            await asyncio.sleep(0)  # others have their turn, also where many come at once

    async def stop(self) -> None:
        """End those under way."""
        shaking = tuple(self.running.values())
        for task in shaking:
            task.cancel()
        if shaking:
            await asyncio.wait(shaking)

    def forget(self, protocol: asyncio.BaseProtocol) -> None:
        """It is connected, and counts elsewhere from here on; or never will be."""
        self.running.pop(protocol, None)

    async def _shake(self, connected: socket.socket, protocol: asyncio.Protocol) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connected,
                ssl=self.context(),
                ssl_handshake_timeout=self.within,
                ssl_shutdown_timeout=self.within,
            )
        except OSError:  # what is no TLS, a time that is over, a connection that is
            self.failed()
        finally:
            self.forget(protocol)
