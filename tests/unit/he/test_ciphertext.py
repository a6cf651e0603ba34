"""What counts as a contribution, and what does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tenseal

from he.ciphertext import (
    Ciphertext,
    chunk_from_bytes,
    chunk_from_seal,
    chunk_to_bytes,
    half_chunk_bytes,
    verify_half,
)
from he.errors import CiphertextError, FormatError
from he.parameters import Parameters
from he.public_key import PublicKey
from he.ring import Residues
from he.seal_format import SealCiphertext, parms_id, read_ciphertext, write_ciphertext
from he.tenseal_format import VectorBytes, read_vector, write_vector
from tests.he_material import draw_key, encrypted, open_alone, preset_parameters, random_ciphertext

Key = tuple[PublicKey, Residues]
VALUES = np.random.default_rng(8).uniform(-1, 1, 5000)


@pytest.fixture(scope="module")
def data(parameters: Parameters) -> bytes:
    return random_ciphertext(parameters, seed=3).to_tenseal()


def test_a_stranger_with_nothing_but_tenseal_takes_part(
    parameters: Parameters, capfd: pytest.CaptureFixture[str]
) -> None:
    public, secret = draw_key(parameters, seed=2)
    context = tenseal.context_from(public.to_tenseal())
    theirs = tenseal.ckks_vector(context, VALUES.tolist())
    capfd.readouterr()  # TenSEAL's warning about several ciphertexts
    read = Ciphertext.from_tenseal(parameters, theirs.serialize())
    assert read.values == 5000
    assert open_alone(read, secret) == pytest.approx(VALUES, abs=1e-12)


def test_tenseal_reads_what_we_write(key: Key, parameters: Parameters) -> None:
    ours = encrypted(key[0], VALUES)
    context = tenseal.context_from(key[0].to_tenseal())
    theirs = tenseal.ckks_vector_from(context, ours.to_tenseal())
    assert theirs.size() == 5000
    again = Ciphertext.from_tenseal(parameters, theirs.serialize())
    assert np.array_equal(again.c0, ours.c0)
    assert np.array_equal(again.c1, ours.c1)


@pytest.mark.parametrize("name", ["ckks-4096", "ckks-8192"])
def test_tenseal_adds_values_in_coefficients(name: str) -> None:
    """It has no idea of them: to TenSEAL all slots are in use."""
    parameters = preset_parameters(name)
    public, secret = draw_key(parameters, seed=2)
    context = tenseal.context_from(public.to_tenseal())
    ours = encrypted(public, VALUES)
    loaded = [
        tenseal.ckks_vector_from(context, data) for data in (ours.to_tenseal(), encrypted(public, VALUES).to_tenseal())
    ]
    assert loaded[0].size() == parameters.chunks * parameters.slots
    total = Ciphertext.from_tenseal(parameters, (loaded[0] + loaded[1]).serialize())
    assert open_alone(total, secret) == pytest.approx(2 * VALUES, abs=1e-11)


def chunk_with(parameters: Parameters, **changes: object) -> bytes:
    sound = random_ciphertext(parameters, seed=4)
    members = {
        "parms_id": parms_id(parameters.degree, parameters.data_primes),
        "ntt_form": True,
        "scale": parameters.scale,
        "correction_factor": 1,
        "polynomials": np.stack([sound.c0[0], sound.c1[0]]).astype(np.uint64),
    }
    return write_ciphertext(SealCiphertext(**(members | changes)))  # type: ignore[arg-type]


def above_prime(parameters: Parameters, residue: int) -> np.ndarray:
    polynomials = np.ones((2, 3, parameters.degree), dtype=np.uint64)
    polynomials[1, 2, -1] = residue
    return polynomials


def transparent(parameters: Parameters) -> np.ndarray:
    polynomials = np.ones((2, 3, parameters.degree), dtype=np.uint64)
    polynomials[1] = 0
    return polynomials


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (lambda _: {"parms_id": bytes(32)}, "other encryption parameters"),
        (lambda p: {"parms_id": parms_id(p.degree, p.key_primes)}, "other encryption parameters"),
        (lambda _: {"ntt_form": False}, "NTT form"),
        (lambda _: {"correction_factor": 2}, "NTT form"),
        (lambda p: {"scale": p.scale * 2}, "scale"),
        (lambda p: {"polynomials": np.ones((3, 3, p.degree), dtype=np.uint64)}, "3 polynomials"),
        (lambda p: {"polynomials": np.ones((1, 3, p.degree), dtype=np.uint64)}, "1 polynomials"),
        (lambda p: {"polynomials": np.ones((2, 2, p.degree), dtype=np.uint64)}, "level"),
        (lambda p: {"polynomials": np.ones((2, 4, p.degree), dtype=np.uint64)}, "level"),
        (lambda p: {"polynomials": np.ones((2, 3, p.degree // 2), dtype=np.uint64)}, "level"),
        (lambda p: {"polynomials": above_prime(p, p.data_primes[2])}, "not below its prime"),
        (lambda p: {"polynomials": above_prime(p, 1 << 32)}, "not below its prime"),
        (lambda p: {"polynomials": transparent(p)}, "transparent"),
    ],
)
def test_sound_bytes_that_must_not_count(
    parameters: Parameters, changes: Callable[[Parameters], dict[str, object]], named: str
) -> None:
    chunk_from_seal(parameters, chunk_with(parameters))
    with pytest.raises(CiphertextError, match=named):
        chunk_from_seal(parameters, chunk_with(parameters, **changes(parameters)))


def test_a_seeded_ciphertext_is_no_ciphertext(parameters: Parameters) -> None:
    """SEAL's symmetric mode may leave out c1 and send its seed: public keys never make that."""
    sound = chunk_with(parameters)
    half = 8 * len(parameters.data_primes) * parameters.degree
    with pytest.raises(FormatError):
        chunk_from_seal(parameters, sound[:-half] + bytes(64))


