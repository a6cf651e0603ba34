"""From our errors to an RPC's status, and from an RPC's status back to our errors."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Iterable
from typing import Final, NoReturn, Protocol

import grpc
import grpc.aio
import structlog

from he.errors import HEError
from secagg.catalogue import ERROR_METADATA_KEY, FIELDS_METADATA_KEY, KnownError, describe, restore
from secagg.errors import BusyError, ConfigError, RemoteError, SecAggError, StorageError, UnreachableError

PUSHBACK_METADATA_KEY: Final = "grpc-retry-pushback-ms"
"""Trailing metadata by which any gRPC client, and a proxy, knows when to try again."""

_log: Final = structlog.get_logger("secagg.rpc")
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


async def refuse(context: grpc.aio.ServicerContext[object, object], error: Exception, *, method: str) -> NoReturn:
    """End a call with the error's status and public text.

    What is not an error of ours becomes INTERNAL with an opaque number, under which the log
    holds the cause.
    """
    known = error if isinstance(error, SecAggError | HEError) else _unexpected(error, method)
    public = describe(known)
    # The caller may be shown less than the operator needs: which disk is full, say.
    hidden = {"cause": str(known)} if isinstance(known, StorageError | ConfigError) else {}
    _log.info("call refused", method=method, error=public.name, status=public.status, **hidden)
    trailing: tuple[tuple[str, str | bytes], ...] = (
        (ERROR_METADATA_KEY, public.name),
        (FIELDS_METADATA_KEY, public.fields),
        *_pushback(known),
    )
    context.set_trailing_metadata((*(context.trailing_metadata() or ()), *trailing))
    await context.abort(grpc.StatusCode[public.status], public.text)


def _pushback(error: KnownError) -> tuple[tuple[str, str], ...]:
    seconds = error.retry_after_seconds if isinstance(error, BusyError) else None
    return () if seconds is None else ((PUSHBACK_METADATA_KEY, str(1000 * seconds)),)


def _unexpected(error: Exception, method: str) -> RemoteError:
    incident = secrets.token_hex(8)
    # Formatted here: a log renderer that is handed the exception may print every frame's variables.
    trace = "".join(traceback.format_exception(error))
    _log.error("call failed unexpectedly", method=method, incident=incident, traceback=trace)
    return RemoteError("the service", f"internal error, incident {incident}", next_step="Give its operator that number")
