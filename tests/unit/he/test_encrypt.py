"""Encryption under a key whose secret the test knows, by both engines and in all packings."""

import math
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from he.ciphertext import Ciphertext
from he.decode import coefficients, decode, embed
from he.encrypt import BLOCK_CHUNKS, ENGINES, Encryptor
from he.errors import HEError, UpdateError
from he.keygen import generate
from he.parameters import PACKINGS, PRESET_NAMES, Parameters, preset
from he.partial import partially_decrypt
from he.public_key import PublicKey
from he.recover import recover
from he.ring import Residues, ring_for
from he.tenseal_engine import encrypt_slots, load_context
from tests.he_material import draw_key, encrypted, open_alone, preset_parameters

Key = tuple[PublicKey, Residues]
SEED = bytes(range(32))
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_packing = pytest.mark.parametrize("packing", PACKINGS)
each_ring = pytest.mark.parametrize(
    ("name", "packing"), [*(("ckks-4096", packing) for packing in PACKINGS), ("ckks-8192", "coefficients")]
)
CHUNKS = {"coefficients": 2, "complex": 2, "real": 3}
"""Of 5000 values with ckks-4096."""


def repacked(key: PublicKey, packing: str, values: int = 5000) -> PublicKey:
    """The same key for another packing or another number of values."""
    parameters = preset_parameters(key.parameters.name, values=values, packing=packing)
    return PublicKey(parameters, key.a, key.b)


@each_engine
@each_packing
def test_what_is_encrypted_is_opened(key: Key, engine: str, packing: str) -> None:
    vector = np.random.default_rng(2).uniform(-1, 1, 5000)
    ciphertext = encrypted(repacked(key[0], packing), vector, engine=engine)
    ciphertext.verify()
    assert len(ciphertext.c0) == CHUNKS[packing]
    assert open_alone(ciphertext, key[1]) == pytest.approx(vector, abs=1e-12)


@each_engine
@each_packing
def test_the_last_chunk_is_filled_with_zeros(key: Key, engine: str, packing: str) -> None:
    public_key = repacked(key[0], packing)
    parameters, ring = public_key.parameters, ring_for(public_key.parameters)
    last = encrypted(public_key, np.ones(5000), engine=engine)
    opened = ring.add(last.c0[-1:], ring.multiply(last.c1[-1:], key[1][:3]))
    read = decode(parameters, coefficients(parameters, opened))[0]
    assert read[:904] == pytest.approx(1, abs=1e-12)
    assert read[904:] == pytest.approx(0, abs=1e-12)


@each_engine
def test_equal_vectors_have_unequal_ciphertexts(key: Key, engine: str) -> None:
    first, second = (encrypted(key[0], np.zeros(5000), engine=engine) for _ in range(2))
    assert not (first.c1 == second.c1).all(axis=-1).any()
    assert not np.array_equal(first.c1[0], first.c1[1])


@each_engine
@each_packing
def test_both_engines_add_up(key: Key, engine: str, packing: str) -> None:
    public_key = repacked(key[0], packing)
    ring = ring_for(public_key.parameters)
    vectors = np.random.default_rng(3).uniform(-1, 1, (2, 5000))
    ours, other = (encrypted(public_key, vectors[n], engine=name) for n, name in enumerate(("numpy", engine)))
    total = Ciphertext(public_key.parameters, ring.add(ours.c0, other.c0), ring.add(ours.c1, other.c1))
    assert open_alone(total, key[1]) == pytest.approx(vectors.sum(axis=0), abs=1e-12)


@each_engine
@each_packing
def test_the_noise_is_what_the_budget_says(engine: str, packing: str) -> None:
    """12 chunks of 4096, a batch and a half: the deviation is known to 0.4 %, by the key's own norm to 1 % more."""
    parameters = preset_parameters("ckks-4096", values=12 * 4096, packing=packing)
    parameters = replace(parameters, values=12 * parameters.chunk_values)
    public_key, secret = draw_key(parameters, seed=4, parties=5)
    zeros = encrypted(public_key, np.zeros(parameters.values), engine=engine)
    ring = ring_for(parameters)
    noise = coefficients(parameters, ring.add(zeros.c0, ring.multiply(zeros.c1, secret[:3])))
    assert noise.std() == pytest.approx(parameters.noise_deviation(1), rel=0.05)
    assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(noise.size)
    assert np.abs(noise).max() < 6 * noise.std()


