"""What can happen to a client in a masking round, and what its driver does about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from secagg.ids import ClientId, Digest
from secagg.masking.masks import Masks
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, MaskingRoster, Shares, Unmasking
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan


@dataclass(frozen=True, kw_only=True)
class SecretsDrawn:
    """32 random bytes, from which everything follows that this client draws in the round."""

    master_seed: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MaskingRosterFrozen:
    """The coordinator shows the frozen roster and the numbers of its graph."""

    roster: MaskingRoster


@dataclass(frozen=True, kw_only=True)
class SharesShown:
    """The coordinator shows whose shares count, and what is sealed to this client, by sender."""

    sharers: tuple[ClientId, ...]
    sealed: Mapping[ClientId, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class VectorMasked:
    """The masked vector is made and kept. SHA-256 and length of its packed bytes."""

    vector_digest: Digest
    vector_bytes: int


@dataclass(frozen=True, kw_only=True)
class VectorAccepted:
    """The coordinator verified the vector and counts it."""


@dataclass(frozen=True, kw_only=True)
class SurvivorsShown:
    """The coordinator shows whose vectors are in the sum."""

    survivors: tuple[ClientId, ...]


@dataclass(frozen=True, kw_only=True)
class ConfirmationsShown:
    """The coordinator shows what others signed."""

    confirmations: Sequence[Authenticated[Confirmation]]


@dataclass(frozen=True, kw_only=True)
class TurnMissed:
    """The round went on without this client's confirmation: others reveal the shares."""


@dataclass(frozen=True, kw_only=True)
class UnmaskingAccepted:
    """The coordinator has the shares, or has no need of them any more."""


MaskingEvent = (
    SecretsDrawn
    | MaskingRosterFrozen
    | SharesShown
    | VectorMasked
    | VectorAccepted
    | SurvivorsShown
    | ConfirmationsShown
    | TurnMissed
    | UnmaskingAccepted
)


@dataclass(frozen=True, kw_only=True)
class DrawSecrets:
    """Draw 32 random bytes, keep them, then report ``SecretsDrawn``."""

    plan: RoundPlan


@dataclass(frozen=True, kw_only=True)
class SendMaskingJoin:
    """Sign and send the join; then report ``MaskingRosterFrozen``, ``JoinRefused`` or ``RoundEnded``."""

    join: MaskingJoin


@dataclass(frozen=True, kw_only=True)
class SendShares:
    """Sign and send the sealed shares; then report ``SharesShown`` or ``RoundEnded``. ``roster``: the clients by position."""

    shares: Shares
    roster: tuple[ClientId, ...]


@dataclass(frozen=True, kw_only=True)
class MaskUpdate:
    """Quantise and mask the update, keep the bytes, then report ``VectorMasked``. Only ever one vector of a round.

    Attributes:
        plan: the round.
        masks: all masks of this client.
        noise_key: of the stream that rounds.
        unopened: neighbours whose shares did not open: worth a word in the log.
    """

    plan: RoundPlan
    masks: Masks = field(repr=False)
    noise_key: bytes = field(repr=False)
    unopened: tuple[ClientId, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SendVector:
    """Sign the statement and send the kept bytes; then report ``VectorAccepted`` or ``RoundEnded``."""

    upload: MaskedUpload


@dataclass(frozen=True, kw_only=True)
class AwaitSurvivors:
    """Wait for the survivors; report ``SurvivorsShown`` or ``RoundEnded``. ``roster``: the clients by position."""

    roster: tuple[ClientId, ...]


@dataclass(frozen=True, kw_only=True)
class SendConfirmation:
    """Sign and send the confirmation; then report ``ConfirmationsShown``, ``TurnMissed`` or ``RoundEnded``."""

    confirmation: Confirmation


@dataclass(frozen=True, kw_only=True)
class SendUnmasking:
    """Sign and send the shares; then report ``UnmaskingAccepted``, also when they came too late."""

    unmasking: Unmasking


MaskingEffect = (
    DrawSecrets
    | SendMaskingJoin
    | SendShares
    | MaskUpdate
    | SendVector
    | AwaitSurvivors
    | SendConfirmation
    | SendUnmasking
)
