"""What each step of a ``masking`` round takes on this machine, done by the product's own functions, without disk and network."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from secagg.ids import ClientId, Digest
from secagg.masking.agreement import KEY_BYTES, Agreements, pair_mask_key, private_key, public_key
from secagg.masking.masks import PIECE_VALUES, MaskedSum, Masks, pieces
from secagg.masking.packing import pack
from secagg.masking.parameters import MaskingParameters
from secagg.masking.quantise import quantise
from secagg.masking.sealing import encode_pair, open_sealed, seal
from secagg.masking.shamir import deal, recover_many
from secagg.masking.stream import MaskStream
from secagg.planning.calibration import MaskingRates
from secagg.planning.stopwatch import in_lanes, seconds_of

LANES: Final = 2
"""Threads that take masks off a sum, as `coordinator.rounds.unmasking` has them."""
PIECES: Final = 4
NEIGHBOURS: Final = 32
THRESHOLD: Final = 20
SECRETS: Final = 16

_PARAMETERS: Final = MaskingParameters(values=PIECES * PIECE_VALUES, max_clients=100, clip=1.0)
_ANY: Final = Digest(bytes(32))
_ALICE, _BOB = ClientId("alice"), ClientId("bob")
_ONE, _OTHER = bytes(range(32)), bytes(range(1, 33))
_POINTS: Final = np.arange(1, NEIGHBOURS + 1, dtype=np.uint32)


def measure_masking() -> MaskingRates:
    """Measure every piece; some two seconds."""
    quantising, receiving, adding = _values()
    mask, unmask = _masks()
    dealing, recovering = _shares()
    agreeing, sealing, reopening = _keys()
    return MaskingRates(
        quantise=quantising,
        mask=mask,
        unmask=unmask,
        receive=receiving,
        add=adding,
        agree=agreeing,
        seal=sealing,
        deal=dealing,
        recover=recovering,
        reopen=reopening,
    )


def _values() -> tuple[float, float, float]:
    vector, stream = np.random.default_rng(1).uniform(-1, 1, PIECE_VALUES), MaskStream(_ONE)
    bits = _PARAMETERS.sum_bits

    def quantised() -> bytes:
        values = quantise(vector, clip=1.0, value_bits=_PARAMETERS.value_bits, noise=stream)
        data = pack(values, bits)
        hashlib.sha256(data)
        return data

    packed, total, bounds = quantised(), MaskedSum(_PARAMETERS), list(pieces(_PARAMETERS))

    def received() -> None:
        # as parts arrive, and as the whole is verified
        hashlib.sha256(packed)
        hashlib.sha256(packed)

    def add(place: int) -> None:
        total.add(*bounds[place], packed)

    return (
        seconds_of(quantised, parts=PIECE_VALUES),
        seconds_of(received, parts=PIECE_VALUES),
        seconds_of(lambda: in_lanes(add, range(PIECES), LANES), parts=_PARAMETERS.values, elapsed=True),
    )


def _masks() -> tuple[float, float]:
    masks = Masks(added=(_ONE,) * 4, subtracted=(_OTHER,) * 4)
    piece, total = np.zeros(PIECE_VALUES, dtype=np.uint32), MaskedSum(_PARAMETERS)
    bounds = list(pieces(_PARAMETERS))

    def off(place: int) -> None:
        total.take_off(*bounds[place], masks)

    one = seconds_of(lambda: masks.put_on(piece, 0), parts=PIECE_VALUES * masks.count)
    many = _PARAMETERS.values * masks.count
    return one, seconds_of(lambda: in_lanes(off, range(PIECES), LANES), parts=many, elapsed=True)


def _shares() -> tuple[float, float]:
    stream = MaskStream(_ONE)

    def dealt(secrets: int = 2) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
        return deal([_OTHER] * secrets, threshold=THRESHOLD, points=_POINTS, stream=stream)

    shares = dealt(SECRETS)[:, :THRESHOLD]
    recovering = seconds_of(lambda: recover_many(_POINTS[:THRESHOLD], shares), parts=SECRETS * THRESHOLD)
    return seconds_of(dealt, parts=NEIGHBOURS * THRESHOLD), recovering


def _keys() -> tuple[float, float, float]:
    context = {"plan_digest": _ANY, "roster_digest": _ANY}
    between = {**context, "sender": _ALICE, "receiver": _BOB}
    peers = [public_key(bytes([number]) * KEY_BYTES) for number in range(NEIGHBOURS)]
    pair = encode_pair(*np.arange(18, dtype=np.uint32).reshape(2, 9))
    mask_key = private_key(_ONE)

    def sealed() -> None:
        # As a client does: one secret with each neighbour, to seal to it and to open what came from it.
        share_key = Agreements(_ONE)
        for peer in peers:
            data = seal(share_key, peer, pair, **between)  # type: ignore[arg-type]
            open_sealed(share_key, peer, data, **between)  # type: ignore[arg-type]

    def agree() -> None:
        for peer in peers:
            pair_mask_key(mask_key, peer, **context, one=_ALICE, other=_BOB)

    return (
        seconds_of(agree, parts=len(peers)),
        seconds_of(sealed, parts=len(peers)),
        seconds_of(lambda: public_key(_OTHER)),
    )
