"""An encryptor serves one vector: no copy of it, nor another process, gets to encrypt a second one under its seed."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from hashlib import sha256

import numpy as np
import pytest

from he.encrypt import Encryptor
from he.errors import HEError
from he.public_key import PublicKey
from tests.he_material import draw_key, small_parameters

SEED = b"of one vector alone, and of none".ljust(32)[:32]


@pytest.fixture(scope="module")
def public_key() -> PublicKey:
    return draw_key(small_parameters(values=10), seed=1)[0]


def test_an_encryptor_is_not_pickled(public_key: PublicKey) -> None:
    """A pool of processes pickles what it is given: the seed would go through pipes, and all could use it."""
    with pytest.raises(TypeError, match="not copied"):
        pickle.dumps(Encryptor(public_key, seed=SEED))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_an_encryptor_is_not_copied(public_key: PublicKey, duplicate: Callable[[Encryptor], Encryptor]) -> None:
    with pytest.raises(TypeError, match="not copied"):
        duplicate(Encryptor(public_key, seed=SEED))


def test_a_forked_process_does_not_encrypt_again(public_key: PublicKey) -> None:
    """Equal c1 in both would leave the difference of the two vectors as that of the two c0."""
    encryptor = Encryptor(public_key, seed=SEED)
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def other() -> None:
        try:
            sending.send(sha256(encryptor.encrypt(np.ones(10)).c1.tobytes()).digest())
        except HEError:
            sending.send(b"refused")

    forked = context.Process(target=other)
    forked.start()
    theirs = receiving.recv() if receiving.poll(20.0) else b"silent"
    forked.join(20.0)
    assert len(theirs) == sha256().digest_size  # it encrypted
    with pytest.raises(HEError, match="fresh seed"):
        encryptor.encrypt(np.zeros(10))
