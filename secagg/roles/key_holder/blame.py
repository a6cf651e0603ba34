"""Who lied in a dead ceremony (docs/protocol.md, 4.8): `he.ceremony.blame`, and complaints that had no ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from he import ceremony as steps
from he.parameters import Parameters
from secagg.errors import FaultyCoordinatorError
from secagg.ids import Digest, HolderId, KeyId
from secagg.messages.ceremony import DealingBundle, Hello, KeyCommitment, SeedOpening, TrialBundle
from secagg.messages.signed import Authenticated
from secagg.roles.key_holder.dealings import open_part, read_opening, read_part
from secagg.roles.key_holder.relayed import Reader


@dataclass(frozen=True, kw_only=True)
class DeadCeremony:
    """Every signed message of a ceremony whose trial failed, in the order of the holders.

    `openings` are of those holders whose seed arrived; `bundles` hold all parts that a holder sealed.
    """

    parameters: Parameters
    context: Digest
    key_id: KeyId
    holders: tuple[HolderId, ...]
    hellos: tuple[Authenticated[Hello], ...]
    commitments: tuple[Authenticated[KeyCommitment], ...]
    bundles: tuple[DealingBundle, ...]
    trials: tuple[TrialBundle, ...]
    openings: tuple[Authenticated[SeedOpening], ...]


def verify_openings(
    reader: Reader, key_id: KeyId, own: SeedOpening, openings: Sequence[Authenticated[SeedOpening]]
) -> None:
    """Raise `FaultyCoordinatorError` unless these are openings of this key, one for a holder, the reader's own among them."""
    signers = [one.message.holder for one in openings]
    expected = [holder for holder in reader.group.holders if holder in signers]
    if signers != expected:
        raise FaultyCoordinatorError(f"it relayed seeds of {', '.join(signers)}: distinct holders of the group are due")
    if any(one.message.key_id != key_id for one in openings):
        raise FaultyCoordinatorError("it relayed a seed of another key")
    if own not in [one.message for one in openings]:
        raise FaultyCoordinatorError(f"the seed of {reader.holder} came back altered, or not at all")


def liars_of(ceremony: DeadCeremony) -> tuple[HolderId, ...]:
    """Return who provably lied, in the order of the group; an honest holder is never among them."""
    inquiry = _Inquiry(ceremony)
    verdict = steps.blame(inquiry.evidence)
    named = set(verdict.liars) | inquiry.groundless_complainers()
    return tuple(holder for number, holder in enumerate(ceremony.holders, start=1) if number in named)


class _Inquiry:
    """What the opened seeds let everyone read."""

    def __init__(self, ceremony: DeadCeremony) -> None:
        self._dead = ceremony
        self._numbers = {holder: number for number, holder in enumerate(ceremony.holders, start=1)}

    @cached_property
    def _seeds(self) -> dict[int, bytes]:
        return {self._numbers[one.message.holder]: one.message.seed for one in self._dead.openings}

    @cached_property
    def _parts(self) -> dict[tuple[int, int], bytes | None]:
        """What each opened seed's key opens, by (sender, receiver)."""
        return {
            (sender, receiver): open_part(bundle, holder, steps.hpke_private_key(receiver, self._seeds[receiver]))
            for sender, bundle in enumerate(self._dead.bundles, start=1)
            for holder, receiver in self._numbers.items()
            if receiver in self._seeds
        }

    @property
    def evidence(self) -> steps.Evidence:
        """The ceremony by holders' numbers, as `he` wants it."""
        dead = self._dead
        return steps.Evidence(
            parameters=dead.parameters,
            context=dead.context,
            key_id=dead.key_id,
            seed_commitments=_numbered([one.message.seed_commitment for one in dead.hellos]),
            hpke_public_keys=_numbered([one.message.hpke_public_key for one in dead.hellos]),
            commitments=_numbered([one.message.commitment for one in dead.commitments]),
            openings=_numbered([one.dealing.message.b for one in dead.bundles]),
            dealings=self._parts,
            answers={n: one.answer for n, one in enumerate(dead.trials, start=1) if not one.trial.message.complaint},
            seeds=self._seeds,
        )

    def groundless_complainers(self) -> set[int]:
        """Holders that complained although nothing they received was unusable."""
        return {
            number
            for number, bundle in enumerate(self._dead.trials, start=1)
            if bundle.trial.message.complaint and number in self._seeds and not self._had_ground(number)
        }

    def _had_ground(self, complainer: int) -> bool:
        return any(
            self._opening_is_unusable(sender) or (sender != complainer and self._part_is_unusable(sender, complainer))
            for sender in self._numbers.values()
        )

    def _opening_is_unusable(self, sender: int) -> bool:
        commitment = self._dead.commitments[sender - 1].message
        dealing = self._dead.bundles[sender - 1].dealing.message
        return read_opening(self._dead.parameters, commitment, dealing, sender) is not None

    def _part_is_unusable(self, sender: int, receiver: int) -> bool:
        return read_part(self._dead.parameters, self._parts[sender, receiver], sender, receiver) is None


def _numbered(values: Sequence[bytes]) -> Mapping[int, bytes]:
    return dict(enumerate(values, start=1))
