"""Honest clients at the very bound of a plan, in every slot and all at once: their sum opens."""

from __future__ import annotations

import numpy as np
import pytest

from he.accumulate import Accumulator
from he.encrypt import Encryptor
from he.errors import UpdateError
from he.keygen import generate
from he.parameters import PACKINGS, Parameters, preset
from he.partial import partially_decrypt
from he.recover import recover
from tests.he_material import draw_key, encrypted

CLIENTS = 3


def at_the_bound(parameters: Parameters) -> np.ndarray:
    """Slots that all pull one coefficient to its bound; but in complex packing simply every entry at clip."""
    if parameters.packing != "complex":
        return np.full(parameters.values, parameters.clip)
    exponents = np.array([pow(3, slot, 2 * parameters.degree) for slot in range(parameters.slots)])
    corners = np.exp(0.25j * np.pi * exponents).view(np.float64)
    signs: np.ndarray = np.where(corners > 0, 1.0, -1.0)
    return signs * parameters.clip


@pytest.mark.parametrize("above", [1.0, 1 + 1e-9])
@pytest.mark.parametrize(
    ("name", "packing"), [*(("ckks-4096", packing) for packing in PACKINGS), ("ckks-8192", "coefficients")]
)
def test_all_clients_clipped_everywhere_open(name: str, packing: str, above: float) -> None:
    """With ckks-8192 noise does not fill the room that is left: rounding alone would cross the bound."""
    values = {"coefficients": 2, "complex": 2, "real": 1}[packing] * {"ckks-4096": 2048, "ckks-8192": 4096}[name]
    parameters = preset(name, values=values, max_clients=CLIENTS, holders=3, threshold=2, clip=0.3, packing=packing)
    public_key, shares = generate(parameters, randomness=bytes(32))
    vector = at_the_bound(parameters) * above
    accumulator = Accumulator(parameters)
    for _ in range(CLIENTS):
        accumulator.add(encrypted(public_key, vector))
    total = accumulator.finish()
    opened = recover(total, [partially_decrypt(share, total) for share in shares])
    assert opened == pytest.approx(CLIENTS * vector, abs=8 * parameters.value_error(CLIENTS) + 1e-9)


@pytest.mark.parametrize(("clip", "entry"), [(3e-8, 6e-8), (1e5, np.inf)])
def test_half_precision_does_not_widen_the_clip_bound(clip: float, entry: float) -> None:
    """Were the bound rounded to float16, an infinite entry would be within it, and end in residues that are none."""
    parameters = preset("ckks-4096", values=4, max_clients=8, holders=3, threshold=2, clip=clip)
    public_key, _ = draw_key(parameters, seed=1)
    beyond = np.full(4, entry, dtype=np.float16)
    assert float(beyond[0]) > 1.9 * clip
    with np.errstate(all="ignore"), pytest.raises(UpdateError):
        Encryptor(public_key, seed=bytes(32)).encrypt_blocks(beyond)
