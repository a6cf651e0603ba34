"""What a client's part in a round needs whatever the protocol: a round to join, the join, the result (docs/protocol.md, 5 and 6.6)."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from secagg import codec
from secagg.client.calls import Coordinator, Limit, poll_seconds, reading_answer
from secagg.client.offers import await_offer
from secagg.client.progress import Progress, ProgressCallback, RoundResult, mean_from_bytes
from secagg.client.threads import in_thread
from secagg.client.transfer import download_mean
from secagg.client.updates import Update
from secagg.errors import ConflictError, LateError, SecAggError, UsageError
from secagg.ids import Digest, JobId, RoundNumber
from secagg.messages.round import Phase, Result
from secagg.plan import CkksJob, Deadlines, JobSpec, RoundPlan
from secagg.roles.client.events import (
    AwaitResult,
    AwaitRound,
    DeliverResult,
    Event,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RoundEnded,
)
from secagg.tls_identity import TlsIdentity
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1.signed_pb2 import Signed

Method: TypeAlias = Callable[[Coordinator], Callable[..., Awaitable[Any]]]
"""A method of the coordinator's services, wherever it is at the time."""

GRACE_SECONDS: Final = 30.0
"""What a deadline of the plan is stretched by here: answers take their time."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What the caller wants.

    Attributes:
        job: the job's name.
        update: arrays as the plan names them.
        weight: above 0, at most the plan's ``max_weight``.
        after_round: only a later round will do.
        join_timeout_seconds: how long to wait for a round that can be joined.
        progress: told how far it is, or None.
    """

    job: JobId
    update: Update
    weight: float
    after_round: int
    join_timeout_seconds: float
    progress: ProgressCallback | None


