"""A round as its users see it: processes of every role, mutual TLS, and the SDK (`docs/protocol.md`, sections 5 and 6)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg.client import Progress, RoundResult
from secagg.errors import CertificateError, NotAllowedError, UnknownJobError, UnreachableError, UsageError
from secagg.identity import Role
from secagg.ids import JobId
from secagg.messages.job import JobState
from secagg.messages.round import HolderVerdict, Phase
from secagg.plan import TensorSpec
from tests.live_deployment import LiveDeployment
from tests.live_jobs import WEIGHTS, error_bound, largest_error, live_job, updates_of, verdicts, weights_of

CLIENTS = ("alice", "bob", "carol")
MANY_TENSORS = (
    TensorSpec(name="scalar", shape=(), dtype="float64"),
    TensorSpec(name="half", shape=(5, 3), dtype="float16"),
    TensorSpec(name="layer.weight", shape=(30, 10, 9), dtype="float32"),
    TensorSpec(name="layer.bias", shape=(1, 1, 11), dtype="float32"),
    TensorSpec(name="wide", shape=(2049,), dtype="float64"),
)


async def test_the_mean_of_several_clients_with_tensors_of_every_kind(live: LiveDeployment) -> None:
    spec = await live.create(live_job(tensors=MANY_TENSORS, max_clients=4, clip=3.0))
    names = (*CLIENTS, "dave")
    results = await live.take_part(spec, names)
    updates, weights = updates_of(spec, names), weights_of(names)
    bound = error_bound(spec, weights)
    for result in results.values():
        assert isinstance(result, RoundResult), repr(result)
        assert {name: (array.shape, str(array.dtype)) for name, array in result.mean.items()} == {
            tensor.name: (tensor.shape, tensor.dtype) for tensor in spec.tensors
        }
        assert largest_error(result.mean, updates.values(), weights.values()) < bound
        assert result.total_weight == pytest.approx(sum(WEIGHTS[:4]), abs=0.05)
        assert (result.contributors, result.round, result.clipped) == (names, 1, 0)
    # All of them were given the very same numbers.
    first = results["alice"]
    assert all(np.array_equal(one.mean["wide"], first.mean["wide"]) for one in results.values())


async def test_the_full_precision_arrays_keep_what_the_plan_promises(live: LiveDeployment) -> None:
    spec = await live.create(live_job(tensors=(TensorSpec(name="w", shape=(5000,), dtype="float64"),)))
    results = await live.take_part(spec, CLIENTS)
    error = largest_error(results["bob"].mean, updates_of(spec, CLIENTS).values(), weights_of(CLIENTS).values())
    assert 0 < error < spec.ckks.precision * spec.clip


async def test_two_rounds_one_after_the_other_complete_the_job(live: LiveDeployment) -> None:
    spec = await live.create(live_job(rounds=2))
    first = await live.published(spec, CLIENTS)
    second = await live.published(spec, CLIENTS[:3], after=1)
    assert (first.phase, second.phase) == (Phase.PUBLISHED, Phase.PUBLISHED)
    assert first.plan is not None
    assert second.plan is not None
    assert first.plan.ckks.key_id != second.plan.ckks.key_id
    assert set(verdicts(second).values()) == {HolderVerdict.OK}
    with pytest.raises(UsageError, match="published all its rounds"):
        await live.client("alice").participate(spec.job, updates_of(spec, CLIENTS)["alice"], 10.0, after_round=2)
    job = await live.operator().get_job(spec.job)
    assert (job.state, job.published_rounds, job.aborted_rounds) == (JobState.COMPLETE, 2, 0)


async def test_two_jobs_at_once_with_the_same_clients(live: LiveDeployment) -> None:
    specs = [await live.create(live_job(clip=clip)) for clip in (1.0, 2.0)]
    statuses = await asyncio.gather(*(live.published(spec, CLIENTS) for spec in specs))
    assert [status.phase for status in statuses] == [Phase.PUBLISHED] * 2


async def test_values_beyond_the_clip_bound_are_clipped_and_counted(live: LiveDeployment) -> None:
    spec = await live.create(live_job(max_clients=2))
    updates = updates_of(spec, CLIENTS[:2])
    updates["alice"]["b"][:3] = [5.0, -7.0, 1.5]
    alice, bob = await asyncio.gather(
        *(live.client(name).participate(spec.job, update, 50.0) for name, update in updates.items())
    )
    assert (alice.clipped, bob.clipped) == (3, 0)
    clipped = [{name: np.clip(array, -1, 1) for name, array in update.items()} for update in updates.values()]
    assert largest_error(bob.mean, clipped, [50.0, 50.0]) < 1e-4


async def test_an_empty_place_is_left_empty_at_the_deadline(live: LiveDeployment) -> None:
    deadlines = live_job().deadlines
    spec = await live.create(
        live_job(deadlines=type(deadlines)(**{**vars(deadlines), "open_seconds": 4.0}), max_clients=9)
    )
    status = await live.published(spec, CLIENTS)
    assert status.contributors == CLIENTS


def _nan(update: dict[str, Any]) -> dict[str, Any]:
    return {**update, "b": np.where(np.arange(7) == 2, np.nan, update["b"])}


WRONG_UPDATES = {
    "a name too few": lambda update: {"w": update["w"]},
    "another name": lambda update: {"w": update["w"], "c": update["b"]},
    "another shape": lambda update: {**update, "w": update["w"].T},
    "another dtype": lambda update: {**update, "b": update["b"].astype(np.float32)},
    "not a number": _nan,
    "infinite": lambda update: {**update, "b": update["b"] / 0.0},
}


@pytest.mark.filterwarnings("ignore:divide by zero")
async def test_what_cannot_be_submitted_is_refused_before_the_join(live: LiveDeployment) -> None:
    spec = await live.create(live_job(max_clients=2))
    client, update = live.client("alice"), updates_of(spec, ["alice"])["alice"]
    for what, change in WRONG_UPDATES.items():
        with pytest.raises(UsageError):
            await client.participate(spec.job, change(update), 10.0)
        assert not list(live.spool("alice").glob("*")), what
    for weight in (0.0, -1.0, 100.5, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            await client.participate(spec.job, update, weight)
    status = await live.reached(spec, Phase.OPEN)
    assert status.joined == 0
    assert (await live.published(spec, CLIENTS[:2])).phase is Phase.PUBLISHED


async def test_progress_goes_through_the_phases_and_up_to_the_bytes(live: LiveDeployment) -> None:
    spec = await live.create(live_job(max_clients=2))
    seen: list[Progress] = []
    updates = updates_of(spec, CLIENTS[:2])
    result, _ = await asyncio.gather(
        live.client("alice").participate(spec.job, updates["alice"], 50.0, progress=seen.append),
        live.client("bob").participate(spec.job, updates["bob"], 50.0),
    )
    phases = list(dict.fromkeys(one.phase for one in seen))
    assert phases[0] is Phase.OPEN
    assert phases.index(Phase.OPEN) < phases.index(Phase.UPLOADING)
    assert phases[-1] is Phase.PUBLISHED
    uploading = [one for one in seen if one.phase is Phase.UPLOADING]
    assert uploading[0].done == 0
    assert uploading[-1].done == uploading[-1].total == result.uploaded_bytes
    assert [one.done for one in uploading] == sorted(one.done for one in uploading)
    assert uploading[-1].round == 1


def _open_spools(directory: Path) -> list[str]:
    """Return the files beneath a directory that this process holds open, with or without a name."""
    opened = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(directory)):
            opened.append(target)
    return opened


async def test_a_cancelled_participation_leaves_no_file_behind(live: LiveDeployment) -> None:
    spec = await live.create(live_job(max_clients=3, tensors=(TensorSpec(name="w", shape=(60_000,), dtype="float32"),)))
    # One is cut off in the midst of its encryption, the other when it has joined and waits for the roster.
    for name, until in (("alice", 1), ("bob", None)):
        reached = asyncio.Event()

        def watch(progress: Progress, until: int | None = until, reached: asyncio.Event = reached) -> None:
            if progress.phase is Phase.OPEN and progress.total and progress.done >= (until or progress.total):
                reached.set()

        update = updates_of(spec, [name])[name]
        task = asyncio.create_task(live.client(name).participate(spec.job, update, 10.0, progress=watch))
        await asyncio.wait_for(reached.wait(), 20)
        if until is None:
            await _joined(live, spec.job, 1)
        assert _open_spools(live.spool(name)) or list(live.spool(name).glob("*"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not list(live.spool(name).glob("*"))
        assert not _open_spools(live.spool(name))


async def _joined(live: LiveDeployment, job: JobId, clients: int) -> None:
    async with asyncio.timeout(20):
        async for status in live.operator().watch_rounds(job, 1):  # type: ignore[arg-type]
            if status.joined == clients:
                return


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR])
async def test_a_certificate_of_another_role_takes_part_in_nothing(live: LiveDeployment, role: Role) -> None:
    with pytest.raises((CertificateError, UsageError)):
        live.client("olga", role=role)
    # Whoever goes round the SDK is refused by the coordinator.
    spec = await live.create(live_job())
    stranger = live.scripted("olga")
    stranger.stub = type(stranger.stub)(live.channel(live.identity(role, "olga")))
    with pytest.raises(NotAllowedError):
        await stranger.wait_for_round(spec.job)


async def test_a_job_that_nobody_made(live: LiveDeployment) -> None:
    with pytest.raises(UnknownJobError):
        await live.client("alice").participate("no-such-job", {"w": np.zeros(3)}, 1.0)


async def test_a_client_of_another_ca_is_not_even_heard(live: LiveDeployment, tmp_path: Path) -> None:
    other = LiveDeployment(tmp_path)
    try:
        other.ports["coordinator"], own = live.ports["coordinator"], other.ports["coordinator"]
        stranger = other.client("alice")
        with pytest.raises(UnreachableError):
            await asyncio.wait_for(
                stranger.participate("any", {"w": np.zeros(3)}, 1.0, join_timeout_seconds=2.0), timeout=20
            )
    finally:
        other.ports["coordinator"] = own
        await other.hang_up()
        other.close()