def test_noise_under_complex_packing_is_tenseals_own(key: Key) -> None:
    """The imaginary parts are added without noise, and without a remainder."""
    parameters = preset_parameters("ckks-4096", values=8 * 4096, packing="complex")
    public_key = PublicKey(parameters, key[0].a, key[0].b)
    vector = np.random.default_rng(5).uniform(-1, 1, parameters.values)
    coarse = replace(parameters, scale=2.0**40)  # so that float64 holds coefficients exactly
    ciphertext = encrypted(PublicKey(coarse, public_key.a, public_key.b), vector, engine="tenseal")
    ring = ring_for(coarse)
    opened = coefficients(coarse, ring.add(ciphertext.c0, ring.multiply(ciphertext.c1, key[1][:3])))
    noise = opened - np.rint(embed(coarse, vector.reshape(-1, 4096)))
    expected = math.sqrt((1 + coarse.degree * 2 / 3) / 12)  # of one ternary secret
    assert noise.std() == pytest.approx(expected, rel=0.05)


@each_engine
@pytest.mark.parametrize("name", PRESET_NAMES)
def test_what_an_opening_shows_is_linear_in_whole_numbers(name: str, engine: str) -> None:
    """Two ways to make one sum on the grid: all that is left of their difference is the ciphertexts' noise."""
    parameters = preset_parameters(name)
    public_key, secret = draw_key(parameters, seed=1)
    ring, primes = ring_for(parameters), len(parameters.data_primes)
    steps = np.random.default_rng(7).integers(-(2**38), 2**38, (4, 5000))
    steps[3] = steps[0] + steps[1] - steps[2]
    opened = []
    for row in steps * 2.0**-parameters.grid_bits:
        ciphertext = encrypted(public_key, row, engine=engine)
        opened.append(ring.add(ciphertext.c0, ring.multiply(ciphertext.c1, secret[:primes])))
    left = ring.subtract(ring.add(opened[0], opened[1]), ring.add(opened[2], opened[3]))
    noise = math.sqrt(4 * (1 + parameters.degree * 2 / 3) / 12)  # of one ternary secret
    assert coefficients(parameters, left).std() == pytest.approx(noise, rel=0.05)


def test_a_seed_replays_and_every_block_has_its_own_draw(key: Key) -> None:
    public_key = repacked(key[0], "complex", values=(BLOCK_CHUNKS + 3) * 4096)
    vector = np.zeros(public_key.parameters.values)
    first, again = (Encryptor(public_key, seed=SEED).encrypt(vector) for _ in range(2))
    assert np.array_equal(first.c0, again.c0)
    assert np.array_equal(first.c1, again.c1)
    other = Encryptor(public_key, seed=bytes(32)).encrypt(vector)
    c1_of_all = np.concatenate([first.c1, other.c1])
    assert len({chunk.tobytes() for chunk in c1_of_all}) == len(c1_of_all)


def test_blocks_do_not_depend_on_order_or_thread(key: Key) -> None:
    public_key = repacked(key[0], "complex", values=(2 * BLOCK_CHUNKS + 1) * 4096 - 5)
    vector = np.random.default_rng(6).uniform(-1, 1, public_key.parameters.values).astype(np.float32)
    expected = Encryptor(public_key, seed=SEED).encrypt(vector)
    encryptor = Encryptor(public_key, seed=SEED)
    with ThreadPoolExecutor(3) as pool:
        halves = dict(zip((2, 0, 1), pool.map(lambda n: encryptor.encrypt_block(vector, n), (2, 0, 1)), strict=True))
    assert [encryptor.block_bounds(n) for n in range(encryptor.blocks)] == [(0, 16), (16, 32), (32, 33)]
    assert np.array_equal(np.concatenate([halves[n][0] for n in range(3)]), expected.c0)
    assert np.array_equal(np.concatenate([halves[n][1] for n in range(3)]), expected.c1)


@pytest.mark.parametrize("index", [-1, 1])
def test_there_is_no_block_outside(key: Key, index: int) -> None:
    with pytest.raises(IndexError):
        Encryptor(key[0], seed=SEED).encrypt_block(np.zeros(5000), index)


@each_engine
def test_an_encryptor_encrypts_one_vector(key: Key, engine: str) -> None:
    vector = np.zeros(5000)
    whole, by_block = (Encryptor(key[0], engine=engine, seed=SEED) for _ in range(2))
    whole.encrypt(vector)
    by_block.encrypt_block(vector, 0)
    for encryptor in (whole, by_block):
        with pytest.raises(HEError, match="fresh seed"):
            encryptor.encrypt_blocks(vector)
        with pytest.raises(HEError, match="fresh seed"):
            encryptor.encrypt_block(vector, 0)


@each_engine
@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4999),
        np.zeros((1, 5000)),
        np.full(5000, 1.01),
        np.full(5000, -1.01),
        np.full(5000, np.nan),
        np.full(5000, np.inf),
        np.append(np.zeros(4999), np.float32(np.nan)),
    ],
)
def test_what_does_not_fit_the_plan_is_refused_at_once(key: Key, engine: str, vector: np.ndarray) -> None:
    encryptor = Encryptor(key[0], engine=engine, seed=SEED)
    with pytest.raises(UpdateError):
        encryptor.encrypt_blocks(vector)
    with pytest.raises(UpdateError):
        encryptor.encrypt_block(vector, 0)
    encryptor.encrypt(np.zeros(5000))  # nothing was spent


