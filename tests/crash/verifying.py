"""What must hold after a round, whatever died in it: one result, signed once, of exactly these; and nothing left over."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from coordinator.contracts import ContributionState, RoundRecord, RoundStore, mean_name
from secagg import codec
from secagg.client import RoundResult
from secagg.identity import Role
from secagg.ids import RoundNumber
from secagg.messages.job import JobState
from secagg.messages.round import Phase, Result
from secagg.plan import CkksJob, JobSpec
from tests.crash.crash_house import CrashHouse
from tests.crash.reviving import until
from tests.live_deployment import OPERATOR
from tests.live_jobs import error_bound, largest_error, updates_of, weights_of

Results = Mapping[str, Any]


async def verify_job(
    house: CrashHouse,
    spec: JobSpec,
    results: Results,
    contributors: Iterable[str],
    *,
    aborted: Sequence[str] = (),
    struck: Collection[str] = (),
) -> None:
    """Hold a job of one published round, and what its clients got, against its store.

    Args:
        house: where it ran.
        spec: the job, of one round to be published.
        results: what each client of that round got.
        contributors: whose updates must be in it, each once.
        aborted: a word of the reason of each round that was aborted before.
        struck: key holders that were killed, and so may not have heard of the end.
    """
    with_store = house.opened_store()
    try:
        await until(lambda: _complete(with_store, spec), f"job {spec.job} complete and cleaned up")
        await asyncio.to_thread(_verify, house, with_store, spec, results, tuple(sorted(contributors)), aborted, struck)
    finally:
        with_store.close()


def _complete(store: RoundStore, spec: JobSpec) -> bool:
    return store.job(spec.job).state is JobState.COMPLETE and not store.unclosed_rounds(spec.job)


def _verify(
    house: CrashHouse,
    store: RoundStore,
    spec: JobSpec,
    results: Results,
    contributors: tuple[str, ...],
    aborted: Sequence[str],
    struck: Collection[str],
) -> None:
    last = RoundNumber(len(aborted) + 1)
    records = store.rounds(spec.job, 0, 100)
    assert [one.status.round for one in records] == list(range(1, last + 1))
    for record, word in zip(records[:-1], aborted, strict=True):
        assert record.status.phase is Phase.ABORTED
        assert word in record.status.reason, record.status.reason
        assert lines_of(store, spec, record.status.round)["round-aborted"] == 1
    published = store.round(spec.job, last)
    result = _signed_result(house, published)
    _verify_lines(store, spec, last)
    _verify_contributions(published, result, contributors)
    _verify_what_clients_got(spec, result, results, last)
    assert all(store.kept_events(spec.job, RoundNumber(number)) == [] for number in range(1, last + 1))
    assert house.blob_files() == {mean_name(spec.job, last, result.mean_digest)}, house.blob_files()
    if isinstance(spec.protocol, CkksJob):
        _verify_ledgers(house, published, struck)
        verify_mean(spec, results)


def lines_of(store: RoundStore, spec: JobSpec, round: int) -> Counter[str]:
    """Count the lines of a round in the audit trail."""
    return Counter(line.event for line in store.events(spec.job, RoundNumber(round)))


def _verify_lines(store: RoundStore, spec: JobSpec, round: RoundNumber) -> None:
    lines = lines_of(store, spec, round)
    once = ["round-opened", "roster-frozen", "round-published"]
    once += ["key-certified", "roster-sealed", "quorum-reached"] if isinstance(spec.protocol, CkksJob) else []
    assert {event: lines[event] for event in once} == dict.fromkeys(once, 1)
    assert lines["round-aborted"] == 0


def _signed_result(house: CrashHouse, record: RoundRecord) -> Result:
    assert record.status.phase is Phase.PUBLISHED, record.status
    assert record.result is not None
    trust = house.live.identity(Role.OPERATOR, OPERATOR.name).trust
    signed = codec.signed_from_bytes(record.result)
    return codec.authenticate(signed, Result, trust=trust, at=datetime.now(UTC)).message


def _verify_contributions(record: RoundRecord, result: Result, contributors: tuple[str, ...]) -> None:
    assert result.contributors == contributors
    counted = [one.client for one in record.contributions if one.state is ContributionState.UPLOADED]
    assert set(contributors) <= set(counted)
    assert len(counted) == len(set(counted)) == record.status.uploaded


def _verify_what_clients_got(spec: JobSpec, result: Result, results: Results, round: RoundNumber) -> None:
    assert results
    for name, got in results.items():
        assert isinstance(got, RoundResult), (name, repr(got))
        assert (got.round, got.contributors, got.total_weight) == (round, result.contributors, result.total_weight)
        data = b"".join(np.asarray(got.mean[one.name], dtype=one.dtype).tobytes() for one in spec.tensors)
        assert hashlib.sha256(data).digest() == result.mean_digest, name


def _verify_ledgers(house: CrashHouse, record: RoundRecord, struck: Collection[str]) -> None:
    """Nobody was asked for another set: all approvals under the round's key are of one request."""
    assert record.status.plan is not None
    opened = house.ledgers(record.status.plan.ckks.key_id)
    assert len(opened) >= record.status.plan.ckks.group.quorum
    assert len({one.request_digest for one in opened}) == 1, opened
    assert [one.holder for one in opened if one.share_left and one.holder not in struck] == []


def verify_mean(spec: JobSpec, results: Results) -> None:
    """Hold the mean of a ckks round against plain averaging, within the budget of its plan."""
    some: RoundResult = next(iter(results.values()))
    weights = {name: weight for name, weight in weights_of(CKKS_CREW).items() if name in some.contributors}
    updates = updates_of(spec, weights)
    off = largest_error(some.mean, updates.values(), weights.values())
    assert off < error_bound(spec, weights)


CKKS_CREW = ("alice", "bob", "carol")
