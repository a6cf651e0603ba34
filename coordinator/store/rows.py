"""From records to rows and back. Plans and messages stand in rows as wire bytes.

SQLite gives back whatever a damaged row holds, of any type: reading one raises ``MessageError``, ``ValueError`` or ``TypeError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Row

from coordinator.contracts import (
    ContributionRecord,
    ContributionState,
    EventRecord,
    HolderRecord,
    JobRecord,
    JobState,
    KeptEvent,
    Lease,
    PurgeReceipt,
    RoundRecord,
)
from secagg import codec
from secagg.ids import ClientId, HolderId, JobId, RoundNumber
from secagg.messages.round import HolderStatus, HolderVerdict, Phase, RoundStatus

Values: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterable[Row[Any]]
_Kind = TypeVar("_Kind", str, int, bytes)


def _is(kind: type[_Kind], value: object) -> _Kind:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} is stored where {kind.__name__} belongs")
    return value


def _perhaps(kind: type[_Kind], value: object) -> _Kind | None:
    return None if value is None else _is(kind, value)


def _number(value: object) -> float:
    """Return seconds or a weight; an SQL column of floats gives whole ones back as integers."""
    if not isinstance(value, int | float):
        raise TypeError(f"{type(value).__name__} is stored where a number belongs")
    return float(value)


def job_record(row: Row[Any], ended: dict[str, int]) -> JobRecord:
    """Return a job; ``ended``: its rounds by the phase they ended in."""
    return JobRecord(
        spec=codec.job_spec_from_bytes(row.spec),
        state=JobState(row.state),
        published_rounds=ended.get(Phase.PUBLISHED.value, 0),
        aborted_rounds=ended.get(Phase.ABORTED.value, 0),
        created_at=_number(row.created_at),
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
        job=JobId(_is(str, row.job)),
        round=RoundNumber(_is(int, row.round)),
        phase=Phase(row.phase),
        reason=_is(str, row.reason),
        joined=_is(int, row.joined),
        shared=_is(int, row.shared),
        uploaded=_is(int, row.uploaded),
        approvals=_is(int, row.approvals),
        answers=_is(int, row.answers),
        phase_started={Phase(one.phase): _number(one.started_at) for one in phases},
        holders=tuple(
            HolderStatus(
                holder=HolderId(_is(str, one.holder)),
                verdict=HolderVerdict(one.verdict),
                reason=_is(str, one.reason),
            )
            for one in holders
            if one.verdict is not None
        ),
        plan=None if row.plan is None else codec.round_plan_from_bytes(row.plan),
        contributors=tuple(ClientId(_is(str, name)) for name in row.contributors),
        total_weight=_number(row.total_weight),
    )


def round_record(row: Row[Any], status: RoundStatus, contributions: Rows, holders: Rows) -> RoundRecord:
    """Return a whole round."""
    return RoundRecord(
        status=status,
        key=_perhaps(bytes, row.key),
        roster=_perhaps(bytes, row.roster),
        contributions=tuple(_contribution(one) for one in contributions),
        holders=tuple(
            HolderRecord(
                holder=HolderId(_is(str, one.holder)),
                approval=_perhaps(bytes, one.approval),
                statement=_perhaps(bytes, one.statement),
            )
            for one in holders
            if one.approval is not None or one.statement is not None
        ),
        result=_perhaps(bytes, row.result),
        mean_blob=_perhaps(str, row.mean_blob),
    )


def _contribution(row: Row[Any]) -> ContributionRecord:
    return ContributionRecord(
        client=ClientId(_is(str, row.client)),
        state=ContributionState(row.state),
        join=_is(bytes, row.join),
        upload=_perhaps(bytes, row.upload),
        confirmation=_perhaps(bytes, row.confirmation),
        reason=_is(str, row.reason),
    )


def event_record(row: Row[Any]) -> EventRecord:
    """Return one line of the audit trail."""
    return EventRecord(
        job=JobId(_is(str, row.job)),
        round=RoundNumber(_is(int, row.round)),
        event=_is(str, row.event),
        details=dict(row.details),
        at=_number(row.at),
    )


def round_name(job: object, round: object) -> tuple[JobId, RoundNumber]:
    """Return which round a row of ``rounds`` is."""
    return JobId(_is(str, job)), RoundNumber(_is(int, round))


def kept_event(row: Row[Any]) -> KeptEvent:
    """Return one event of a round that runs."""
    return KeptEvent(sequence=_is(int, row.sequence), content=_is(bytes, row.content), at=_number(row.at))


def lease(row: Row[Any]) -> Lease:
    """Return who has a lease."""
    return Lease(
        job=JobId(_is(str, row.job)),
        owner=_is(str, row.owner),
        token=_is(int, row.token),
        address=_is(str, row.address),
    )


def receipt(row: Row[Any]) -> PurgeReceipt:
    """Return what is left of a round."""
    return PurgeReceipt(
        job=JobId(_is(str, row.job)),
        round=RoundNumber(_is(int, row.round)),
        at=_number(row.at),
        content=_is(bytes, row.content),
    )
