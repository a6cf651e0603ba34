"""Jobs and rounds as tables for people and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from secagg.messages.job import JobStatus
from secagg.messages.round import HolderVerdict, Phase, RoundStatus
from secagg.plan import JobSpec

LIST_TEXT = 80
"""Characters of a text in a list; `show` has all of it."""
_PHASE_STYLES = {Phase.PUBLISHED: "green", Phase.ABORTED: "red"}
_VERDICT_STYLES = {HolderVerdict.OK: "green", HolderVerdict.UNREACHABLE: "yellow", HolderVerdict.SUSPECT: "magenta"}


def printable(text: str) -> str:
    """Return a peer's text without what could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def job_json(status: JobStatus) -> dict[str, Any]:
    """Return a job for a script."""
    spec, ckks = status.spec, status.spec.protocol
    return {
        "job": spec.job,
        "state": status.state.value,
        "published_rounds": status.published_rounds,
        "aborted_rounds": status.aborted_rounds,
        "rounds": spec.rounds,
        "created_at": status.created_at,
        "purpose": spec.purpose,
        "protocol": "ckks",
        "values": spec.values,
        "tensors": [{"name": one.name, "shape": list(one.shape), "dtype": one.dtype} for one in spec.tensors],
        "clip": spec.clip,
        "max_weight": spec.max_weight,
        "min_total_weight": spec.min_total_weight,
        "min_contributors": spec.min_contributors,
        "max_clients": spec.max_clients,
        "deadlines": {name: getattr(spec.deadlines, name) for name in spec.deadlines.__dataclass_fields__},
        "ckks": {
            "preset": ckks.preset,
            "packing": ckks.packing,
            "security_bits": ckks.security_bits,
            "precision": ckks.precision,
            "holders": list(ckks.holders),
            "min_holders": ckks.min_holders,
            "threshold": ckks.threshold,
            "corrupt_holders": ckks.corrupt_holders,
        },
    }


def round_json(status: RoundStatus) -> dict[str, Any]:
    """Return a round for a script."""
    plan = status.plan
    return {
        "job": status.job,
        "round": status.round,
        "phase": status.phase.value,
        "reason": status.reason,
        "joined": status.joined,
        "uploaded": status.uploaded,
        "approvals": status.approvals,
        "answers": status.answers,
        "contributors": list(status.contributors),
        "total_weight": status.total_weight,
        "phase_started": {phase.value: at for phase, at in status.phase_started.items()},
        "holders": [
            {"holder": one.holder, "verdict": one.verdict.value, "reason": one.reason} for one in status.holders
        ],
        "key_id": None if plan is None else plan.protocol.key_id.hex(),
        "plan_digest": None if plan is None else plan.digest.hex(),
    }


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
    spec, ckks = status.spec, status.spec.protocol
    table = Table(title=f"Job {spec.job}", show_header=False)
    for name, value in (
        ("State", f"{status.state.value}, {_published(status)} published, {status.aborted_rounds} aborted"),
        ("Purpose", printable(spec.purpose)),
        ("Made (UTC)", _moment(status.created_at)),
        ("Clients", f"{spec.min_contributors} to {spec.max_clients} in a sum"),
        ("Weight", f"at most {spec.max_weight:g} each, at least {spec.min_total_weight:.5g} together"),
        ("Clip", f"{spec.clip:g}"),
        ("Protocol", f"ckks, {ckks.preset}, {ckks.security_bits} bits of smudging, error below {ckks.precision:g}"),
        ("Key holders", f"{', '.join(ckks.holders)}; any {ckks.threshold} open, {ckks.corrupt_holders} may be corrupt"),
        ("Fewest holders", str(ckks.min_holders)),
        ("Deadlines", _deadlines(spec)),
        ("Tensors", f"{len(spec.tensors)}, {spec.values:,} values"),
    ):
        table.add_row(name, Text(value))
    for tensor in spec.tensors:
        table.add_row("", Text(f"{printable(tensor.name)} {list(tensor.shape)} {tensor.dtype}"))
    return table


def rounds_table(rounds: Iterable[RoundStatus]) -> Table:
    """Return one line for each round; clients: uploaded of joined, holders: answered of approved."""
    table = _table("Round", "Phase", "Clients", "Holders", "Weight", "Began (UTC)", flexible="Reason")
    for one in rounds:
        table.add_row(
            str(one.round),
            Text(one.phase.value, style=_PHASE_STYLES.get(one.phase, "cyan")),
            f"{one.uploaded}/{one.joined}",
            f"{one.answers}/{one.approvals}",
            f"{one.total_weight:.5g}" if one.phase is Phase.PUBLISHED else "",
            _moment(min(one.phase_started.values(), default=0.0)),
            _shortened(one.reason),
        )
    return table


def round_table(status: RoundStatus) -> Table:
    """Return everything of one round."""
    table = Table(title=f"Round {status.round} of job {status.job}", show_header=False)
    table.add_row("Phase", Text(status.phase.value, style=_PHASE_STYLES.get(status.phase, "cyan")))
    for name, value in (
        ("Reason", printable(status.reason)),
        ("Clients", f"{status.joined} joined, {status.uploaded} uploaded"),
        ("Key holders", f"{status.approvals} approved, {status.answers} answered"),
        ("Contributors", ", ".join(status.contributors)),
        ("Total weight", f"{status.total_weight:.5g}" if status.phase is Phase.PUBLISHED else ""),
        ("Key", "" if status.plan is None else status.plan.protocol.key_id.hex()),
        ("Plan", "" if status.plan is None else status.plan.digest.hex()),
    ):
        if value:
            table.add_row(name, Text(value))
    for phase, at in sorted(status.phase_started.items(), key=lambda item: item[1]):
        table.add_row(f"{phase.value} since", _moment(at))
    for one in status.holders:
        words = Text(one.verdict.value, style=_VERDICT_STYLES.get(one.verdict, "red"))
        table.add_row(one.holder, words.append(f" {printable(one.reason)}", style="default"))
    return table


def round_line(status: RoundStatus) -> str:
    """Return where a round stands, in one line."""
    plan = status.plan
    most = "" if plan is None else f"/{plan.spec.max_clients}"
    quorum = "" if plan is None else f"/{plan.protocol.group.quorum}"
    words = {
        Phase.KEYING: "the key holders make a key",
        Phase.OPEN: f"{status.joined}{most} clients joined",
        Phase.FROZEN: f"{status.joined} clients are in",
        Phase.UPLOADING: f"{status.uploaded}/{status.joined} clients uploaded",
        Phase.APPROVING: f"{status.approvals}{quorum} key holders approved",
        Phase.DECRYPTING: f"{status.answers} key holders answered",
        Phase.PUBLISHED: f"{len(status.contributors)} contributors, total weight {status.total_weight:.5g}",
        Phase.ABORTED: printable(status.reason),
    }
    return f"round {status.round} {status.phase.value}: {words[status.phase]}"


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
    fields = spec.deadlines.__dataclass_fields__
    return ", ".join(f"{name.removesuffix('_seconds')} {getattr(spec.deadlines, name):g} s" for name in fields)
