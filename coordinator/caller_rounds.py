"""The rounds of an engine as the client that calls may see and change them: what all services for clients have in common."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import Message

from coordinator.contracts import AnsweredRequest, RequestRecord, RoundRecord
from coordinator.rounds.engine import JobRun, RoundEngine
from coordinator.rounds.live import LiveRound
from secagg import codec, faults
from secagg.access import current_caller
from secagg.errors import LateError, NotAllowedError, NotFoundError, UsageError
from secagg.ids import ClientId, JobId, RoundNumber
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec
from secagg.wire.v1.signed_pb2 import Signed

LONGEST_WAIT_SECONDS: Final = 30.0
_LONGEST_REQUEST_ID: Final = 64


class OfClient(Protocol):
    """A message that a client signs in its own name."""

    @property
    def client(self) -> ClientId:
        """Whose message it is."""


MessageT = TypeVar("MessageT", bound=OfClient)
WireT = TypeVar("WireT", bound=Message)


class CallerRounds:
    """What a call of a client asks of the engine's rounds.

    Args:
        engine: runs the rounds.
    """

    def __init__(self, engine: RoundEngine) -> None:
        self._engine = engine
        self._around = engine.around

    async def spec(self, job: str) -> JobSpec:
        """Return what a job is; :class:`UnknownJobError` when there is none."""
        return (await self._engine.run_of(JobId(job))).spec

    async def run(self, job: str) -> JobRun:
        """Return a job whose rounds this process runs, or that is complete.

        Raises:
            UnknownJobError: there is none.
            ElsewhereError: another process runs its rounds.
        """
        run = await self._engine.run_of(JobId(job))
        await self._engine.verify_here(run)
        return run

    async def live(self, job: str, round: int) -> LiveRound | None:
        """Return a round that this process runs or ran last, as :meth:`RoundEngine.live_round`."""
        return await self._engine.live_round(JobId(job), RoundNumber(round))

    async def running(self, job: str, round: int) -> LiveRound:
        """Return a round that can still change; :class:`LateError` for one that is known from the store only."""
        live = await self.live(job, round)
        if live is None:
            raise LateError(f"round {round} of job {job} is over")
        return live

    async def stored(self, job: str, round: int) -> RoundRecord:
        """Return what the store keeps of a round; :class:`NotFoundError` for one whose record was purged."""
        record = await asyncio.to_thread(self._around.store.round, JobId(job), RoundNumber(round))
        if record.status.purged:
            advice = "The coordinator's operator has the receipt: `secagg retention show`"
            raise NotFoundError(f"the record of round {round} of job {job} was purged", next_step=advice)
        return record

    async def wait(self, job: str, holds: Callable[[], bool], seconds: float) -> None:
        """Hold the answer back until something holds, for ``seconds`` or :data:`LONGEST_WAIT_SECONDS` at the most."""
        changes = (await self._engine.run_of(JobId(job))).changes
        # A NaN fails every comparison, and so waits not at all.
        bounded = min(seconds, LONGEST_WAIT_SECONDS) if seconds > 0 else 0.0
        await self._engine.waiting.wait_until(changes, holds, bounded, caller=str(current_caller()))

    async def verify_new(self, request: RequestRecord) -> None:
        """Raise :class:`ConflictError` when a call that changed something had this id with another content."""
        await asyncio.to_thread(self._around.store.answer_to, request)

    def place(self) -> AbstractContextManager[None]:
        """Hold a place for a call of the caller whose end is the caller's to choose; :class:`BusyError` when it holds too many."""
        return self._engine.waiting.place(str(current_caller()))

    def of_caller(self, wire: Signed, kind: type[MessageT]) -> Authenticated[MessageT]:
        """Authenticate a message that the caller signed in its own name."""
        at = datetime.fromtimestamp(self._around.clock(), UTC)
        message = codec.authenticate(codec.signed_from_wire(wire), kind, trust=self._around.identity.trust, at=at)
        if message.message.client != caller():
            raise NotAllowedError(f"{caller()} may not act for client {message.message.client}")
        return message

    async def first_answer(self, request: RequestRecord, kind: type[WireT]) -> WireT | None:
        """Return the answer that this request got before; None when it is new.

        Raises:
            ConflictError: it was made before with another content.
        """
        answer = await asyncio.to_thread(self._around.store.answer_to, request)
        if answer is None:
            return None
        faults.reach("answer.repeating")
        return kind.FromString(answer)


def request_of(request_id: str, what: str, job: str, round: int, message: Authenticated[Any]) -> RequestRecord:
    """Return a mutating call by its caller's key and its content.

    Raises:
        UsageError: the key is no request id.
    """
    if not 1 <= len(request_id) <= _LONGEST_REQUEST_ID:
        raise UsageError(f"request_id has {len(request_id)} characters: choose 1 to {_LONGEST_REQUEST_ID}")
    content = hashlib.sha256(f"{what}\0{job}\0{round}\0".encode() + message.signed.payload).digest()
    return RequestRecord(caller=str(current_caller()), request_id=request_id, digest=content)


def answered(request: RequestRecord, answer: Message) -> AnsweredRequest:
    """Return a call with what it is answered, for the store."""
    return AnsweredRequest(request=request, answer=answer.SerializeToString(deterministic=True))


def caller() -> ClientId:
    """Return the client whose call is being served."""
    return ClientId(current_caller().name)
