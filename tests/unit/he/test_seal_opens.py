"""SEAL itself opens what we encrypt, under keys that it drew: the proof that the ciphertexts are the same."""

from pathlib import Path

import numpy as np
import pytest
import tenseal
from tenseal import sealapi

from he.ciphertext import Ciphertext, chunk_from_seal, chunk_to_seal
from he.decode import coefficients
from he.encrypt import ENGINES
from he.parameters import Parameters
from he.public_key import PublicKey
from he.seal_format import read_ciphertext
from he.tenseal_format import read_context
from tests.he_material import encrypted, preset_parameters

each_engine = pytest.mark.parametrize("engine", ENGINES)
each_preset = pytest.mark.parametrize("name", ["ckks-4096", "ckks-8192"])


class Seal:
    """A key pair of SEAL's; sealapi reads and writes files only."""

    def __init__(self, parameters: Parameters, folder: Path) -> None:
        of_seal = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
        of_seal.set_poly_modulus_degree(parameters.degree)
        of_seal.set_coeff_modulus([sealapi.Modulus(prime) for prime in parameters.key_primes])
        self._context = sealapi.SEALContext(of_seal, True, sealapi.SEC_LEVEL_TYPE.TC128)
        self._parameters, self._file = parameters, str(folder / "seal")
        generator, public_key = sealapi.KeyGenerator(self._context), sealapi.PublicKey()
        generator.create_public_key(public_key)
        public_key.save(self._file)
        words = 2 * len(parameters.key_primes) * parameters.degree
        b, a = read_ciphertext(Path(self._file).read_bytes(), max_words=words).polynomials.astype(np.uint32)
        self.public_key = PublicKey(parameters, a, b)
        self._decryptor = sealapi.Decryptor(self._context, generator.secret_key())
        self._encoder = sealapi.CKKSEncoder(self._context)

    def load(self, chunk: bytes) -> sealapi.Ciphertext:
        Path(self._file).write_bytes(chunk)
        loaded = sealapi.Ciphertext()
        loaded.load(self._context, self._file)
        return loaded

    def slots(self, ciphertext: sealapi.Ciphertext) -> np.ndarray:
        """All complex slots."""
        plain = sealapi.Plaintext()
        self._decryptor.decrypt(ciphertext, plain)
        return np.array(self._encoder.decode_complex(plain))

    def coefficients(self, ciphertext: Ciphertext) -> np.ndarray:
        """The vector where values stand in coefficients: SEAL's plaintexts, which are residues in NTT form."""
        shape = (len(self._parameters.data_primes), self._parameters.degree)
        plain, chunks = sealapi.Plaintext(), []
        for c0, c1 in zip(ciphertext.c0, ciphertext.c1, strict=True):
            self._decryptor.decrypt(self.load(chunk_to_seal(self._parameters, c0, c1)), plain)
            chunks.append(np.array([plain[index] for index in range(plain.coeff_count())]).reshape(shape))
        opened = coefficients(self._parameters, np.array(chunks, dtype=np.uint32))
        return (opened / self._parameters.scale).reshape(-1)[: self._parameters.values]

    def values(self, ciphertext: Ciphertext) -> np.ndarray:
        """The vector in complex packing: value 2j is a real part, value 2j + 1 an imaginary part."""
        chunks = [
            self.slots(self.load(chunk_to_seal(self._parameters, c0, c1)))
            for c0, c1 in zip(ciphertext.c0, ciphertext.c1, strict=True)
        ]
        return np.concatenate(chunks).view(np.float64)[: self._parameters.values]


@each_engine
@each_preset
def test_seal_opens_values_in_coefficients(name: str, engine: str, tmp_path: Path) -> None:
    parameters = preset_parameters(name, values=9000)
    seal = Seal(parameters, tmp_path)
    vector = np.random.default_rng(1).uniform(-1, 1, 9000)
    assert seal.coefficients(encrypted(seal.public_key, vector, engine=engine)) == pytest.approx(vector, abs=1e-12)


@each_engine
def test_seal_opens_complex_packing(engine: str, tmp_path: Path) -> None:
    parameters = preset_parameters("ckks-4096", values=9000, packing="complex")
    seal = Seal(parameters, tmp_path)
    vector = np.random.default_rng(1).uniform(-1, 1, 9000)
    assert seal.values(encrypted(seal.public_key, vector, engine=engine)) == pytest.approx(vector, abs=1e-12)


@each_engine
def test_seal_finds_no_imaginary_part_in_real_packing(engine: str, tmp_path: Path) -> None:
    parameters = preset_parameters("ckks-4096", values=100, packing="real")
    seal = Seal(parameters, tmp_path)
    ciphertext = encrypted(seal.public_key, np.linspace(-1, 1, 100), engine=engine)
    slots = seal.slots(seal.load(chunk_to_seal(parameters, ciphertext.c0[0], ciphertext.c1[0])))
    assert slots[:100] == pytest.approx(np.linspace(-1, 1, 100), abs=1e-12)
    assert slots[100:] == pytest.approx(0, abs=1e-12)
    assert slots.imag == pytest.approx(0, abs=1e-12)


def test_seal_saves_our_ciphertext_as_it_was(tmp_path: Path) -> None:
    parameters = preset_parameters("ckks-4096", packing="complex")
    seal = Seal(parameters, tmp_path)
    ours = encrypted(seal.public_key, np.ones(5000))
    seal.load(chunk_to_seal(parameters, ours.c0[1], ours.c1[1])).save(str(tmp_path / "again"))
    c0, c1 = chunk_from_seal(parameters, (tmp_path / "again").read_bytes())
    assert np.array_equal(c0, ours.c0[1])
    assert np.array_equal(c1, ours.c1[1])


@pytest.mark.parametrize("packing", ["real", "complex"])
def test_tenseal_decrypts_the_real_parts(packing: str) -> None:
    parameters = preset_parameters("ckks-4096", packing=packing)
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[27, 27, 27, 28], n_threads=1)
    context.global_scale = parameters.scale
    public = context.copy()
    public.make_context_public()
    key = read_context(public.serialize(save_galois_keys=False, save_relin_keys=False)).public_key
    b, a = read_ciphertext(key, max_words=2 * 4 * 4096).polynomials.astype(np.uint32)
    vector = np.random.default_rng(2).uniform(-1, 1, 5000)
    ours = encrypted(PublicKey(parameters, a, b), vector)
    read = tenseal.ckks_vector_from(context, ours.to_tenseal()).decrypt()
    assert read == pytest.approx(vector if packing == "real" else vector[0::2], abs=1e-12)
