"""From an update to its one masked vector in a file, piece by piece and off the event loop (docs/protocol.md, 10.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

from secagg.client.spool import SpoolFile
from secagg.client.threads import in_thread
from secagg.client.updates import Update, packed
from secagg.ids import Digest
from secagg.masking.masks import masked_pieces
from secagg.roles.client.masking.events import MaskUpdate, VectorMasked

_END = b""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


async def mask(update: Update, weight: float, effect: MaskUpdate, file: SpoolFile) -> tuple[VectorMasked, int]:
    """Pack, quantise and mask an update into a file; return that, and how many entries were clipped.

    A piece takes some 50 ms with a hundred neighbours; a cancelled caller waits for one piece, not for the vector.

    Args:
        update: arrays as the plan names them.
        weight: above 0, at most the plan's ``max_weight``.
        effect: plan and masks.
        file: empty; on disk when this returns.

    Raises:
        UsageError: the update does not fit the plan.
        StorageError: there is no space.
    """
    spec = effect.plan.spec
    vector, clipped = await in_thread(packed, update, weight, spec)
    pieces = masked_pieces(vector, spec.masking_parameters, effect.masks, effect.noise_key)
    digest, size = hashlib.sha256(), 0
    while count := await in_thread(_write_piece, pieces, file, digest):
        size += count
    await in_thread(file.sync)
    return VectorMasked(vector_digest=Digest(digest.digest()), vector_bytes=size), clipped


def _write_piece(pieces: Iterator[bytes], file: SpoolFile, digest: _Hash) -> int:
    piece = next(pieces, _END)
    digest.update(piece)
    file.append(piece)
    return len(piece)
