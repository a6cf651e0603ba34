"""How a server ends a call: with the status and the public text of an error of ours, and a number for what is none."""

from __future__ import annotations

import secrets
import traceback
from typing import Final, NoReturn

import grpc
import grpc.aio
import structlog

from he.errors import HEError
from secagg.catalogue import ERROR_METADATA_KEY, FIELDS_METADATA_KEY, KnownError, describe
from secagg.errors import BusyError, ConfigError, RemoteError, SecAggError, StorageError
from secagg.rpc_errors import PUSHBACK_METADATA_KEY

_log: Final = structlog.get_logger("secagg.rpc")


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
