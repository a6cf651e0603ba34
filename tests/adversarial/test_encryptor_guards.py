"""Guards of the encryptor and of its driver that nothing else would miss: found by breaking each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from he.encrypt import Encryptor
from he.errors import HEError, UpdateError
from he.public_key import PublicKey
from secagg import labels
from secagg.client.encryption import encrypt
from secagg.client.spool import CiphertextSpool
from secagg.digests import Canonical
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.plan import CkksJob, CkksRound, JobSpec, RoundPlan, TensorSpec
from secagg.roles.client.events import BuildKey
from tests.he_material import draw_key, small_parameters

THREADS = 8
HOLDERS = tuple(HolderId(name) for name in ("north", "south", "east", "west", "centre"))


@pytest.fixture(scope="module")
def public_key() -> PublicKey:
    return draw_key(small_parameters(values=10), seed=1)[0]


@pytest.fixture
def threads_that_interrupt_one_another() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("threads_that_interrupt_one_another")
def test_of_many_threads_one_encrypts_a_block(public_key: PublicKey) -> None:
    """Two vectors under one block's key would give their difference away."""
    together = Barrier(THREADS)

    def attempt(encryptor: Encryptor, number: int) -> bool:
        together.wait(timeout=20.0)
        try:
            encryptor.encrypt_block(np.full(10, number / THREADS), 0)
        except HEError:
            return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(20):
            encryptor = Encryptor(public_key, seed=bytes(32))
            done = [pool.submit(attempt, encryptor, number) for number in range(THREADS)]
            assert sum(one.result() for one in done) == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_what_rounding_cannot_explain_is_beyond_the_clip_bound(public_key: PublicKey, sign: int) -> None:
    vector = np.zeros(10)
    vector[7] = sign * (1 + 1e-8)
    with pytest.raises(UpdateError, match="not within the clip bound"):
        Encryptor(public_key, seed=bytes(32)).encrypt_blocks(vector)
    vector[7] = sign * (1 + 1e-10)
    Encryptor(public_key, seed=bytes(32)).encrypt(vector)


async def test_every_encryption_has_a_nonce_of_its_own(tmp_path: Path) -> None:
    """The nonce hides a commitment from who can guess the roots."""
    spec = JobSpec(
        job=JobId("digits"),
        purpose="tests",
        tensors=(TensorSpec(name="w", shape=(10,), dtype="float32"),),
        protocol=CkksJob(holders=HOLDERS, precision=1e-2),
        min_contributors=2,
        max_clients=4,
    )
    group = spec.ckks.group(HOLDERS)
    plan = RoundPlan(spec=spec, round=RoundNumber(1), protocol=CkksRound(key_id=KeyId(bytes(32)), group=group))
    effect = BuildKey(plan=plan, public_key=draw_key(plan.parameters, seed=2)[0])
    made = []
    for _ in range(2):
        with CiphertextSpool(tmp_path) as spool:
            update = {"w": np.ones(10, dtype=np.float32)}
            made.append((await encrypt(update, 1.0, effect, spool, lambda *_: None, engine="numpy")).event)
    assert len({one.nonce for one in made}) == 2
    assert len({one.root_c0 for one in made} | {one.root_c1 for one in made}) == 4


def test_the_packing_stands_in_the_job_itself() -> None:
    """Not only in the digest of the parameters, which a plan's digest covers too."""
    job = CkksJob(holders=HOLDERS)
    encoded = set()
    for packing in ("real", "complex"):
        canonical = Canonical(labels.ROUND_PLAN)
        replace(job, packing=packing).extend(canonical)
        encoded.add(canonical.encoded())
    assert len(encoded) == 2
