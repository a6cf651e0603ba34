"""What the coordinator knows of a masking round: ids, counts and small signed messages, never a vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.ids import ClientId, Digest
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.round import Phase
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.ending import RoundStep
from secagg.roles.coordinator.state import RoundState
from secagg.roles.neighbourhood import Neighbourhood

NO_DIGEST: Final = Digest(b"")


@dataclass(frozen=True, kw_only=True)
class MaskingRoundState(RoundState):
    """One round, from its first join to its end.

    Attributes:
        degree, threshold, quorum: k, t and q of the frozen roster; 0 before.
        house: the graph of the frozen roster.
        shares: what each client sealed to its neighbours.
        sharers: clients whose shares count, once SHARING is over; pairwise masks are among them.
        survivors: clients whose vectors are in the sum, once UPLOADING is over.
        sharers_digest, survivors_digest: of the two, from then on; every message is held against them.
        confirmations: of the survivors.
        unmaskings: shares that were revealed.
        revealed: how many shares of each position's secret are among them: (clients,), never changed in place.
        unmasking: whether the masks are being taken off.
        closing: whether no further unmasking is waited for.
    """

    phase: Phase = Phase.OPEN
    joins: Mapping[ClientId, Authenticated[MaskingJoin]] = field(default_factory=dict)
    uploads: Mapping[ClientId, Authenticated[MaskedUpload]] = field(default_factory=dict)
    degree: int = 0
    threshold: int = 0
    quorum: int = 0
    house: Neighbourhood | None = field(default=None, repr=False)
    shares: Mapping[ClientId, Authenticated[Shares]] = field(default_factory=dict)
    sharers: tuple[ClientId, ...] = ()
    sharers_digest: Digest = NO_DIGEST
    survivors: tuple[ClientId, ...] = ()
    survivors_digest: Digest = NO_DIGEST
    confirmations: Mapping[ClientId, Authenticated[Confirmation]] = field(default_factory=dict)
    unmaskings: Mapping[ClientId, Authenticated[Unmasking]] = field(default_factory=dict, repr=False)
    revealed: npt.NDArray[np.intp] | None = field(default=None, repr=False, compare=False)
    unmasking: bool = False
    closing: bool = False

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """The clients that joined, in the order of their names: by position, once the roster is frozen."""
        return tuple(sorted(self.joins)) if self.house is None else self.house.clients

    @property
    def roster(self) -> MaskingRoster:
        """The frozen roster."""
        return MaskingRoster(
            plan_digest=self.certified.digest,
            joins=tuple(self.joins[client] for client in self.clients),
            neighbours=self.degree,
            threshold=self.threshold,
            quorum=self.quorum,
        )

    @property
    def neighbourhood(self) -> Neighbourhood:
        """The graph of the frozen roster."""
        if self.house is None:
            raise AssertionError("the roster is not frozen yet")
        return self.house

    def sealed_to(self, client: ClientId) -> dict[ClientId, bytes]:
        """Return what each sharer sealed to one client, by sender; nothing for a client that is no sharer."""
        if client not in self.sharers:
            return {}
        house, sharers = self.neighbourhood, frozenset(self.sharers)
        own = house.places[client]
        return {
            # A row ascends, so that a client's place in its neighbour's row is found without reading all of it.
            house.clients[place]: self.shares[house.clients[place]].message.sealed[
                int(np.searchsorted(house.graph[place], own))
            ]
            for place in house.graph[own].tolist()
            if house.clients[place] in sharers
        }


MaskingStep: TypeAlias = RoundStep[MaskingRoundState]
