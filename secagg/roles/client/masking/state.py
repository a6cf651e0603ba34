"""What a client knows in each phase of a masking round: ids, digests, its secrets and its own small messages, never a vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from secagg.ids import ClientId, Digest
from secagg.masking.agreement import Agreements
from secagg.masking.held_shares import HeldShares
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster
from secagg.plan import RoundPlan
from secagg.roles.client.state import ClientPhase, Offered
from secagg.roles.neighbourhood import Neighbourhood


@dataclass(frozen=True, kw_only=True)
class Planned(Offered):
    """The plan is as the policy wants it."""

    phase: ClassVar = ClientPhase.PLANNED
    plan: RoundPlan


@dataclass(frozen=True, kw_only=True)
class KeysShown(Planned):
    """The join is out: keys for this round alone, which say nothing about the update."""

    phase: ClassVar = ClientPhase.KEYS_SHOWN
    secrets: ClientSecrets = field(repr=False)
    join: MaskingJoin


@dataclass(frozen=True, kw_only=True)
class Sharing(KeysShown):
    """The roster holds the client and enough others, and its graph is strong enough; the sealed shares are out."""

    phase: ClassVar = ClientPhase.SHARING
    roster: MaskingRoster
    roster_digest: Digest
    house: Neighbourhood = field(repr=False)
    share_key: Agreements = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Masking(Sharing):
    """Who shares is known, and so are the masks. ``unopened``: neighbours whose shares are worth nothing."""

    phase: ClassVar = ClientPhase.MASKING
    sharers: tuple[ClientId, ...]
    sharers_digest: Digest
    held: HeldShares = field(repr=False)
    unopened: tuple[ClientId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VectorSent(Masking):
    """The one vector of this round is made; no other ever is."""

    phase: ClassVar = ClientPhase.VECTOR_SENT
    upload: MaskedUpload


@dataclass(frozen=True, kw_only=True)
class VectorCounted(VectorSent):
    """The coordinator counts the vector; who else survived is not known yet."""

    phase: ClassVar = ClientPhase.VECTOR_COUNTED


@dataclass(frozen=True, kw_only=True)
class Confirming(VectorCounted):
    """The one set of survivors that this client will ever know is signed."""

    phase: ClassVar = ClientPhase.CONFIRMING
    survivors: tuple[ClientId, ...]
    confirmation: Confirmation


@dataclass(frozen=True, kw_only=True)
class Revealed(Planned):
    """The shares are out, or this client's turn went by: they and its secrets are gone from here."""

    phase: ClassVar = ClientPhase.REVEALED
    roster_digest: Digest
    survivors: tuple[ClientId, ...]


@dataclass(frozen=True, kw_only=True)
class AwaitingSum(Revealed):
    """Nothing but the end of the round is left to wait for."""

    phase: ClassVar = ClientPhase.AWAITING_SUM
