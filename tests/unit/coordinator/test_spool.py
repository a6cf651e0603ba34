"""The upload spool: in order, resumable, never larger than the plan, and what comes out of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from coordinator import spool as spool_module
from coordinator.spool import MAX_PART_BYTES, UploadKey, UploadPart, UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from he.ciphertext import half_chunk_bytes
from he.errors import FormatError
from he.parameters import Parameters, preset
from secagg.errors import BusyError, ConflictError, FaultyClientError, UsageError, WrongPhaseError
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.messages.round import Half, Upload
from secagg.transcript import CiphertextRoot

PARAMETERS = preset("ckks-4096", values=10_000, max_clients=4, holders=5, threshold=3)
HALF_BYTES = PARAMETERS.chunks * half_chunk_bytes(PARAMETERS)
JOB, ROUND = JobId("digits"), RoundNumber(1)
ALICE = UploadKey(job=JOB, round=ROUND, client=ClientId("alice"))
BOB = UploadKey(job=JOB, round=ROUND, client=ClientId("bob"))


@pytest.fixture
def spool(tmp_path: Path) -> UploadSpool:
    return UploadSpool(DirectoryBlobStore(tmp_path), max_bytes=4 * HALF_BYTES)


def part(data: bytes, offset: int = 0, half: Half = Half.C0) -> UploadPart:
    return UploadPart(half=half, offset=offset, data=data, digest=hashlib.sha256(data).digest())


def random_half(seed: int, parameters: Parameters = PARAMETERS) -> bytes:
    primes = np.array(parameters.data_primes, dtype=np.uint64)[:, None]
    shape = (parameters.chunks, len(primes), parameters.degree)
    words = np.random.default_rng(seed).integers(1, 2**60, shape, dtype=np.uint64)
    return (words % primes).astype("<u4").tobytes()


def root(half: bytes) -> Digest:
    made = CiphertextRoot()
    size = half_chunk_bytes(PARAMETERS)
    for start in range(0, len(half), size):
        made.add(half[start : start + size])
    return made.digest()


def upload(c0: bytes, c1: bytes) -> Upload:
    return Upload(
        plan_digest=Digest(bytes(32)),
        roster_digest=Digest(bytes(32)),
        client=ALICE.client,
        nonce=bytes(32),
        parameters_digest=Digest(PARAMETERS.digest()),
        level=3,
        scale=PARAMETERS.scale,
        chunks=PARAMETERS.chunks,
        root_c0=root(c0),
        root_c1=root(c1),
    )


def fill(spool: UploadSpool, key: UploadKey, c0: bytes, c1: bytes) -> None:
    spool.reserve(key, HALF_BYTES)
    for half, data in ((Half.C0, c0), (Half.C1, c1)):
        for offset in range(0, len(data), MAX_PART_BYTES):
            spool.append(key, part(data[offset : offset + MAX_PART_BYTES], offset, half))


class TestParts:
    def test_nothing_is_written_before_it_was_reserved(self, spool: UploadSpool) -> None:
        with pytest.raises(UsageError):
            spool.append(ALICE, part(b"data"))

    def test_parts_follow_each_other(self, spool: UploadSpool) -> None:
        spool.reserve(ALICE, HALF_BYTES)
        assert spool.append(ALICE, part(b"one")) == 3
        assert spool.append(ALICE, part(b"two", 3)) == 6
        assert spool.sizes(ALICE) == {Half.C0: 6, Half.C1: 0}

    def test_the_same_part_again_is_harmless(self, spool: UploadSpool) -> None:
        spool.reserve(ALICE, HALF_BYTES)
        spool.append(ALICE, part(b"one"))
        assert spool.append(ALICE, part(b"one")) == 3

    def test_another_part_in_its_place_is_refused(self, spool: UploadSpool) -> None:
        spool.reserve(ALICE, HALF_BYTES)
        spool.append(ALICE, part(b"one"))
        with pytest.raises(ConflictError):
            spool.append(ALICE, part(b"two"))
        assert spool.sizes(ALICE)[Half.C0] == 3

    @pytest.mark.parametrize(
        "wrong",
        [
            part(b""),
            part(b"gap", 1),
            part(b"negative", -1),
            part(b"x", HALF_BYTES),
            part(b"xy", HALF_BYTES - 1),
            part(bytes(MAX_PART_BYTES + 1)),
            UploadPart(half=Half.C0, offset=0, data=b"data", digest=hashlib.sha256(b"date").digest()),
            UploadPart(half=Half.C0, offset=0, data=b"data", digest=b""),
        ],
        ids=["empty", "gap", "negative", "beyond", "across", "large", "damaged", "no digest"],
    )
    def test_wrong_parts_leave_nothing(self, spool: UploadSpool, wrong: UploadPart) -> None:
        spool.reserve(ALICE, HALF_BYTES)
        with pytest.raises(UsageError):
            spool.append(ALICE, wrong)
        assert spool.sizes(ALICE) == {Half.C0: 0, Half.C1: 0}


class TestBounds:
    def test_a_half_ends_where_the_plan_says(self, spool: UploadSpool) -> None:
        fill(spool, ALICE, bytes(HALF_BYTES - 1), b"")
        for beyond in (part(b"xy", HALF_BYTES - 1), part(b"x", HALF_BYTES)):
            with pytest.raises(UsageError):
                spool.append(ALICE, beyond)
        assert spool.append(ALICE, part(b"x", HALF_BYTES - 1)) == HALF_BYTES
        with pytest.raises(UsageError):
            spool.append(ALICE, part(b"x", HALF_BYTES))
        assert spool.sizes(ALICE)[Half.C0] == HALF_BYTES

    def test_a_full_spool_sends_away(self, spool: UploadSpool) -> None:
        spool.reserve(ALICE, HALF_BYTES)
        spool.reserve(BOB, HALF_BYTES)
        carol = UploadKey(job=JOB, round=ROUND, client=ClientId("carol"))
        with pytest.raises(BusyError):
            spool.reserve(carol, HALF_BYTES)
        spool.discard(ALICE)
        spool.reserve(carol, HALF_BYTES)

    def test_a_reservation_counts_once(self, spool: UploadSpool) -> None:
        for _ in range(5):
            spool.reserve(ALICE, HALF_BYTES)
        assert spool.reserved_bytes == 2 * HALF_BYTES

    def test_the_end_of_a_round_leaves_nothing(self, spool: UploadSpool, tmp_path: Path) -> None:
        other = UploadKey(job=JOB, round=RoundNumber(11), client=ClientId("alice"))
        for key in (ALICE, other):
            spool.reserve(key, HALF_BYTES)
            spool.append(key, part(b"data"))
        spool.delete_round(JOB, ROUND)
        assert spool.reserved_bytes == 2 * HALF_BYTES
        assert spool.sizes(ALICE)[Half.C0] == 0
        assert spool.sizes(other)[Half.C0] == 4
        with pytest.raises(UsageError):
            spool.append(ALICE, part(b"late"))


class TestVerifying:
    def test_what_was_signed(self, spool: UploadSpool) -> None:
        c0, c1 = random_half(1), random_half(2)
        fill(spool, ALICE, c0, c1)
        digests = spool.verify(ALICE, PARAMETERS, upload(c0, c1))
        size = half_chunk_bytes(PARAMETERS)
        assert digests == tuple(hashlib.sha256(c1[at : at + size]).digest() for at in range(0, len(c1), size))

    def test_missing_bytes_are_not_a_fault(self, spool: UploadSpool) -> None:
        c0, c1 = random_half(1), random_half(2)
        fill(spool, ALICE, c0, c1[:-4])
        with pytest.raises(WrongPhaseError):
            spool.verify(ALICE, PARAMETERS, upload(c0, c1))

    @pytest.mark.parametrize("which", [0, 1])
    def test_other_bytes_are(self, spool: UploadSpool, which: int) -> None:
        halves = [random_half(1), random_half(2)]
        signed = upload(*halves)
        halves[which] = random_half(3)
        fill(spool, ALICE, *halves)
        with pytest.raises(FaultyClientError, match="root"):
            spool.verify(ALICE, PARAMETERS, signed)

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_residue_above_its_prime(self, spool: UploadSpool, which: int) -> None:
        halves = [random_half(1), random_half(2)]
        halves[which] = halves[which][:-4] + b"\xff\xff\xff\xff"
        fill(spool, ALICE, *halves)
        with pytest.raises(FaultyClientError, match="prime"):
            spool.verify(ALICE, PARAMETERS, upload(*halves))

    def test_a_transparent_chunk(self, spool: UploadSpool) -> None:
        c0, c1 = random_half(1), random_half(2)
        c1 = c1[: -half_chunk_bytes(PARAMETERS)] + bytes(half_chunk_bytes(PARAMETERS))
        fill(spool, ALICE, c0, c1)
        with pytest.raises(FaultyClientError, match="transparent"):
            spool.verify(ALICE, PARAMETERS, upload(c0, c1))

    def test_a_chunk_that_stands_twice(self, spool: UploadSpool) -> None:
        size = half_chunk_bytes(PARAMETERS)
        c0, chunk = random_half(1), random_half(2)[:size]
        c1 = chunk * PARAMETERS.chunks
        fill(spool, ALICE, c0, c1)
        with pytest.raises(FaultyClientError, match="twice"):
            spool.verify(ALICE, PARAMETERS, upload(c0, c1))


def test_the_total_is_the_sum_modulo_each_prime(spool: UploadSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_STRETCH_CHUNKS", 2)
    halves = {ALICE: random_half(1), BOB: random_half(2)}
    for key, c0 in halves.items():
        fill(spool, key, c0, random_half(9))
    total = spool.total(JOB, ROUND, PARAMETERS, (ALICE.client, BOB.client))
    shape = (PARAMETERS.chunks, len(PARAMETERS.data_primes), PARAMETERS.degree)
    arrays = [np.frombuffer(half, dtype="<u4").reshape(shape).astype(np.uint64) for half in halves.values()]
    primes = np.array(PARAMETERS.data_primes, dtype=np.uint64)[:, None]
    expected = sum(arrays) % primes
    for start, stop in [(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)]:
        assert np.array_equal(total.block(start, stop), expected[start:stop])


def test_a_half_that_was_cut_on_disk_gives_no_sum(spool: UploadSpool, tmp_path: Path) -> None:
    fill(spool, ALICE, random_half(1), random_half(2))
    (path,) = tmp_path.rglob("c0")
    path.write_bytes(path.read_bytes()[:-4])
    total = spool.total(JOB, ROUND, PARAMETERS, (ALICE.client,))
    with pytest.raises(FormatError):
        total.block(0, PARAMETERS.chunks)
