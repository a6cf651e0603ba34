"""Rosters, phases and what operators see of a round."""

from __future__ import annotations

from datetime import datetime

from secagg.codec.parsing import bounded, parsed, reading
from secagg.codec.plan import round_plan_from_wire, round_plan_to_wire
from secagg.codec.signed import authenticate_all, signed_to_wire
from secagg.errors import MessageError
from secagg.identity import TrustRoot
from secagg.ids import DIGEST_BYTES, ClientId, Digest, HolderId, JobId, RoundNumber
from secagg.messages.round import FrozenRoster, Half, HolderStatus, HolderVerdict, Join, Phase, RosterSeal, RoundStatus
from secagg.wire.v1 import round_pb2

_PHASES: dict[Phase, round_pb2.Phase.ValueType] = {
    Phase.KEYING: round_pb2.PHASE_KEYING,
    Phase.OPEN: round_pb2.PHASE_OPEN,
    Phase.FROZEN: round_pb2.PHASE_FROZEN,
    Phase.UPLOADING: round_pb2.PHASE_UPLOADING,
    Phase.APPROVING: round_pb2.PHASE_APPROVING,
    Phase.DECRYPTING: round_pb2.PHASE_DECRYPTING,
    Phase.PUBLISHED: round_pb2.PHASE_PUBLISHED,
    Phase.ABORTED: round_pb2.PHASE_ABORTED,
    Phase.SHARING: round_pb2.PHASE_SHARING,
    Phase.CONFIRMING: round_pb2.PHASE_CONFIRMING,
    Phase.UNMASKING: round_pb2.PHASE_UNMASKING,
}
_PHASE_NAMES: dict[int, Phase] = {number: phase for phase, number in _PHASES.items()}
_HALVES: dict[Half, round_pb2.Half.ValueType] = {Half.C0: round_pb2.HALF_C0, Half.C1: round_pb2.HALF_C1}
_HALF_NAMES: dict[int, Half] = {number: half for half, number in _HALVES.items()}
_VERDICTS = {
    HolderVerdict.OK: round_pb2.HOLDER_VERDICT_OK,
    HolderVerdict.UNREACHABLE: round_pb2.HOLDER_VERDICT_UNREACHABLE,
    HolderVerdict.FAULTY: round_pb2.HOLDER_VERDICT_FAULTY,
    HolderVerdict.SUSPECT: round_pb2.HOLDER_VERDICT_SUSPECT,
}
_VERDICT_NAMES = {number: verdict for verdict, number in _VERDICTS.items()}


def phase_to_wire(phase: Phase) -> round_pb2.Phase.ValueType:
    """Return the wire's form."""
    return _PHASES[phase]


def phase_from_wire(wire: int) -> Phase:
    """Return ours."""
    with reading("phase"):
        return _PHASE_NAMES[wire]


def half_to_wire(half: Half) -> round_pb2.Half.ValueType:
    """Return the wire's form."""
    return _HALVES[half]


def half_from_wire(wire: int) -> Half:
    """Return ours."""
    with reading("half of a ciphertext"):
        return _HALF_NAMES[wire]


def roster_to_wire(roster: FrozenRoster) -> round_pb2.FrozenRoster:
    """Return the wire's form."""
    joins = [signed_to_wire(join.signed) for join in roster.joins]
    seals = [signed_to_wire(seal.signed) for seal in roster.seals]
    return round_pb2.FrozenRoster(plan_digest=roster.plan_digest, joins=joins, seals=seals)


def roster_from_wire(wire: round_pb2.FrozenRoster, *, trust: TrustRoot, at: datetime) -> FrozenRoster:
    """Return ours, with the signature of every join and seal verified."""
    if len(wire.plan_digest) != DIGEST_BYTES:
        raise MessageError("the roster's plan digest has not 32 bytes")
    joins = authenticate_all(wire.joins, Join, trust=trust, at=at)
    seals = authenticate_all(wire.seals, RosterSeal, trust=trust, at=at)
    return FrozenRoster(plan_digest=Digest(wire.plan_digest), joins=joins, seals=seals)


def roster_to_bytes(roster: FrozenRoster) -> bytes:
    """Return the wire's bytes, for a store."""
    return roster_to_wire(roster).SerializeToString(deterministic=True)


def roster_from_bytes(data: bytes, *, trust: TrustRoot, at: datetime) -> FrozenRoster:
    """Read what :func:`roster_to_bytes` wrote; ``at``: the time at which the signatures must hold."""
    return roster_from_wire(parsed(round_pb2.FrozenRoster, data, "roster"), trust=trust, at=at)


def round_status_to_wire(status: RoundStatus) -> round_pb2.RoundStatus:
    """Return the wire's form."""
    holders = [holder_status_to_wire(one) for one in status.holders]
    return round_pb2.RoundStatus(
        job=status.job,
        round=status.round,
        phase=_PHASES[status.phase],
        reason=status.reason,
        joined=status.joined,
        uploaded=status.uploaded,
        approvals=status.approvals,
        answers=status.answers,
        phase_started={phase.value: at for phase, at in status.phase_started.items()},
        holders=holders,
        plan=None if status.plan is None else round_plan_to_wire(status.plan),
        contributors=status.contributors,
        total_weight=status.total_weight,
        shared=status.shared,
    )


def round_status_from_wire(wire: round_pb2.RoundStatus) -> RoundStatus:
    """Return ours."""
    with reading("state of a round"):
        return RoundStatus(
            job=JobId(wire.job),
            round=RoundNumber(wire.round),
            phase=_PHASE_NAMES[wire.phase],
            reason=wire.reason,
            joined=wire.joined,
            uploaded=wire.uploaded,
            approvals=wire.approvals,
            answers=wire.answers,
            phase_started={Phase(name): at for name, at in wire.phase_started.items()},
            holders=tuple(holder_status_from_wire(one) for one in bounded(wire.holders, "key holders")),
            plan=round_plan_from_wire(wire.plan) if wire.HasField("plan") else None,
            contributors=tuple(ClientId(name) for name in bounded(wire.contributors, "contributors")),
            total_weight=wire.total_weight,
            shared=wire.shared,
        )


def holder_status_to_wire(status: HolderStatus) -> round_pb2.HolderStatus:
    """Return the wire's form."""
    return round_pb2.HolderStatus(holder=status.holder, verdict=_VERDICTS[status.verdict], reason=status.reason)


def holder_status_from_wire(wire: round_pb2.HolderStatus) -> HolderStatus:
    """Return ours."""
    with reading("state of a key holder"):
        return HolderStatus(holder=HolderId(wire.holder), verdict=_VERDICT_NAMES[wire.verdict], reason=wire.reason)
