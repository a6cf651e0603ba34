"""Laws of the masking arithmetic, for any numbers: sharing, packing, the stream, the graph, decoders.

References are written with Python's integers, which know nothing of limbs, lanes or counters.
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import MessageError
from secagg.ids import ClientId, Digest
from secagg.masking import agreement, graph, packing, sealing, shamir
from secagg.masking.stream import BUFFER_BYTES, WORD_BYTES, MaskStream

P = shamir.PRIME
BUFFER_WORDS = BUFFER_BYTES // WORD_BYTES

keys = st.binary(min_size=32, max_size=32)
digests = keys.map(Digest)
sizes = st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(1, n), point_lists(n)))


def point_lists(count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, P - 1), min_size=count, max_size=count, unique=True)


def deal(secrets: list[bytes], threshold: int, points: list[int], key: bytes) -> np.ndarray:
    at = np.array(points, dtype=np.uint32)
    return shamir.deal(secrets, threshold=threshold, points=at, stream=MaskStream(key))


def interpolate(points: list[int], values: list[int], at: int) -> int:
    """Lagrange with Python's integers."""
    total = 0
    for point, value in zip(points, values, strict=True):
        numerator, denominator = value, 1
        for other in points:
            if other != point:
                numerator = numerator * (at - other) % P
                denominator = denominator * (point - other) % P
        total += numerator * pow(denominator, -1, P)
    return total % P


def limbs_of(secret: bytes) -> list[int]:
    number = int.from_bytes(secret, "little")
    return [number >> (30 * limb) & (2**30 - 1) for limb in range(9)]


@given(size=sizes, secrets=st.lists(keys, min_size=1, max_size=3), key=keys, data=st.data())
def test_any_t_shares_recover(
    size: tuple[int, list[int]], secrets: list[bytes], key: bytes, data: st.DataObject
) -> None:
    threshold, points = size
    shares = deal(secrets, threshold, points, key)
    chosen = data.draw(st.permutations(range(len(points))))[:threshold]
    at = np.array(points, dtype=np.uint32)[chosen]
    assert shamir.recover_many(at, shares[:, chosen]) == secrets
    assert [shamir.recover(at, row[chosen]) for row in shares] == secrets


@given(size=sizes, secret=keys, key=keys)
def test_shares_lie_on_polynomials_through_the_limbs(size: tuple[int, list[int]], secret: bytes, key: bytes) -> None:
    """All n shares and the secret lie on one polynomial of degree t - 1, limb by limb, in plain integers."""
    threshold, points = size
    shares = deal([secret], threshold, points, key)[0].tolist()
    for limb, constant in enumerate(limbs_of(secret)):
        known = [share[limb] for share in shares[:threshold]]
        assert interpolate(points[:threshold], known, 0) == constant
        for point, share in zip(points, shares, strict=True):
            assert interpolate(points[:threshold], known, point) == share[limb]


@given(size=sizes, secret=keys, assumed=keys, key=keys)
def test_fewer_than_t_shares_fit_any_secret(
    size: tuple[int, list[int]], secret: bytes, assumed: bytes, key: bytes
) -> None:
    """With t - 1 shares and any assumed secret, a share exists with which exactly that secret opens."""
    threshold, points = size
    seen = deal([secret], threshold, points, key)[0, : threshold - 1]
    missing = [
        interpolate([0, *points[: threshold - 1]], [limb, *seen[:, index].tolist()], points[threshold - 1])
        for index, limb in enumerate(limbs_of(assumed))
    ]
    shares = np.vstack([seen, np.array([missing], dtype=np.uint32)])
    assert shamir.recover(np.array(points[:threshold], dtype=np.uint32), shares) == assumed


