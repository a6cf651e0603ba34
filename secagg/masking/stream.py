"""The mask stream: AES-256 in counter mode (NIST SP 800-38A, section 6.5), which can start anywhere.

Word i of a stream depends on the key and on i alone, so a vector is masked and unmasked in
chunks of any size, in any order, by clients and coordinator alike.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from secagg.errors import UsageError
from secagg.masking.agreement import KEY_BYTES

Words = npt.NDArray[np.uint32]

WORD_BYTES: Final = 4
BUFFER_BYTES: Final = 1 << 18
"""Keystream is made in pieces of this many bytes: piece and zeros stay in the second-level cache."""

_BUFFER_WORDS: Final = BUFFER_BYTES // WORD_BYTES
_BLOCK_BYTES: Final = 16
_COUNTER_BLOCKS: Final = 1 << 128
_ZEROS: Final = bytes(BUFFER_BYTES)


class MaskStream:
    """The keystream of one key; no state, so one object serves any number of threads.

    The initial counter block is zero: a key must belong to one stream only, as those do that
    `agreement` derives.

    Args:
        key: 32 bytes.

    Raises:
        UsageError: a key of another length.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise UsageError(f"a mask stream's key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    def bytes_at(self, start: int, count: int) -> bytes:
        """Return `count` bytes of the keystream from byte number `start`. Raises `UsageError` below zero."""
        return self._at(start, count).update(bytes(count))

    def words(self, start: int, count: int) -> Words:
        """Return words number `start`.. of the keystream, little-endian, uint32 (count,).

        Raises `UsageError` on a negative start or count.
        """
        encryptor = self._at(start * WORD_BYTES, count)
        words = np.empty(count, dtype="<u4")
        raw = words.view(np.uint8)
        for begin in range(0, len(raw), BUFFER_BYTES):
            piece = raw[begin : begin + BUFFER_BYTES]
            encryptor.update_into(memoryview(_ZEROS)[: len(piece)], piece.data)
        return words.astype(np.uint32, copy=False)

    def add_to(self, target: Words, start: int) -> None:
        """Add words number `start`.. to `target`, uint32 (n,), in place and modulo 2^32.

        Raises `UsageError` on a negative start or another kind of array.
        """
        self._apply(np.add, target, start)

    def subtract_from(self, target: Words, start: int) -> None:
        """Take words number `start`.. off `target`, uint32 (n,): undoes `add_to`, and raises as it does."""
        self._apply(np.subtract, target, start)

    def onwards(self, start: int) -> "MaskRun":
        """Return the stream from word number `start` on, for pieces that follow one another. Raises `UsageError` below zero."""
        return MaskRun(self._at(start * WORD_BYTES, 0))

    def _apply(self, operation: np.ufunc, target: Words, start: int) -> None:
        MaskRun(self._at(start * WORD_BYTES, len(target))).apply(operation, target)

    def _at(self, start: int, count: int) -> CipherContext:
        """Encryptor that stands at byte number `start` of the keystream."""
        block, skipped = divmod(start, _BLOCK_BYTES)
        if count < 0 or not 0 <= block < _COUNTER_BLOCKS:
            raise UsageError(f"a mask stream goes forwards from byte 0, not over {count} from byte {start}")
        counter = block.to_bytes(_BLOCK_BYTES, "big")
        encryptor = Cipher(algorithms.AES(self._key), modes.CTR(counter)).encryptor()
        if skipped:
            encryptor.update(bytes(skipped))
        return encryptor


class MaskRun:
    """A mask stream from some word on; each use goes on where the one before ended. Of one thread at a time.

    To begin anew for each piece of a vector would cost a key schedule each time.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, encryptor: CipherContext) -> None:
        self._encryptor = encryptor

    def add_to(self, target: Words) -> None:
        """Add the next words to `target`, uint32 (n,), in place. Raises `UsageError` on another kind of array."""
        self.apply(np.add, target)

    def subtract_from(self, target: Words) -> None:
        """Take the next words off `target`, uint32 (n,): as `add_to`."""
        self.apply(np.subtract, target)

    def apply(self, operation: np.ufunc, target: Words) -> None:
        """Put the next words on `target` by `operation`."""
        if target.dtype != np.uint32 or target.ndim != 1:
            raise UsageError(f"a mask goes on a vector of uint32, not on {target.ndim} dimensions of {target.dtype}")
        # update() would allocate its answer each time, at five times the cost
        piece = np.empty(min(len(target), _BUFFER_WORDS), dtype="<u4")
        for begin in range(0, len(target), _BUFFER_WORDS):
            part = target[begin : begin + _BUFFER_WORDS]
            raw = piece[: len(part)].view(np.uint8)
            self._encryptor.update_into(memoryview(_ZEROS)[: len(raw)], raw.data)
            operation(part, piece[: len(part)], out=part)
