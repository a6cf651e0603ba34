"""From an update to a ciphertext in the spool, chunk by chunk and off the event loop."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from he.ciphertext import chunk_to_bytes
from he.encrypt import Encryptor
from he.ring import Residues
from secagg.client.spool import CiphertextSpool
from secagg.client.threads import in_thread
from secagg.client.updates import Update, packed
from secagg.ids import NONCE_BYTES
from secagg.messages.round import Half
from secagg.roles.client.events import BuildKey, CiphertextReady
from secagg.transcript import CiphertextRoot

BATCH_CHUNKS: Final = 16
"""Chunks between two looks at the caller: some 30 ms."""


@dataclass(frozen=True, kw_only=True)
class Encrypted:
    """What became of an update. ``clipped``: entries beyond the plan's clip bound."""

    event: CiphertextReady
    clipped: int


async def encrypt(
    update: Update, weight: float, effect: BuildKey, spool: CiphertextSpool, report: Callable[[int, int], None]
) -> Encrypted:
    """Pack, clip and encrypt an update into the spool; memory of one packed vector.

    Args:
        update: arrays as the plan names them.
        weight: above 0, at most the plan's ``max_weight``.
        effect: plan and checked key.
        spool: takes both halves.
        report: told how many chunks of how many are done.

    Raises:
        UsageError: the update does not fit the plan; it names the tensor and the way out.
        StorageError: the spool is full.
    """
    vector, clipped = await in_thread(packed, update, weight, effect.plan.spec)
    encryptor = await in_thread(Encryptor, effect.public_key)
    chunks, total = encryptor.encrypt_chunks(vector), encryptor.parameters.chunks
    roots = {half: CiphertextRoot() for half in Half}
    done = 0
    while batch := await in_thread(_spool_batch, chunks, spool, roots):
        done += batch
        report(done, total)
    event = CiphertextReady(
        nonce=secrets.token_bytes(NONCE_BYTES), root_c0=roots[Half.C0].digest(), root_c1=roots[Half.C1].digest()
    )
    return Encrypted(event=event, clipped=clipped)


def _spool_batch(
    chunks: Iterator[tuple[Residues, Residues]], spool: CiphertextSpool, roots: Mapping[Half, CiphertextRoot]
) -> int:
    count = 0
    for halves in islice(chunks, BATCH_CHUNKS):
        for half, chunk in zip(Half, halves, strict=True):
            data = chunk_to_bytes(chunk)
            roots[half].add(data)
            spool.append(half, data)
        count += 1
    return count
