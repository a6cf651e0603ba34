"""A collective key for each preset, made once."""

import pytest

from he.parameters import Parameters
from he.public_key import PublicKey
from he.ring import Residues
from tests.he_material import draw_key, preset_parameters

Key = tuple[PublicKey, Residues]


@pytest.fixture(scope="session")
def parameters() -> Parameters:
    """Real slots, the one packing that TenSEAL itself fills."""
    return preset_parameters("ckks-4096", packing="real")


@pytest.fixture(scope="session")
def key(parameters: Parameters) -> Key:
    return draw_key(parameters, seed=1)
