"""From records to rows and back. Plans and messages stand in rows as wire bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlalchemy import Row

from coordinator.contracts import (
    ContributionRecord,
    ContributionState,
    EventRecord,
    HolderRecord,
    JobRecord,
    JobState,
    RoundRecord,
)
from secagg import codec
from secagg.ids import ClientId, HolderId, JobId, RoundNumber
from secagg.messages.round import HolderStatus, HolderVerdict, Phase, RoundStatus

Values: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterable[Row[Any]]


def job_record(row: Row[Any], ended: dict[str, int]) -> JobRecord:
    """Return a job; ``ended``: its rounds by the phase they ended in."""
    return JobRecord(
        spec=codec.job_spec_from_bytes(row.spec),
        state=JobState(row.state),
        published_rounds=ended.get(Phase.PUBLISHED.value, 0),
        aborted_rounds=ended.get(Phase.ABORTED.value, 0),
        created_at=row.created_at,
    )


def round_values(record: RoundRecord) -> Values:
    """Return the columns of ``rounds``."""
    status = record.status
    return {
        "phase": status.phase.value,
        "reason": status.reason,
        "joined": status.joined,
        "shared": status.shared,
        "uploaded": status.uploaded,
        "approvals": status.approvals,
        "answers": status.answers,
        "contributors": list(status.contributors),
        "total_weight": status.total_weight,
        "plan": None if status.plan is None else codec.round_plan_to_bytes(status.plan),
        "key": record.key,
        "roster": record.roster,
        "result": record.result,
        "mean_blob": record.mean_blob,
    }


def phase_values(status: RoundStatus) -> list[Values]:
    """Return the rows of ``round_phases``."""
    return [{"phase": phase.value, "started_at": started} for phase, started in status.phase_started.items()]


def contribution_values(record: RoundRecord) -> list[Values]:
    """Return the rows of ``contributions``."""
    return [
        {
            "client": one.client,
            "state": one.state.value,
            "join": one.join,
            "upload": one.upload,
            "confirmation": one.confirmation,
            "reason": one.reason,
        }
        for one in record.contributions
    ]


def holder_values(record: RoundRecord) -> list[Values]:
    """Return the rows of ``round_holders``: what is known of a holder, beside what it signed."""
    statuses = {one.holder: one for one in record.status.holders}
    signed = {one.holder: one for one in record.holders}
    names = list(dict.fromkeys((*statuses, *signed)))
    return [_holder(name, place, statuses.get(name), signed.get(name)) for place, name in enumerate(names)]


def _holder(name: HolderId, place: int, status: HolderStatus | None, signed: HolderRecord | None) -> Values:
    return {
        "holder": name,
        "position": place,
        "verdict": None if status is None else status.verdict.value,
        "reason": "" if status is None else status.reason,
        "approval": None if signed is None else signed.approval,
        "statement": None if signed is None else signed.statement,
    }


def round_status(row: Row[Any], phases: Rows, holders: Rows) -> RoundStatus:
    """Return a round's status; the rows of holders in the order of their positions."""
    return RoundStatus(
        job=JobId(row.job),
        round=RoundNumber(row.round),
        phase=Phase(row.phase),
        reason=row.reason,
        joined=row.joined,
        shared=row.shared,
        uploaded=row.uploaded,
        approvals=row.approvals,
        answers=row.answers,
        phase_started={Phase(one.phase): one.started_at for one in phases},
        holders=tuple(
            HolderStatus(holder=HolderId(one.holder), verdict=HolderVerdict(one.verdict), reason=one.reason)
            for one in holders
            if one.verdict is not None
        ),
        plan=None if row.plan is None else codec.round_plan_from_bytes(row.plan),
        contributors=tuple(ClientId(name) for name in row.contributors),
        total_weight=row.total_weight,
    )


def round_record(row: Row[Any], status: RoundStatus, contributions: Rows, holders: Rows) -> RoundRecord:
    """Return a whole round."""
    return RoundRecord(
        status=status,
        key=row.key,
        roster=row.roster,
        contributions=tuple(_contribution(one) for one in contributions),
        holders=tuple(
            HolderRecord(holder=HolderId(one.holder), approval=one.approval, statement=one.statement)
            for one in holders
            if one.approval is not None or one.statement is not None
        ),
        result=row.result,
        mean_blob=row.mean_blob,
    )


def _contribution(row: Row[Any]) -> ContributionRecord:
    return ContributionRecord(
        client=ClientId(row.client),
        state=ContributionState(row.state),
        join=row.join,
        upload=row.upload,
        confirmation=row.confirmation,
        reason=row.reason,
    )


def event_record(row: Row[Any]) -> EventRecord:
    """Return one line of the audit trail."""
    return EventRecord(
        job=JobId(row.job), round=RoundNumber(row.round), event=row.event, details=row.details, at=row.at
    )
