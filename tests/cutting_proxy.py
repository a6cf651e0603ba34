"""A TCP proxy in front of a coordinator that counts what passes and cuts the wire where a test says; TLS passes through unread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

READ_BYTES = 1 << 16
END_SECONDS = 10.0


@dataclass(kw_only=True)
class CuttingProxy:
    """Passes bytes on, both ways.

    Attributes:
        target_port: where the coordinator listens on this machine.
        cuts: where every connection is cut: so many bytes towards the coordinator, counted over all connections; in order.
        hold_after: when so many have passed towards the coordinator, no more do; None: never.
        upward: bytes that passed towards the coordinator.
        downward: bytes that came back.
        cut: how often the wire was cut.
        held: set when `hold_after` is reached.
    """

    target_port: int
    cuts: list[int] = field(default_factory=list)
    hold_after: int | None = None
    upward: int = 0
    downward: int = 0
    cut: int = 0
    held: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where clients call."""
        return f"127.0.0.1:{self.port}"

    def cut_now(self) -> None:
        """Break every connection, as a network that fails: what is under way is lost."""
        for end in self._ends:
            end.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        ends = {writer}
        try:
            # Who is not there lets the caller's connection break, as without a proxy.
            with suppress(OSError):
                back_reader, back = await asyncio.open_connection("127.0.0.1", self.target_port)
                ends.add(back)
                self._ends |= ends
                await self._relay(reader, back, back_reader, writer)
        finally:
            for end in ends:
                end.transport.abort()
            self._ends -= ends
            self._serving.discard(task)

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        back_reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        relays = [asyncio.create_task(self._up(reader, back)), asyncio.create_task(self._down(back_reader, writer))]
        try:
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            if self.hold_after is not None and self.upward >= self.hold_after:
                self.held.set()
                await asyncio.Event().wait()
            self.upward += len(data)
            back.write(data)
            await back.drain()
            if self.cuts and self.upward >= self.cuts[0]:
                del self.cuts[0]
                self.cut += 1
                self.cut_now()
                return

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            self.downward += len(data)
            writer.write(data)
            await writer.drain()

    async def end(self) -> None:
        """Break what is left, and wait until that was noticed."""
        self.cut_now()
        if self._serving:
            await asyncio.wait(self._serving, timeout=END_SECONDS)


@asynccontextmanager
async def cutting_proxy(
    target_port: int, *, cuts: Iterable[int] = (), hold_after: int | None = None
) -> AsyncIterator[CuttingProxy]:
    """Lend a proxy that listens."""
    proxy = CuttingProxy(target_port=target_port, cuts=sorted(cuts), hold_after=hold_after)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