def test_wrong_sizes_and_counts(parameters: Parameters, data: bytes) -> None:
    vector = read_vector(data, max_chunks=3)

    def refused(**changes: object) -> type[Exception]:
        with pytest.raises((CiphertextError, FormatError)) as caught:
            Ciphertext.from_tenseal(parameters, write_vector(replace(vector, **changes)))
        return caught.type

    assert vector.sizes == (2048, 2048, 904)
    assert refused(sizes=(2048, 2048, 905)) is CiphertextError
    assert refused(sizes=(904, 2048, 2048)) is CiphertextError
    assert refused(scale=parameters.scale / 2) is CiphertextError
    assert refused(sizes=vector.sizes[:2], ciphertexts=vector.ciphertexts[:2]) is CiphertextError
    assert refused(sizes=(*vector.sizes, 1), ciphertexts=(*vector.ciphertexts, b"")) is FormatError
    assert refused(ciphertexts=(*vector.ciphertexts[:2], b"")) is FormatError


def test_a_job_of_another_size_is_refused(parameters: Parameters, data: bytes) -> None:
    with pytest.raises(CiphertextError):
        Ciphertext.from_tenseal(replace(parameters, values=4999), data)


def test_halves_must_have_the_jobs_shape(parameters: Parameters) -> None:
    sound = random_ciphertext(parameters, seed=5)
    for wrong in (sound.c0[:2], sound.c0.astype(np.uint64), sound.c0[:, :2]):
        with pytest.raises(CiphertextError):
            Ciphertext(parameters, wrong, sound.c1)
        with pytest.raises(CiphertextError):
            Ciphertext(parameters, sound.c0, wrong)


@pytest.mark.parametrize("half", ["c0", "c1"])
def test_verify_looks_at_every_residue(parameters: Parameters, half: str) -> None:
    sound = random_ciphertext(parameters, seed=6)
    sound.verify()
    getattr(sound, half)[2, 1, -1] = parameters.data_primes[1]
    with pytest.raises(CiphertextError, match="not below its prime"):
        sound.verify()
    getattr(sound, half)[2, 1] = 0
    with pytest.raises(CiphertextError, match="transparent"):
        sound.verify()


def test_chunk_of_a_half_round_trip(parameters: Parameters) -> None:
    chunk = random_ciphertext(parameters, seed=7).c1[1]
    wire = chunk_to_bytes(chunk)
    assert len(wire) == half_chunk_bytes(parameters) == 49_152
    assert wire[:4] == int(chunk[0, 0]).to_bytes(4, "little")
    assert np.array_equal(chunk_from_bytes(parameters, wire), chunk)


def test_chunk_of_a_half_is_checked(parameters: Parameters) -> None:
    wire = chunk_to_bytes(random_ciphertext(parameters, seed=7).c1[1])
    for wrong in (b"", wire[:-1], wire + b"\0"):
        with pytest.raises(FormatError):
            chunk_from_bytes(parameters, wrong)
    with pytest.raises(CiphertextError):
        chunk_from_bytes(parameters, wire[:-4] + b"\xff" * 4)
    with pytest.raises(CiphertextError):
        chunk_from_bytes(parameters, bytes(len(wire)))


def test_verify_half_refuses_other_arrays(parameters: Parameters) -> None:
    for wrong in (np.ones((3, 4095), dtype=np.uint32), np.ones((3, 4096), dtype=np.int32)):
        with pytest.raises(CiphertextError):
            verify_half(parameters, wrong)


def test_seal_bytes_survive_our_reader_unchanged(key: Key, parameters: Parameters) -> None:
    ours = encrypted(key[0], VALUES, engine="tenseal")
    c0, c1 = ours.c0[0], ours.c1[0]
    seal = VectorBytes(
        sizes=(1,), ciphertexts=(chunk_with(parameters, polynomials=np.stack([c0, c1]).astype(np.uint64)),), scale=1.0
    )
    read = read_ciphertext(seal.ciphertexts[0], max_words=c0.size * 2)
    assert np.array_equal(read.polynomials, np.stack([c0, c1]))
