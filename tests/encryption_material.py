"""A vector as a client sends it: one encryptor for each, with a seed of its own."""

from __future__ import annotations

import secrets

import numpy.typing as npt

from he.ciphertext import Ciphertext
from he.encrypt import SEED_BYTES, Encryptor
from he.public_key import PublicKey


def encrypt_once(
    public_key: PublicKey, vector: npt.ArrayLike, *, seed: bytes | None = None, engine: str = "numpy"
) -> Ciphertext:
    """Encrypt a vector, under fresh randomness unless a seed is given that no other vector of this key has."""
    drawn = secrets.token_bytes(SEED_BYTES) if seed is None else seed
    return Encryptor(public_key, engine=engine, seed=drawn).encrypt(vector)
