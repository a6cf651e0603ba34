"""From an update to a ciphertext in the spool, block by block and off the event loop."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from he.ciphertext import chunk_to_bytes, half_chunk_bytes
from he.encrypt import SEED_BYTES, Encryptor
from secagg.client.one_blas_thread import one_blas_thread
from secagg.client.spool import CiphertextSpool
from secagg.client.threads import in_thread
from secagg.client.updates import Update, packed
from secagg.cores import usable_cores
from secagg.ids import NONCE_BYTES
from secagg.messages.round import Half
from secagg.roles.client.events import BuildKey, CiphertextReady
from secagg.transcript import CiphertextRoot

LANES: Final = 2
"""Blocks are independent of one another, so as many threads as compute at a time work on as many blocks."""


@dataclass(frozen=True, kw_only=True)
class Encrypted:
    """What became of an update. ``clipped``: entries beyond the plan's clip bound."""

    event: CiphertextReady
    clipped: int


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Some consecutive chunks of both halves as they are sent, with their part of the roots."""

    chunks: int
    data: Mapping[Half, bytes]
    roots: Mapping[Half, CiphertextRoot]


Vector: TypeAlias = npt.NDArray[np.float64]
_Blocks: TypeAlias = Generator[_Block, None, None]


async def encrypt(
    update: Update,
    weight: float,
    effect: BuildKey,
    spool: CiphertextSpool,
    report: Callable[[int, int], None],
    *,
    engine: str,
) -> Encrypted:
    """Pack, clip and encrypt an update into the spool; memory of one packed vector, and one block more than there are lanes.

    However it ends, no thread of it works any more.

    Args:
        update: arrays as the plan names them.
        weight: above 0, at most the plan's ``max_weight``.
        effect: plan and checked key.
        spool: takes both halves.
        report: told how many chunks of how many are done.
        engine: one of `he.encrypt.ENGINES`.

    Raises:
        UsageError: the update does not fit the plan; it names the tensor and the way out.
        StorageError: the spool is full.
    """
    vector, clipped = await in_thread(packed, update, weight, effect.plan.spec)
    # Of this encryption alone: two vectors under one seed would give their difference away.
    seed = secrets.token_bytes(SEED_BYTES)
    encryptor = await in_thread(Encryptor, effect.public_key, engine=engine, seed=seed)
    roots = {half: CiphertextRoot() for half in Half}
    done, total = 0, encryptor.parameters.chunks
    blocks = _in_order(encryptor, vector, _lanes(engine))
    # Here and not in a lane: who sets the limit has to be who lifts it, for BLAS remembers both for the thread that asks.
    with one_blas_thread:
        try:
            while chunks := await in_thread(_spool_next, blocks, spool, roots):
                done += chunks
                report(done, total)
        finally:
            await in_thread(blocks.close)
    event = CiphertextReady(
        nonce=secrets.token_bytes(NONCE_BYTES), root_c0=roots[Half.C0].digest(), root_c1=roots[Half.C1].digest()
    )
    return Encrypted(event=event, clipped=clipped)


def _lanes(engine: str) -> int:
    """Return how many threads are of use: TenSEAL holds the interpreter's lock, numpy lets go of it."""
    return 1 if engine == "tenseal" else min(LANES, usable_cores())


def _in_order(encryptor: Encryptor, vector: Vector, lanes: int) -> _Blocks:
    """Yield the blocks as they follow one another, while the lanes work ahead by one block each.

    Closing it waits for them.
    """
    with ThreadPoolExecutor(lanes, thread_name_prefix="encrypting") as pool:
        ahead: deque[Future[_Block]] = deque()
        for index in range(encryptor.blocks):
            ahead.append(pool.submit(_encrypted, encryptor, vector, index))
            if len(ahead) > lanes:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _encrypted(encryptor: Encryptor, vector: Vector, index: int) -> _Block:
    halves = encryptor.encrypt_block(vector, index)
    size = half_chunk_bytes(encryptor.parameters)
    data = {half: chunk_to_bytes(residues) for half, residues in zip(Half, halves, strict=True)}
    return _Block(chunks=len(halves[0]), data=data, roots={half: _root(data[half], size) for half in Half})


def _root(data: bytes, chunk_bytes: int) -> CiphertextRoot:
    root, view = CiphertextRoot(), memoryview(data)
    for start in range(0, len(data), chunk_bytes):
        root.add(view[start : start + chunk_bytes])
    return root


def _spool_next(blocks: _Blocks, spool: CiphertextSpool, roots: Mapping[Half, CiphertextRoot]) -> int:
    """Spool one block and return how many chunks it has; 0 at the end."""
    block = next(blocks, None)
    if block is None:
        return 0
    for half in Half:
        roots[half].extend(block.roots[half])
        spool.append(half, block.data[half])
    return block.chunks
