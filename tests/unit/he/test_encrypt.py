"""Encryption under a key whose secret the test knows."""

import tracemalloc

import numpy as np
import pytest

from he.encrypt import Encryptor
from he.errors import HEError, UpdateError
from he.keygen import generate
from he.parameters import Parameters, preset
from he.partial import partially_decrypt
from he.public_key import PublicKey
from he.recover import recover
from he.ring import Residues
from he.tenseal_engine import Engine
from tests.he_material import draw_key, open_alone

Key = tuple[PublicKey, Residues]


def test_what_is_encrypted_is_opened(key: Key, encryptor: Encryptor) -> None:
    vector = np.linspace(-1, 1, 5000)
    ciphertext = encryptor.encrypt(vector)
    ciphertext.verify()
    assert open_alone(ciphertext, key[1]) == pytest.approx(vector, abs=1e-12)


def test_unused_slots_hold_zero(key: Key, encryptor: Encryptor, parameters: Parameters) -> None:
    from he.decode import coefficients, slots
    from he.ring import ring_for

    last = encryptor.encrypt(np.ones(5000))
    ring = ring_for(parameters)
    opened = ring.add(last.c0[2:], ring.multiply(last.c1[2:], key[1][:3]))
    read = slots(parameters, coefficients(parameters, opened))[0]
    assert read[:904] == pytest.approx(1, abs=1e-12)
    assert read[904:] == pytest.approx(0, abs=1e-12)


def test_equal_vectors_have_unequal_ciphertexts(encryptor: Encryptor) -> None:
    vector = np.zeros(5000)
    first, second = encryptor.encrypt(vector), encryptor.encrypt(vector)
    assert not np.array_equal(first.c1, second.c1)
    assert not np.array_equal(first.c1[0], first.c1[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_come_one_by_one(encryptor: Encryptor, parameters: Parameters, dtype: type) -> None:
    chunks = list(encryptor.encrypt_chunks(np.zeros(5000, dtype=dtype)))
    assert len(chunks) == parameters.chunks
    assert all(half.shape == (3, 4096) and half.dtype == np.uint32 for pair in chunks for half in pair)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4999),
        np.zeros((1, 5000)),
        np.full(5000, 1.01),
        np.full(5000, -1.01),
        np.full(5000, np.nan),
        np.full(5000, np.inf),
    ],
)
def test_what_does_not_fit_the_plan_is_refused_at_once(encryptor: Encryptor, vector: np.ndarray) -> None:
    with pytest.raises(UpdateError):
        encryptor.encrypt_chunks(vector)


def test_tenseal_prints_nothing(encryptor: Encryptor, capfd: pytest.CaptureFixture[str]) -> None:
    encryptor.encrypt(np.zeros(5000))
    assert capfd.readouterr() == ("", "")


def test_memory_does_not_grow_with_the_vector(key: Key) -> None:
    parameters = preset("ckks-4096", values=60 * 2048, max_clients=8, holders=5, threshold=3)
    wide = Encryptor(PublicKey(parameters, key[0].a, key[0].b))
    vector = np.zeros(parameters.values)
    tracemalloc.start()
    try:
        for _ in wide.encrypt_chunks(vector):
            pass
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20 * 2 * 49_152  # a handful of chunks; all of them would be 120


@pytest.mark.parametrize("clip", [1.0, 1e-6, 100.0])
@pytest.mark.parametrize("name", ["ckks-4096", "ckks-8192"])
def test_the_largest_scale_encodes_the_largest_vector(name: str, clip: float) -> None:
    parameters = preset(name, values=2048, max_clients=1, holders=3, threshold=2, clip=clip)
    public, secret = draw_key(parameters, seed=3)
    for vector in (np.full(2048, clip), np.full(2048, -clip)):
        opened = open_alone(Encryptor(public).encrypt(vector), secret)
        assert opened == pytest.approx(vector, rel=1e-9)


def test_foreign_exceptions_stop_at_the_engine(key: Key) -> None:
    with pytest.raises(HEError, match="refuses"):
        Engine(b"no context")
    with pytest.raises(HEError, match="cannot encrypt"):
        Engine(key[0].to_tenseal()).encrypt(np.full(2048, 1e300))


def test_a_list_of_numbers_will_do_and_other_things_will_not() -> None:
    parameters = preset("ckks-4096", values=3, max_clients=2, holders=3, threshold=2)
    public_key, shares = generate(parameters, randomness=bytes(32))
    encryptor = Encryptor(public_key)
    total = encryptor.encrypt([0.5, -1, 1])
    opened = recover(total, [partially_decrypt(share, total) for share in shares])
    np.testing.assert_allclose(opened, [0.5, -1, 1], atol=10 * parameters.slot_error(1))
    for nonsense in (["a", "b", "c"], [None, None, None], [1j, 0, 0]):
        with pytest.raises(UpdateError, match="real numbers"):
            encryptor.encrypt(nonsense)
