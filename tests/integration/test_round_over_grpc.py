"""Whole rounds over gRPC with mutual TLS: real key holders, a real coordinator, clients that follow the protocol or do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg.errors import (
    BusyError,
    ConflictError,
    FaultyClientError,
    LateError,
    MessageError,
    NotAllowedError,
    StorageError,
    UnknownJobError,
    UnknownRoundError,
    UsageError,
    WrongPhaseError,
)
from secagg.ids import Digest, JobId, RoundNumber
from secagg.messages.round import Half, HolderVerdict, Phase
from secagg.plan import CkksJob, Deadlines
from tests.round_cluster import (
    CALL_SECONDS,
    HOLDERS,
    Cluster,
    Lie,
    eventually,
    job_spec,
    part_of,
    parts_of,
    random_update,
    root_of,
    weighted_mean,
    whole_round,
)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(directory=tmp_path)
    try:
        yield made
    finally:
        await made.stop()


async def test_a_whole_round(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(rounds=2)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob", "carol")]
    for after in (0, 1):
        plan, updates, weights = await whole_round(cluster, spec, clients, after=after)
        result, mean = await clients[0].result(plan)
        assert result.contributors == ("alice", "bob", "carol")
        assert result.total_weight == pytest.approx(sum(weights), abs=1e-2)
        expected = weighted_mean(updates, weights)
        for name, tensor in mean.items():
            assert np.abs(tensor - expected[name]).max() < 1e-4
        status = await cluster.ended(spec, plan.round)
        assert status.phase is Phase.PUBLISHED
        assert {one.verdict for one in status.holders} == {HolderVerdict.OK}
    await eventually(lambda: not cluster.blobs("uploads/*/*/clients"))


async def test_a_holder_that_is_away_from_the_start(cluster: Cluster) -> None:
    await cluster.start(HOLDERS[:4])
    spec = job_spec()
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob", "carol")]
    plan, updates, weights = await whole_round(cluster, spec, clients)
    assert plan.ckks.group.holders == HOLDERS[:4]
    _, mean = await clients[1].result(plan)
    assert np.abs(mean["w"] - weighted_mean(updates, weights)["w"]).max() < 1e-4
    status = await cluster.ended(spec, plan.round)
    verdicts = {one.holder: one.verdict for one in status.holders}
    assert verdicts[HOLDERS[4]] is HolderVerdict.UNREACHABLE


async def test_a_holder_that_is_killed_after_the_ceremony(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec()
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob", "carol")]
    plan, _ = await clients[0].wait_for_round(spec.job)
    assert plan.ckks.group.holders == HOLDERS
    await cluster.kill_holder(HOLDERS[2])
    plan, updates, weights = await whole_round(cluster, spec, clients)
    _, mean = await clients[2].result(plan)
    assert np.abs(mean["w"] - weighted_mean(updates, weights)["w"]).max() < 1e-4
    status = await cluster.ended(spec, plan.round)
    lost = {one.holder: one.verdict for one in status.holders if one.verdict is not HolderVerdict.OK}
    assert lost == {HOLDERS[2]: HolderVerdict.UNREACHABLE}


async def test_too_few_holders_abort_with_their_names(cluster: Cluster) -> None:
    await cluster.start(HOLDERS[:3])
    spec = job_spec()
    await cluster.create(spec)
    status = await cluster.ended(spec, 1)
    assert status.phase is Phase.ABORTED
    assert "west" in status.reason
    assert "centre" in status.reason
    assert "have 3, need 4" in status.reason


async def test_too_few_clients_abort(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(deadlines=Deadlines(keying_seconds=30, open_seconds=1))
    await cluster.create(spec)
    status = await cluster.ended(spec, 1)
    assert status.phase is Phase.ABORTED
    assert "have 0, need 2" in status.reason


OTHER = {"commitment": Digest(bytes(32))}


class Four:
    """An open round and four clients with ciphertexts: carol's has a residue above its prime, dave's is transparent."""

    def __init__(self, cluster: Cluster) -> None:
        self.clients = [cluster.client(name) for name in ("alice", "bob", "carol", "dave")]
        self.spec = job_spec(max_clients=4)
        self.updates = [random_update(self.spec, seed) for seed in range(4)]

    async def prepare(self) -> None:
        self.plan, key = await self.clients[0].wait_for_round(self.spec.job)
        self.prepared = [
            await asyncio.to_thread(client.prepare, self.plan, key, update, 30.0)
            for client, update in zip(self.clients, self.updates, strict=True)
        ]
        self.prepared[2].ciphertext.c0[1, 0, 0] = 0xFFFFFFFF
        self.prepared[3].ciphertext.c1[0] = 0
        for one in self.prepared[2:]:
            one.roots = (root_of(one.ciphertext.c0), root_of(one.ciphertext.c1))

    async def join(self) -> Digest:
        for client, one in zip(self.clients, self.prepared, strict=True):
            await client.join(one)
        return await self.clients[0].wait_for_roster(self.plan)


@pytest.fixture
async def four(cluster: Cluster) -> Four:
    await cluster.start()
    made = Four(cluster)
    await cluster.create(made.spec)
    await made.prepare()
    return made


async def test_joins_that_are_refused(cluster: Cluster, four: Four) -> None:
    alice, bob = four.clients[:2]
    first, second = four.prepared[:2]
    await alice.join(first)
    await alice.join(first)
    with pytest.raises(ConflictError):
        await alice.join(first, commitment=bytes(32))
    with pytest.raises(FaultyClientError):
        await bob.join(second, commitment=alice.commitment(first))
    with pytest.raises(MessageError):
        await bob.join(second, client=alice.name)
    with pytest.raises(FaultyClientError):
        await bob.join(second, plan_digest=bytes(32))
    await four.join()
    eve = cluster.client("eve")
    with pytest.raises(LateError):
        await eve.join(first, client=eve.name)


async def test_parts_that_are_refused_and_an_upload_that_goes_on(four: Four) -> None:
    roster = await four.join()
    alice, one = four.clients[0], four.prepared[0]
    signed = alice.upload_message(one, roster)
    damaged = part_of(Half.C0, 0, b"data")
    damaged.data = b"date"
    for wrong in (
        damaged,
        part_of(Half.C0, 5, b"a gap"),
        part_of(Half.C0, 10**9, b"x"),
        part_of(Half.C0, 0, b""),
        part_of(Half.C0, 0, bytes(2**20 + 1)),
    ):
        with pytest.raises(UsageError):
            await alice.send(one, signed, [wrong])
    parts = parts_of(one.ciphertext, size=50_000)
    await alice.send(one, signed, parts[:2])
    with pytest.raises(WrongPhaseError):
        await alice.complete(one, signed)
    assert (await alice.offsets(four.plan)).c0_bytes == 100_000
    await alice.send(one, signed, parts[1:])
    await alice.complete(one, signed)
    await alice.complete(one, signed)
    assert (await alice.offsets(four.plan)).complete


async def test_contributions_that_must_not_count_and_a_round_that_goes_on(cluster: Cluster, four: Four) -> None:
    roster = await four.join()
    alice, bob, carol, dave = four.clients
    for client, one, words in ((carol, four.prepared[2], "prime"), (dave, four.prepared[3], "transparent")):
        with pytest.raises(FaultyClientError, match="another roster"):
            await client.send(one, client.upload_message(one, Digest(bytes(32))))
        message = client.upload_message(one, roster)
        await client.send(one, message)
        with pytest.raises(FaultyClientError, match=words):
            await client.complete(one, message)
        with pytest.raises(FaultyClientError, match=words):
            await client.send(one, message)
    eve = cluster.client("eve")
    with pytest.raises(NotAllowedError):
        await eve.send(four.prepared[1], bob.upload_message(four.prepared[1], roster))
    await alice.upload(four.prepared[0])
    await bob.upload(four.prepared[1])
    result, mean = await bob.result(four.plan)
    assert result.contributors == ("alice", "bob")
    assert np.abs(mean["w"] - weighted_mean(four.updates[:2], [30.0, 30.0])["w"]).max() < 1e-4
    # It was refused, and is told so again, not that it is late.
    with pytest.raises(FaultyClientError, match="transparent"):
        await dave.send(four.prepared[3], dave.upload_message(four.prepared[3], roster))


async def test_a_mean_is_downloaded_from_where_it_stopped(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, _, _ = await whole_round(cluster, spec, clients)
    await clients[0].result(plan)
    whole = await clients[0].download(plan)
    assert await clients[1].download(plan, offset=1001) == whole[1001:]
    assert await clients[1].download(plan, offset=len(whole)) == b""


async def test_the_spool_is_bounded(cluster: Cluster) -> None:
    await cluster.start(spool_bytes=1024**2)
    spec = job_spec(values=60_000, max_clients=2)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    with pytest.raises(BusyError):
        await whole_round(cluster, spec, clients)


async def test_nothing_is_published_below_the_minimum_weight(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2, min_total_weight=200.0)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, _, _ = await whole_round(cluster, spec, clients)
    status = await cluster.ended(spec, plan.round)
    assert status.phase is Phase.ABORTED
    assert "total weight" in status.reason
    await eventually(lambda: not cluster.blobs("means/*/*"))


async def test_holders_of_another_threshold(cluster: Cluster) -> None:
    await cluster.start(HOLDERS[:3])
    protocol = CkksJob(holders=HOLDERS[:3], threshold=2, corrupt_holders=1, min_holders=3)
    spec = job_spec(protocol=protocol, max_clients=2)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, updates, weights = await whole_round(cluster, spec, clients)
    _, mean = await clients[0].result(plan)
    assert np.abs(mean["b"] - weighted_mean(updates, weights)["b"]).max() < 1e-4


async def test_a_garbage_answer_is_named_and_left_out(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2)
    await cluster.create(spec)
    cluster.lie(HOLDERS[1], Lie.GARBAGE)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, updates, weights = await whole_round(cluster, spec, clients)
    _, mean = await clients[0].result(plan)
    assert np.abs(mean["w"] - weighted_mean(updates, weights)["w"]).max() < 1e-4
    status = await cluster.ended(spec, plan.round)
    verdicts = {one.holder: one.verdict for one in status.holders}
    assert verdicts[HOLDERS[1]] is HolderVerdict.FAULTY
    assert {verdicts[holder] for holder in HOLDERS if holder != HOLDERS[1]} == {HolderVerdict.OK}


async def test_an_answer_that_was_not_signed_is_the_holders_fault(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2)
    await cluster.create(spec)
    cluster.lie(HOLDERS[0], Lie.UNSIGNED)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, _, _ = await whole_round(cluster, spec, clients)
    await clients[0].result(plan)
    status = await cluster.ended(spec, plan.round)
    (faulty,) = [one for one in status.holders if one.verdict is HolderVerdict.FAULTY]
    assert faulty.holder == HOLDERS[0]
    assert "not the one that it signed" in faulty.reason


async def test_a_late_holder_is_not_waited_for(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2)
    await cluster.create(spec)
    cluster.lie(HOLDERS[3], Lie.SILENT)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, updates, weights = await whole_round(cluster, spec, clients)
    _, mean = await clients[0].result(plan)
    assert np.abs(mean["w"] - weighted_mean(updates, weights)["w"]).max() < 1e-4


async def test_two_garbage_answers_publish_nothing(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2)
    await cluster.create(spec)
    for holder in HOLDERS[:2]:
        cluster.lie(holder, Lie.GARBAGE)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, _, _ = await whole_round(cluster, spec, clients)
    status = await cluster.ended(spec, plan.round)
    assert status.phase is Phase.ABORTED
    assert "do not belong together" in status.reason
    await eventually(lambda: not cluster.blobs("means/*/*"))


async def test_a_coordinator_that_is_stopped_inside_a_round_goes_on_with_it(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2)
    await cluster.create(spec)
    alice, bob = (cluster.client(name) for name in ("alice", "bob"))
    plan, key = await alice.wait_for_round(spec.job)
    updates = [random_update(spec, seed) for seed in range(2)]
    first, second = [await asyncio.to_thread(alice.prepare, plan, key, update, 50.0) for update in updates]
    await alice.join(first)
    await cluster.restart_coordinator()
    alice, bob = (cluster.client(name) for name in ("alice", "bob"))
    again, _ = await alice.wait_for_round(spec.job)
    assert again == plan
    await bob.join(second)
    await asyncio.gather(alice.upload(first), bob.upload(second))
    result, mean = await alice.result(plan)
    assert result.contributors == ("alice", "bob")
    assert np.abs(mean["w"] - weighted_mean(updates, [50.0, 50.0])["w"]).max() < 1e-4
    await cluster.restart_coordinator()
    _, kept = await cluster.client("alice").result(plan)
    assert np.array_equal(kept["w"], mean["w"])


async def test_a_disk_that_fails_while_c1_is_shown_costs_a_moment_and_blames_nobody(cluster: Cluster) -> None:
    """Over gRPC, where a request stream that breaks cancels its call, and says nothing of why."""
    await cluster.start()
    assert cluster.coordinator is not None
    blobs: Any = cluster.coordinator._engine.around.blobs
    read, failures = blobs.read, []

    def failing(name: str, offset: int, length: int) -> bytes:
        if name.endswith("/c1") and len(failures) < len(HOLDERS):
            failures.append(name)
            raise StorageError("a bad cable")
        return bytes(read(name, offset, length))

    blobs.read = failing
    spec = job_spec(max_clients=2)
    await cluster.create(spec)
    plan, _, _ = await whole_round(cluster, spec, [cluster.client(name) for name in ("alice", "bob")])
    status = await cluster.ended(spec, plan.round)
    assert len(failures) == len(HOLDERS)
    assert (status.phase, {one.verdict for one in status.holders}) == (Phase.PUBLISHED, {HolderVerdict.OK})


async def test_a_request_id_stands_for_one_content(four: Four) -> None:
    alice, bob = four.clients[:2]
    first, other = (alice.join_request(four.prepared[0], request_id="same", **changes) for changes in ({}, OTHER))
    for _ in range(2):
        await alice.call(alice.stub.Join(first, timeout=CALL_SECONDS))
    with pytest.raises(ConflictError):
        await alice.call(alice.stub.Join(other, timeout=CALL_SECONDS))
    # Ids are each caller's own.
    await bob.call(bob.stub.Join(bob.join_request(four.prepared[1], request_id="same"), timeout=CALL_SECONDS))
    for wrong in ("", "x" * 65):
        request = bob.join_request(four.prepared[1], request_id=wrong)
        with pytest.raises(UsageError):
            await bob.call(bob.stub.Join(request, timeout=CALL_SECONDS))


async def test_what_does_not_exist_is_not_found(cluster: Cluster, four: Four) -> None:
    alice = four.clients[0]
    with pytest.raises(UnknownJobError):
        await alice.wait_for_round("nothing")
    with pytest.raises(UnknownRoundError):
        await alice.outcome(replace(four.plan, round=RoundNumber(7)))
    with pytest.raises(UnknownJobError):
        await cluster.ended(replace(four.spec, job=JobId("nothing")), 1)
