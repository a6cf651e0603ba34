"""The SDK against a real coordinator and real key holders over mutual TLS: whole rounds, broken connections, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from he.tenseal_engine import TenSealEngine
from secagg.client import AsyncClient, Client, Progress, RoundResult, ckks_steps, encryption
from secagg.client import transfer as transfers
from secagg.errors import (
    PolicyError,
    RoundAbortedError,
    UnknownJobError,
    UnknownRoundError,
    UnreachableError,
    UsageError,
)
from secagg.ids import HolderId, RoundNumber
from secagg.messages.round import Phase
from secagg.party import Role
from secagg.plan import Deadlines, JobSpec, TensorSpec
from secagg.policy import ClientPolicy
from tests.round_cluster import HOLDERS, Cluster, eventually, job_spec, random_update, weighted_mean

POLICY = ClientPolicy(holders=frozenset(HOLDERS), min_contributors=2)
NAMES = ("alice", "bob", "carol")
WEIGHTS = {"alice": 50.0, "bob": 45.0, "carol": 40.0}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(directory=tmp_path)
    try:
        yield made
    finally:
        await made.stop()


class Sdk:
    """SDK clients of a cluster, each with the update that its name seeds."""

    def __init__(self, cluster: Cluster, spec: JobSpec) -> None:
        self.cluster = cluster
        self.spec = spec
        self.updates = {name: random_update(spec, seed) for seed, name in enumerate(NAMES)}
        self.spool_dir = cluster.directory / "spool"

    def arguments(self, name: str, **changes: Any) -> dict[str, Any]:
        assert self.cluster.coordinator is not None
        return {
            "address": f"127.0.0.1:{self.cluster.coordinator.port}",
            "coordinator": "coordinator",
            "identity": self.cluster.identity(Role.CLIENT, name),
            "policy": POLICY,
            "spool_dir": self.spool_dir,
            **changes,
        }

    async def submit(self, name: str, *, after: int = 0, tell: Any = None, **changes: Any) -> RoundResult:
        async with AsyncClient(**self.arguments(name, **changes)) as client:
            return await client.participate(
                self.spec.job, self.updates[name], WEIGHTS[name], after_round=after, progress=tell
            )

    @property
    def expected(self) -> dict[str, Any]:
        return weighted_mean(list(self.updates.values()), list(WEIGHTS.values()))

    def assert_mean(self, result: RoundResult) -> None:
        for tensor in self.spec.tensors:
            mean = result.mean[tensor.name]
            assert mean.shape == tensor.shape
            assert mean.dtype == np.dtype(tensor.dtype)
            assert np.abs(mean - self.expected[tensor.name]).max() < 1e-4


async def started(cluster: Cluster, **changes: Any) -> Sdk:
    await cluster.start()
    sdk = Sdk(cluster, job_spec(**changes))
    await cluster.create(sdk.spec)
    return sdk


async def count_joined(cluster: Cluster, sdk: Sdk, round: int) -> int:
    """Return how many clients are in a round; -1 while there is none."""
    assert cluster.coordinator is not None
    try:
        status = await cluster.coordinator._engine.status(sdk.spec.job, RoundNumber(round))
    except UnknownRoundError:
        return -1
    return status.joined if status.phase is not Phase.KEYING else -1


async def joined(cluster: Cluster, sdk: Sdk, count: int, *, round: int = 1) -> None:
    """Wait until so many clients are in an open round."""
    async with asyncio.timeout(30):
        while await count_joined(cluster, sdk, round) < count:  # noqa: ASYNC110 - what is waited for is no event here
            await asyncio.sleep(0.02)


async def test_two_rounds_and_what_a_caller_sees_of_them(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = await started(cluster, rounds=2)
    seen: list[Progress] = []
    # Bob's ciphertexts are TenSEAL's own, and add up with ours.
    original, by_tenseal = TenSealEngine.encrypt, []

    def noted(*arguments: Any) -> Any:
        by_tenseal.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(TenSealEngine, "encrypt", noted)
    policies = {name: replace(POLICY, engine="tenseal" if name == "bob" else "numpy") for name in NAMES}
    for after in (0, 1):
        results = await asyncio.gather(
            *(sdk.submit(name, after=after, tell=seen.append, policy=policies[name]) for name in NAMES)
        )
        for result in results:
            sdk.assert_mean(result)
            assert result.contributors == NAMES
            assert result.round == after + 1
            assert result.total_weight == pytest.approx(135.0, abs=1e-2)
            assert result.clipped == 0
            assert result.uploaded_bytes == 2 * 3 * 49152
    assert {one.phase for one in seen} >= {Phase.OPEN, Phase.UPLOADING, Phase.PUBLISHED}
    assert len(by_tenseal) == 2, "one block of one client in each round"
    assert list(sdk.spool_dir.iterdir()) == []
    with pytest.raises(UsageError, match="has published all its rounds"):
        await sdk.submit("alice", after=2)


async def test_uploading_is_told_before_a_byte_is_sent(cluster: Cluster) -> None:
    sdk = await started(cluster)
    arrived: list[tuple[int, list[Path]]] = []

    def tell(progress: Progress) -> None:
        if progress.phase is Phase.UPLOADING:
            arrived.append((progress.done, cluster.blobs("uploads/*/*/clients/alice/*")))

    await asyncio.gather(sdk.submit("alice", tell=tell), sdk.submit("bob"), sdk.submit("carol"))
    assert arrived[0] == (0, [])
    assert [done for done, _ in arrived] == sorted(done for done, _ in arrived)
    assert arrived[-1][0] == 2 * 3 * 49152


async def test_the_blocking_client_does_the_same(cluster: Cluster) -> None:
    sdk = await started(cluster)

    def submit() -> RoundResult:
        with Client(**sdk.arguments("alice")) as client:
            return client.participate(sdk.spec.job, sdk.updates["alice"], WEIGHTS["alice"])

    results = await asyncio.gather(asyncio.to_thread(submit), sdk.submit("bob"), sdk.submit("carol"))
    sdk.assert_mean(results[0])


class CutWire:
    """A TCP relay in front of the coordinator that breaks the connection once, after so many bytes and what they led to."""

    def __init__(self, port: int, cut_bytes: int, noticed: Callable[[], bool]) -> None:
        self._port = port
        self._cut_bytes = cut_bytes
        self._noticed = noticed
        self.broken = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        relays = [asyncio.create_task(self._up(reader, back)), asyncio.create_task(_relay(there, writer))]
        try:
            await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)
            for end in (writer, back):
                end.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65536):
            passed += len(data)
            if not self.broken and passed > self._cut_bytes:
                await eventually(self._noticed)
                self.broken = True
                return
            back.write(data)
            await back.drain()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def cut_wire(cluster: Cluster, cut_bytes: int, noticed: Callable[[], bool]) -> AsyncIterator[tuple[CutWire, str]]:
    assert cluster.coordinator is not None
    wire = CutWire(cluster.coordinator.port, cut_bytes, noticed)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    try:
        yield wire, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_broken_upload_goes_on_where_it_broke(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = await started(cluster, values=120_000)
    half = 30 * 49152
    asked: list[tuple[int, int]] = []
    original: Callable[..., Any] = transfers.Uploader._next

    def remember(self: Any, c0_bytes: int, c1_bytes: int) -> Any:
        asked.append((c0_bytes, c1_bytes))
        return original(self, c0_bytes, c1_bytes)

    monkeypatch.setattr(transfers.Uploader, "_next", remember)

    def first_half_there() -> bool:
        return any(path.stat().st_size >= 21 * 49152 for path in cluster.blobs("uploads/*/*/clients/alice/c0"))

    async with cut_wire(cluster, 2_300_000, first_half_there) as (wire, address):
        results = await asyncio.gather(sdk.submit("alice", address=address), sdk.submit("bob"), sdk.submit("carol"))
        assert wire.broken
    sdk.assert_mean(results[0])
    # A part of alice's had arrived before the cut, and the second try went on from there.
    resumed = [offsets for offsets in asked if offsets != (half, half)]
    assert resumed[0][0] >= 21 * 49152


async def test_an_aborted_round_is_the_callers_decision(cluster: Cluster) -> None:
    deadlines = Deadlines(keying_seconds=30, open_seconds=2)
    sdk = await started(cluster, deadlines=deadlines)
    with pytest.raises(RoundAbortedError, match="too few clients joined"):
        await sdk.submit("alice")
    # It did not go into the next round by itself.
    await joined(cluster, sdk, 0, round=2)
    assert await count_joined(cluster, sdk, 2) == 0


async def test_a_round_that_aborts_while_others_upload(cluster: Cluster) -> None:
    deadlines = Deadlines(keying_seconds=30, open_seconds=30, uploading_seconds=2)
    sdk = await started(cluster, deadlines=deadlines, min_contributors=3)
    policy = ClientPolicy(holders=frozenset(HOLDERS), min_contributors=3)
    silent = cluster.client("carol")
    plan, key = await silent.wait_for_round(sdk.spec.job)
    await silent.join(silent.prepare(plan, key, sdk.updates["carol"], 40.0))
    outcomes = await asyncio.gather(
        sdk.submit("alice", policy=policy), sdk.submit("bob", policy=policy), return_exceptions=True
    )
    for outcome in outcomes:
        assert isinstance(outcome, RoundAbortedError)
        assert "carol" in str(outcome)


async def test_a_cancelled_submission_leaves_nothing_behind(cluster: Cluster) -> None:
    sdk = await started(cluster)
    submission = asyncio.create_task(sdk.submit("alice"))
    await joined(cluster, sdk, 1)
    held = _spool_files(sdk.spool_dir)
    submission.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submission
    assert len(held) == 2
    assert _spool_files(sdk.spool_dir) == []
    assert list(sdk.spool_dir.iterdir()) == []


def _spool_files(directory: Path) -> list[str]:
    """Return the files of the directory that this process has open, named or not."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith(f"{directory}/"):
            links.append(target)
    return links


