"""One roster of a masking round as an adversary plays it, and what it makes of all that it sees: shares, secrets, masks, sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from secagg import transcript
from secagg.errors import MessageError
from secagg.ids import ClientId
from secagg.masking.agreement import pair_mask_key, public_key, seed_commitment, self_mask_key
from secagg.masking.masks import MaskedSum, Masks, adds
from secagg.masking.parameters import MaskingParameters
from secagg.masking.sealing import decode_pair, open_sealed
from secagg.masking.shamir import decode_share, recover
from secagg.masking.stream import Words
from secagg.messages.masking import Confirmation, MaskingRoster, Shares, Unmasking
from secagg.messages.signed import Authenticated
from secagg.roles.neighbourhood import Neighbourhood
from tests.adversarial.masking_people import Person, said, secrets_of, true_sum


@dataclass
class Table:
    """One roster as the adversary plays it: what it was sent, and what its own people hold.

    Attributes:
        everyone: honest and corrupt people who were shown this roster.
        corrupt: the adversary's own.
    """

    roster: MaskingRoster
    everyone: Mapping[ClientId, Person]
    corrupt: frozenset[ClientId]
    shares: dict[ClientId, Shares] = field(default_factory=dict)
    revealed: dict[ClientId, Unmasking] = field(default_factory=dict)
    known_keys: dict[ClientId, bytes] = field(default_factory=dict)
    _found: tuple[int, tuple[dict[ClientId, bytes], dict[ClientId, bytes]]] | None = None
    _bare: dict[tuple[ClientId, int], Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.digest = transcript.masking_roster_digest(self.roster)
        self.house = Neighbourhood.of(
            self.digest,
            self.roster.clients,
            degree=self.roster.neighbours,
            threshold=self.roster.threshold,
            quorum=self.roster.quorum,
        )
        self.joins = {one.message.client: one.message for one in self.roster.joins}

    @property
    def honest(self) -> tuple[ClientId, ...]:
        return tuple(name for name in self.everyone if name not in self.corrupt)

    def deal(self) -> None:
        """Show everyone the roster and take the sealed shares."""
        for name, person in self.everyone.items():
            self.shares[name] = person.sees_roster(self.roster).message

    def sealed_to(self, client: ClientId) -> dict[ClientId, bytes]:
        """Return what neighbours sealed to one client."""
        return {
            sender: self.shares[sender].sealed[self.house.neighbours_of(sender).index(client)]
            for sender in self.house.neighbours_of(client)
            if sender in self.shares
        }

    def show_sharers(self, sharers: Iterable[ClientId], to: Iterable[ClientId]) -> None:
        for name in to:
            self.everyone[name].sees_sharers(sharers, self.sealed_to(name))

    def confirm(self, survivors: Iterable[ClientId], by: Iterable[ClientId]) -> tuple[Authenticated[Confirmation], ...]:
        return tuple(self.everyone[name].sees_survivors(survivors) for name in by)

    def forged(
        self, survivors: Iterable[ClientId], sharers: Iterable[ClientId]
    ) -> tuple[Authenticated[Confirmation], ...]:
        """Sign a set in the names of all corrupt people: as often as it helps."""
        survivors_digest = transcript.survivors_digest(transcript.sharers_digest(self.digest, sharers), survivors)
        return tuple(
            said(
                Confirmation(
                    plan_digest=self.roster.plan_digest,
                    roster_digest=self.digest,
                    client=name,
                    survivors_digest=survivors_digest,
                )
            )
            for name in sorted(self.corrupt & set(survivors))
        )

    def reveal(self, confirmations: Sequence[Authenticated[Confirmation]], by: Iterable[ClientId]) -> None:
        for name in by:
            self.revealed[name] = self.everyone[name].sees_confirmations(confirmations).message

    # what the adversary makes of it

    def secrets(self) -> tuple[dict[ClientId, bytes], dict[ClientId, bytes]]:
        """Return the self-mask seeds and the mask keys that the shares give, of everybody in the roster."""
        if self._found is None or self._found[0] != len(self.revealed):
            self._found = (len(self.revealed), self._recovered_all())
        return self._found[1]

    def _recovered_all(self) -> tuple[dict[ClientId, bytes], dict[ClientId, bytes]]:
        seeds, keys = dict[ClientId, bytes](), dict[ClientId, bytes](self.known_keys)
        for owner in self.roster.clients:
            for words in self._shares_of(owner):
                secret = self._recovered(words)
                if secret is None:
                    continue
                if (
                    seed_commitment(secret, plan_digest=self.roster.plan_digest, client=owner)
                    == self.joins[owner].seed_commitment
                ):
                    seeds[owner] = secret
                elif public_key(secret) == self.joins[owner].mask_key:
                    keys[owner] = secret
        return seeds, keys

    def _recovered(self, held: Mapping[int, Words]) -> bytes | None:
        if len(held) < self.roster.threshold:
            return None
        points = sorted(held)[: self.roster.threshold]
        try:
            return recover(np.array(points, dtype=np.uint32), np.stack([held[point] for point in points]))
        except MessageError:
            return None

    def _shares_of(self, owner: ClientId) -> tuple[dict[int, Words], dict[int, Words]]:
        """Return the shares of each kind by point: corrupt neighbours' of both, others' as they were revealed."""
        seeds, keys = dict[int, Words](), dict[int, Words]()
        for holder in self.house.neighbours_of(owner):
            point = self.house.places[holder] + 1
            if holder in self.corrupt and owner in self.shares:
                seeds[point], keys[point] = decode_pair(self._opened(owner, holder))
        for holder, unmasking in self.revealed.items():
            order = self.house.neighbours_of(holder)
            if owner in order and unmasking.shares[order.index(owner)]:
                share = decode_share(unmasking.shares[order.index(owner)])
                kind = seeds if owner in self._survivors_of(holder) else keys
                kind[self.house.places[holder] + 1] = share
        return seeds, keys

    def _survivors_of(self, holder: ClientId) -> tuple[ClientId, ...]:
        survivors: tuple[ClientId, ...] = self.everyone[holder].state.survivors  # type: ignore[union-attr]
        return survivors

    def _opened(self, owner: ClientId, holder: ClientId) -> bytes:
        return open_sealed(
            secrets_of(self.everyone[holder]).share_private,
            self.joins[owner].share_key,
            self.sealed_to(holder)[owner],
            plan_digest=self.roster.plan_digest,
            roster_digest=self.digest,
            sender=owner,
            receiver=holder,
        )

    def sum_of(self, members: Iterable[ClientId]) -> Words:
        """Add up the vectors of members, less every mask that the adversary knows: uint32 (values,), modulo 2^b."""
        total: Words = np.sum([self._bared(name) for name in members], axis=0, dtype=np.uint32)
        return total & np.uint32((1 << self.parameters.sum_bits) - 1)

    def _bared(self, name: ClientId) -> Words:
        if (name, len(self.revealed)) not in self._bare:
            one = MaskedSum(self.parameters)
            one.add(0, self.parameters.values, self.everyone[name].vector)
            one.take_off(0, self.parameters.values, self._known_masks(name))
            self._bare[name, len(self.revealed)] = one.quantised()
        return self._bare[name, len(self.revealed)]

    def opened_sets(self) -> set[frozenset[ClientId]]:
        """Return every set of honest people whose sum the adversary has: it tries them all."""
        masked = [name for name in self.honest if self.everyone[name].vector]
        sets = (frozenset(some) for size in range(1, len(masked) + 1) for some in combinations(masked, size))
        return {some for some in sets if np.array_equal(self.sum_of(some), true_sum(self.everyone, some))}

    @property
    def parameters(self) -> MaskingParameters:
        return self.everyone[self.honest[0]].plan.spec.masking_parameters

    def _known_masks(self, name: ClientId) -> Masks:
        seeds, keys = self.secrets()
        keys = keys | {one: secrets_of(self.everyone[one]).mask_private for one in self.corrupt}
        context: dict[str, Any] = {"plan_digest": self.roster.plan_digest, "roster_digest": self.digest}
        added = [self_mask_key(seeds[name], **context, client=name)] if name in seeds else []
        subtracted = list[bytes]()
        for other in sorted(set(self.everyone[name].sharers) & set(self.house.neighbours_of(name))):
            private, public = keys.get(name), self.joins[other].mask_key
            if other in keys:
                private, public = keys[other], self.joins[name].mask_key
            if private is not None:
                key = pair_mask_key(private, public, **context, one=name, other=other)
                (added if adds(self.house.places[name], self.house.places[other]) else subtracted).append(key)
        return Masks(added=tuple(added), subtracted=tuple(subtracted))
