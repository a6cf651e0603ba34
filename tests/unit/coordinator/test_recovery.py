"""From spooled answers to the mean: with real keys, shares and ciphertexts, and holders that answer wrongly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from coordinator.contracts import mean_name
from coordinator.rounds.recovery import SpooledAnswer, SumRecovery
from coordinator.store.blobs import DirectoryBlobStore
from he.accumulate import ResidueAccumulator
from he.keygen import generate
from he.packing import pack
from he.partial import answer_block
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.plan import CkksJob, CkksRound, JobSpec, RoundPlan, TensorSpec
from secagg.roles.coordinator.events import OpeningFailed, SumOpened
from tests.encryption_material import encrypt_once

HOLDERS = tuple(HolderId(name) for name in ("north", "south", "east", "west", "centre"))
SPEC = JobSpec(
    job=JobId("digits"),
    purpose="tests",
    # Not in the order of the names: the mean's bytes follow the plan, the packed vector the names.
    tensors=(
        TensorSpec(name="w", shape=(90_000,), dtype="float32"),
        TensorSpec(name="b", shape=(3,), dtype="float64"),
    ),
    protocol=CkksJob(holders=HOLDERS, precision=1e-2),
    min_contributors=2,
    max_clients=4,
    max_weight=10.0,
)
PLAN = RoundPlan(
    spec=SPEC,
    round=RoundNumber(1),
    protocol=CkksRound(key_id=KeyId(bytes(32)), group=SPEC.ckks.group(HOLDERS)),
)
WEIGHTS = (4.0, 6.0)


@dataclass(frozen=True)
class Opened:
    total: ResidueAccumulator
    answers: dict[HolderId, bytes]
    mean: dict[str, np.ndarray]


@cache
def a_sum(excess: int = 1) -> Opened:
    """Two contributions, added up; `excess` multiplies what the holders and the coordinator see of them."""
    public_key, shares = generate(PLAN.parameters, randomness=b"s" * 32)
    source = np.random.default_rng(5)
    updates = [
        {tensor.name: source.uniform(-1, 1, tensor.shape).astype(tensor.dtype) for tensor in SPEC.tensors}
        for _ in WEIGHTS
    ]
    totals = [ResidueAccumulator(PLAN.parameters), ResidueAccumulator(PLAN.parameters)]
    for update, weight in zip(updates, WEIGHTS, strict=True):
        vector, _ = pack(update, weight, layout=SPEC.layout, clip=SPEC.clip, max_weight=SPEC.max_weight)
        ciphertext = encrypt_once(public_key, vector)
        for total, half in zip(totals, (ciphertext.c0, ciphertext.c1), strict=True):
            primes = np.array(PLAN.parameters.data_primes, dtype=np.uint64)[:, None]
            total.add((half * np.uint64(excess) % primes).astype(np.uint32))
    c1 = totals[1].finish()
    answers = {HOLDERS[share.holder - 1]: answer_block(share, c1).astype("<u4").tobytes() for share in shares}
    mean = {
        name: sum(w * update[name].astype(np.float64) for w, update in zip(WEIGHTS, updates, strict=True))
        / sum(WEIGHTS)
        for name in updates[0]
    }
    return Opened(total=totals[0], answers=answers, mean=mean)


def opened_by(
    directory: Path, holders: tuple[HolderId, ...], lies: tuple[HolderId, ...] = (), excess: int = 1
) -> tuple[SumOpened | OpeningFailed, DirectoryBlobStore]:
    made, blobs = a_sum(excess), DirectoryBlobStore(directory)
    for holder in holders:
        answer = made.answers[holder]
        # The last chunk alone is wrong, so that everything before it was opened with the liar.
        altered = answer[:-4] + bytes([answer[-4] ^ 1]) + answer[-3:] if holder in lies else answer
        blobs.write(f"answers/{holder}", [altered])
    answers = tuple(SpooledAnswer(holder=holder, blob=f"answers/{holder}") for holder in holders)
    return SumRecovery(PLAN, made.total, answers).open(blobs), blobs


@pytest.mark.parametrize("holders", [HOLDERS[:3], HOLDERS[2:], HOLDERS[:4], HOLDERS])
def test_any_three_open_the_mean(tmp_path: Path, holders: tuple[HolderId, ...]) -> None:
    event, blobs = opened_by(tmp_path, holders)
    assert isinstance(event, SumOpened)
    assert event.total_weight == pytest.approx(sum(WEIGHTS), abs=1e-3)
    data = blobs.read(mean_name(SPEC.job, PLAN.round, event.mean_digest), 0, 10**7)
    assert len(data) == event.mean_bytes == 90_000 * 4 + 3 * 8
    assert hashlib.sha256(data).digest() == event.mean_digest
    w, b = np.frombuffer(data[: 90_000 * 4], dtype="<f4"), np.frombuffer(data[90_000 * 4 :], dtype="<f8")
    assert np.abs(w - a_sum().mean["w"]).max() < 1e-3
    assert np.abs(b - a_sum().mean["b"]).max() < 1e-3


def test_the_padding_of_the_last_chunk_is_no_part_of_the_sum(tmp_path: Path) -> None:
    _, blobs = opened_by(tmp_path, HOLDERS[:3])
    answers = tuple(SpooledAnswer(holder=holder, blob=f"answers/{holder}") for holder in HOLDERS[:3])
    blocks = list(SumRecovery(PLAN, a_sum(1).total, answers)._vector(blobs))
    assert len(blocks) == 2
    assert sum(map(len, blocks)) == PLAN.parameters.values


def test_five_answers_name_a_liar_and_go_on_without(tmp_path: Path) -> None:
    event, _ = opened_by(tmp_path, HOLDERS, lies=(HOLDERS[3],))
    assert isinstance(event, SumOpened)
    assert event.liars == (HOLDERS[3],)


@pytest.mark.parametrize("count", [3, 4])
def test_fewer_publish_nothing_and_list_suspects(tmp_path: Path, count: int) -> None:
    event, blobs = opened_by(tmp_path, HOLDERS[:count], lies=(HOLDERS[0],))
    assert isinstance(event, OpeningFailed)
    assert event.can_wait
    assert HOLDERS[0] in event.suspects
    assert not event.liars
    assert blobs.names("means") == []


def test_answers_that_agree_on_nonsense_are_the_clients_doing(tmp_path: Path) -> None:
    event, blobs = opened_by(tmp_path, HOLDERS[:4], excess=1_000_003)
    assert isinstance(event, OpeningFailed)
    assert not event.can_wait
    assert not event.suspects
    assert blobs.names("means") == []