async def test_what_a_client_refuses_it_does_not_join(cluster: Cluster) -> None:
    sdk = await started(cluster)
    strangers = ClientPolicy(holders=frozenset({HolderId("north")}), min_contributors=2)
    with pytest.raises(PolicyError, match="does not trust: centre, east"):
        await sdk.submit("alice", policy=strangers)
    sdk.updates["bob"]["w"][7] = np.nan
    with pytest.raises(UsageError, match="tensor 'w' holds NaN"):
        await sdk.submit("bob")
    sdk.updates["carol"]["extra"] = np.zeros(3)
    with pytest.raises(UsageError, match="extra"):
        await sdk.submit("carol")
    assert await count_joined(cluster, sdk, 1) == 0


async def test_a_second_process_of_the_same_name_is_not_in_that_round_and_says_so(cluster: Cluster) -> None:
    sdk = await started(cluster)
    first = asyncio.create_task(sdk.submit("alice"))
    await joined(cluster, sdk, 1)
    notes: list[str] = []
    second = asyncio.create_task(sdk.submit("alice", tell=lambda progress: notes.append(progress.note)))
    await eventually(lambda: any(notes))
    assert "round 1 was joined before" in "".join(notes)
    results = await asyncio.gather(first, sdk.submit("bob"), sdk.submit("carol"))
    assert results[0].contributors == NAMES
    with pytest.raises(UsageError, match="has published all its rounds; round 1 was joined before"):
        await second