@given(secrets=st.lists(keys, min_size=1, max_size=3), threshold=st.integers(2, 4), key=keys)
def test_every_limb_has_coefficients_of_its_own(secrets: list[bytes], threshold: int, key: bytes) -> None:
    """Differences of shares at 1, 2.. give the coefficients back: fresh ones of the stream, none used twice."""
    shares = deal(secrets, threshold, list(range(1, threshold + 1)), key).astype(object)
    expected = iter((MaskStream(key).words(0, 9 * len(secrets) * (threshold - 1)) & P).tolist())
    for secret, row in zip(secrets, shares, strict=True):
        coefficients = np.array([next(expected) for _ in range(9 * (threshold - 1))], dtype=object).reshape(-1, 9)
        for point, share in enumerate(row, start=1):
            terms = sum(coefficient * point**power for power, coefficient in enumerate(coefficients, start=1))
            assert ((np.array(limbs_of(secret), dtype=object) + terms - share) % P == 0).all()


@given(bits=st.integers(1, 32), count=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_packing_is_one_long_number_and_unpacks(bits: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << bits, count, dtype=np.uint32)
    packed = packing.pack(values, bits)
    number = sum(value << (bits * index) for index, value in enumerate(values.tolist()))
    assert packed == number.to_bytes(packing.packed_bytes(count, bits), "little")
    assert np.array_equal(packing.unpack(packed, bits, count), values)
    assert np.array_equal(packing.unpack(memoryview(packed), bits, count), values)


@given(bits=st.integers(1, 32), groups=st.integers(0, 40), rest=st.integers(0, 100), seed=st.integers(0, 2**32))
def test_chunks_of_eight_values_pack_on_their_own(bits: int, groups: int, rest: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << bits, 8 * groups + rest, dtype=np.uint32)
    border = 8 * groups
    assert packing.pack(values, bits) == packing.pack(values[:border], bits) + packing.pack(values[border:], bits)


@pytest.mark.parametrize("bits", range(1, 33))
def test_packing_across_blocks(bits: int) -> None:
    count = 2 * packing.BLOCK_VALUES + 77
    values = np.random.default_rng(bits).integers(0, 1 << bits, count, dtype=np.uint32)
    packed = packing.pack(values, bits)
    lanes = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * bits, bitorder="little").reshape(count, bits)
    assert np.array_equal(lanes @ (1 << np.arange(bits, dtype=np.uint64)), values)
    assert np.array_equal(packing.unpack(packed, bits, count), values)


@given(data=st.binary(max_size=64), bits=st.integers(1, 32), count=st.integers(0, 64))
def test_unpacking_takes_one_encoding_only(data: bytes, bits: int, count: int) -> None:
    try:
        values = packing.unpack(data, bits, count)
    except MessageError:
        return
    assert packing.pack(values, bits) == data


@given(key=keys, start=st.integers(0, 10_000), count=st.integers(0, 100))
def test_the_stream_seeks(key: bytes, start: int, count: int) -> None:
    stream = MaskStream(key)
    whole = stream.bytes_at(0, 4 * (start + count))
    assert stream.words(start, count).astype("<u4").tobytes() == whole[4 * start :]
    assert stream.bytes_at(start, count) == whole[start : start + count]


@given(key=keys, start=st.integers(0, 2**40), counts=st.sampled_from([0, 1, 5, BUFFER_WORDS, 2 * BUFFER_WORDS + 3]))
def test_masking_adds_the_words_and_can_be_undone(key: bytes, start: int, counts: int) -> None:
    vector = np.random.default_rng(counts).integers(0, 1 << 32, counts, dtype=np.uint32)
    target = vector.copy()
    stream = MaskStream(key)
    stream.add_to(target, start)
    assert np.array_equal(target, vector + stream.words(start, counts))
    stream.subtract_from(target, start)
    assert np.array_equal(target, vector)


@given(key=keys, border=st.integers(0, 200))
def test_masking_in_two_chunks_is_masking_at_once(key: bytes, border: int) -> None:
    stream, once, apart = MaskStream(key), np.zeros(200, np.uint32), np.zeros(200, np.uint32)
    stream.add_to(once, 9)
    stream.add_to(apart[border:], 9 + border)
    stream.add_to(apart[:border], 9)
    assert np.array_equal(once, apart)


