"""What a key holder knows in each phase of a ceremony. Secrets are in no `repr`, and a later phase drops what it needs not."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from he import ceremony as steps
from he.parameters import Parameters
from he.public_key import PublicKey
from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.ceremony import (
    Dealing,
    Hello,
    KeyCommitment,
    KeyStatement,
    SeedOpening,
    Trial,
    TrialBundle,
)
from secagg.messages.signed import Authenticated
from secagg.plan import CeremonyPlan
from secagg.policy import HolderPolicy
from secagg.roles.key_holder.relayed import Reader


class CeremonyPhase(Enum):
    """How far a holder is with a ceremony; the last three are its ends."""

    NEW = "new"
    GREETED = "greeted"
    COMMITTED = "committed"
    DEALT = "dealt"
    TRIED = "tried"
    CERTIFIED = "certified"
    DEAD = "dead"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class New:
    """Nothing was asked yet."""

    phase: ClassVar = CeremonyPhase.NEW
    holder: HolderId
    policy: HolderPolicy


@dataclass(frozen=True, kw_only=True)
class Greeted:
    """The hello is out; it binds the holder to its seed."""

    phase: ClassVar = CeremonyPhase.GREETED
    plan: CeremonyPlan
    reader: Reader
    seed: bytes = field(repr=False)
    hello: Hello

    @property
    def parameters(self) -> Parameters:
        """The CKKS parameters of the key."""
        return self.plan.parameters


@dataclass(frozen=True, kw_only=True)
class Committed(Greeted):
    """The commitment to b_i is out."""

    phase: ClassVar = CeremonyPhase.COMMITTED
    hellos: tuple[Authenticated[Hello], ...]
    context: Digest
    secrets: steps.HolderSecrets = field(repr=False)
    commitment: KeyCommitment


@dataclass(frozen=True, kw_only=True)
class Dealt(Committed):
    """b_i is open and the shares are dealt. `sealed` is kept: sealing again would give other bytes."""

    phase: ClassVar = CeremonyPhase.DEALT
    commitments: tuple[Authenticated[KeyCommitment], ...]
    dealing: Dealing
    sealed: dict[HolderId, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Tried(Dealt):
    """The trial is answered, or there is a complaint; then there is no share and no public key."""

    phase: ClassVar = CeremonyPhase.TRIED
    dealings: tuple[Authenticated[Dealing], ...]
    key_id: KeyId
    trial: Trial
    answer: bytes = field(repr=False)
    share: steps.CeremonyShare | None = field(repr=False)
    public_key: PublicKey | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Certified:
    """The holder vouches for the key. The seed is gone: nothing can make this holder open it."""

    phase: ClassVar = CeremonyPhase.CERTIFIED
    plan: CeremonyPlan
    reader: Reader
    key_id: KeyId
    trials: tuple[TrialBundle, ...]
    statement: KeyStatement
    b: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Dead(Tried):
    """The trial failed and the seed is open; this holder will never vouch for the key."""

    phase: ClassVar = CeremonyPhase.DEAD
    trials: tuple[TrialBundle, ...]
    opening: SeedOpening


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The ceremony was given up or its round is over; nothing of it is left."""

    phase: ClassVar = CeremonyPhase.ENDED


CeremonyState = New | Greeted | Committed | Dealt | Tried | Certified | Dead | Ended
