"""The masks of one vector, and vectors masked or added up piece by piece (``docs/protocol.md``, 10.4 and 10.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from secagg.masking.packing import pack, packed_bytes, unpack
from secagg.masking.parameters import MaskingParameters
from secagg.masking.quantise import Floats, dequantise_sum, quantise
from secagg.masking.stream import MaskStream, Words

PIECE_VALUES: Final = 1 << 17
"""Values that are masked, packed and added at a time: a multiple of 8, so that pieces pack on their own."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Masks:
    """Keys of mask streams, 32 bytes each: those that are added to a vector, and those that are taken off it."""

    added: tuple[bytes, ...] = ()
    subtracted: tuple[bytes, ...] = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.added) + len(self.subtracted)

    @property
    def inverse(self) -> Masks:
        """What takes these masks off again."""
        return Masks(added=self.subtracted, subtracted=self.added)

    def put_on(self, values: Words, start: int) -> None:
        """Mask values number ``start`` on, uint32, in place and modulo 2^32."""
        self.onwards(start)(values)

    def onwards(self, start: int) -> Callable[[Words], None]:
        """Return what masks the values from number ``start`` on as :meth:`put_on` does, piece after piece."""
        added = [MaskStream(key).onwards(start) for key in self.added]
        subtracted = [MaskStream(key).onwards(start) for key in self.subtracted]

        def put_on(values: Words) -> None:
            for run in added:
                run.add_to(values)
            for run in subtracted:
                run.subtract_from(values)

        return put_on


def adds(own: int, other: int) -> bool:
    """Whether the client at position ``own`` adds the mask that it shares with the one at ``other``, who then takes it off."""
    return own < other


def pieces(parameters: MaskingParameters) -> Iterator[tuple[int, int]]:
    """Yield the bounds of each piece of a vector, in values."""
    for start in range(0, parameters.values, PIECE_VALUES):
        yield start, min(start + PIECE_VALUES, parameters.values)


def masked_pieces(vector: Floats, parameters: MaskingParameters, masks: Masks, noise_key: bytes) -> Iterator[bytes]:
    """Yield a client's vector quantised, masked modulo 2^b and packed to b bits, in pieces.

    Args:
        vector: float64 (values,), as ``he.packing.pack`` gives it.
        parameters: of the plan.
        masks: all of the client's masks.
        noise_key: of the stream that rounds.

    Raises:
        UsageError: the vector holds what is not a number.
    """
    noise, put_on = MaskStream(noise_key), masks.onwards(0)
    for start, stop in pieces(parameters):
        values = quantise(
            vector[start:stop], clip=parameters.clip, value_bits=parameters.value_bits, noise=noise, start=start
        )
        put_on(values)
        yield pack(_reduced(values, parameters), parameters.sum_bits)


class MaskedSum:
    """The sum of masked vectors, whatever their number in the memory of one: uint32 (values,), modulo 2^32.

    Pieces are independent of one another: several threads may work on different ones, or each has a sum of its own.

    Args:
        parameters: of the plan.
        stretch: the first value that is summed, and the one after the last; all of them when left out.
    """

    def __init__(self, parameters: MaskingParameters, stretch: tuple[int, int] | None = None) -> None:
        self._parameters = parameters
        self._first, after = (0, parameters.values) if stretch is None else stretch
        self._total = np.zeros(after - self._first, dtype=np.uint32)

    def _piece(self, start: int, stop: int) -> Words:
        return self._total[start - self._first : stop - self._first]

    def add(self, start: int, stop: int, packed: bytes) -> None:
        """Add one client's piece; :class:`MessageError` unless it is ``stop - start`` packed values."""
        piece = self._piece(start, stop)
        piece += unpack(packed, self._parameters.sum_bits, stop - start)

    def take_off(self, start: int, stop: int, masks: Masks) -> None:
        """Take masks off one piece."""
        masks.inverse.put_on(self._piece(start, stop), start)

    def quantised(self) -> Words:
        """Return the sum of the quantised integers, modulo 2^b: uint32 (values of the stretch,)."""
        return _reduced(self._total, self._parameters)

    def values(self, contributors: int) -> Floats:
        """Return the sum of what ``contributors`` clients packed: float64 (values of the stretch,)."""
        parameters = self._parameters
        return dequantise_sum(
            self.quantised(), contributors=contributors, clip=parameters.clip, value_bits=parameters.value_bits
        )


def _reduced(values: Words, parameters: MaskingParameters) -> Words:
    # 2^b divides 2^32, so what was added modulo 2^32 is right modulo 2^b.
    return values & np.uint32((1 << parameters.sum_bits) - 1)


def piece_bytes(start: int, stop: int, parameters: MaskingParameters) -> tuple[int, int]:
    """Return where a piece's packed bytes begin in a packed vector, and how many they are."""
    return packed_bytes(start, parameters.sum_bits), packed_bytes(stop - start, parameters.sum_bits)
