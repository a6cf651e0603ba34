"""The hot paths of `ckks`: a client's encryption, the coordinator's addition and recovery, a key holder's partial decryption.

`case`: {"values", "packing"} of one vector, at ckks-4096 and 3 of 5 key holders.
"""

import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import coordinator.spool
import he.accumulate
import he.decode
import he.numpy_engine
import he.packing
import he.partial
import he.recover
from benchmarks.profiled.watch import Stages, profiled
from benchmarks.stage import Run
from coordinator.spool import UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.streams import UploadKey
from he.accumulate import ResidueAccumulator
from he.ciphertext import chunk_to_bytes, half_chunk_bytes
from he.encrypt import SEED_BYTES, Encryptor
from he.ntt import Transform
from he.numpy_engine import NumpyEngine
from he.packing import Layout
from he.parameters import Parameters, preset
from he.partial import answer_block
from he.plaintext import GridEncoder, PlaintextReducer
from he.recover import open_block
from he.ring import Residues, Ring, ring_for
from he.sampling import Keystream
from he.sharing import value_at_zero
from he.smudging import Smudger
from secagg.ids import ClientId, Digest, JobId, RoundNumber
from secagg.key_holder.sums import blocks_of
from secagg.messages.round import Half, Upload
from secagg.transcript import CiphertextRoot
from tests.ceremony_room import CeremonyRoom
from tests.he_material import random_residues

OPENED = (1, 2, 3)
"""Holders whose answers open."""
MOST_ERROR = 1e-2
ENCODERS = (GridEncoder, PlaintextReducer)
"""Of values in coefficients and in slots."""
_THIS = sys.modules[__name__]


def parameters_of(case: Mapping[str, Any]) -> Parameters:
    return preset("ckks-4096", values=case["values"], max_clients=100, holders=5, threshold=3, packing=case["packing"])


@lru_cache(maxsize=1)
def room_of(parameters: Parameters) -> CeremonyRoom:
    """Key holders after a real ceremony."""
    return CeremonyRoom(parameters, seed=0)


def half_of(parameters: Parameters) -> Residues:
    generator = np.random.default_rng(0)
    return random_residues(parameters.data_primes, parameters.degree, generator, parameters.chunks)


def encryption(case: Mapping[str, Any]) -> Run:
    """From a float32 update to both halves as bytes, and their roots: what a client does before it uploads, in one lane."""
    parameters = parameters_of(case)
    public_key = room_of(parameters).public_key
    update = {"w": np.random.default_rng(0).uniform(-1, 1, parameters.values - 1).astype(np.float32)}
    layout = Layout.of(update)

    def whole() -> None:
        vector, _ = he.packing.pack(update, 1.0, layout=layout, clip=parameters.clip, max_weight=1.0)
        encryptor = Encryptor(public_key, seed=secrets.token_bytes(SEED_BYTES))
        for index in range(encryptor.blocks):
            for half in encryptor.encrypt_block(vector, index):
                _hashed(_serialised(half), parameters)

    stages: Stages = {
        "pack and clip": [(he.packing, "pack")],
        "encode": [(one, "parts") for one in ENCODERS],
        "sampling": [(he.numpy_engine, "ternary"), (he.numpy_engine, "centred_binomial")],
        "NTT": [(Transform, name) for name in ("forward", "forward_small", "forward_limbs", "inverse")],
        "message modulo primes": [(one, "reduce") for one in ENCODERS],
        "products and sums": [(NumpyEngine, "encrypt")],
        "serialise": [(_THIS, "_serialised")],
        "SHA-256": [(_THIS, "_hashed")],
    }
    return profiled(whole, stages)


def _serialised(half: Residues) -> bytes:
    return chunk_to_bytes(half)


def _hashed(data: bytes, parameters: Parameters) -> None:
    root, view, size = CiphertextRoot(), memoryview(data), half_chunk_bytes(parameters)
    for start in range(0, len(data), size):
        root.add(view[start : start + size])


