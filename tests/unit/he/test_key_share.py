"""Key shares on disk: what is written reads back, anything else is refused, nothing is shown."""

import numpy as np
import pytest

from he.errors import FormatError
from he.key_share import KeyShare
from he.keygen import generate
from he.parameters import Parameters
from tests.he_material import small_parameters

HEADER_BYTES = 4 + 1 + 32 + 32


@pytest.fixture(scope="module")
def parameters() -> Parameters:
    return small_parameters(holders=5, threshold=3)


@pytest.fixture(scope="module")
def share(parameters: Parameters) -> KeyShare:
    return generate(parameters, randomness=bytes(32))[1][1]


def test_a_share_reads_back(parameters: Parameters, share: KeyShare) -> None:
    read = KeyShare.from_bytes(parameters, share.to_bytes())
    assert (read.holder, read.key_id, read.smudging_keys) == (2, share.key_id, share.smudging_keys)
    assert np.array_equal(read.secret, share.secret)
    assert read.to_bytes() == share.to_bytes()


def test_a_share_shows_nothing_of_itself(share: KeyShare) -> None:
    assert repr(share) == f"KeyShare(holder=2, key_id={share.key_id.hex()})"


def test_a_share_holds_data_primes_only(parameters: Parameters, share: KeyShare) -> None:
    assert share.secret.shape == (len(parameters.data_primes), parameters.degree)


@pytest.mark.parametrize("values", [1, 2999])
def test_a_share_of_other_parameters_is_refused(values: int, share: KeyShare) -> None:
    with pytest.raises(FormatError, match="other parameters"):
        KeyShare.from_bytes(small_parameters(holders=5, threshold=3, values=values), share.to_bytes())


def test_hostile_shares_are_refused(parameters: Parameters, share: KeyShare) -> None:
    data = share.to_bytes()
    keys_at = HEADER_BYTES + share.secret.nbytes
    for hostile in (
        b"",
        data[: HEADER_BYTES - 1],
        data[:-1],
        data + b"\0",
        b"XXXX" + data[4:],
        data[:4] + b"\0" + data[5:],
        data[:4] + b"\x06" + data[5:],
        data[:4] + b"\x03" + data[5:],  # another holder's subsets
        data[:HEADER_BYTES] + b"\xff\xff\xff\xff" + data[HEADER_BYTES + 4 :],
        data[:keys_at] + b"\x01\x02\x05" + data[keys_at + 3 :],
    ):
        with pytest.raises(FormatError):
            KeyShare.from_bytes(parameters, hostile)
