"""The mask stream: its border cases, its silence about its key, and what a masked vector looks like."""

import numpy as np
import pytest

from secagg.errors import UsageError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import pair_mask_key, public_key, self_mask_key
from secagg.masking.packing import pack
from secagg.masking.stream import BUFFER_BYTES, MaskStream

BITS = 20
VALUES = 100_000
SECRETS = {"seed": b"s" * 32, "private": b"a" * 32, "peer": public_key(b"b" * 32)}


def masks_of(roster: bytes) -> list[MaskStream]:
    """The self mask and one pair mask of alice, in the round with that roster."""
    plan, digest, alice = Digest(b"p" * 32), Digest(roster * 32), ClientId("alice")
    own = self_mask_key(SECRETS["seed"], plan_digest=plan, roster_digest=digest, client=alice)
    pair = pair_mask_key(
        SECRETS["private"], SECRETS["peer"], plan_digest=plan, roster_digest=digest, one=alice, other=ClientId("bob")
    )
    return [MaskStream(own), MaskStream(pair)]


def chi_square(data: bytes) -> float:
    """Against uniform bytes: 255 on average, with a standard deviation of 22.6."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("roster", [b"1", b"2", b"3"])
@pytest.mark.parametrize("content", ["zeros", "largest", "one value"])
def test_a_masked_vector_looks_uniform_whatever_it_holds(roster: bytes, content: str) -> None:
    vector = np.full(VALUES, {"zeros": 0, "largest": (1 << BITS) - 1, "one value": 1 << 19}[content], dtype=np.uint32)
    bare = chi_square(pack(vector, BITS))
    own, pair = masks_of(roster)
    own.add_to(vector, 0)
    pair.subtract_from(vector, 0)
    vector &= np.uint32((1 << BITS) - 1)
    assert 255 - 5 * 22.6 < chi_square(pack(vector, BITS)) < 255 + 5 * 22.6
    assert bare > 100_000


def test_two_rounds_of_one_client_share_no_run_of_words() -> None:
    """No 8 bytes of any mask of one round stand anywhere in a mask of the other, or in the round's other mask."""
    streams = [*masks_of(b"1"), *masks_of(b"2")]
    runs = np.concatenate([runs_of(stream) for stream in streams])
    assert len(np.unique(runs)) == len(runs)
    again = np.concatenate([runs_of(masks_of(b"1")[0]), runs_of(streams[0])])
    assert len(np.unique(again)) == len(again) // 2


def runs_of(stream: MaskStream) -> np.ndarray:
    words = stream.words(0, 20_000).astype(np.uint64)
    return words[:-1] << np.uint64(32) | words[1:]


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_a_key_of_less_or_more_than_256_bits_is_refused(length: int) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        MaskStream(bytes(length))


def test_a_stream_does_not_show_its_key() -> None:
    stream = MaskStream(b"visible-key-visible-key-visible-")
    assert "visible" not in f"{stream!r} {stream!s}"
    assert not hasattr(stream, "__dict__")


@pytest.mark.parametrize("start", [-1, 2**130])
def test_words_outside_the_stream_are_refused(start: int) -> None:
    with pytest.raises(UsageError, match="from byte"):
        MaskStream(b"k" * 32).words(start, 1)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(UsageError, match="over -1"):
        MaskStream(b"k" * 32).words(0, -1)


@pytest.mark.parametrize("target", [np.zeros(4, np.int64), np.zeros(4, np.int32), np.zeros((2, 2), np.uint32)])
def test_only_a_vector_of_uint32_is_masked(target: np.ndarray) -> None:
    for operation in (MaskStream(b"k" * 32).add_to, MaskStream(b"k" * 32).subtract_from):
        with pytest.raises(UsageError, match="uint32"):
            operation(target, 0)
    assert not target.any()


def test_a_strided_part_of_a_vector_is_masked_in_place() -> None:
    whole = np.zeros(20, np.uint32)
    MaskStream(b"k" * 32).add_to(whole[::2], 7)
    assert np.array_equal(whole[::2], MaskStream(b"k" * 32).words(7, 10))
    assert not whole[1::2].any()


def test_the_buffer_is_bounded() -> None:
    assert BUFFER_BYTES <= 1 << 20


@pytest.mark.parametrize("start", [0, 3, 70_001])
def test_a_stream_goes_on_where_a_piece_ended(start: int) -> None:
    stream = MaskStream(bytes(range(32)))
    pieces = (1, 5, 0, 4096, BUFFER_BYTES // 4 + 3, 2)
    run, back = stream.onwards(start), stream.onwards(start)
    at = start
    for count in pieces:
        target = np.full(count, 7, dtype=np.uint32)
        run.add_to(target)
        assert np.array_equal(target, stream.words(at, count) + np.uint32(7))
        back.subtract_from(target)
        assert (target == 7).all()
        at += count


def test_a_stream_goes_on_from_no_negative_word() -> None:
    with pytest.raises(UsageError):
        MaskStream(bytes(32)).onwards(-1)
