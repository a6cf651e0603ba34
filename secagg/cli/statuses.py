"""Jobs and rounds as tables for people and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from secagg.messages.job import JobStatus
from secagg.messages.round import HolderVerdict, Phase, RoundStatus
from secagg.plan import CkksJob, JobSpec, MaskingJob, MaskingRound

LIST_TEXT = 80
"""Characters of a text in a list; `show` has all of it."""
PURGED = "deleted by the retention rule; the coordinator's `secagg retention show` has the receipt"
_PHASE_STYLES = {Phase.PUBLISHED: "green", Phase.ABORTED: "red"}
_PHASES_OF = {
    CkksJob.NAME: (Phase.KEYING, Phase.OPEN, Phase.UPLOADING, Phase.APPROVING, Phase.DECRYPTING),
    MaskingJob.NAME: (Phase.OPEN, Phase.SHARING, Phase.UPLOADING, Phase.CONFIRMING, Phase.UNMASKING),
}
"""The phases that have a deadline, by protocol."""
_VERDICT_STYLES = {HolderVerdict.OK: "green", HolderVerdict.UNREACHABLE: "yellow", HolderVerdict.SUSPECT: "magenta"}


def printable(text: str) -> str:
    """Return a peer's text without what could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def job_json(status: JobStatus) -> dict[str, Any]:
    """Return a job for a script; what belongs to its protocol alone stands in a part with the protocol's name."""
    spec = status.spec
    return {
        "job": spec.job,
        "state": status.state.value,
        "published_rounds": status.published_rounds,
        "aborted_rounds": status.aborted_rounds,
        "rounds": spec.rounds,
        "created_at": status.created_at,
        "purpose": spec.purpose,
        "protocol": spec.protocol.NAME,
        "values": spec.values,
        "tensors": [{"name": one.name, "shape": list(one.shape), "dtype": one.dtype} for one in spec.tensors],
        "clip": spec.clip,
        "max_weight": spec.max_weight,
        "min_total_weight": spec.min_total_weight,
        "min_contributors": spec.min_contributors,
        "max_clients": spec.max_clients,
        "deadlines": {name: getattr(spec.deadlines, name) for name in spec.deadlines.__dataclass_fields__},
        spec.protocol.NAME: _arm_json(spec),
    }


def _arm_json(spec: JobSpec) -> dict[str, Any]:
    arm = {one.name: getattr(spec.protocol, one.name) for one in fields(spec.protocol)}
    if isinstance(spec.protocol, MaskingJob):
        # What a sum takes, beside what one client's value does.
        return arm | {"sum_bits": spec.masking_parameters.sum_bits}
    return arm | {"hidden_bits": _hidden_bits(spec)}


def _hidden_bits(spec: JobSpec) -> float:
    """Return how close an opening is to one that tells the sum alone, 2 to minus this, whichever key holders make the key."""
    return min(spec.parameters(count).hidden_bits for count in spec.ckks.group_sizes)


def round_json(status: RoundStatus) -> dict[str, Any]:
    """Return a round for a script; a masking round has clients' counts where a ``ckks`` round has key holders.

    Of a round whose record was purged, only job, number, phase and times are known.
    """
    if status.purged:
        return {
            "job": status.job,
            "round": status.round,
            "phase": status.phase.value,
            "phase_started": {phase.value: at for phase, at in _by_time(status)},
            "purged": True,
        }
    counts = _masking_counts(status) if is_masking(status) else _ckks_counts(status)
    return {
        "job": status.job,
        "round": status.round,
        "protocol": (MaskingJob if is_masking(status) else CkksJob).NAME,
        "phase": status.phase.value,
        "reason": status.reason,
        "joined": status.joined,
        "uploaded": status.uploaded,
        "contributors": list(status.contributors),
        "total_weight": status.total_weight,
        "phase_started": {phase.value: at for phase, at in _by_time(status)},
        "plan_digest": None if status.plan is None else status.plan.digest.hex(),
        **counts,
    }


def is_masking(status: RoundStatus) -> bool:
    """Whether the round runs ``masking``; a round without a plan is one of ``ckks`` whose key is not made."""
    return status.plan is not None and isinstance(status.plan.protocol, MaskingRound)


