"""Jobs, plans and their states."""

from __future__ import annotations

from collections.abc import Iterable

from secagg.codec.parsing import bounded, parsed, reading
from secagg.errors import MessageError
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.messages.job import JobState, JobStatus
from secagg.plan import (
    MAX_TENSORS,
    CkksJob,
    CkksRound,
    Deadlines,
    HolderGroup,
    JobSpec,
    MaskingJob,
    MaskingRound,
    RoundPlan,
    TensorSpec,
)
from secagg.wire.v1 import operator_service_pb2, plan_pb2

MAX_DIMENSIONS = 32
MAX_HOLDERS = 100

_DTYPES = {
    "float16": plan_pb2.TENSOR_TYPE_FLOAT16,
    "float32": plan_pb2.TENSOR_TYPE_FLOAT32,
    "float64": plan_pb2.TENSOR_TYPE_FLOAT64,
}
_DTYPE_NAMES = {number: name for name, number in _DTYPES.items()}
_PACKINGS = {
    "coefficients": plan_pb2.PACKING_COEFFICIENTS,
    "complex": plan_pb2.PACKING_COMPLEX,
    "real": plan_pb2.PACKING_REAL,
}
_PACKING_NAMES = {number: name for name, number in _PACKINGS.items()}
_JOB_STATES = {
    JobState.RUNNING: operator_service_pb2.JOB_STATE_RUNNING,
    JobState.COMPLETE: operator_service_pb2.JOB_STATE_COMPLETE,
}
_JOB_STATE_NAMES = {number: state for state, number in _JOB_STATES.items()}


def job_spec_to_wire(spec: JobSpec) -> plan_pb2.JobSpec:
    """Return the wire's form."""
    wire = plan_pb2.JobSpec(
        job=spec.job,
        purpose=spec.purpose,
        tensors=[plan_pb2.TensorSpec(name=t.name, shape=t.shape, type=_DTYPES[t.dtype]) for t in spec.tensors],
        clip=spec.clip,
        max_weight=spec.max_weight,
        min_total_weight=spec.min_total_weight,
        min_contributors=spec.min_contributors,
        max_clients=spec.max_clients,
        rounds=spec.rounds,
        deadlines=plan_pb2.Deadlines(
            keying_seconds=spec.deadlines.keying_seconds,
            open_seconds=spec.deadlines.open_seconds,
            uploading_seconds=spec.deadlines.uploading_seconds,
            approving_seconds=spec.deadlines.approving_seconds,
            decrypting_seconds=spec.deadlines.decrypting_seconds,
            sharing_seconds=spec.deadlines.sharing_seconds,
            confirming_seconds=spec.deadlines.confirming_seconds,
            unmasking_seconds=spec.deadlines.unmasking_seconds,
        ),
    )
    if isinstance(spec.protocol, CkksJob):
        wire.ckks.CopyFrom(_ckks_to_wire(spec.protocol))
    else:
        wire.masking.CopyFrom(_masking_to_wire(spec.protocol))
    return wire


def _ckks_to_wire(ckks: CkksJob) -> plan_pb2.CkksJob:
    return plan_pb2.CkksJob(
        preset=ckks.preset,
        packing=_PACKINGS[ckks.packing],
        security_bits=ckks.security_bits,
        precision=ckks.precision,
        holders=ckks.holders,
        min_holders=ckks.min_holders,
        threshold=ckks.threshold,
        corrupt_holders=ckks.corrupt_holders,
    )


def _masking_to_wire(masking: MaskingJob) -> plan_pb2.MaskingJob:
    return plan_pb2.MaskingJob(
        value_bits=masking.value_bits,
        precision=masking.precision,
        corrupt_fraction=masking.corrupt_fraction,
        dropout_fraction=masking.dropout_fraction,
    )


def job_spec_from_wire(wire: plan_pb2.JobSpec) -> JobSpec:
    """Return ours; a job that does not prove itself is a :class:`MessageError` with the number to change."""
    with reading("job"):
        return JobSpec(
            job=JobId(wire.job),
            purpose=wire.purpose,
            tensors=tuple(_tensor(tensor) for tensor in bounded(wire.tensors, "tensors", MAX_TENSORS)),
            clip=wire.clip,
            max_weight=wire.max_weight,
            min_total_weight=wire.min_total_weight,
            min_contributors=wire.min_contributors,
            max_clients=wire.max_clients,
            rounds=wire.rounds,
            deadlines=_deadlines(wire.deadlines),
            protocol=_protocol(wire),
        )


def _protocol(wire: plan_pb2.JobSpec) -> CkksJob | MaskingJob:
    match wire.WhichOneof("protocol"):
        case "ckks":
            return _ckks_job(wire.ckks)
        case "masking":
            return _masking_job(wire.masking)
        case _:
            raise MessageError("the job's protocol is none of: ckks, masking")


def _tensor(wire: plan_pb2.TensorSpec) -> TensorSpec:
    shape = tuple(bounded(wire.shape, "dimensions", MAX_DIMENSIONS))
    return TensorSpec(name=wire.name, shape=shape, dtype=_DTYPE_NAMES[wire.type])