graphs = st.integers(2, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.sampled_from([*range(2, n, 2), n - 1]) if n > 2 else st.just(1))
)


@given(size=graphs, roster=digests)
def test_the_graph_is_regular_symmetric_and_connected(size: tuple[int, int], roster: Digest) -> None:
    clients, degree = size
    table = graph.neighbours(roster, clients, degree)
    assert table.shape == (clients, degree)
    assert (np.diff(table, axis=1) > 0).all()
    joined = np.zeros((clients, clients), dtype=bool)
    joined[np.arange(clients)[:, None], table] = True
    assert np.array_equal(joined, joined.T)
    assert not joined.diagonal().any()
    assert len(reached(table, range(clients))) == clients


@given(clients=st.integers(5, 40), roster=digests, data=st.data())
def test_a_ring_survives_any_loss_below_its_degree(clients: int, roster: Digest, data: st.DataObject) -> None:
    """Harary's graph: whichever degree - 1 clients are gone, the others stay connected."""
    degree = data.draw(st.sampled_from(range(2, clients, 2)))
    table = graph.neighbours(roster, clients, degree)
    stay = data.draw(st.permutations(range(clients)))[degree - 1 :]
    assert reached(table, stay) == set(stay)


def reached(table: np.ndarray, stay: "range | list[int]") -> set[int]:
    """Who is connected to the first of those that stay."""
    frontier, seen = [stay[0]], {stay[0]}
    while frontier:
        new = {int(one) for one in table[frontier.pop()]} & set(stay) - seen
        seen |= new
        frontier += new
    return seen


@given(one=digests, other=digests)
def test_the_graph_follows_the_roster(one: Digest, other: Digest) -> None:
    first, second = graph.ring_order(one, 40), graph.ring_order(other, 40)
    assert sorted(first) == sorted(second) == list(range(40))
    assert np.array_equal(first, second) == (one == other)
    assert np.array_equal(graph.neighbours(one, 40, 4), graph.neighbours(other, 40, 4)) == (one == other)


CONTEXT = {
    "plan_digest": Digest(b"p" * 32),
    "roster_digest": Digest(b"r" * 32),
    "sender": ClientId("alice"),
    "receiver": ClientId("bob"),
}
DECODERS: dict[str, Callable[[bytes], object]] = {
    "share": shamir.decode_share,
    "pair": sealing.decode_pair,
    "public key": lambda data: agreement.agree(b"k" * 32, data),
    "sealed pair": lambda data: sealing.open_sealed(b"k" * 32, b"\x09" + bytes(31), data, **CONTEXT),
    "sender's key": lambda data: sealing.open_sealed(b"k" * 32, data, bytes(88), **CONTEXT),
    "opened shares": lambda data: shamir.recover(
        np.arange(len(data) // 36, dtype=np.uint32),
        np.frombuffer(data[: len(data) // 36 * 36], dtype="<u4").reshape(-1, 9),
    ),
}


@pytest.mark.parametrize("decoder", DECODERS)
@given(
    data=st.one_of(
        st.binary(max_size=120), st.sampled_from([32, 36, 72, 88]).flatmap(lambda n: st.binary(min_size=n, max_size=n))
    )
)
def test_decoders_raise_nothing_but_message_errors(decoder: str, data: bytes) -> None:
    with suppress(MessageError):
        DECODERS[decoder](data)


@given(data=st.binary(min_size=36, max_size=36))
def test_a_share_has_one_encoding(data: bytes) -> None:
    try:
        share = shamir.decode_share(data)
    except MessageError:
        assert any(int.from_bytes(data[i : i + 4], "little") >= P for i in range(0, 36, 4))
        return
    assert shamir.encode_share(share) == data
