"""From an update to the spool: both engines, every packing, blocks in order from two lanes, and no lane that outlives its owner."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from he.ciphertext import Ciphertext, half_chunk_bytes
from he.encrypt import BLOCK_CHUNKS, ENGINES, Encryptor
from he.parameters import PACKINGS
from he.public_key import PublicKey
from he.ring import Residues
from secagg.client import encryption
from secagg.client.encryption import Encrypted, encrypt
from secagg.client.spool import CiphertextSpool
from secagg.errors import StorageError, UsageError
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.messages.round import Half
from secagg.plan import CkksJob, CkksRound, JobSpec, RoundPlan, TensorSpec
from secagg.roles.client.events import BuildKey
from secagg.transcript import CiphertextRoot
from tests.he_material import draw_key, open_alone

HOLDERS = tuple(HolderId(name) for name in ("north", "south", "east", "west", "centre"))
WEIGHT = 3.0
THREADS = "encrypting"


def a_plan(packing: str, blocks: int) -> RoundPlan:
    """A round whose vectors fill all of their blocks but a part of the last chunk."""
    chunk_values = {"real": 2048, "complex": 4096, "coefficients": 4096}[packing]
    values = (BLOCK_CHUNKS * (blocks - 1) + 1) * chunk_values + 100
    spec = JobSpec(
        job=JobId("digits"),
        purpose="tests",
        tensors=(TensorSpec(name="w", shape=(values,), dtype="float32"),),
        protocol=CkksJob(holders=HOLDERS, packing=packing, precision=1e-2),
        min_contributors=2,
        max_clients=4,
        max_weight=4.0,
    )
    group = spec.ckks.group(HOLDERS)
    return RoundPlan(spec=spec, round=RoundNumber(1), protocol=CkksRound(key_id=KeyId(bytes(32)), group=group))


@cache
def a_key(plan: RoundPlan) -> tuple[PublicKey, Residues]:
    return draw_key(plan.parameters, seed=3)


def an_update(plan: RoundPlan) -> dict[str, np.ndarray]:
    (tensor,) = plan.spec.tensors
    return {"w": np.random.default_rng(1).uniform(-1, 1, tensor.shape).astype(np.float32)}


async def encrypted(
    plan: RoundPlan,
    spool: CiphertextSpool,
    engine: str = "numpy",
    report: Callable[[int, int], None] = lambda *_: None,
) -> Encrypted:
    effect = BuildKey(plan=plan, public_key=a_key(plan)[0])
    return await encrypt(an_update(plan), WEIGHT, effect, spool, report, engine=engine)


def spooled(plan: RoundPlan, spool: CiphertextSpool) -> dict[Half, bytes]:
    size = plan.parameters.chunks * half_chunk_bytes(plan.parameters)
    return {half: spool.read(half, 0, size + 1) for half in Half}


def lanes_alive() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(THREADS)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("packing", PACKINGS)
async def test_what_is_spooled_is_the_update_in_order(tmp_path: Path, engine: str, packing: str) -> None:
    plan = a_plan(packing, blocks=3)
    told: list[tuple[int, int]] = []
    with CiphertextSpool(tmp_path) as spool:
        made = await encrypted(plan, spool, engine, lambda *step: told.append(step))
        data = spooled(plan, spool)
    chunks = plan.parameters.chunks
    assert told == [(BLOCK_CHUNKS, chunks), (2 * BLOCK_CHUNKS, chunks), (chunks, chunks)]
    assert lanes_alive() == []
    shape = (chunks, len(plan.parameters.data_primes), plan.parameters.degree)
    halves = {half: np.frombuffer(data[half], dtype="<u4").reshape(shape) for half in Half}
    for half, root in zip(Half, (made.event.root_c0, made.event.root_c1), strict=True):
        expected = CiphertextRoot()
        for chunk in halves[half]:
            expected.add(chunk.tobytes())
        assert root == expected.digest()
    ciphertext = Ciphertext(plan.parameters, halves[Half.C0], halves[Half.C1])
    ciphertext.verify()
    opened = open_alone(ciphertext, a_key(plan)[1])
    assert np.abs(opened[:-1] - WEIGHT / 4 * an_update(plan)["w"]).max() < 1e-4
    assert abs(opened[-1] - WEIGHT / 4) < 1e-4


async def test_the_same_update_twice_has_nothing_in_common(tmp_path: Path) -> None:
    """With one seed for both, c1 would be the same, and c0 would tell what changed between them."""
    plan = a_plan("coefficients", blocks=1)
    halves = []
    for _ in range(2):
        with CiphertextSpool(tmp_path) as spool:
            await encrypted(plan, spool)
            halves.append({half: np.frombuffer(data, dtype="<u4") for half, data in spooled(plan, spool).items()})
    for half in Half:
        assert np.mean(halves[0][half] == halves[1][half]) < 1e-3


async def test_two_blocks_are_encrypted_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "usable_cores", lambda: 8)
    both, original = threading.Barrier(2), Encryptor.encrypt_block
    most: list[int] = []

    def meeting(self: Encryptor, vector: np.ndarray, index: int) -> tuple[Residues, Residues]:
        # One lane alone would wait here until the barrier breaks.
        both.wait(timeout=10.0)
        most.append(len(lanes_alive()))
        return original(self, vector, index)

    monkeypatch.setattr(Encryptor, "encrypt_block", meeting)
    with CiphertextSpool(tmp_path) as spool:
        await encrypted(a_plan("coefficients", blocks=4), spool)
    assert max(most) == encryption.LANES == 2


@pytest.mark.parametrize(("engine", "lanes"), [("numpy", 2), ("tenseal", 1)])
def test_lanes_work_a_few_blocks_ahead_and_no_more(engine: str, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "usable_cores", lambda: 8)
    assert encryption._lanes(engine) == lanes
    plan, begun = a_plan("coefficients", blocks=9), []

    def noted(_: Encryptor, __: np.ndarray, index: int) -> tuple[Residues, Residues]:
        begun.append(index)
        shape = (BLOCK_CHUNKS, len(plan.parameters.data_primes), 8)
        return np.full(shape, index, dtype=np.uint32), np.zeros(shape, dtype=np.uint32)

    monkeypatch.setattr(Encryptor, "encrypt_block", noted)
    encryptor = Encryptor(a_key(plan)[0], engine=engine, seed=bytes(32))
    blocks = encryption._in_order(encryptor, np.zeros(plan.parameters.values), lanes)
    taken = [next(blocks) for _ in range(3)]
    assert [one.data[Half.C0][0] for one in taken] == [0, 1, 2]
    blocks.close()
    # Each that was taken let one more begin.
    assert len(begun) <= lanes + 3
    assert lanes_alive() == []


async def test_a_caller_that_is_cancelled_leaves_no_lane_and_no_writer(tmp_path: Path) -> None:
    plan = a_plan("coefficients", blocks=6)
    spool = CiphertextSpool(tmp_path)
    told: list[int] = []

    def cancel(done: int, _: int) -> None:
        told.append(done)
        task.cancel()

    task = asyncio.create_task(encrypted(plan, spool, report=cancel))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lanes_alive() == []
    spool.close()
    assert told == [BLOCK_CHUNKS]


async def test_a_full_spool_ends_it_and_leaves_no_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = a_plan("coefficients", blocks=3)
    with CiphertextSpool(tmp_path) as spool:
        full = StorageError("full", next_step="Free space")

        def refuse(half: Half, data: bytes) -> None:
            raise full

        monkeypatch.setattr(spool, "append", refuse)
        with pytest.raises(StorageError, match="full"):
            await encrypted(plan, spool)
    assert lanes_alive() == []


async def test_an_update_that_does_not_fit_is_named_before_anything_is_spooled(tmp_path: Path) -> None:
    plan = a_plan("coefficients", blocks=1)
    key = a_key(plan)[0]
    with CiphertextSpool(tmp_path) as spool:
        wrong = {"w": an_update(plan)["w"][:-1]}
        with pytest.raises(UsageError, match="'w' has shape"):
            await encrypt(wrong, WEIGHT, BuildKey(plan=plan, public_key=key), spool, print, engine="numpy")
        assert spool.read(Half.C0, 0, 1) == b""


def test_a_client_of_another_packing_has_another_round() -> None:
    """Packings cannot be mixed: the digest that a join and an upload name covers the packing."""
    made = a_plan("coefficients", blocks=1)
    plans = [
        replace(made, spec=replace(made.spec, protocol=replace(made.spec.ckks, packing=packing)))
        for packing in PACKINGS
    ]
    assert made in plans
    assert (
        len({plan.digest for plan in plans}) == len({plan.parameters.digest() for plan in plans}) == len(PACKINGS) == 3
    )


async def test_blas_has_one_thread_in_the_lanes_and_its_own_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, seen = a_plan("coefficients", blocks=3), list[int]()
    encrypt_block = Encryptor.encrypt_block

    def blas_threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    def looking(encryptor: Encryptor, vector: np.ndarray, index: int) -> tuple[Residues, Residues]:
        seen.extend(blas_threads())
        return encrypt_block(encryptor, vector, index)

    monkeypatch.setattr(Encryptor, "encrypt_block", looking)
    with threadpool_limits(limits=2, user_api="blas"), CiphertextSpool(tmp_path) as spool:
        await encrypted(plan, spool)
        assert set(seen) == {1}
        assert set(blas_threads()) == {2}
        assert set(await asyncio.to_thread(blas_threads)) == {2}