def _masking_counts(status: RoundStatus) -> dict[str, Any]:
    return {"shared": status.shared, "confirmed": status.approvals, "revealed": status.answers}


def _ckks_counts(status: RoundStatus) -> dict[str, Any]:
    return {
        "approvals": status.approvals,
        "answers": status.answers,
        "holders": [
            {"holder": one.holder, "verdict": one.verdict.value, "reason": one.reason} for one in status.holders
        ],
        "key_id": _key_id(status) or None,
    }


def _key_id(status: RoundStatus) -> str:
    return "" if status.plan is None or is_masking(status) else status.plan.ckks.key_id.hex()


def _by_time(status: RoundStatus) -> list[tuple[Phase, float]]:
    return sorted(status.phase_started.items(), key=lambda item: item[1])


def jobs_table(jobs: Iterable[JobStatus]) -> Table:
    """Return one line for each job."""
    table = _table("Job", "State", "Published", "Aborted", "Values", "Clients", flexible="Purpose")
    for one in jobs:
        spec = one.spec
        table.add_row(
            spec.job,
            one.state.value,
            _published(one),
            str(one.aborted_rounds),
            f"{spec.values:,}",
            f"{spec.min_contributors} to {spec.max_clients}",
            _shortened(spec.purpose),
        )
    return table


def job_table(status: JobStatus) -> Table:
    """Return everything of one job."""
    spec = status.spec
    table = Table(title=f"Job {spec.job}", show_header=False)
    for name, value in (
        ("State", f"{status.state.value}, {_published(status)} published, {status.aborted_rounds} aborted"),
        ("Purpose", printable(spec.purpose)),
        ("Made (UTC)", _moment(status.created_at)),
        ("Clients", f"{spec.min_contributors} to {spec.max_clients} in a sum"),
        ("Weight", f"at most {spec.max_weight:g} each, at least {spec.min_total_weight:.5g} together"),
        ("Clip", f"{spec.clip:g}"),
        *_arm_rows(spec),
        ("Deadlines", _deadlines(spec)),
        ("Tensors", f"{len(spec.tensors)}, {spec.values:,} values"),
    ):
        table.add_row(name, Text(value))
    for tensor in spec.tensors:
        table.add_row("", Text(f"{printable(tensor.name)} {list(tensor.shape)} {tensor.dtype}"))
    return table


def _arm_rows(spec: JobSpec) -> Iterator[tuple[str, str]]:
    arm = spec.protocol
    if isinstance(arm, MaskingJob):
        clients = (
            f"at most {arm.corrupt_fraction * 100:g} % corrupt and {arm.dropout_fraction * 100:g} % dropped clients"
        )
        yield "Protocol", f"masking, {arm.value_bits} bits a value, {clients}, error below {arm.precision:g}"
        return
    yield "Protocol", f"ckks, {arm.preset}, {arm.packing} packing, error below {arm.precision:g}"
    yield "An opening", f"is within 2^-{_hidden_bits(spec):.1f} of one that tells the sum alone"
    yield "Key holders", f"{', '.join(arm.holders)}; any {arm.threshold} open, {arm.corrupt_holders} may be corrupt"
    yield "Fewest holders", str(arm.min_holders)


def rounds_table(rounds: Iterable[RoundStatus]) -> Table:
    """Return one line for each round of a job.

    Clients: uploaded of joined. Holders: answered of approved; in masking rounds the clients that revealed of those that
    confirmed.
    """
    known = list(rounds)
    helpers = "Revealed" if any(map(is_masking, known)) else "Holders"
    table = _table("Round", "Phase", "Clients", helpers, "Weight", "Began (UTC)", flexible="Reason")
    for one in known:
        table.add_row(
            str(one.round),
            Text(one.phase.value, style=_PHASE_STYLES.get(one.phase, "cyan")),
            *(("", "", "") if one.purged else _numbers(one)),
            _moment(min(one.phase_started.values(), default=0.0)),
            _shortened(PURGED if one.purged else one.reason),
        )
    return table


def _numbers(status: RoundStatus) -> tuple[str, str, str]:
    weight = f"{status.total_weight:.5g}" if status.phase is Phase.PUBLISHED else ""
    return f"{status.uploaded}/{status.joined}", f"{status.answers}/{status.approvals}", weight


