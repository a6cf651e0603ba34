"""From the survivors' vectors and the shares that were revealed to the mean on disk, in an executor (``docs/protocol.md``, 10.7)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from coordinator.contracts import BlobStore, mean_name
from coordinator.rounds.recovery import write_mean
from coordinator.streams import UploadKey
from coordinator.vectors import VectorSpool
from he.errors import HEError
from he.packing import unpack_mean
from secagg.errors import MessageError
from secagg.ids import ClientId
from secagg.masking.masks import MaskedSum, Masks, pieces
from secagg.masking.parameters import MaskingParameters
from secagg.masking.unmasking import UnmaskedRound, masks_in_sum, recover_secrets
from secagg.roles.coordinator.events import SumUnmasked, UnmaskingFailed
from secagg.roles.coordinator.masking.state import MaskingRoundState
from secagg.roles.coordinator.state import named

Bounds: TypeAlias = tuple[tuple[int, int], ...]
"""Pieces of a vector: first value, and the one after the last."""

LANES: Final = 2
"""Pieces are independent of one another, so as many threads as compute at a time share them."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """The masks that the sum still carries, and the clients that revealed shares which do not fit."""

    masks: Masks
    liars: tuple[ClientId, ...] = ()


def lanes(parameters: MaskingParameters) -> tuple[Bounds, ...]:
    """Return the pieces of a vector, divided among the threads; every piece stands once."""
    bounds = tuple(pieces(parameters))
    step = -(-len(bounds) // LANES)
    return tuple(bounds[start : start + step] for start in range(0, len(bounds), step))


def add_survivors(total: MaskedSum, vectors: VectorSpool, state: MaskingRoundState, bounds: Bounds) -> None:
    """Add some pieces of all survivors' vectors to the total."""
    keys = [UploadKey(job=state.spec.job, round=state.round, client=client) for client in state.survivors]
    vectors.add_up(total, state.spec.masking_parameters, keys, bounds)


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


def write_sum(
    total: MaskedSum, state: MaskingRoundState, blobs: BlobStore, liars: tuple[ClientId, ...]
) -> SumUnmasked | UnmaskingFailed:
    """Write the mean of a sum without masks, unless it is none."""
    spec = state.spec
    try:
        mean, total_weight = unpack_mean(total.values(len(state.survivors)), spec.layout, spec.clip, spec.max_weight)
    except HEError as error:
        return UnmaskingFailed(reason=str(error), can_wait=False, used=len(state.unmaskings))
    digest, size = write_mean(blobs, mean_name(spec.job, state.round), spec, mean)
    return SumUnmasked(total_weight=total_weight, mean_digest=digest, mean_bytes=size, liars=liars)
