"""Who may call what: every RPC names its roles, and what is not named is refused."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from secagg.errors import CertificateError, NotAllowedError, UsageError
from secagg.party import Party, Role
from secagg.rpc_refusals import refuse
from secagg.trust import TrustRoot

AccessTable: TypeAlias = Mapping[str, frozenset[Role]]
"""Full method name, such as `/grpc.health.v1.Health/Check`, to the roles that may call it."""

# gRPC's types give a context and a handler the types of one method's messages; here any method's.
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Any]
Admit: TypeAlias = "Callable[[Context], _Admission]"

RECHECK_SECONDS: Final = 1.0
"""How long a call that goes on is not checked again: a check costs two signatures, a stream has many messages."""
_CERTIFICATE_KEY: Final = "x509_pem_cert"
_REMEMBERED: Final = 1024
_caller: Final[ContextVar[Party]] = ContextVar("secagg_caller")


def current_caller() -> Party:
    """Return who made the call that is being served.

    Raises:
        UsageError: no call is being served, or none that `RoleInterceptor` admitted.
    """
    try:
        return _caller.get()
    except LookupError:
        raise UsageError("there is no caller outside a call") from None


def caller_of(context: Context, trust: TrustRoot, *, at: datetime) -> Party:
    """Return who the caller's certificate names, checked again and against the revocation list.

    Raises:
        CertificateError: the caller showed no certificate, or one that does not hold now.
    """
    shown = tuple(context.auth_context().get(_CERTIFICATE_KEY, ()))
    if len(shown) != 1:
        raise CertificateError("the caller showed no certificate", next_step="Call with mutual TLS")
    try:
        der = _der_of(shown[0])
    except ValueError:
        raise CertificateError("the caller's certificate cannot be read") from None
    return trust.verify_certificate(der, at=at)


@lru_cache(maxsize=_REMEMBERED)
def _der_of(pem: bytes) -> bytes:
    """Return a certificate in its other form; TLS has let nobody in but with one that a trusted CA issued."""
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


class RoleInterceptor(grpc.aio.ServerInterceptor):
    """Admits a call when the table names the caller's role for that method, and no other call.

    A call that goes on is checked again before its next message and before its answer, so that a certificate that is revoked
    or ends meanwhile gets no further. It also ends every failed call as the catalogue says. Handlers must be asynchronous.

    Args:
        table: every method that is served, health and reflection included.
        trust: the CA and its revocations.
        now: the clock.
        recheck_seconds: how long a call that goes on is not checked again.
    """

    def __init__(
        self,
        table: AccessTable,
        trust: TrustRoot,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        recheck_seconds: float = RECHECK_SECONDS,
    ) -> None:
        self._table = dict(table)
        self._trust = trust
        self._now = now
        self._recheck_seconds = recheck_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Put the check in front of the method's own handler."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or method not in self._table:
            return _refusing_handler(method)

        def admit(context: Context) -> _Admission:
            return _Admission(lambda: self._admit(method, context), self._recheck_seconds)

        return _guarded_handler(handler, method, admit)

    def _admit(self, method: str, context: Context) -> None:
        caller = caller_of(context, self._trust, at=self._now())
        if caller.role not in self._table[method]:
            allowed = ", ".join(sorted(self._table[method])) or "nobody"
            raise NotAllowedError(f"{caller} may not call {method}, which is for {allowed}")
        _caller.set(caller)


class _Admission:
    """A caller that was admitted, and is asked again while its call goes on."""

    def __init__(self, admit: Callable[[], None], recheck_seconds: float) -> None:
        admit()
        self._admit = admit
        self._recheck_seconds = recheck_seconds
        self._checked = time.monotonic()

    def recheck(self) -> None:
        """Check again when the last time is long enough ago; raise as the first time."""
        if time.monotonic() - self._checked >= self._recheck_seconds:
            self._admit()
            self._checked = time.monotonic()


class _Rechecked(AsyncIterator[Any]):
    """A caller's stream, which ends with an error when the caller no longer counts."""

    def __init__(self, requests: AsyncIterator[Any], admission: _Admission) -> None:
        self._requests = aiter(requests)
        self._admission = admission

    async def __anext__(self) -> Any:
        message = await anext(self._requests)
        self._admission.recheck()
        return message


def _refusing_handler(method: str) -> Handler:
    """Refuse without reading a message; on the wire a stream of one is what a unary call sends."""

    async def nobody(_requests: AsyncIterator[bytes], context: Context) -> None:
        await refuse(context, NotAllowedError(f"{method} is not open to anyone here"), method=method)

    return grpc.stream_stream_rpc_method_handler(nobody)


def _guarded_handler(handler: Handler, method: str, admit: Admit) -> Handler:
    behaviour, make = _parts_of(handler)
    if inspect.isasyncgenfunction(behaviour):
        guarded = _guarded_generator(behaviour, method, admit, streaming=handler.request_streaming)
    elif inspect.iscoroutinefunction(behaviour):
        guarded = _guarded_coroutine(behaviour, method, admit, streaming=handler.request_streaming)
    else:
        raise UsageError(f"{method} is not asynchronous", next_step="Serve it with an async def")
    return make(guarded, handler.request_deserializer, handler.response_serializer)


def _parts_of(handler: Handler) -> tuple[Behaviour, Callable[..., Handler]]:
    asks = "stream" if handler.request_streaming else "unary"
    answers = "stream" if handler.response_streaming else "unary"
    behaviour: Behaviour = getattr(handler, f"{asks}_{answers}")
    make: Callable[..., Handler] = getattr(grpc, f"{asks}_{answers}_rpc_method_handler")
    return behaviour, make


def _guarded_coroutine(behaviour: Behaviour, method: str, admit: Admit, *, streaming: bool) -> Behaviour:
    async def guarded(request: Any, context: Context) -> Any:
        try:
            admission = admit(context)
            answer = await behaviour(_Rechecked(request, admission) if streaming else request, context)
            admission.recheck()
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status and no internals
            await refuse(context, error, method=method)
        else:
            return answer

    return guarded


def _guarded_generator(behaviour: Behaviour, method: str, admit: Admit, *, streaming: bool) -> Behaviour:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            admission = admit(context)
            requests = _Rechecked(request, admission) if streaming else request
            async with aclosing(behaviour(requests, context)) as responses:
                async for response in responses:
                    admission.recheck()
                    yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status and no internals
            await refuse(context, error, method=method)

    return guarded