class Exchange:
    """What one submission says to the coordinator and learns from it.

    Args:
        coordinator: whom to call.
        identity: signs what is sent.
        wanted: what is submitted.

    Attributes:
        plan: the round, once it was accepted.
        total: length of what is uploaded, as far as it is known; 0 before.
        clipped: entries of the update beyond the plan's clip bound.
    """

    def __init__(self, coordinator: Coordinator, identity: TlsIdentity, wanted: Submission) -> None:
        self.coordinator = coordinator
        self.identity = identity
        self.wanted = wanted
        self.plan: RoundPlan | None = None
        self.total = self.clipped = 0
        self.resumed = False
        self._join_limit = Limit(wanted.join_timeout_seconds)
        self._told: Phase | None = None
        self._note = ""
        self._mean = b""

    @property
    def round_plan(self) -> RoundPlan:
        """The plan of the round."""
        if self.plan is None:
            raise UsageError("no plan was offered yet")
        return self.plan

    @property
    def spec(self) -> JobSpec:
        """The job."""
        return self.round_plan.spec

    @property
    def deadlines(self) -> Deadlines:
        """Of the job."""
        return self.spec.deadlines

    @property
    def number(self) -> RoundNumber:
        """The round's number."""
        return self.round_plan.round

    async def ask(self, method: Method, request: Any, limit: Limit) -> Any:
        """Call until there is an answer."""
        return await self.coordinator.ask(lambda seconds: method(self.coordinator)(request, timeout=seconds), limit)

    async def signed(self, message: object) -> Signed:
        """Return a message signed, in the wire's form."""
        return codec.signed_to_wire(await in_thread(codec.sign, message, self.identity.signer))

    def report(self, phase: Phase, done: int) -> None:
        """Tell the caller how far it is."""
        self._told = phase
        if self.wanted.progress is not None:
            number = 0 if self.plan is None else self.plan.round
            self.wanted.progress(
                Progress(phase=phase, done=done, total=self.total, round=number, note="" if number else self._note)
            )

    # 5.1 to 5.5: a round, the join and the roster

    async def await_round(self, effect: AwaitRound) -> PlanOffered:
        """Wait for a round that can be joined."""
        self.report(Phase.OPEN, 0)
        job, trust = self.wanted.job, self.identity.trust
        return await await_offer(
            self.coordinator, trust, job=job, after_round=effect.after_round, limit=self._join_limit, note=self._note
        )

    async def join(
        self, join: object, limit: Limit, *, field: str, read: Callable[[pb.WaitForRosterResponse], Event]
    ) -> Event:
        """Send the join and wait for the roster.

        Args:
            join: the protocol's message.
            limit: of both together.
            field: of the answer that holds the protocol's roster.
            read: makes an event of that answer; runs in a thread.
        """
        request = pb.JoinRequest(
            request_id=uuid.uuid4().hex, job=self.spec.job, round=self.number, join=await self.signed(join)
        )
        try:
            await self.ask(lambda at: at.stub.Join, request, limit)
        except LateError:
            return self._left_out("")
        except ConflictError:
            # What an earlier process committed to is lost with it. To commit to something else in this round is not possible.
            return self._left_out(
                f"round {self.number} was joined before, by a process of this client that is not this one"
            )
        while not limit.over:
            waiting = pb.WaitForRosterRequest(job=self.spec.job, round=self.number, wait_seconds=poll_seconds(limit))
            answer = await self.ask(lambda at: at.stub.WaitForRoster, waiting, limit)
            if phase_of(answer) is Phase.ABORTED:
                return ended(answer)
            if answer.HasField(field):
                return await in_thread(read, answer)
        return RoundEnded(reason=f"the coordinator showed no roster within {limit.seconds:g} s")

    def _left_out(self, note: str) -> JoinRefused:
        self.plan, self.total, self._note = None, 0, note
        return JoinRefused()

    async def aborted(self, error: SecAggError) -> RoundEnded:
        """Find out whether something was refused because the round is over; raise the error if it is not."""
        answer = await self._ask_result(Limit(GRACE_SECONDS), wait_seconds=0)
        if phase_of(answer) is not Phase.ABORTED:
            raise error
        return ended(answer)

    # 6.6: the result

    async def await_result(self, effect: AwaitResult) -> Event:
        """Wait for the end of the round and download the mean."""
        limit = stretched(*_seconds_to_result(self.spec))
        while not limit.over:
            answer = await self._ask_result(limit, wait_seconds=poll_seconds(limit))
            phase = phase_of(answer)
            if phase is Phase.ABORTED:
                return ended(answer)
            if phase is not self._told:
                self.report(phase, self.total)
            if answer.HasField("result"):
                return await self._download(answer, effect.mean_bytes, limit)
        return RoundEnded(reason=f"no result was shown within {limit.seconds:g} s after the upload")

    async def _ask_result(self, limit: Limit, *, wait_seconds: float) -> pb.WaitForResultResponse:
        request = pb.WaitForResultRequest(job=self.spec.job, round=self.number, wait_seconds=wait_seconds)
        answer: pb.WaitForResultResponse = await self.ask(lambda at: at.stub.WaitForResult, request, limit)
        return answer

    async def _download(self, answer: pb.WaitForResultResponse, size: int, limit: Limit) -> ResultPublished:
        with reading_answer():
            signed = codec.signed_from_wire(answer.result)
            result = await in_thread(codec.authenticate, signed, Result, trust=self.identity.trust, at=now())
        self._mean = await download_mean(self.coordinator, self.spec.job, self.number, size, limit)
        digest = await asyncio.to_thread(hashlib.sha256, self._mean)
        return ResultPublished(result=result, mean_digest=Digest(digest.digest()), mean_bytes=len(self._mean))

    def delivered(self, effect: DeliverResult) -> RoundResult:
        """Return what the caller gets."""
        return RoundResult(
            mean=mean_from_bytes(self.spec, self._mean),
            total_weight=effect.result.total_weight,
            contributors=tuple(effect.result.contributors),
            round=effect.round,
            clipped=self.clipped,
            uploaded_bytes=self.total,
            resumed=self.resumed,
        )


def stretched(*seconds: float) -> Limit:
    """Return the limit that deadlines of the plan give, with a grace."""
    return Limit(sum(seconds) + GRACE_SECONDS)


def _seconds_to_result(spec: JobSpec) -> tuple[float, ...]:
    deadlines = spec.deadlines
    if isinstance(spec.protocol, CkksJob):
        return deadlines.uploading_seconds, deadlines.approving_seconds, deadlines.decrypting_seconds
    return deadlines.confirming_seconds, deadlines.unmasking_seconds


def phase_of(answer: Any) -> Phase:
    """Return the phase that an answer, or the standing in it, names."""
    with reading_answer():
        return codec.phase_from_wire(answer.phase)


def ended(answer: Any) -> RoundEnded:
    """Return the end of the round that an answer, or the standing in it, tells of."""
    return RoundEnded(
        reason=answer.reason,
        have=answer.have if answer.HasField("have") else None,
        need=answer.need if answer.HasField("need") else None,
    )


def now() -> datetime:
    """Return the time at which signatures must hold."""
    return datetime.now(UTC)