async def test_who_comes_too_late_waits_for_the_next_round(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The roster is frozen while carol encrypts: nothing of her is in it, so she goes on to the next round."""
    sdk = await started(cluster, max_clients=2, rounds=2)
    original, encrypting, may_encrypt = encryption.encrypt, asyncio.Event(), asyncio.Event()

    async def carol_is_slow(update: Any, *args: Any, **options: Any) -> Any:
        if update is sdk.updates["carol"]:
            encrypting.set()
            await may_encrypt.wait()
        return await original(update, *args, **options)

    monkeypatch.setattr(ckks_steps, "encrypt", carol_is_slow)
    carol = asyncio.create_task(sdk.submit("carol"))
    await encrypting.wait()
    first = await asyncio.gather(sdk.submit("alice"), sdk.submit("bob"))
    may_encrypt.set()
    second = asyncio.create_task(sdk.submit("alice", after=1))
    result = await carol
    assert [one.contributors for one in first] == [("alice", "bob")] * 2
    assert (result.round, result.contributors) == (2, ("alice", "carol"))
    assert (await second).contributors == result.contributors


async def test_jobs_and_rounds_that_are_not_there(cluster: Cluster) -> None:
    sdk = await started(cluster)
    async with AsyncClient(**sdk.arguments("alice")) as client:
        with pytest.raises(UnknownJobError):
            await client.participate("nothing", sdk.updates["alice"], 1.0)
        with pytest.raises(UnknownRoundError, match="no round of job digits could be joined"):
            await client.participate(sdk.spec.job, sdk.updates["alice"], 1.0, after_round=99, join_timeout_seconds=0.3)


async def test_nobody_at_that_address(cluster: Cluster) -> None:
    sdk = Sdk(cluster, job_spec())
    arguments: dict[str, Any] = {
        "address": "127.0.0.1:1",
        "coordinator": "coordinator",
        "identity": cluster.identity(Role.CLIENT, "alice"),
        "policy": POLICY,
    }
    async with AsyncClient(**arguments, silence_seconds=0.5) as client:
        with pytest.raises(UnreachableError, match="coordinator/coordinator is unreachable"):
            await client.participate(sdk.spec.job, sdk.updates["alice"], 1.0)


async def test_another_server_with_a_certificate_of_the_same_ca_is_not_the_coordinator(cluster: Cluster) -> None:
    sdk = await started(cluster)
    with pytest.raises(UnreachableError):
        await sdk.submit("alice", coordinator="other", silence_seconds=0.5)


async def test_one_tensor_of_every_dtype(cluster: Cluster) -> None:
    tensors = (
        TensorSpec(name="z", shape=(2, 3), dtype="float16"),
        TensorSpec(name="a", shape=(), dtype="float64"),
        TensorSpec(name="m", shape=(5,), dtype="float32"),
    )
    sdk = await started(cluster, tensors=tensors)
    results = await asyncio.gather(*(sdk.submit(name) for name in NAMES))
    for tensor in tensors:
        mean = results[0].mean[tensor.name]
        assert (mean.shape, mean.dtype.name) == (tensor.shape, tensor.dtype)
        assert np.abs(mean - sdk.expected[tensor.name]).max() < 1e-3