def round_table(status: RoundStatus) -> Table:
    """Return everything of one round."""
    table = Table(title=f"Round {status.round} of job {status.job}", show_header=False)
    table.add_row("Phase", Text(status.phase.value, style=_PHASE_STYLES.get(status.phase, "cyan")))
    for name, value in (("Record", PURGED),) if status.purged else _record_rows(status):
        if value:
            table.add_row(name, Text(value))
    for phase, at in _by_time(status):
        table.add_row(f"{phase.value} since", _moment(at))
    for one in status.holders:
        words = Text(one.verdict.value, style=_VERDICT_STYLES.get(one.verdict, "red"))
        table.add_row(one.holder, words.append(f" {printable(one.reason)}", style="default"))
    return table


def _record_rows(status: RoundStatus) -> Iterator[tuple[str, str]]:
    yield "Reason", printable(status.reason)
    yield from _count_rows(status)
    yield "Contributors", ", ".join(status.contributors)
    yield "Total weight", f"{status.total_weight:.5g}" if status.phase is Phase.PUBLISHED else ""
    yield "Key", _key_id(status)
    yield "Plan", "" if status.plan is None else status.plan.digest.hex()


def _count_rows(status: RoundStatus) -> Iterator[tuple[str, str]]:
    if is_masking(status):
        yield "Clients", f"{status.joined} joined, {status.shared} shared, {status.uploaded} uploaded"
        yield "Unmasking", f"{status.approvals} confirmed, {status.answers} revealed"
        return
    yield "Clients", f"{status.joined} joined, {status.uploaded} uploaded"
    yield "Key holders", f"{status.approvals} approved, {status.answers} answered"


def round_line(status: RoundStatus) -> str:
    """Return where a round stands, in one line."""
    if status.purged:
        return f"round {status.round} {status.phase.value}: {PURGED}"
    plan = status.plan
    most = "" if plan is None else f"/{plan.spec.max_clients}"
    words = {
        Phase.OPEN: f"{status.joined}{most} clients joined",
        Phase.PUBLISHED: f"{len(status.contributors)} contributors, total weight {status.total_weight:.5g}",
        Phase.ABORTED: printable(status.reason),
        **(_masking_words(status) if is_masking(status) else _ckks_words(status)),
    }
    return f"round {status.round} {status.phase.value}: {words.get(status.phase, '')}"


def _masking_words(status: RoundStatus) -> dict[Phase, str]:
    return {
        Phase.SHARING: f"{status.shared}/{status.joined} clients shared their secrets",
        Phase.UPLOADING: f"{status.uploaded}/{status.shared} clients uploaded",
        Phase.CONFIRMING: f"{status.approvals}/{status.uploaded} clients confirmed who is in the sum",
        Phase.UNMASKING: f"{status.answers}/{status.approvals} clients revealed shares of the masks",
    }


def _ckks_words(status: RoundStatus) -> dict[Phase, str]:
    quorum = "" if status.plan is None else f"/{status.plan.ckks.group.quorum}"
    return {
        Phase.KEYING: "the key holders make a key",
        Phase.FROZEN: f"{status.joined} clients are in",
        Phase.UPLOADING: f"{status.uploaded}/{status.joined} clients uploaded",
        Phase.APPROVING: f"{status.approvals}{quorum} key holders approved",
        Phase.DECRYPTING: f"{status.answers} key holders answered",
    }


def _table(*columns: str, flexible: str) -> Table:
    table = Table()
    for name in columns:
        table.add_column(name, no_wrap=True)
    table.add_column(flexible)
    return table


def _shortened(text: str) -> Text:
    shown = printable(text)
    return Text(shown if len(shown) <= LIST_TEXT else shown[:LIST_TEXT] + "…")


def _published(status: JobStatus) -> str:
    return f"{status.published_rounds}/{status.spec.rounds or '∞'}"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}" if at else ""


def _deadlines(spec: JobSpec) -> str:
    phases = _PHASES_OF[spec.protocol.NAME]
    return ", ".join(f"{phase.value} {getattr(spec.deadlines, f'{phase.value}_seconds'):g} s" for phase in phases)
