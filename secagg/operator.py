"""What an operator or auditor asks of a coordinator: :class:`OperatorClient`, and :class:`AsyncOperatorClient` beneath it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import grpc
import grpc.aio

from secagg import codec
from secagg.coordinators import RECONNECT_OPTIONS, TRIED_AGAIN, Addresses, Channels, Limit, Patience, Route
from secagg.errors import SecAggError, UnreachableError
from secagg.identity import Party
from secagg.ids import JobId, RoundNumber
from secagg.messages.job import JobStatus
from secagg.messages.round import RoundStatus
from secagg.plan import JobSpec
from secagg.transport import TlsIdentity, error_from_rpc, open_channel
from secagg.wire.v1 import operator_service_pb2 as wire
from secagg.wire.v1.operator_service_pb2_grpc import OperatorServiceStub

if TYPE_CHECKING:
    from secagg.wire.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub

PAGE: Final = 100
SILENCE_SECONDS: Final = 15.0
TRY_SECONDS: Final = 10.0
"""How long one of several coordinators has for an answer before the next one is asked."""
LAST_TRY_SECONDS: Final = 1.0
"""What the last try has at least, so that it ends in an answer."""
WATCH_SECONDS: Final = 3600.0
"""Every call has a deadline: a watch is begun again after this long."""

T = TypeVar("T")
Method = Callable[["OperatorServiceAsyncStub"], Callable[..., Awaitable[Any]]]


class AsyncOperatorClient:
    """Calls ``OperatorService``.

    Every method raises the error that the coordinator named, ``UnreachableError`` when it did not answer in time, or
    ``RemoteError``. While nobody answers, nobody runs the job, or the coordinator is busy or cannot store, a call is repeated
    with the same request id, at one address after the other.

    Args:
        address: ``host:port`` of the coordinator, or of each of several that serve one database.
        identity: the operator's or auditor's certificate.
        coordinator: whom the coordinator's certificate must name, wherever it is.
        timeout_seconds: how long one call may take, all tries together.
        silence_seconds: how long nobody may answer, or run the job, at a stretch, in calls and in watches. When left out, 15 s
            with one address, and ``timeout_seconds`` with several, of which one may have to take over from another first.
    """

    def __init__(
        self,
        address: Addresses,
        identity: TlsIdentity,
        *,
        coordinator: Party,
        timeout_seconds: float = 30.0,
        silence_seconds: float | None = None,
    ) -> None:
        self._name = str(coordinator)
        self._timeout = timeout_seconds
        self._channels = Channels(
            address, lambda one: open_channel(one, identity, target=coordinator, options=RECONNECT_OPTIONS)
        )
        several = len(self._channels.addresses) > 1
        usual = timeout_seconds if several else SILENCE_SECONDS
        self._silence = usual if silence_seconds is None else silence_seconds

    async def close(self) -> None:
        """Close every connection."""
        await self._channels.close()

    async def create_job(self, spec: JobSpec, *, request_id: str | None = None) -> JobStatus:
        """Make a job; the same again is harmless, another one of that name raises ``ConflictError``."""
        spec.verify_new()
        request = wire.CreateJobRequest(request_id=request_id or uuid.uuid4().hex, spec=codec.job_spec_to_wire(spec))
        response = await self._ask(lambda stub: stub.CreateJob, request)
        return codec.job_status_from_wire(response.job)

    async def jobs(self) -> AsyncIterator[JobStatus]:
        """Yield every job by name."""
        after = ""
        while True:
            request = wire.ListJobsRequest(page_size=PAGE, after_job=after)
            response = await self._ask(lambda stub: stub.ListJobs, request)
            for job in response.jobs:
                yield codec.job_status_from_wire(job)
            if not response.jobs:
                return
            after = response.jobs[-1].spec.job

    async def get_job(self, job: JobId) -> JobStatus:
        """Return one job."""
        response = await self._ask(lambda stub: stub.GetJob, wire.GetJobRequest(job=job))
        return codec.job_status_from_wire(response.job)

    async def rounds(self, job: JobId, *, after: int = 0) -> AsyncIterator[RoundStatus]:
        """Yield every round of a job by number, from ``after`` + 1 on."""
        while True:
            request = wire.ListRoundsRequest(job=job, page_size=PAGE, after_round=after)
            response = await self._ask(lambda stub: stub.ListRounds, request)
            for status in response.rounds:
                yield codec.round_status_from_wire(status)
            if not response.rounds:
                return
            after = response.rounds[-1].round

    async def get_round(self, job: JobId, round: RoundNumber) -> RoundStatus:
        """Return one round; round 0 is the newest."""
        response = await self._ask(lambda stub: stub.GetRound, wire.GetRoundRequest(job=job, round=round))
        return codec.round_status_from_wire(response.round)

    async def watch_rounds(self, job: JobId, round: RoundNumber) -> AsyncIterator[RoundStatus]:
        """Yield a round's status at once and for each change, until it has ended.

        A watch that broke is begun again. Round 0: the newest round and then the next ones, until the job is complete.
        """
        request, route = wire.WatchRoundsRequest(job=job, round=round), Route(self._channels)
        patience, last = None, None
        while True:
            try:
                with self._errors():
                    async for response in OperatorServiceStub(route.channel).WatchRounds(
                        request, timeout=WATCH_SECONDS
                    ):
                        patience, status = None, codec.round_status_from_wire(response.round)
                        if status != last:
                            yield status
                        last = status
            except TRIED_AGAIN as error:
                if not _deadline_over(error):
                    patience = patience or Patience(self._silence, Limit(self._timeout))
                    route.turn(error)
                    await patience.pause(error)
            else:
                return

    async def _ask(self, method: Method, request: Any) -> Any:
        route, limit = Route(self._channels), Limit(self._timeout)
        patience = Patience(self._silence, limit)
        while True:
            patience.asked()
            seconds = max(LAST_TRY_SECONDS, min(TRY_SECONDS, limit.remaining) if route.several else limit.remaining)
            try:
                with self._errors():
                    return await method(OperatorServiceStub(route.channel))(request, timeout=seconds)
            except TRIED_AGAIN as error:
                route.turn(error)
                await patience.pause(error)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, party=self._name) from error


def _deadline_over(error: SecAggError) -> bool:
    cause = error.__cause__
    return (
        isinstance(error, UnreachableError)
        and isinstance(cause, grpc.aio.AioRpcError)
        and cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    )


class OperatorClient:
    """The same for code without an event loop. Use it in one thread, and close it or use it in a ``with`` block.

    Args and errors: as :class:`AsyncOperatorClient`.
    """

    def __init__(
        self,
        address: Addresses,
        identity: TlsIdentity,
        *,
        coordinator: Party,
        timeout_seconds: float = 30.0,
        silence_seconds: float | None = None,
    ) -> None:
        self._closed = False
        self._runner = asyncio.Runner()
        try:
            self._client = self._runner.run(_opened(address, identity, coordinator, timeout_seconds, silence_seconds))
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; harmless when it is closed."""
        if not self._closed:
            self._closed = True
            self._run(self._client.close())
            self._runner.close()

    def create_job(self, spec: JobSpec, *, request_id: str | None = None) -> JobStatus:
        """Make a job; the same again is harmless, another one of that name raises ``ConflictError``."""
        return self._run(self._client.create_job(spec, request_id=request_id))

    def jobs(self) -> Iterator[JobStatus]:
        """Yield every job by name."""
        return self._iterate(self._client.jobs())

    def get_job(self, job: JobId) -> JobStatus:
        """Return one job."""
        return self._run(self._client.get_job(job))

    def rounds(self, job: JobId, *, after: int = 0) -> Iterator[RoundStatus]:
        """Yield every round of a job by number, from ``after`` + 1 on."""
        return self._iterate(self._client.rounds(job, after=after))

    def get_round(self, job: JobId, round: RoundNumber) -> RoundStatus:
        """Return one round; round 0 is the newest."""
        return self._run(self._client.get_round(job, round))

    def watch_rounds(self, job: JobId, round: RoundNumber) -> Iterator[RoundStatus]:
        """Yield a round's status at once and for each change; round 0 goes on with the next ones."""
        return self._iterate(self._client.watch_rounds(job, round))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> tuple[T, ...]:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return ()

        while found := self._run(following()):
            yield found[0]


async def _opened(
    address: Addresses, identity: TlsIdentity, coordinator: Party, timeout_seconds: float, silence_seconds: float | None
) -> AsyncOperatorClient:
    return AsyncOperatorClient(
        address, identity, coordinator=coordinator, timeout_seconds=timeout_seconds, silence_seconds=silence_seconds
    )