@pytest.mark.parametrize("changes", [{"engine": "seal"}, {"seed": bytes(31)}])
def test_engines_and_seeds_that_there_are_not(key: Key, changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"numpy, tenseal|32 bytes"):
        Encryptor(key[0], **({"seed": SEED} | changes))  # type: ignore[arg-type]


def test_our_own_engine_does_not_load_tenseal() -> None:
    code = "import sys, he.encrypt; sys.exit('tenseal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tenseal_prints_nothing(key: Key, capfd: pytest.CaptureFixture[str]) -> None:
    encrypted(key[0], np.zeros(5000), engine="tenseal")
    assert capfd.readouterr() == ("", "")


@each_engine
@each_packing
def test_the_vector_is_left_alone(key: Key, packing: str, engine: str) -> None:
    """Whole blocks of float64 are not even copied."""
    public_key = repacked(key[0], packing)
    public_key = repacked(key[0], packing, values=(BLOCK_CHUNKS + 1) * public_key.parameters.chunk_values - 1)
    vector = np.random.default_rng(9).uniform(-1, 1, public_key.parameters.values)
    before = vector.copy()
    vector.setflags(write=False)
    opened = open_alone(encrypted(public_key, vector, engine=engine), key[1])
    assert opened == pytest.approx(before, abs=1e-9)
    assert np.array_equal(vector, before)


@each_packing
def test_memory_does_not_grow_with_the_vector(key: Key, packing: str) -> None:
    block_bytes = BLOCK_CHUNKS * 2 * 49_152
    few, many = (peak_bytes_of(key[0], packing, blocks=blocks) for blocks in (3, 8))
    assert many < 4 * block_bytes  # of eight
    assert many - few < block_bytes / 100


def peak_bytes_of(public_key: PublicKey, packing: str, *, blocks: int) -> int:
    one_chunk = repacked(public_key, packing).parameters.chunk_values
    wide = repacked(public_key, packing, values=blocks * BLOCK_CHUNKS * one_chunk)
    vector = np.zeros(wide.parameters.values)
    encryptor = Encryptor(wide, seed=SEED)
    tracemalloc.start()
    try:
        for _ in encryptor.encrypt_blocks(vector):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@each_engine
@each_ring
@pytest.mark.parametrize("clip", [1.0, 1e-6, 100.0])
def test_the_largest_scale_encodes_the_largest_vector(name: str, clip: float, packing: str, engine: str) -> None:
    numbers = {"max_clients": 1, "holders": 3, "threshold": 2, "clip": clip, "packing": packing}
    parameters = preset(name, values=2048, **numbers)  # type: ignore[arg-type]
    public, secret = draw_key(parameters, seed=3)
    for vector in (np.full(2048, clip), np.full(2048, -clip), largest(parameters)):
        opened = open_alone(encrypted(public, vector, engine=engine), secret)
        assert opened == pytest.approx(vector, rel=1e-9)


def largest(parameters: Parameters) -> np.ndarray:
    """Entries of ±clip whose encoding, in complex packing, has one coefficient at its bound."""
    exponents = np.array([pow(3, slot, 2 * parameters.degree) for slot in range(parameters.slots)])
    corners = np.exp(0.25j * np.pi * exponents) * math.sqrt(2) * parameters.clip
    return np.rint(corners.view(np.float64) / parameters.clip)[: parameters.values] * parameters.clip


def test_no_coefficient_of_a_plan_exceeds_its_bound() -> None:
    parameters = preset_parameters("ckks-4096", values=4096, packing="complex")
    top = np.abs(embed(parameters, largest(parameters)[None])).max()
    assert top == pytest.approx(parameters.entry_bound * parameters.scale)


def test_foreign_exceptions_stop_at_the_engine(key: Key) -> None:
    with pytest.raises(HEError, match="refuses"):
        load_context(b"no context")
    with pytest.raises(HEError, match="cannot encrypt"):
        encrypt_slots(load_context(key[0].to_tenseal()), np.full(2048, 1e300))


@each_packing
def test_a_list_of_numbers_will_do_and_other_things_will_not(packing: str) -> None:
    parameters = preset("ckks-4096", values=3, max_clients=2, holders=3, threshold=2, packing=packing)
    public_key, shares = generate(parameters, randomness=bytes(32))
    total = encrypted(public_key, [0.5, -1, 1])
    opened = recover(total, [partially_decrypt(share, total) for share in shares])
    np.testing.assert_allclose(opened, [0.5, -1, 1], atol=10 * parameters.value_error(1))
    for nonsense in (["a", "b", "c"], [None, None, None], [1j, 0, 0]):
        with pytest.raises(UpdateError, match="real numbers"):
            encrypted(public_key, nonsense)