def _deadlines(wire: plan_pb2.Deadlines) -> Deadlines:
    return Deadlines(
        keying_seconds=wire.keying_seconds,
        open_seconds=wire.open_seconds,
        uploading_seconds=wire.uploading_seconds,
        approving_seconds=wire.approving_seconds,
        decrypting_seconds=wire.decrypting_seconds,
        sharing_seconds=wire.sharing_seconds,
        confirming_seconds=wire.confirming_seconds,
        unmasking_seconds=wire.unmasking_seconds,
    )


def _masking_job(wire: plan_pb2.MaskingJob) -> MaskingJob:
    return MaskingJob(
        value_bits=wire.value_bits,
        precision=wire.precision,
        corrupt_fraction=wire.corrupt_fraction,
        dropout_fraction=wire.dropout_fraction,
    )


def _ckks_job(wire: plan_pb2.CkksJob) -> CkksJob:
    if wire.packing not in _PACKING_NAMES:
        raise MessageError(f"the job's packing is none of: {', '.join(_PACKINGS)}")
    return CkksJob(
        preset=wire.preset,
        packing=_PACKING_NAMES[wire.packing],
        security_bits=wire.security_bits,
        precision=wire.precision,
        holders=_holders(wire.holders),
        min_holders=wire.min_holders,
        threshold=wire.threshold,
        corrupt_holders=wire.corrupt_holders,
    )


def _holders(names: Iterable[str]) -> tuple[HolderId, ...]:
    return tuple(HolderId(name) for name in bounded(tuple(names), "key holders", MAX_HOLDERS))


def group_to_wire(group: HolderGroup) -> plan_pb2.HolderGroup:
    """Return the wire's form."""
    return plan_pb2.HolderGroup(
        holders=group.holders,
        threshold=group.threshold,
        corrupt_holders=group.corrupt_holders,
        quorum=group.quorum,
    )


def group_from_wire(wire: plan_pb2.HolderGroup) -> HolderGroup:
    """Return ours."""
    with reading("group of key holders"):
        return HolderGroup(
            holders=_holders(wire.holders),
            threshold=wire.threshold,
            corrupt_holders=wire.corrupt_holders,
            quorum=wire.quorum,
        )


def round_plan_to_wire(plan: RoundPlan) -> plan_pb2.RoundPlan:
    """Return the wire's form."""
    spec = job_spec_to_wire(plan.spec)
    if isinstance(plan.protocol, CkksRound):
        ckks = plan_pb2.CkksRound(key_id=plan.protocol.key_id, group=group_to_wire(plan.protocol.group))
        return plan_pb2.RoundPlan(spec=spec, round=plan.round, ckks=ckks)
    masking = plan_pb2.MaskingRound(nonce=plan.protocol.nonce)
    return plan_pb2.RoundPlan(spec=spec, round=plan.round, masking=masking)


def round_plan_from_wire(wire: plan_pb2.RoundPlan) -> RoundPlan:
    """Return ours."""
    with reading("round plan"):
        spec = job_spec_from_wire(wire.spec)
        return RoundPlan(spec=spec, round=RoundNumber(wire.round), protocol=_round_protocol(wire))


def _round_protocol(wire: plan_pb2.RoundPlan) -> CkksRound | MaskingRound:
    match wire.WhichOneof("protocol"):
        case "ckks":
            return CkksRound(key_id=KeyId(wire.ckks.key_id), group=group_from_wire(wire.ckks.group))
        case "masking":
            return MaskingRound(nonce=wire.masking.nonce)
        case _:
            raise MessageError("the plan's protocol is none of: ckks, masking")


def job_spec_to_bytes(spec: JobSpec) -> bytes:
    """Return the wire's bytes, for a store."""
    return job_spec_to_wire(spec).SerializeToString(deterministic=True)


def job_spec_from_bytes(data: bytes) -> JobSpec:
    """Read what :func:`job_spec_to_bytes` wrote."""
    return job_spec_from_wire(parsed(plan_pb2.JobSpec, data, "job"))


def round_plan_to_bytes(plan: RoundPlan) -> bytes:
    """Return the wire's bytes, for a store."""
    return round_plan_to_wire(plan).SerializeToString(deterministic=True)


def round_plan_from_bytes(data: bytes) -> RoundPlan:
    """Read what :func:`round_plan_to_bytes` wrote."""
    return round_plan_from_wire(parsed(plan_pb2.RoundPlan, data, "round plan"))


def job_status_to_wire(status: JobStatus) -> operator_service_pb2.JobStatus:
    """Return the wire's form."""
    return operator_service_pb2.JobStatus(
        spec=job_spec_to_wire(status.spec),
        state=_JOB_STATES[status.state],
        published_rounds=status.published_rounds,
        aborted_rounds=status.aborted_rounds,
        created_at=status.created_at,
    )


def job_status_from_wire(wire: operator_service_pb2.JobStatus) -> JobStatus:
    """Return ours."""
    with reading("state of a job"):
        return JobStatus(
            spec=job_spec_from_wire(wire.spec),
            state=_JOB_STATE_NAMES[wire.state],
            published_rounds=wire.published_rounds,
            aborted_rounds=wire.aborted_rounds,
            created_at=wire.created_at,
        )
