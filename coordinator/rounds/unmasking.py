"""From the survivors' vectors and the shares that were revealed to the mean on disk, in an executor (``docs/protocol.md``, 10.7)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

from coordinator.contracts import BlobStore
from coordinator.rounds.mean_file import sum_on_disk
from coordinator.streams import UploadKey
from coordinator.vectors import VectorSpool
from he.errors import HEError
from secagg.errors import MessageError
from secagg.ids import ClientId
from secagg.masking.masks import MaskedSum, Masks, pieces
from secagg.masking.quantise import Floats
from secagg.masking.unmasking import UnmaskedRound, masks_in_sum, recover_secrets
from secagg.roles.coordinator.events import SumUnmasked, UnmaskingFailed
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import named

Piece: TypeAlias = tuple[int, int]
"""Of a vector: its first value, and the one after its last."""

LANES: Final = 2
"""Pieces are independent of one another, so as many threads as compute at a time work on as many pieces."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """The masks that the sum still carries, and the clients that revealed shares which do not fit."""

    masks: Masks
    liars: tuple[ClientId, ...] = ()


def recover(state: MaskingRoundState) -> Recovered | UnmaskingFailed:
    """Recover every secret that the sum hangs on, or say whose do not open; the sum is not touched."""
    round = _round_of(state)
    found = recover_secrets(round)
    if found.unopened:
        owners = named(_names(state, found.unopened))
        return UnmaskingFailed(
            reason=f"the shares that are there do not open the secrets of {owners}",
            can_wait=True,
            used=len(state.unmaskings),
        )
    try:
        masks = masks_in_sum(round, found.secrets)
    except MessageError as error:
        return UnmaskingFailed(reason=error.reason, can_wait=False, used=len(state.unmaskings))
    return Recovered(masks=masks, liars=_names(state, found.liars))


def _round_of(state: MaskingRoundState) -> UnmaskedRound:
    house = state.neighbourhood
    places = house.places
    return UnmaskedRound(
        plan_digest=state.certified.digest,
        roster_digest=state.frozen_digest,
        joins=[state.joins[client].message for client in house.clients],
        graph=house.graph,
        threshold=state.threshold,
        sharers=frozenset(places[client] for client in state.sharers),
        survivors=frozenset(places[client] for client in state.survivors),
        revealed={places[client]: one.message.shares for client, one in state.unmaskings.items()},
    )


def _names(state: MaskingRoundState, positions: Collection[int]) -> tuple[ClientId, ...]:
    clients = state.clients
    return tuple(clients[place] for place in sorted(positions))


def take_off(total: MaskedSum, masks: Masks, bounds: Sequence[tuple[int, int]]) -> None:
    """Take the masks off some pieces of the total: once, for they would come back negative."""
    for start, stop in bounds:
        total.take_off(start, stop, masks)


def unmask_sum(
    vectors: VectorSpool, blobs: BlobStore, state: MaskingRoundState, found: Recovered
) -> SumUnmasked | UnmaskingFailed:
    """Add the survivors' vectors up, take their masks off and write the mean, unless the sum is none.

    Memory: a few pieces, whatever the number of clients and the length of their vectors.
    """
    bounds = tuple(pieces(state.spec.masking_parameters))
    with ThreadPoolExecutor(LANES) as pool, sum_on_disk(blobs, state.spec.job, state.round) as opened:
        for first in range(0, len(bounds), LANES):
            for values in pool.map(
                lambda piece: _unmasked(vectors, state, found, piece), bounds[first : first + LANES]
            ):
                opened.append(values)
        try:
            total_weight, digest, size = opened.write_mean(state.spec, state.round)
        except HEError as error:
            return UnmaskingFailed(reason=str(error), can_wait=False, used=len(state.unmaskings))
    return SumUnmasked(total_weight=total_weight, mean_digest=digest, mean_bytes=size, liars=found.liars)


def _unmasked(vectors: VectorSpool, state: MaskingRoundState, found: Recovered, piece: Piece) -> Floats:
    """Return one piece of the sum, float64, without masks."""
    parameters = state.spec.masking_parameters
    total = MaskedSum(parameters, piece)
    keys = [UploadKey(job=state.spec.job, round=state.round, client=client) for client in state.survivors]
    vectors.add_up(total, parameters, keys, (piece,))
    take_off(total, found.masks, (piece,))
    return total.values(len(state.survivors))
