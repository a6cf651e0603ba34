"""Sharing at its borders: what is dealt, what is refused, and what wrong shares give."""

import numpy as np
import pytest

from secagg.errors import MessageError, UsageError
from secagg.masking.shamir import LIMBS, PRIME, SHARE_BYTES, deal, decode_share, encode_share, recover, recover_many
from secagg.masking.stream import MaskStream

POINTS = np.array([4, 9, 2, 7], dtype=np.uint32)
SECRETS = [b"\xff" * 32, bytes(32), bytes(range(32))]
STREAM = MaskStream(b"k" * 32)


class ScriptedStream(MaskStream):
    """Says what it is told to, then counts up."""

    __slots__ = ("_script", "asked")

    def __init__(self, script: list[int]) -> None:
        super().__init__(bytes(32))
        self._script = np.array(script, dtype=np.uint32)
        self.asked: list[tuple[int, int]] = []

    def words(self, start: int, count: int) -> np.ndarray:
        self.asked.append((start, count))
        rest = np.arange(len(self._script), start + count, dtype=np.uint32)
        return np.concatenate([self._script, rest])[start : start + count]


def dealt(threshold: int = 3) -> np.ndarray:
    return deal(SECRETS, threshold=threshold, points=POINTS, stream=STREAM)


def test_shares_are_one_row_for_each_secret_and_point() -> None:
    assert dealt().shape == (3, 4, LIMBS)
    assert dealt().dtype == np.uint32
    assert len(encode_share(dealt()[0, 0])) == SHARE_BYTES


def test_the_value_p_is_rejected_and_the_top_bit_ignored() -> None:
    """Both words that mask to p are skipped, so that no residue is likelier than another."""
    script = [PRIME, 5, 2**32 - 1, 2**31 + 6, PRIME] + [8] * 7
    shares = deal([bytes(32)], threshold=2, points=np.array([1, 2], np.uint32), stream=ScriptedStream(script))
    assert shares[0, 0].tolist() == [5, 6, 8, 8, 8, 8, 8, 8, 8]


def test_a_stream_of_nothing_but_p_is_read_on_where_it_was_left() -> None:
    stream = ScriptedStream([PRIME] * 30)
    shares = deal([bytes(32)], threshold=2, points=np.array([1, 2], np.uint32), stream=stream)
    assert shares[0, 0].tolist() == list(range(30, 39))
    assert [start for start, _ in stream.asked[1:]] == [start + count for start, count in stream.asked[:-1]]


def test_a_threshold_of_one_gives_the_secret_to_everybody() -> None:
    shares = dealt(threshold=1)
    for index, secret in enumerate(SECRETS):
        assert all(recover(POINTS[one : one + 1], shares[index, one : one + 1]) == secret for one in range(4))


def test_one_altered_share_gives_another_secret_or_none() -> None:
    shares = dealt()[:, :3].copy()
    shares[:, 1, 0] ^= 1
    opened = recover_many(POINTS[:3], shares)
    assert all(found != secret for found, secret in zip(opened, SECRETS, strict=True))


def test_shares_of_no_secret_are_none_among_the_others() -> None:
    shares = np.zeros((3, 1, LIMBS), dtype=np.uint32)
    shares[1, 0, 0] = 1 << 30
    shares[2, 0, 8] = 1 << 16
    assert recover_many(POINTS[:1], shares) == [bytes(32), None, None]


def test_the_largest_threshold_of_a_complete_graph() -> None:
    points = np.arange(1, 1001, dtype=np.uint32)
    shares = deal(SECRETS, threshold=1000, points=points, stream=STREAM)
    assert recover_many(points, shares) == SECRETS


def test_no_secret_no_share() -> None:
    assert deal([], threshold=2, points=POINTS, stream=STREAM).shape == (0, 4, LIMBS)
    assert recover_many(POINTS, np.zeros((0, 4, LIMBS), np.uint32)) == []


@pytest.mark.parametrize("length", [0, 31, 33])
def test_secrets_of_another_length_are_not_dealt(length: int) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        deal([bytes(length)], threshold=2, points=POINTS, stream=STREAM)


@pytest.mark.parametrize("threshold", [-1, 0, 5])
def test_impossible_thresholds_are_refused(threshold: int) -> None:
    with pytest.raises(UsageError, match="threshold"):
        dealt(threshold)


@pytest.mark.parametrize("points", [[1, 1], [0, 1], [1, PRIME], [1, 2**32 - 1]])
def test_impossible_points_are_refused(points: list[int]) -> None:
    at = np.array(points, dtype=np.uint32)
    with pytest.raises(UsageError, match="points"):
        deal(SECRETS, threshold=1, points=at, stream=STREAM)
    with pytest.raises(MessageError, match="points"):
        recover(at, np.zeros((2, LIMBS), np.uint32))


@pytest.mark.parametrize("shape", [(1, LIMBS), (2, LIMBS - 1), (2,), (1, 2, LIMBS)])
def test_shares_that_do_not_fit_their_points_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MessageError, match="do not fit"):
        recover(POINTS[:2], np.zeros(shape, np.uint32))


def test_a_limb_of_p_is_not_taken_for_zero() -> None:
    share = np.zeros(LIMBS, dtype=np.uint32)
    share[5] = PRIME
    with pytest.raises(MessageError, match="below"):
        recover(POINTS[:1], share[None])
    with pytest.raises(MessageError, match="below"):
        decode_share(encode_share(share))
