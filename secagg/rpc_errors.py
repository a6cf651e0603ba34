"""From an RPC's status back to our errors; `secagg.rpc_refusals` is the way there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NoReturn, Protocol

import grpc
import grpc.aio

from secagg.catalogue import ERROR_METADATA_KEY, FIELDS_METADATA_KEY, KnownError, restore
from secagg.errors import UnreachableError

PUSHBACK_METADATA_KEY: Final = "grpc-retry-pushback-ms"
"""Trailing metadata by which any gRPC client, and a proxy, knows when to try again."""

_SILENCE: Final = {
    grpc.StatusCode.UNAVAILABLE: "no connection to it could be made or kept",
    grpc.StatusCode.DEADLINE_EXCEEDED: "it did not answer within the deadline",
    grpc.StatusCode.CANCELLED: "the call was cancelled before it answered",
}
# What grpc.aio makes itself of a call that ends, for whatever reason, while a message of its stream is being written: the
# peer's own status is lost. Who asks again learns it.
_BROKEN_STREAM: Final = (grpc.StatusCode.INTERNAL, "Internal error from Core")


class FailedCall(Protocol):
    """What `grpc.aio.AioRpcError` and the error of a blocking call have in common."""

    def code(self) -> grpc.StatusCode | None:
        """Return the status."""

    def details(self) -> str | None:
        """Return the text beside the status."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return what the server sent last."""


def error_from_rpc(error: FailedCall, *, party: str = "the server") -> KnownError:
    """Return the error of ours that a failed call stands for.

    Args:
        error: what gRPC raised.
        party: who was called, for the message.

    Returns:
        The error that the peer named, or `UnreachableError` when nobody answered, or `RemoteError`
        for everything else. Its text comes from the peer: show it, and decide nothing by it.
    """
    status = error.code() or grpc.StatusCode.UNKNOWN
    metadata = {str(key): value for key, value in error.trailing_metadata() or ()}
    name, text = metadata.get(ERROR_METADATA_KEY), error.details() or ""
    if isinstance(name, str):
        fields = metadata.get(FIELDS_METADATA_KEY, b"")
        encoded = fields if isinstance(fields, bytes) else fields.encode()
        return restore(party=party, status=status.name, name=name, text=text, fields=encoded)
    if status in _SILENCE:
        return UnreachableError(party, _SILENCE[status])
    if (status, text) == _BROKEN_STREAM:
        return UnreachableError(party, "the call broke while something was being sent")
    return restore(party=party, status=status.name, name="", text=text, fields=b"")


def raise_from_rpc(error: FailedCall, *, party: str = "the server") -> NoReturn:
    """Raise what `error_from_rpc` returns; call it in `except grpc.RpcError`."""
    raised = error_from_rpc(error, party=party)
    raise raised from (error if isinstance(error, BaseException) else None)
