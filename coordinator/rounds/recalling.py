"""From what the store has of a round to where it stood: its events, applied again to its machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from coordinator.contracts import EventRecord, KeptEvent, RoundMove, RoundRecord
from coordinator.rounds import kept_events
from coordinator.rounds.live import Standing
from coordinator.rounds.record import Evidence
from secagg.errors import MessageError
from secagg.identity import TrustRoot
from secagg.messages.round import Phase
from secagg.plan import JobSpec, MaskingRound
from secagg.roles.coordinator import rules
from secagg.roles.coordinator.state import RoundState


def recall(spec: JobSpec, record: RoundRecord, kept: Sequence[KeptEvent], trust: TrustRoot) -> Standing:
    """Return where a round that has not ended stood; takes as long as its signatures take to verify.

    Args:
        spec: the job.
        record: the round.
        kept: its events, in their order.
        trust: whose signatures count; each must hold at the time at which its event happened.

    Raises:
        MessageError: an event cannot be read, its signature does not hold, or the events lead elsewhere than the record says,
            as those of a version that kept none do.
        SecAggError: an event does not fit the state before it.
    """
    state = _first_state(spec, record)
    for one in kept:
        reader = kept_events.Reader(trust=trust, at=datetime.fromtimestamp(one.at, UTC))
        state = rules.step(state, kept_events.from_bytes(one.content, reader)).state
    if state.phase is not record.status.phase:
        raise MessageError(f"its {len(kept)} events lead to phase {state.phase.value}, not {record.status.phase.value}")
    evidence = Evidence(phase_started=record.status.phase_started, result=None)
    return Standing(state=state, evidence=evidence, events=len(kept))


def _first_state(spec: JobSpec, record: RoundRecord) -> RoundState:
    protocol = None if record.status.plan is None else record.status.plan.protocol
    nonce = protocol.nonce if isinstance(protocol, MaskingRound) else b""
    state: RoundState = rules.begin(spec, record.status.round, nonce=nonce).state
    return state


def aborted_move(record: RoundRecord, reason: str, at: float) -> RoundMove:
    """Return the end of a round that cannot be gone on with."""
    started = {**record.status.phase_started, Phase.ABORTED: at}
    status = replace(record.status, phase=Phase.ABORTED, reason=reason, phase_started=started)
    job, number = status.job, status.round
    audit = EventRecord(job=job, round=number, event="round-aborted", details={"reason": reason}, at=at)
    return RoundMove(job=job, round=number, at=at, record=replace(record, status=status), audits=(audit,))
