"""The round that a client could join next (docs/protocol.md, 5.1)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from secagg import codec
from secagg.client.calls import POLL_SECONDS, Coordinator, Limit, reading_answer
from secagg.errors import UnknownRoundError, UsageError
from secagg.identity import TrustRoot
from secagg.ids import JobId
from secagg.plan import CkksRound
from secagg.roles.client.events import PlanOffered
from secagg.wire.v1 import client_service_pb2 as pb


async def await_offer(
    coordinator: Coordinator, trust: TrustRoot, *, job: JobId, after_round: int, limit: Limit, note: str = ""
) -> PlanOffered:
    """Wait for a round that can be joined; what is offered is authenticated, and checked by nobody yet.

    ``note``: why it is awaited, for a person who waits in vain.

    Raises:
        UsageError: the job has published all its rounds.
        UnknownRoundError: there was none within the limit.
        FaultyCoordinatorError: the offer cannot be read.
    """
    while not limit.over:
        wait = min(POLL_SECONDS, limit.remaining)
        request = pb.WaitForRoundRequest(job=job, after_round=after_round, wait_seconds=wait)
        answer = await _asked(coordinator, request, limit)
        if answer.found:
            return await asyncio.to_thread(_read, answer, trust)
        if answer.job_complete:
            advice = "Nothing was submitted; ask the operator for a new job"
            raise UsageError(f"job {job} has published all its rounds{_because(note)}", next_step=advice)
    raise UnknownRoundError(f"no round of job {job} could be joined within {limit.seconds:g} s{_because(note)}")


def _because(note: str) -> str:
    return f"; {note}" if note else ""


async def _asked(coordinator: Coordinator, request: pb.WaitForRoundRequest, limit: Limit) -> pb.WaitForRoundResponse:
    return await coordinator.ask(lambda seconds: coordinator.stub.WaitForRound(request, timeout=seconds), limit)


def _read(answer: pb.WaitForRoundResponse, trust: TrustRoot) -> PlanOffered:
    with reading_answer():
        plan = codec.round_plan_from_wire(answer.plan)
        keyed = isinstance(plan.protocol, CkksRound)
        bundle = codec.key_bundle_from_wire(answer.key, trust=trust, at=datetime.now(UTC)) if keyed else None
    return PlanOffered(plan=plan, bundle=bundle)
