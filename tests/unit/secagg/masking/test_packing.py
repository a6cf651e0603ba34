"""Packing at its borders: sizes, refusals, and memory of its own."""

import numpy as np
import pytest

from secagg.errors import MessageError, UsageError
from secagg.masking.packing import pack, packed_bytes, unpack


@pytest.mark.parametrize(
    ("count", "bits", "size"),
    [(0, 7, 0), (1, 1, 1), (8, 1, 1), (9, 1, 2), (8, 20, 20), (3, 20, 8), (1, 32, 4), (10_000_000, 23, 28_750_000)],
)
def test_sizes_are_exactly_b_bits_for_each_value(count: int, bits: int, size: int) -> None:
    assert packed_bytes(count, bits) == size


def test_the_first_value_is_in_the_lowest_bits() -> None:
    assert pack(np.array([0xABC, 0x123], np.uint32), 12) == bytes([0xBC, 0x3A, 0x12])


@pytest.mark.parametrize("bits", range(1, 32))
def test_the_first_value_that_does_not_fit_is_refused(bits: int) -> None:
    values = np.zeros(100, np.uint32)
    values[57] = (1 << bits) - 1
    assert np.array_equal(unpack(pack(values, bits), bits, 100), values)
    values[57] += np.uint32(1)
    with pytest.raises(UsageError, match=f"{bits} bits"):
        pack(values, bits)


@pytest.mark.parametrize("bits", [-1, 0, 33, 64])
def test_other_widths_are_refused(bits: int) -> None:
    for call in (
        lambda: packed_bytes(1, bits),
        lambda: pack(np.zeros(1, np.uint32), bits),
        lambda: unpack(b"", bits, 1),
    ):
        with pytest.raises(UsageError, match="1 to 32 bits"):
            call()


def test_negative_counts_are_refused() -> None:
    with pytest.raises(UsageError, match="-1"):
        packed_bytes(-1, 5)


@pytest.mark.parametrize("values", [np.zeros(4, np.int64), np.zeros(4, np.uint64), np.zeros((2, 2), np.uint32)])
def test_only_a_vector_of_uint32_is_packed(values: np.ndarray) -> None:
    with pytest.raises(UsageError, match="uint32"):
        pack(values, 8)


@pytest.mark.parametrize("bits", range(1, 33))
def test_lengths_and_padding_are_exact(bits: int) -> None:
    data = pack(np.zeros(3, np.uint32), bits)
    for wrong in (data[:-1], data + b"\0", data + bytes(4)):
        with pytest.raises(MessageError, match="3 values"):
            unpack(wrong, bits, 3)
    for bit in range(3 * bits % 8 or 8, 8):
        with pytest.raises(MessageError, match="not zero"):
            unpack(data[:-1] + bytes([1 << bit]), bits, 3)


@pytest.mark.parametrize("bits", [8, 13, 16, 20, 32])
def test_what_is_unpacked_outlives_the_buffer_it_came_from(bits: int) -> None:
    buffer = bytearray(pack(np.full(64, 3, np.uint32), bits))
    values = unpack(memoryview(buffer), bits, 64)
    buffer[:] = bytes(len(buffer))
    values += np.uint32(1)
    assert (values == 4).all()


def test_a_slice_that_starts_at_an_odd_address_unpacks() -> None:
    values = np.arange(64, dtype=np.uint32)
    for bits in (16, 20, 32):
        framed = memoryview(b"x" + pack(values, bits))
        assert np.array_equal(unpack(framed[1:], bits, 64), values)


def test_every_other_value_of_a_vector_packs() -> None:
    values = np.arange(200, dtype=np.uint32)
    assert pack(values[::2], 20) == pack(values[::2].copy(), 20)
