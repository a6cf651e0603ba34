"""Jobs, plans and round records for tests, small enough to prove themselves at once."""

from coordinator.contracts import (
    AnsweredRequest,
    ContributionRecord,
    ContributionState,
    EventRecord,
    HolderRecord,
    KeptEvent,
    RequestRecord,
    RoundMove,
    RoundRecord,
    mean_prefix,
)
from secagg.ids import ClientId, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.round import HolderStatus, HolderVerdict, Phase, RoundStatus
from secagg.plan import CkksJob, CkksRound, JobSpec, RoundPlan, TensorSpec

HOLDERS = tuple(HolderId(name) for name in ("north", "south", "east", "west", "centre"))
JOB = JobId("mnist")
FIRST = RoundNumber(1)


def a_job(**changes: object) -> JobSpec:
    fields: dict[str, object] = {
        "job": JOB,
        "tensors": (TensorSpec(name="weight", shape=(20, 10), dtype="float32"),),
        "protocol": CkksJob(holders=HOLDERS),
        "min_contributors": 3,
        "max_clients": 10,
        "purpose": "a test",
    }
    return JobSpec(**(fields | changes))  # type: ignore[arg-type]


def a_plan(spec: JobSpec | None = None, round: int = 1) -> RoundPlan:
    spec = spec or a_job()
    group = spec.ckks.group(spec.ckks.holders)
    return RoundPlan(spec=spec, round=RoundNumber(round), protocol=CkksRound(key_id=KeyId(b"\x07" * 32), group=group))


def a_status(phase: Phase = Phase.PUBLISHED, **changes: object) -> RoundStatus:
    """A round as it looks when all that can be said of it is said."""
    fields: dict[str, object] = {
        "job": JOB,
        "round": FIRST,
        "phase": phase,
        "reason": "",
        "joined": 4,
        "uploaded": 3,
        "approvals": 4,
        "answers": 5,
        "phase_started": {Phase.KEYING: 1.5, Phase.OPEN: 2.25, phase: 9.0},
        "holders": (
            HolderStatus(holder=HOLDERS[1], verdict=HolderVerdict.OK),
            HolderStatus(holder=HOLDERS[0], verdict=HolderVerdict.UNREACHABLE, reason="it did not answer"),
        ),
        "plan": a_plan(),
        "contributors": (ClientId("alice"), ClientId("bob"), ClientId("carol")),
        "total_weight": 2.5,
    }
    return RoundStatus(**(fields | changes))  # type: ignore[arg-type]


def a_record(phase: Phase = Phase.PUBLISHED, **changes: object) -> RoundRecord:
    """A round with something in every field."""
    contributions = tuple(
        ContributionRecord(client=ClientId(name), state=ContributionState.UPLOADED, join=b"join", upload=b"upload")
        for name in ("alice", "bob", "carol")
    )
    rejected = ContributionRecord(
        client=ClientId("dan"), state=ContributionState.REJECTED, join=b"join", reason="a residue above its prime"
    )
    return RoundRecord(
        status=a_status(phase, **changes),
        key=b"key",
        roster=b"roster",
        contributions=(*contributions, rejected),
        holders=(
            HolderRecord(holder=HOLDERS[1], approval=b"approval", statement=b"statement"),
            HolderRecord(holder=HOLDERS[2], approval=b"approval"),
        ),
        result=b"result",
        mean_blob=mean_prefix(JOB, FIRST),
    )


def an_opening(job: JobId = JOB, round: int = 1, at: float = 5.0, phase: Phase = Phase.KEYING) -> RoundMove:
    """The first move of a round, of which nothing is known but its phase."""
    number = RoundNumber(round)
    record = RoundRecord(status=RoundStatus(job=job, round=number, phase=phase, phase_started={phase: at}))
    return RoundMove(job=job, round=number, at=at, record=record)


def an_event(sequence: int, content: bytes = b"event") -> KeptEvent:
    return KeptEvent(sequence=sequence, content=content, at=6.0)


def an_audit(event: str = "client-joined", round: RoundNumber = FIRST, **details: str) -> EventRecord:
    return EventRecord(job=JOB, round=round, event=event, details=details, at=6.0)


def an_answer(answer: bytes = b"answer", request_id: str = "r7", caller: str = "client/alice") -> AnsweredRequest:
    return AnsweredRequest(
        request=RequestRecord(caller=caller, request_id=request_id, digest=b"\x07" * 32), answer=answer
    )


def a_move(
    *events: KeptEvent,
    at: float = 6.0,
    round: RoundNumber = FIRST,
    record: RoundRecord | None = None,
    audits: tuple[EventRecord, ...] = (),
    request: AnsweredRequest | None = None,
) -> RoundMove:
    requests = () if request is None else (request,)
    return RoundMove(job=JOB, round=round, at=at, events=events, record=record, audits=audits, requests=requests)
