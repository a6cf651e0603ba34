"""Masked vectors that wait on disk, one of each client: held against what was signed, and added up piece by piece.

Everything here blocks; the asyncio side calls it in an executor.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from contextlib import closing
from typing import BinaryIO, Final

from coordinator.contracts import BlobStore
from coordinator.streams import Part, Spool, UploadKey
from secagg.errors import FaultyClientError, MessageError, StorageError, WrongPhaseError
from secagg.ids import JobId, RoundNumber
from secagg.masking.masks import MaskedSum, piece_bytes, pieces
from secagg.masking.packing import unpack
from secagg.masking.parameters import MaskingParameters
from secagg.messages.masking import MaskedUpload

_VECTOR: Final = "vector"


class VectorSpool:
    """The masked vectors of all rounds.

    Args:
        blobs: where the bytes lie.
        streams: holds them, within its bound.
    """

    def __init__(self, blobs: BlobStore, streams: Spool) -> None:
        self._blobs = blobs
        self._streams = streams

    def reserve(self, key: UploadKey, vector_bytes: int, *, clients: int = 1) -> None:
        """Set aside the space of a vector, as :meth:`Spool.reserve`."""
        self._streams.reserve(key, {_VECTOR: vector_bytes}, clients=clients)

    def recall(self, job: JobId, round: RoundNumber, vector_bytes: int, *, clients: int) -> None:
        """Set aside again what a round had, as :meth:`Spool.recall`."""
        self._streams.recall(job, round, {_VECTOR: vector_bytes}, clients=clients)

    def size(self, key: UploadKey) -> int:
        """Return how many bytes have arrived."""
        return self._streams.size(key, _VECTOR)

    def append(self, key: UploadKey, *, offset: int, data: bytes, digest: bytes) -> int:
        """Add a part at the end of a vector, as :meth:`Spool.append`."""
        return self._streams.append(key, Part(stream=_VECTOR, offset=offset, data=data, digest=digest))

    def verify(self, key: UploadKey, parameters: MaskingParameters, upload: MaskedUpload) -> None:
        """Hold the bytes against length and SHA-256 that the client signed, see that they unpack, and put them on disk.

        Raises:
            WrongPhaseError: not all bytes have arrived; the client may go on.
            FaultyClientError: the bytes are not what the client signed, or no packed vector.
        """
        size = self.size(key)
        if size != upload.vector_bytes:
            message = f"the vector of client {key.client} has {size} of {upload.vector_bytes} bytes"
            raise WrongPhaseError(message, next_step="Send the rest, then complete the upload")
        with closing(self._blobs.open(key.blob(_VECTOR))) as file:
            digest = _digest_of(file, key, parameters, size)
        if not hmac.compare_digest(digest, upload.vector_digest):
            raise FaultyClientError(key.client, "its vector is not the one that it signed")
        self._blobs.sync(key.blob(_VECTOR))

    def add_up(
        self,
        total: MaskedSum,
        parameters: MaskingParameters,
        keys: Sequence[UploadKey],
        bounds: Sequence[tuple[int, int]],
    ) -> None:
        """Add these pieces of every vector; memory of one piece, whatever the number of vectors.

        Args:
            total: what is added to.
            parameters: of the plan.
            keys: whose vectors, each verified before.
            bounds: of the pieces, as :func:`~secagg.masking.masks.pieces` gives them.
        """
        for key in keys:
            with closing(self._blobs.open(key.blob(_VECTOR))) as file:
                for start, stop in bounds:
                    offset, size = piece_bytes(start, stop, parameters)
                    file.seek(offset)
                    total.add(start, stop, file.read(size))


def _digest_of(file: BinaryIO, key: UploadKey, parameters: MaskingParameters, there: int) -> bytes:
    """Return the SHA-256 of a packed vector; pieces fill whole bytes, so only the last may have bits that must be zero."""
    hashed, read = hashlib.sha256(), 0
    for start, stop in pieces(parameters):
        size = piece_bytes(start, stop, parameters)[1]
        data = file.read(size)
        read += len(data)
        if len(data) != size and read != there:
            raise StorageError("an upload can be read in part only")
        hashed.update(data)
        if stop == parameters.values:
            _check_piece(key, data, parameters.sum_bits, stop - start)
    return hashed.digest()


def _check_piece(key: UploadKey, data: bytes, bits: int, count: int) -> None:
    try:
        unpack(data, bits, count)
    except MessageError as error:
        raise FaultyClientError(key.client, f"its vector does not unpack: {error.reason}") from error
