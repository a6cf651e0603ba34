"""What the coordinator knows of a masking round: ids, counts and small signed messages, never a vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from secagg import transcript
from secagg.ids import ClientId, Digest
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.round import Phase
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.ending import RoundStep
from secagg.roles.coordinator.state import RoundState
from secagg.roles.neighbourhood import Neighbourhood


@dataclass(frozen=True, kw_only=True)
class MaskingRoundState(RoundState):
    """One round, from its first join to its end.

    Attributes:
        degree, threshold, quorum: k, t and q of the frozen roster; 0 before.
        shares: what each client sealed to its neighbours.
        sharers: clients whose shares count, once SHARING is over; pairwise masks are among them.
        survivors: clients whose vectors are in the sum, once UPLOADING is over.
        confirmations: of the survivors.
        unmaskings: shares that were revealed.
        unmasking: whether the masks are being taken off.
        closing: whether no further unmasking is waited for.
    """

    phase: Phase = Phase.OPEN
    joins: Mapping[ClientId, Authenticated[MaskingJoin]] = field(default_factory=dict)
    uploads: Mapping[ClientId, Authenticated[MaskedUpload]] = field(default_factory=dict)
    degree: int = 0
    threshold: int = 0
    quorum: int = 0
    shares: Mapping[ClientId, Authenticated[Shares]] = field(default_factory=dict)
    sharers: tuple[ClientId, ...] = ()
    survivors: tuple[ClientId, ...] = ()
    confirmations: Mapping[ClientId, Authenticated[Confirmation]] = field(default_factory=dict)
    unmaskings: Mapping[ClientId, Authenticated[Unmasking]] = field(default_factory=dict, repr=False)
    unmasking: bool = False
    closing: bool = False

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """The clients that joined, in the order of their names: by position, once the roster is frozen."""
        return tuple(sorted(self.joins))

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
        return Neighbourhood.of(
            self.frozen_digest, self.clients, degree=self.degree, threshold=self.threshold, quorum=self.quorum
        )

    @property
    def sharers_digest(self) -> Digest:
        """The digest of the sharers."""
        return transcript.sharers_digest(self.frozen_digest, self.sharers)

    @property
    def survivors_digest(self) -> Digest:
        """The digest of the survivors."""
        return transcript.survivors_digest(self.sharers_digest, self.survivors)

    def sealed_to(self, client: ClientId) -> dict[ClientId, bytes]:
        """Return what each sharer sealed to one client, by sender; nothing for a client that is no sharer."""
        if client not in self.sharers:
            return {}
        house = self.neighbourhood
        senders = frozenset(self.sharers) & frozenset(house.neighbours_of(client))
        return {
            sender: self.shares[sender].message.sealed[house.neighbours_of(sender).index(client)] for sender in senders
        }


MaskingStep: TypeAlias = RoundStep[MaskingRoundState]
