"""A failed call, read as one of our errors."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest

from secagg.errors import LateError, RemoteError, SecAggError, UnreachableError
from secagg.rpc_errors import error_from_rpc
from secagg.rpc_refusals import refuse

INTERNAL = grpc.StatusCode.INTERNAL
BROKEN = "Internal error from Core"


@dataclass
class Failed:
    """What a call of gRPC's raises."""

    status: grpc.StatusCode
    text: str
    metadata: tuple[tuple[str, str | bytes], ...] = ()

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return self.text

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        (Failed(INTERNAL, BROKEN), UnreachableError),
        (Failed(INTERNAL, "out of memory"), RemoteError),
        (Failed(grpc.StatusCode.UNKNOWN, BROKEN), RemoteError),
        (Failed(INTERNAL, BROKEN, (("secagg-error", "RemoteError"), ("secagg-error-fields-bin", b"{}"))), RemoteError),
        (Failed(grpc.StatusCode.UNAVAILABLE, ""), UnreachableError),
        (Failed(grpc.StatusCode.DEADLINE_EXCEEDED, ""), UnreachableError),
    ],
)
def test_a_stream_that_broke_is_silence_and_a_failure_that_was_told_is_none(
    failed: Failed, kind: type[SecAggError]
) -> None:
    error = error_from_rpc(failed, party="north")
    assert type(error) is kind
    assert "north" in str(error)


async def refusing(requests: AsyncIterator[bytes], context: Any) -> None:
    async for _ in requests:
        break
    await refuse(context, LateError("too late"), method="/any/method")


class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Ends every call while it is still being sent to."""

    def service(self, _details: object) -> Any:
        return grpc.stream_unary_rpc_method_handler(refusing)


async def many() -> AsyncIterator[bytes]:
    for _ in range(50):
        yield bytes(200_000)


async def test_a_refusal_in_the_middle_of_a_stream_is_told_or_silent_but_nothing_else() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    kinds = set()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(200):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.stream_unary("/any/method")(many())
            kinds.add(type(error_from_rpc(raised.value)))
    await server.stop(0)
    assert LateError in kinds
    assert kinds <= {LateError, UnreachableError}
