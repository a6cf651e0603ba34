"""A channel that outlives its certificate: new calls use the newest, calls that run end on the connection they began on.

gRPC takes a channel's certificate when the channel is made, and a stub binds its methods once; so what is bound here
chooses the connection at each call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc
import grpc.aio

from secagg.tls_identity import TlsIdentity


class _Connection:
    """One channel of gRPC's, and how many calls run on it: closing it by itself would end them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.running = 0


class RenewedChannel(grpc.aio.Channel):
    """Connects anew when the identity's certificate was renewed. Use it in one event loop.

    Args:
        identity: one that follows its files.
        connect: opens a channel with an identity's certificate.
    """

    def __init__(self, identity: TlsIdentity, connect: Callable[[TlsIdentity], grpc.aio.Channel]) -> None:
        self._identity = identity
        self._connect = connect
        self._shown = identity.current
        self._connection = _Connection(connect(self._shown))
        self._left: set[_Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def _newest(self) -> _Connection:
        newest = self._identity.current
        if newest.certificate_pem != self._shown.certificate_pem and not self._closed:
            before, self._connection = self._connection, _Connection(self._connect(newest))
            self._shown = newest
            self._left.add(before)
            self._close_when_idle(before)
        return self._connection

    def _close_when_idle(self, connection: _Connection) -> None:
        if connection.running == 0 and connection in self._left:
            self._left.remove(connection)
            closing = asyncio.get_running_loop().create_task(connection.channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _bound(self, kind: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Callable[..., Any]:
        def call(*request: Any, **how: Any) -> Any:
            connection = self._newest()
            made = getattr(connection.channel, kind)(*arguments, **options)(*request, **how)
            connection.running += 1
            made.add_done_callback(lambda _: self._ended(connection))
            return made

        return call

    def _ended(self, connection: _Connection) -> None:
        connection.running -= 1
        self._close_when_idle(connection)

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        """Bind a method; as gRPC's own."""
        return self._bound("unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        """Bind a method; as gRPC's own."""
        return self._bound("unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        """Bind a method; as gRPC's own."""
        return self._bound("stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        """Bind a method; as gRPC's own."""
        return self._bound("stream_stream", arguments, options)

    async def close(self, grace: float | None = None) -> None:
        """Close every connection; calls get the grace to end by themselves."""
        self._closed = True
        connections = (self._connection, *self._left)
        self._left.clear()
        await asyncio.gather(*(one.channel.close(grace) for one in connections), *self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - gRPC's own
        """Return the state of the newest connection."""
        return self._newest().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait for the newest connection's state to change."""
        await self._newest().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the newest connection is ready."""
        await self._newest().channel.channel_ready()
