"""What an operator or auditor asks of a coordinator: :class:`OperatorClient`, and :class:`AsyncOperatorClient` beneath it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio

from secagg import codec
from secagg.errors import UnreachableError
from secagg.identity import Party
from secagg.ids import JobId, RoundNumber
from secagg.messages.job import JobStatus
from secagg.messages.round import RoundStatus
from secagg.plan import JobSpec
from secagg.transport import TlsIdentity, error_from_rpc, open_channel
from secagg.wire.v1 import operator_service_pb2 as wire
from secagg.wire.v1.operator_service_pb2_grpc import OperatorServiceStub

PAGE: Final = 100
WATCH_SECONDS: Final = 3600.0
"""Every call has a deadline: a watch is begun again after this long."""

T = TypeVar("T")


class AsyncOperatorClient:
    """Calls ``OperatorService``.

    Every method raises the error that the coordinator named, ``UnreachableError`` when it did not answer within
    ``timeout_seconds``, or ``RemoteError``.

    Args:
        address: ``host:port`` of the coordinator.
        identity: the operator's or auditor's certificate.
        coordinator: whom the coordinator's certificate must name.
        timeout_seconds: how long one call may take.
    """

    def __init__(
        self, address: str, identity: TlsIdentity, *, coordinator: Party, timeout_seconds: float = 30.0
    ) -> None:
        self._name = str(coordinator)
        self._timeout = timeout_seconds
        self._channel = open_channel(address, identity, target=coordinator)
        self._stub = OperatorServiceStub(self._channel)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def create_job(self, spec: JobSpec, *, request_id: str | None = None) -> JobStatus:
        """Make a job; the same again is harmless, another one of that name raises ``ConflictError``."""
        request = wire.CreateJobRequest(request_id=request_id or uuid.uuid4().hex, spec=codec.job_spec_to_wire(spec))
        with self._errors():
            response = await self._stub.CreateJob(request, timeout=self._timeout)
        return codec.job_status_from_wire(response.job)

    async def jobs(self) -> AsyncIterator[JobStatus]:
        """Yield every job by name."""
        after = ""
        while True:
            request = wire.ListJobsRequest(page_size=PAGE, after_job=after)
            with self._errors():
                response = await self._stub.ListJobs(request, timeout=self._timeout)
            for job in response.jobs:
                yield codec.job_status_from_wire(job)
            if not response.jobs:
                return
            after = response.jobs[-1].spec.job

    async def get_job(self, job: JobId) -> JobStatus:
        """Return one job."""
        with self._errors():
            response = await self._stub.GetJob(wire.GetJobRequest(job=job), timeout=self._timeout)
        return codec.job_status_from_wire(response.job)

    async def rounds(self, job: JobId, *, after: int = 0) -> AsyncIterator[RoundStatus]:
        """Yield every round of a job by number, from ``after`` + 1 on."""
        while True:
            request = wire.ListRoundsRequest(job=job, page_size=PAGE, after_round=after)
            with self._errors():
                response = await self._stub.ListRounds(request, timeout=self._timeout)
            for status in response.rounds:
                yield codec.round_status_from_wire(status)
            if not response.rounds:
                return
            after = response.rounds[-1].round

    async def get_round(self, job: JobId, round: RoundNumber) -> RoundStatus:
        """Return one round; round 0 is the newest."""
        with self._errors():
            response = await self._stub.GetRound(wire.GetRoundRequest(job=job, round=round), timeout=self._timeout)
        return codec.round_status_from_wire(response.round)

    async def watch_rounds(self, job: JobId, round: RoundNumber) -> AsyncIterator[RoundStatus]:
        """Yield a round's status at once and for each change, until it has ended.

        Round 0: the newest round and then the next ones, until the job is complete.
        """
        request = wire.WatchRoundsRequest(job=job, round=round)
        while True:
            try:
                with self._errors():
                    async for response in self._stub.WatchRounds(request, timeout=WATCH_SECONDS):
                        yield codec.round_status_from_wire(response.round)
            except UnreachableError as error:
                if not _deadline_over(error):
                    raise
            else:
                return

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, party=self._name) from error


def _deadline_over(error: UnreachableError) -> bool:
    cause = error.__cause__
    return isinstance(cause, grpc.aio.AioRpcError) and cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED


class OperatorClient:
    """The same for code without an event loop. Use it in one thread, and close it or use it in a ``with`` block.

    Args and errors: as :class:`AsyncOperatorClient`.
    """

    def __init__(
        self, address: str, identity: TlsIdentity, *, coordinator: Party, timeout_seconds: float = 30.0
    ) -> None:
        self._closed = False
        self._runner = asyncio.Runner()
        try:
            self._client = self._runner.run(_opened(address, identity, coordinator, timeout_seconds))
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
    address: str, identity: TlsIdentity, coordinator: Party, timeout_seconds: float
) -> AsyncOperatorClient:
    return AsyncOperatorClient(address, identity, coordinator=coordinator, timeout_seconds=timeout_seconds)
