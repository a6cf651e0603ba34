"""Masked vectors on disk: verified against what was signed, thrown away when late, added up piece by piece."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from coordinator.spool import UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import MAX_PART_BYTES, UploadKey
from coordinator.vectors import VectorSpool
from secagg.errors import BusyError, FaultyClientError, UsageError, WrongPhaseError
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.masking.masks import PIECE_VALUES, MaskedSum, pieces
from secagg.masking.packing import pack
from secagg.masking.parameters import MaskingParameters
from secagg.messages.masking import MaskedUpload

# 23 bits, and three pieces whose last does not fill its last byte.
PARAMETERS = MaskingParameters(values=2 * PIECE_VALUES + 5, max_clients=7, clip=1.0)
JOB, ROUND = JobId("masked"), RoundNumber(1)
ALICE, BOB = (UploadKey(job=JOB, round=ROUND, client=ClientId(name)) for name in ("alice", "bob"))
SIZE = PARAMETERS.vector_bytes


@pytest.fixture
def uploads(tmp_path: Path) -> UploadSpool:
    return UploadSpool(DirectoryBlobStore(tmp_path), max_bytes=2 * SIZE)


@pytest.fixture
def spool(uploads: UploadSpool, tmp_path: Path) -> VectorSpool:
    return VectorSpool(DirectoryBlobStore(tmp_path), uploads.streams)


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << PARAMETERS.sum_bits, PARAMETERS.values, dtype=np.uint32)


def packed(seed: int) -> bytes:
    return pack(values(seed), PARAMETERS.sum_bits)


def statement(data: bytes) -> MaskedUpload:
    zeros = Digest(bytes(32))
    return MaskedUpload(
        plan_digest=zeros,
        roster_digest=zeros,
        client=ALICE.client,
        sharers_digest=zeros,
        vector_digest=Digest(hashlib.sha256(data).digest()),
        vector_bytes=len(data),
    )


def fill(spool: VectorSpool, key: UploadKey, data: bytes) -> None:
    spool.reserve(key, SIZE)
    for offset in range(0, len(data), MAX_PART_BYTES):
        part = data[offset : offset + MAX_PART_BYTES]
        spool.append(key, offset=offset, data=part, digest=hashlib.sha256(part).digest())


def test_what_was_signed_is_verified(spool: VectorSpool) -> None:
    fill(spool, ALICE, packed(1))
    assert spool.size(ALICE) == SIZE
    spool.verify(ALICE, PARAMETERS, statement(packed(1)))


def test_a_vector_that_is_verified_is_on_disk(spool: VectorSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(DirectoryBlobStore, "sync", lambda _self, name: synced.append(name))
    fill(spool, ALICE, packed(1))
    assert synced == []
    spool.verify(ALICE, PARAMETERS, statement(packed(1)))
    assert synced == [ALICE.blob("vector")]


def test_missing_bytes_are_not_a_fault(spool: VectorSpool) -> None:
    fill(spool, ALICE, packed(1)[:-1])
    with pytest.raises(WrongPhaseError, match=f"{SIZE - 1} of {SIZE}"):
        spool.verify(ALICE, PARAMETERS, statement(packed(1)))


@pytest.mark.parametrize("place", [0, SIZE // 2, SIZE - 2])
def test_other_bytes_are(spool: VectorSpool, place: int) -> None:
    altered = bytearray(packed(1))
    altered[place] ^= 1
    fill(spool, ALICE, bytes(altered))
    with pytest.raises(FaultyClientError, match="not the one that it signed"):
        spool.verify(ALICE, PARAMETERS, statement(packed(1)))


def test_signed_bits_after_the_last_value_are_a_fault(spool: VectorSpool) -> None:
    data = packed(1)[:-1] + bytes([packed(1)[-1] | 0x80])
    fill(spool, ALICE, data)
    with pytest.raises(FaultyClientError, match="does not unpack"):
        spool.verify(ALICE, PARAMETERS, statement(data))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_signed_vector_of_another_length_does_not_unpack(spool: VectorSpool, change: int) -> None:
    data = packed(1)[:change] if change < 0 else packed(1) + b"\0"
    spool.reserve(ALICE, len(data))
    for offset in range(0, len(data), MAX_PART_BYTES):
        part = data[offset : offset + MAX_PART_BYTES]
        spool.append(ALICE, offset=offset, data=part, digest=hashlib.sha256(part).digest())
    with pytest.raises(FaultyClientError):
        spool.verify(ALICE, PARAMETERS, statement(data))


def test_nothing_goes_beyond_the_plan(spool: VectorSpool) -> None:
    fill(spool, ALICE, packed(1))
    with pytest.raises(UsageError, match="of vector"):
        spool.append(ALICE, offset=SIZE, data=b"x", digest=hashlib.sha256(b"x").digest())


def test_vectors_and_ciphertexts_share_one_bound(spool: VectorSpool, uploads: UploadSpool) -> None:
    uploads.reserve(BOB, SIZE // 2 + 1)
    with pytest.raises(BusyError):
        spool.reserve(ALICE, SIZE)
    uploads.discard(BOB)
    spool.reserve(ALICE, SIZE)
    assert uploads.reserved_bytes == SIZE


def test_late_vectors_are_thrown_away_and_their_space_is_free(spool: VectorSpool, uploads: UploadSpool) -> None:
    for key in (ALICE, BOB):
        fill(spool, key, packed(1))
    uploads.streams.keep_only(JOB, RoundNumber(2), frozenset())
    assert spool.size(BOB) == SIZE
    uploads.streams.keep_only(JOB, ROUND, frozenset({ALICE.client}))
    assert (spool.size(ALICE), spool.size(BOB), uploads.reserved_bytes) == (SIZE, 0, SIZE)
    with pytest.raises(UsageError, match="has begun"):
        spool.append(BOB, offset=0, data=b"late", digest=hashlib.sha256(b"late").digest())


def test_the_sum_is_exact_whether_its_pieces_are_added_up_together_or_each_alone(spool: VectorSpool) -> None:
    fill(spool, ALICE, packed(1))
    fill(spool, BOB, packed(2))
    expected = (values(1) + values(2)) & np.uint32((1 << PARAMETERS.sum_bits) - 1)
    whole = MaskedSum(PARAMETERS)
    spool.add_up(whole, PARAMETERS, [ALICE, BOB], list(reversed(list(pieces(PARAMETERS)))))
    assert np.array_equal(whole.quantised(), expected)
    for piece in pieces(PARAMETERS):
        alone = MaskedSum(PARAMETERS, piece)
        spool.add_up(alone, PARAMETERS, [ALICE, BOB], [piece])
        assert np.array_equal(alone.quantised(), expected[slice(*piece)])
