"""One update in one round: the driver of the client's machine (docs/protocol.md, section 5)."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from secagg import codec
from secagg.client.calls import Coordinator, Limit, poll_seconds, reading_answer
from secagg.client.encryption import Update, encrypt
from secagg.client.offers import await_offer
from secagg.client.progress import Progress, ProgressCallback, RoundResult, mean_from_bytes
from secagg.client.spool import CiphertextSpool
from secagg.client.transfer import Uploader, UploadJob, download_mean
from secagg.errors import (
    LateError,
    RoundAbortedError,
    SecAggError,
    UsageError,
    WrongPhaseError,
)
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.messages.round import Phase, Result
from secagg.plan import JobSpec, RoundPlan
from secagg.policy import ClientPolicy
from secagg.roles.client import rules
from secagg.roles.client.events import (
    AwaitResult,
    AwaitRound,
    BuildKey,
    DeliverResult,
    Effect,
    Event,
    Fail,
    JoinRefused,
    PlanOffered,
    ResultPublished,
    RosterFrozen,
    RoundEnded,
    SendJoin,
    SendUpload,
    UploadAccepted,
)
from secagg.tls_identity import TlsIdentity
from secagg.wire.v1 import client_service_pb2 as pb

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


class Participation:
    """Runs one submission; use it once.

    Args:
        coordinator: whom to call.
        identity: signs join and upload.
        policy: the weakest plan that is good enough.
        spool: makes the file space that ciphertexts wait in.
        submission: what is submitted.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        identity: TlsIdentity,
        policy: ClientPolicy,
        spool: Callable[[], CiphertextSpool],
        submission: Submission,
    ) -> None:
        self._coordinator = coordinator
        self._identity = identity
        self._make_spool = spool
        self._wanted = submission
        self._step = rules.begin(
            client=ClientId(identity.party.name),
            coordinator=coordinator.party,
            policy=policy,
            job=submission.job,
            after_round=submission.after_round,
        )
        self._join_limit = Limit(submission.join_timeout_seconds)
        self._spool: CiphertextSpool | None = None
        self._plan: RoundPlan | None = None
        self._mean = b""
        self._clipped = self._total = 0

    async def run(self) -> RoundResult:
        """Carry out what the machine asks for until there is a result; the spool is empty afterwards, however it ends."""
        try:
            while True:
                (effect,) = self._step.effects
                if isinstance(effect, DeliverResult):
                    return self._delivered(effect)
                event = await self._carry_out(effect)
                self._step = rules.step(self._step.state, event)
        finally:
            self._close_spool()

    async def _carry_out(self, effect: Effect) -> Event:
        match effect:
            case AwaitRound():
                return await self._await_round(effect)
            case BuildKey():
                return await self._encrypt(effect)
            case SendJoin():
                return await self._join(effect)
            case SendUpload():
                return await self._upload(effect)
            case AwaitResult():
                return await self._await_result(effect)
            case Fail():
                raise RoundAbortedError(effect.reason, effect.have, effect.need)
            case DeliverResult():
                raise UsageError("the result was delivered")

    # 5.1: a round

    async def _await_round(self, effect: AwaitRound) -> PlanOffered:
        self._report(Phase.OPEN, 0)
        job, trust = self._wanted.job, self._identity.trust
        return await await_offer(
            self._coordinator, trust, job=job, after_round=effect.after_round, limit=self._join_limit
        )

    # 5.2: the ciphertext

    async def _encrypt(self, effect: BuildKey) -> Event:
        self._close_spool()
        self._plan, self._total = effect.plan, 0
        self._spool = self._make_spool()

        def report(done: int, total: int) -> None:
            self._total = total
            self._report(Phase.OPEN, done)

        wanted = self._wanted
        encrypted = await encrypt(wanted.update, wanted.weight, effect, self._spool, report)
        self._clipped = encrypted.clipped
        return encrypted.event

    def _close_spool(self) -> None:
        if self._spool is not None:
            self._spool.close()

    # 5.2 to 5.5: the join and the roster

    async def _join(self, effect: SendJoin) -> Event:
        spec = self._spec
        # The key holders seal the roster before it is shown.
        limit = Limit(spec.deadlines.open_seconds + spec.deadlines.approving_seconds + GRACE_SECONDS)
        signed = codec.signed_to_wire(codec.sign(effect.join, self._identity.signer))
        stub = self._coordinator.stub
        request = pb.JoinRequest(request_id=uuid.uuid4().hex, job=spec.job, round=self._number, join=signed)
        try:
            await self._ask(stub.Join, request, limit)
        except LateError:
            return JoinRefused()
        return await self._await_roster(limit)

    async def _await_roster(self, limit: Limit) -> Event:
        stub = self._coordinator.stub
        while not limit.over:
            wait = poll_seconds(limit)
            request = pb.WaitForRosterRequest(job=self._spec.job, round=self._number, wait_seconds=wait)
            answer = await self._ask(stub.WaitForRoster, request, limit)
            if _phase(answer.phase) is Phase.ABORTED:
                return _ended(answer)
            if answer.HasField("roster"):
                return await asyncio.to_thread(self._read_roster, answer)
        return RoundEnded(reason=f"the coordinator showed no roster within {limit.seconds:g} s")

    def _read_roster(self, answer: pb.WaitForRosterResponse) -> RosterFrozen:
        with reading_answer():
            return RosterFrozen(roster=codec.roster_from_wire(answer.roster, trust=self._identity.trust, at=_now()))

    # 5.6: the upload

    async def _upload(self, effect: SendUpload) -> Event:
        spec = self._spec
        limit = Limit(spec.deadlines.uploading_seconds + GRACE_SECONDS)
        job = UploadJob(
            job=spec.job,
            round=self._number,
            signed=codec.signed_to_wire(codec.sign(effect.upload, self._identity.signer)),
            parameters=self._offered.parameters,
            spool=self._opened_spool,
        )
        self._total = 2 * job.half_bytes
        self._report(Phase.UPLOADING, 0)
        uploader = Uploader(self._coordinator, job, lambda sent: self._report(Phase.UPLOADING, sent))
        try:
            await uploader.run(limit)
        except (LateError, WrongPhaseError) as error:
            return await self._aborted(error)
        self._close_spool()
        return UploadAccepted()

    async def _aborted(self, error: SecAggError) -> RoundEnded:
        """Find out whether an upload was refused because the round is over."""
        answer = await self._ask_result(Limit(GRACE_SECONDS), wait_seconds=0)
        if _phase(answer.phase) is not Phase.ABORTED:
            raise error
        return _ended(answer)

    # 6.6: the result

    async def _await_result(self, effect: AwaitResult) -> Event:
        deadlines = self._spec.deadlines
        phases = (deadlines.uploading_seconds, deadlines.approving_seconds, deadlines.decrypting_seconds)
        limit = Limit(sum(phases) + GRACE_SECONDS)
        shown = Phase.UPLOADING
        while not limit.over:
            answer = await self._ask_result(limit, wait_seconds=poll_seconds(limit))
            phase = _phase(answer.phase)
            if phase is Phase.ABORTED:
                return _ended(answer)
            if phase is not shown:
                shown = phase
                self._report(phase, self._total)
            if answer.HasField("result"):
                return await self._download(answer, effect.mean_bytes, limit)
        return RoundEnded(reason=f"no result was shown within {limit.seconds:g} s after the upload")

    async def _ask_result(self, limit: Limit, *, wait_seconds: float) -> pb.WaitForResultResponse:
        request = pb.WaitForResultRequest(job=self._spec.job, round=self._number, wait_seconds=wait_seconds)
        answer: pb.WaitForResultResponse = await self._ask(self._coordinator.stub.WaitForResult, request, limit)
        return answer

    async def _download(self, answer: pb.WaitForResultResponse, size: int, limit: Limit) -> ResultPublished:
        with reading_answer():
            signed = codec.signed_from_wire(answer.result)
            result = codec.authenticate(signed, Result, trust=self._identity.trust, at=_now())
        self._mean = await download_mean(self._coordinator, self._spec.job, self._number, size, limit)
        digest = await asyncio.to_thread(hashlib.sha256, self._mean)
        return ResultPublished(result=result, mean_digest=Digest(digest.digest()), mean_bytes=len(self._mean))

    def _delivered(self, effect: DeliverResult) -> RoundResult:
        return RoundResult(
            mean=mean_from_bytes(self._spec, self._mean),
            total_weight=effect.result.total_weight,
            contributors=tuple(effect.result.contributors),
            round=effect.round,
            clipped=self._clipped,
            uploaded_bytes=self._total,
        )

    # what all of them need

    @property
    def _offered(self) -> RoundPlan:
        if self._plan is None:
            raise UsageError("no plan was offered yet")
        return self._plan

    @property
    def _spec(self) -> JobSpec:
        return self._offered.spec

    @property
    def _number(self) -> RoundNumber:
        return self._offered.round

    @property
    def _opened_spool(self) -> CiphertextSpool:
        if self._spool is None:
            raise UsageError("nothing was encrypted yet")
        return self._spool

    async def _ask(self, method: Callable[..., Awaitable[Any]], request: Any, limit: Limit) -> Any:
        return await self._coordinator.ask(lambda seconds: method(request, timeout=seconds), limit)

    def _report(self, phase: Phase, done: int) -> None:
        if self._wanted.progress is not None:
            number = 0 if self._plan is None else self._plan.round
            self._wanted.progress(Progress(phase=phase, done=done, total=self._total, round=number))


def _ended(answer: pb.WaitForRosterResponse | pb.WaitForResultResponse) -> RoundEnded:
    return RoundEnded(
        reason=answer.reason,
        have=answer.have if answer.HasField("have") else None,
        need=answer.need if answer.HasField("need") else None,
    )


def _phase(wire: int) -> Phase:
    with reading_answer():
        return codec.phase_from_wire(wire)


def _now() -> datetime:
    return datetime.now(UTC)
