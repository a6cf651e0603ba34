"""Whole rounds over gRPC with mutual TLS: real key holders, a real coordinator, clients that follow the protocol or do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from secagg.errors import ConflictError, FaultyClientError, LateError, NotAllowedError, SecAggError, UsageError
from secagg.messages.round import Half, HolderVerdict, Phase
from secagg.plan import CkksJob, Deadlines
from tests.round_cluster import (
    HOLDERS,
    Cluster,
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
    assert not list((cluster.directory / "coordinator" / "blobs").glob("uploads/*/*/clients"))


async def test_a_holder_that_is_away_from_the_start(cluster: Cluster) -> None:
    await cluster.start(HOLDERS[:4])
    spec = job_spec()
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob", "carol")]
    plan, updates, weights = await whole_round(cluster, spec, clients)
    assert plan.protocol.group.holders == HOLDERS[:4]
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
    assert plan.protocol.group.holders == HOLDERS
    await cluster.kill_holder(HOLDERS[2])
    plan, updates, weights = await whole_round(cluster, spec, clients)
    _, mean = await clients[2].result(plan)
    assert np.abs(mean["w"] - weighted_mean(updates, weights)["w"]).max() < 1e-4


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


async def test_what_is_not_in_order_is_refused_and_the_round_goes_on(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=4)
    await cluster.create(spec)
    names = ("alice", "bob", "carol", "dave")
    clients = [cluster.client(name) for name in names]
    alice, bob, carol, dave = clients
    plan, key = await alice.wait_for_round(spec.job)
    updates = [random_update(spec, seed) for seed in range(4)]
    prepared = [
        await asyncio.to_thread(client.prepare, plan, key, update, 30.0)
        for client, update in zip(clients, updates, strict=True)
    ]
    # carol commits to residues above the primes, dave to a transparent ciphertext
    prepared[2].ciphertext.c0[1, 0, 0] = 0xFFFFFFFF
    prepared[3].ciphertext.c1[0] = 0
    for one in prepared[2:]:
        one.roots = (root_of(one.ciphertext.c0), root_of(one.ciphertext.c1))
    await alice.join(prepared[0])
    await alice.join(prepared[0])
    with pytest.raises(ConflictError):
        await alice.join(prepared[0], commitment=bytes(32))
    with pytest.raises(FaultyClientError):
        await bob.join(prepared[1], commitment=alice.commitment(prepared[0]))
    with pytest.raises(SecAggError):
        await bob.join(prepared[1], client=alice.name)
    for client, one in zip(clients[1:], prepared[1:], strict=True):
        await client.join(one)
    eve = cluster.client("eve")
    with pytest.raises(LateError):
        await eve.join(prepared[0], client=eve.name)
    roster = await alice.wait_for_roster(plan)

    # alice: wrong parts first, then in two streams
    signed = alice.upload_message(prepared[0], roster)
    parts = parts_of(prepared[0].ciphertext, size=50_000)
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
            await alice.send(prepared[0], signed, [wrong])
    await alice.send(prepared[0], signed, parts[:2])
    with pytest.raises(SecAggError):
        await alice.complete(prepared[0], signed)
    assert (await alice.offsets(plan)).c0_bytes == 100_000
    await alice.send(prepared[0], signed, parts[1:])
    await alice.complete(prepared[0], signed)
    await alice.complete(prepared[0], signed)
    assert (await alice.offsets(plan)).complete

    # carol and dave are out, in what they signed and in what they sent
    for client, one, words in ((carol, prepared[2], "prime"), (dave, prepared[3], "transparent")):
        with pytest.raises(FaultyClientError):
            await client.send(one, client.upload_message(one, Digest32))
        message = client.upload_message(one, roster)
        await client.send(one, message)
        with pytest.raises(FaultyClientError, match=words):
            await client.complete(one, message)
        with pytest.raises(FaultyClientError):
            await client.send(one, message)

    # eve acts for bob
    with pytest.raises((NotAllowedError, SecAggError)):
        await eve.send(prepared[1], bob.upload_message(prepared[1], roster))
    await bob.upload(prepared[1])

    result, mean = await bob.result(plan)
    assert result.contributors == ("alice", "bob")
    expected = weighted_mean(updates[:2], [30.0, 30.0])
    assert np.abs(mean["w"] - expected["w"]).max() < 1e-4
    with pytest.raises(LateError):
        await dave.send(prepared[3], dave.upload_message(prepared[3], roster))


Digest32 = bytes(range(32))


async def test_the_spool_is_bounded(cluster: Cluster) -> None:
    await cluster.start(spool_bytes=1024**2)
    spec = job_spec(values=30_000, max_clients=2)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    with pytest.raises(SecAggError) as caught:
        await whole_round(cluster, spec, clients)
    assert type(caught.value).__name__ == "BusyError"


async def test_nothing_is_published_below_the_minimum_weight(cluster: Cluster) -> None:
    await cluster.start()
    spec = job_spec(max_clients=2, min_total_weight=200.0)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, _, _ = await whole_round(cluster, spec, clients)
    status = await cluster.ended(spec, plan.round)
    assert status.phase is Phase.ABORTED
    assert "total weight" in status.reason
    assert not list((cluster.directory / "coordinator" / "blobs").glob("means/*/*"))


async def test_holders_of_another_threshold(cluster: Cluster) -> None:
    await cluster.start(HOLDERS[:3])
    protocol = CkksJob(holders=HOLDERS[:3], threshold=2, corrupt_holders=1, min_holders=3)
    spec = job_spec(protocol=protocol, max_clients=2)
    await cluster.create(spec)
    clients = [cluster.client(name) for name in ("alice", "bob")]
    plan, updates, weights = await whole_round(cluster, spec, clients)
    _, mean = await clients[0].result(plan)
    assert np.abs(mean["b"] - weighted_mean(updates, weights)["b"]).max() < 1e-4
