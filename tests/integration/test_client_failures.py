"""Clients that do wrong, late or nothing, against processes: refused by name, and the round goes on with exactly the others.

`docs/protocol.md`, sections 5.2 to 5.7. The honest ones are clients of the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc.aio
import numpy as np
import pytest

from secagg import codec
from secagg.client import Progress, RoundResult
from secagg.errors import (
    ConflictError,
    FaultyClientError,
    LateError,
    MessageError,
    NotAllowedError,
    RoundAbortedError,
    SecAggError,
    UsageError,
    WrongPhaseError,
)
from secagg.identity import Role
from secagg.ids import ClientId, Digest
from secagg.messages.round import Half, Join, Phase
from secagg.plan import JobSpec, TensorSpec
from secagg.wire.v1 import client_service_pb2 as pb
from tests.files_on_disk import matching
from tests.live_deployment import LiveDeployment
from tests.live_jobs import error_bound, largest_error, live_deadlines, live_job, updates_of, weights_of
from tests.round_cluster import CALL_SECONDS, Prepared, ScriptedClient, eventually, part_of, parts_of, root_of

HONEST = ("alice", "bob")
EVERYBODY = (*HONEST, "mallory")
TWO_CHUNKS = (TensorSpec(name="w", shape=(6_000,), dtype="float32"),)
NOTHING = Digest(bytes(32))


@dataclass(kw_only=True)
class Mallory:
    """A client in the roster, with a ciphertext of its own, that does what the test says."""

    client: ScriptedClient
    spec: JobSpec
    prepared: Prepared
    roster: Digest

    def upload(self, **changes: Any) -> Any:
        return self.client.upload_message(self.prepared, self.roster, **changes)

    async def send(self, signed: Any = None, parts: list[pb.UploadPart] | None = None) -> None:
        await self.client.send(self.prepared, signed or self.upload(), parts)

    async def complete(self, signed: Any = None) -> None:
        await self.client.complete(self.prepared, signed or self.upload())


def hold_against(spec: JobSpec, result: object, names: tuple[str, ...]) -> None:
    """The result is the mean of exactly these clients."""
    assert isinstance(result, RoundResult), repr(result)
    weights = {name: weight for name, weight in weights_of(EVERYBODY).items() if name in names}
    assert result.contributors == names
    assert result.total_weight == pytest.approx(sum(weights.values()), abs=0.05)
    error = largest_error(result.mean, updates_of(spec, names).values(), weights.values())
    assert error < error_bound(spec, weights)


@asynccontextmanager
async def round_with_mallory(
    live: LiveDeployment,
    *,
    tamper: Callable[[Prepared], None] = lambda _prepared: None,
    contributors: tuple[str, ...] = HONEST,
    **changes: Any,
) -> AsyncIterator[Mallory]:
    """Lend a round that mallory and two honest clients have joined; then hold its result against the contributors."""
    spec = await live.create(live_job(tensors=TWO_CHUNKS, **changes))
    client = live.scripted("mallory")
    plan, key = await client.wait_for_round(spec.job)
    weight = weights_of(EVERYBODY)["mallory"]
    prepared = await asyncio.to_thread(client.prepare, plan, key, updates_of(spec, ["mallory"])["mallory"], weight)
    tamper(prepared)
    prepared.roots = (root_of(prepared.ciphertext.c0), root_of(prepared.ciphertext.c1))
    await client.join(prepared)
    honest = asyncio.create_task(live.take_part(spec, HONEST))
    try:
        roster = await client.wait_for_roster(plan)
        yield Mallory(client=client, spec=spec, prepared=prepared, roster=roster)
        outcomes = await honest
    finally:
        honest.cancel()
    for outcome in outcomes.values():
        hold_against(spec, outcome, contributors)
    status = await live.ended(spec)
    assert (status.phase, status.joined, status.contributors) == (Phase.PUBLISHED, 3, contributors)


def residue_above_its_prime(prepared: Prepared) -> None:
    prepared.ciphertext.c0[1, 0, 0] = 0xFFFFFFFF


def residue_above_its_prime_in_c1(prepared: Prepared) -> None:
    prepared.ciphertext.c1[1, 2, 4095] = prepared.plan.parameters.data_primes[2]


def transparent(prepared: Prepared) -> None:
    prepared.ciphertext.c1[0] = 0


def transparent_modulo_one_prime(prepared: Prepared) -> None:
    prepared.ciphertext.c1[1, 1] = 0


def the_same_chunk_twice(prepared: Prepared) -> None:
    prepared.ciphertext.c1[1] = prepared.ciphertext.c1[0]


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (residue_above_its_prime, "chunk 1 of its c0: a residue is not below its prime"),
        (residue_above_its_prime_in_c1, "chunk 1 of its c1: a residue is not below its prime"),
        (transparent, "chunk 0 of its c1: transparent"),
        (transparent_modulo_one_prime, "chunk 1 of its c1: transparent"),
        (the_same_chunk_twice, "stands twice"),
    ],
)
async def test_a_ciphertext_that_must_not_count(
    live: LiveDeployment, tamper: Callable[[Prepared], None], words: str
) -> None:
    async with round_with_mallory(live, tamper=tamper) as mallory:
        await mallory.send()
        with pytest.raises(FaultyClientError, match=words) as caught:
            await mallory.complete()
        assert caught.value.client_id == "mallory"
        with pytest.raises((FaultyClientError, LateError)):
            await mallory.complete()
    assert not matching(live.directory / "coordinator" / "blobs", f"uploads/{mallory.spec.job}/*/clients/mallory*")


async def test_an_upload_that_is_signed_for_something_else(live: LiveDeployment) -> None:
    async with round_with_mallory(live, tamper=transparent) as mallory:
        for changes, words in (
            ({"parameters_digest": NOTHING}, "other parameters"),
            ({"level": 2}, "level 2"),
            ({"level": 4}, "level 4"),
            ({"scale": 2.0**40}, "scale"),
            ({"chunks": 1}, "1 chunks"),
            ({"chunks": 3}, "3 chunks"),
            ({"plan_digest": NOTHING}, "another plan"),
            ({"roster_digest": NOTHING}, "another roster"),
            ({"nonce": bytes(32)}, "does not open the commitment"),
            ({"root_c0": NOTHING}, "does not open the commitment"),
            ({"root_c1": mallory.prepared.roots[0]}, "does not open the commitment"),
        ):
            signed = mallory.upload(**changes)
            for attempt in (mallory.send, mallory.complete):
                with pytest.raises(FaultyClientError, match=words):
                    await attempt(signed)
        # Wrong words alone cost nothing but themselves; wrong bytes are the end of it.
        await mallory.send()
        with pytest.raises(FaultyClientError, match="transparent"):
            await mallory.complete()


async def test_other_bytes_than_those_committed_to(live: LiveDeployment) -> None:
    async with round_with_mallory(live) as mallory:
        mallory.prepared.ciphertext.c1[0, 0, 7] ^= 1
        await mallory.send()
        with pytest.raises(FaultyClientError, match="the root of its c1 is not the one that it signed"):
            await mallory.complete()


async def test_parts_that_are_refused_and_an_upload_that_goes_on_all_the_same(live: LiveDeployment) -> None:
    async with round_with_mallory(live, contributors=EVERYBODY) as mallory:
        damaged = part_of(Half.C0, 0, b"data")
        damaged.data = b"date"
        half = mallory.prepared.ciphertext.c0.nbytes
        for wrong in (
            damaged,
            part_of(Half.C0, 4, b"a gap"),
            part_of(Half.C0, half, b"beyond the plan"),
            part_of(Half.C1, 2**63, b"far beyond the plan"),
            part_of(Half.C0, 0, b""),
            part_of(Half.C0, 0, bytes(2**20 + 1)),
            pb.UploadPart(offset=0, data=b"of no half"),
        ):
            with pytest.raises((UsageError, MessageError)):
                await mallory.send(parts=[wrong])
        # gRPC itself refuses what is larger than any message may be.
        with pytest.raises(SecAggError):
            await mallory.send(parts=[part_of(Half.C0, 0, bytes(5 * 2**20))])
        parts = parts_of(mallory.prepared.ciphertext, size=50_000)
        await mallory.send(parts=parts[:1])
        with pytest.raises(WrongPhaseError, match=f"has 50000 of {half} bytes"):
            await mallory.complete()
        with pytest.raises(ConflictError):
            await mallory.send(parts=[part_of(Half.C0, 0, bytes(50_000))])
        await mallory.send(parts=parts)
        await mallory.send(parts=parts)
        with pytest.raises(UsageError):
            await mallory.send(parts=[*parts, part_of(Half.C1, half, b"one chunk too many")])
        await mallory.complete()


async def test_twice_is_harmless_and_something_else_is_a_conflict(live: LiveDeployment) -> None:
    async with round_with_mallory(live, contributors=EVERYBODY) as mallory:
        client, prepared = mallory.client, mallory.prepared
        await client.join(prepared)
        with pytest.raises(ConflictError):
            await client.join(prepared, commitment=bytes(32))
        signed = mallory.upload()
        await mallory.send(signed)
        await mallory.complete(signed)
        await mallory.complete(signed)
        with pytest.raises(ConflictError):
            await mallory.complete(mallory.upload(nonce=bytes(32)))
        with pytest.raises(ConflictError):
            await mallory.send(mallory.upload(nonce=bytes(32)))
        await same_request_id(mallory, signed)
        assert (await client.offsets(prepared.plan)).complete


async def same_request_id(mallory: Mallory, signed: Any) -> None:
    """A request id stands for one content, whatever comes of it."""
    plan, identifier = mallory.prepared.plan, uuid4().hex
    requests = [
        pb.CompleteUploadRequest(request_id=identifier, job=plan.spec.job, round=plan.round, upload=upload)
        for upload in (signed, signed, mallory.upload(level=1))
    ]
    for request in requests[:2]:
        await mallory.client.call(mallory.client.stub.CompleteUpload(request, timeout=CALL_SECONDS))
    with pytest.raises(ConflictError):
        await mallory.client.call(mallory.client.stub.CompleteUpload(requests[2], timeout=CALL_SECONDS))


async def test_nobody_acts_for_another(live: LiveDeployment) -> None:
    async with round_with_mallory(live, tamper=transparent) as mallory:
        alice, eve = live.scripted("alice"), live.scripted("eve")
        prepared, plan = mallory.prepared, mallory.prepared.plan
        forged = Join(plan_digest=plan.digest, client=ClientId("alice"), commitment=bytes(32))
        # Signed by mallory in alice's name, and truly signed by alice but handed in by mallory.
        for signer, error in ((mallory.client, MessageError), (alice, NotAllowedError)):
            signed = codec.signed_to_wire(codec.sign(forged, signer.identity.signer))
            request = pb.JoinRequest(request_id=uuid4().hex, job=plan.spec.job, round=plan.round, join=signed)
            with pytest.raises(error):
                await mallory.client.call(mallory.client.stub.Join(request, timeout=CALL_SECONDS))
        with pytest.raises(MessageError):
            await mallory.send(mallory.upload(client=ClientId("alice")))
        with pytest.raises(NotAllowedError):
            await mallory.send(alice.upload_message(prepared, mallory.roster))
        # Eve has a certificate, and no place in the roster.
        for attempt in (eve.send, eve.complete):
            with pytest.raises(FaultyClientError, match="not in the frozen roster"):
                await attempt(prepared, eve.upload_message(prepared, mallory.roster))
        with pytest.raises(LateError):
            await eve.join(prepared)
        # The name of an operator's certificate is nobody's place either.
        olga = ScriptedClient(live, live.identity(Role.OPERATOR, "mallory"))  # type: ignore[arg-type]
        with pytest.raises(NotAllowedError):
            await olga.send(prepared, mallory.upload())
        await mallory.send()
        with pytest.raises(FaultyClientError):
            await mallory.complete()


async def test_a_copied_commitment_is_refused_at_the_join(live: LiveDeployment) -> None:
    spec = await live.create(live_job(tensors=TWO_CHUNKS, max_clients=2))
    first, second = live.scripted("alice"), live.scripted("mallory")
    plan, key = await first.wait_for_round(spec.job)
    prepared = await asyncio.to_thread(first.prepare, plan, key, updates_of(spec, ["alice"])["alice"], 10.0)
    await first.join(prepared)
    with pytest.raises(FaultyClientError, match="copy"):
        await second.join(prepared, commitment=first.commitment(prepared))
    assert (await live.operator().get_round(spec.job, plan.round)).joined == 1


async def test_late_never_counts(live: LiveDeployment) -> None:
    async with round_with_mallory(live, deadlines=live_deadlines(uploading_seconds=2.0)) as mallory:
        await mallory.send(parts=parts_of(mallory.prepared.ciphertext)[:1])
        await live.reached(mallory.spec, Phase.APPROVING, Phase.DECRYPTING)
        for attempt in (mallory.send, mallory.complete):
            with pytest.raises(LateError):
                await attempt()
    for attempt in (mallory.send, mallory.complete):
        with pytest.raises(LateError):
            await attempt()


async def test_a_broken_stream_costs_its_sender_nothing(live: LiveDeployment) -> None:
    async with round_with_mallory(live, contributors=EVERYBODY) as mallory:
        stub, plan = mallory.client.stub, mallory.prepared.plan
        header = pb.UploadHeader(request_id=uuid4().hex, job=plan.spec.job, round=plan.round, upload=mallory.upload())
        part = pb.UploadHalvesRequest(part=parts_of(mallory.prepared.ciphertext)[0])
        first = pb.UploadHalvesRequest(header=header)
        for messages in ([], [part], [first, first], [pb.UploadHalvesRequest()], [first, pb.UploadHalvesRequest()]):
            with pytest.raises(UsageError):
                await mallory.client.call(stub.UploadHalves(iter(messages), timeout=CALL_SECONDS))
        call = stub.UploadHalves(timeout=CALL_SECONDS)
        await call.write(first)
        call.cancel()
        with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
            await call
        await mallory.send()
        await mallory.complete()


def vanishing(client: Any, spec: JobSpec, name: str) -> asyncio.Task[RoundResult]:
    """Take part up to the frozen roster, and then be gone, as a client whose machine failed."""

    def vanish(progress: Progress) -> None:
        if progress.phase is Phase.UPLOADING:
            task.cancel()

    update, weight = updates_of(spec, [name])[name], weights_of(EVERYBODY)[name]
    task = asyncio.create_task(client.participate(spec.job, update, weight, progress=vanish))
    return task


async def test_clients_that_vanish_after_the_roster_was_frozen(live: LiveDeployment) -> None:
    spec = await live.create(live_job(deadlines=live_deadlines(uploading_seconds=2.0)))
    lost = vanishing(live.client("mallory"), spec, "mallory")
    outcomes = await live.take_part(spec, HONEST)
    with pytest.raises(asyncio.CancelledError):
        await lost
    for outcome in outcomes.values():
        hold_against(spec, outcome, HONEST)
    status = await live.ended(spec)
    assert (status.joined, status.uploaded) == (3, 2)


async def test_too_few_are_left(live: LiveDeployment) -> None:
    spec = await live.create(live_job(deadlines=live_deadlines(uploading_seconds=2.0)))
    lost = [vanishing(live.client(name), spec, name) for name in ("bob", "mallory")]
    outcomes = await live.take_part(spec, ["alice"])
    await asyncio.gather(*lost, return_exceptions=True)
    error = outcomes["alice"]
    assert isinstance(error, RoundAbortedError)
    assert (error.have, error.need) == (1, 2)
    assert "bob, mallory" in error.reason
    assert not matching(live.directory / "coordinator" / "blobs" / "means", f"{spec.job}/*")


async def test_too_few_join(live: LiveDeployment) -> None:
    spec = await live.create(live_job(deadlines=live_deadlines(open_seconds=1.5)))
    error = (await live.take_part(spec, ["alice"]))["alice"]
    assert isinstance(error, RoundAbortedError)
    assert (error.have, error.need) == (1, 2)


async def test_a_sum_that_weighs_too_little_is_not_published(live: LiveDeployment) -> None:
    spec = await live.create(live_job(max_clients=2, min_total_weight=150.0))
    outcomes = await live.take_part(spec, HONEST)
    for outcome in outcomes.values():
        assert isinstance(outcome, RoundAbortedError)
        assert "min_total_weight" in outcome.reason
    client = live.scripted("alice")
    with pytest.raises(WrongPhaseError):
        await client.call(_all_of(client.stub.DownloadMean(pb.DownloadMeanRequest(job=spec.job, round=1))))
    await eventually(lambda: not matching(live.directory / "coordinator" / "blobs" / "means", f"{spec.job}/*"))


async def _all_of(answers: Any) -> list[Any]:
    return [answer async for answer in answers]


async def test_an_implausible_sum_is_not_published(live: LiveDeployment) -> None:
    """Random residues are well formed and committed to, and no sum of updates: nobody gets anything."""
    spec = await live.create(live_job(tensors=TWO_CHUNKS, max_clients=2))
    alice, mallory = live.scripted("alice"), live.scripted("mallory")
    plan, key = await alice.wait_for_round(spec.job)
    updates = updates_of(spec, ["alice", "mallory"])
    first, second = [
        await asyncio.to_thread(client.prepare, plan, key, updates[client.name], 50.0) for client in (alice, mallory)
    ]
    limits = np.array(plan.parameters.data_primes, dtype=np.uint32)[:, None]
    noise = np.random.default_rng(1).integers(0, limits, second.ciphertext.c0.shape, dtype=np.uint32)
    second.ciphertext.c0[:] = noise
    second.roots = (root_of(second.ciphertext.c0), root_of(second.ciphertext.c1))
    await alice.join(first)
    await mallory.join(second)
    await asyncio.gather(alice.upload(first), mallory.upload(second))
    status = await live.ended(spec)
    assert status.phase is Phase.ABORTED
    assert "plan's bound" in status.reason