def addition(case: Mapping[str, Any]) -> Run:
    """What one client's ciphertext costs the coordinator: verified against its signed roots, and its c0 added, both from disk."""
    parameters = parameters_of(case)
    directory = tempfile.TemporaryDirectory()
    blobs = DirectoryBlobStore(Path(directory.name))
    spool = UploadSpool(blobs, max_bytes=1 << 40)
    key = UploadKey(job=JobId("bench"), round=RoundNumber(1), client=ClientId("client"))
    upload = _uploaded(blobs, key, parameters)

    def whole() -> None:
        spool.verify(key, parameters, upload)
        total = spool.total(key.job, key.round, parameters, (key.client,))
        for start, stop in _stretches(parameters):
            total.block(start, stop)
        assert directory.name

    stages: Stages = {
        "SHA-256": [(CiphertextRoot, "add")],
        "parse and verify": [(coordinator.spool, "chunk_from_bytes"), (he.accumulate, "verify_half")],
        "add": [(ResidueAccumulator, "add_chunk"), (ResidueAccumulator, "finish")],
        "to the disk (fsync)": [(DirectoryBlobStore, "sync")],
    }
    return profiled(whole, stages)


def _uploaded(blobs: DirectoryBlobStore, key: UploadKey, parameters: Parameters) -> Upload:
    half, roots = half_of(parameters), {}
    for name in Half:
        roots[name] = CiphertextRoot()
        blobs.write(key.blob(name.value), (chunk_to_bytes(chunk) for chunk in half))
        for chunk in half:
            roots[name].add(chunk_to_bytes(chunk))
    none = Digest(bytes(32))
    return Upload(
        plan_digest=none,
        roster_digest=none,
        client=key.client,
        nonce=bytes(32),
        parameters_digest=none,
        level=0,
        scale=parameters.scale,
        chunks=parameters.chunks,
        root_c0=roots[Half.C0].digest(),
        root_c1=roots[Half.C1].digest(),
    )


def _stretches(parameters: Parameters, chunks: int = 64) -> Iterator[tuple[int, int]]:
    for start in range(0, parameters.chunks, chunks):
        yield start, min(start + chunks, parameters.chunks)


def partial_decryption(case: Mapping[str, Any]) -> Run:
    """One key holder's answer to a sum that it has added up already."""
    parameters = parameters_of(case)
    room = room_of(parameters)
    share = room.share(OPENED[0])
    assert share is not None
    key_share, c1 = share.key_share(room.key_id), half_of(parameters)

    def whole() -> None:
        for start, stop in blocks_of(parameters):
            answer_block(key_share, c1[start:stop])

    stages: Stages = {
        "verify": [(he.partial, "verify_half")],
        "noise: keystreams": [(Keystream, "fill")],
        "noise: keys and combination": [(Smudger, "noise")],
        "NTT": [(Ring, "forward")],
        "products and sums": [(Ring, "multiply"), (Ring, "add")],
    }
    return profiled(whole, stages)


def recovery(case: Mapping[str, Any]) -> Run:
    """From t answers and the sum of c0, both in memory, to the values."""
    parameters = parameters_of(case)
    room, c1 = room_of(parameters), half_of(parameters)
    answers = {}
    for holder in OPENED:
        share = room.share(holder)
        assert share is not None
        answers[holder] = answer_block(share.key_share(room.key_id), c1)
    # An encryption of zero, so that what opens is the smudging noise.
    c0 = ring_for(parameters).negate(value_at_zero(answers, parameters.threshold, parameters.data_primes)[0])
    blocks = [slice(start, stop) for start, stop in _stretches(parameters, 16)]

    def whole() -> None:
        for block in blocks:
            open_block(parameters, c0[block], {holder: answer[block] for holder, answer in answers.items()})

    first = {holder: answer[:1] for holder, answer in answers.items()}
    assert np.abs(open_block(parameters, c0[:1], first)).max() < MOST_ERROR
    stages: Stages = {
        "verify": [(he.recover, "are_canonical")],
        "Shamir": [(he.recover, "value_at_zero")],
        "inverse NTT": [(Ring, "inverse")],
        "CRT": [(he.recover, "coefficients")],
        "values": [(he.recover, "decode")],
        "sums": [(Ring, "add")],
    }
    return profiled(whole, stages)
