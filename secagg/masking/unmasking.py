"""From revealed shares to the masks that come off the sum (``docs/protocol.md``, 10.7). Pure; positions count the roster from 0.

What is recovered is held against the roster: a wrong share cannot bend a secret, only hide it. Then the wrong shares are located, and
who revealed one is trusted last from there on.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from secagg.errors import MessageError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import pair_mask_key, private_key, public_key, seed_commitment, self_mask_key
from secagg.masking.decoding import fitting_shares
from secagg.masking.masks import Masks, adds
from secagg.masking.shamir import LIMBS, PRIME, decode_share, recover_many
from secagg.masking.stream import MaskStream, Words
from secagg.messages.masking import MaskingJoin

DECODING_BOUND: Final = 300_000_000
"""Bound of the work of locating wrong shares in one recovery, in steps of m^3 for m shares: a few seconds."""

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class UnmaskedRound:
    """What of a round is needed to open it.

    Attributes:
        plan_digest, roster_digest: of the round.
        joins: by position.
        graph: (clients, k) positions of each client's neighbours, ascending.
        threshold: t.
        sharers: positions between which there are pairwise masks.
        survivors: positions whose vectors are in the sum.
        revealed: by position of the one who reveals: a share or b"" for each of its neighbours, in the order of ``graph``.
    """

    plan_digest: Digest
    roster_digest: Digest
    joins: Sequence[MaskingJoin]
    graph: Positions
    threshold: int
    sharers: frozenset[int]
    survivors: frozenset[int]
    revealed: Mapping[int, Sequence[bytes]] = field(repr=False)

    @property
    def dropped(self) -> frozenset[int]:
        """Positions that share pairwise masks with survivors, and whose own vectors are not in the sum."""
        return self.sharers - self.survivors

    @property
    def most_corrupt(self) -> int:
        """The most corrupt clients that a client can have among its neighbours: 2t > k + c, as the planner sees to."""
        return 2 * self.threshold - int(self.graph.shape[1]) - 1

    def opens(self, owner: int, secret: bytes) -> bool:
        """Whether this is the secret of ``owner`` that the roster binds it to: a survivor's seed, another's mask key."""
        join = self.joins[owner]
        if owner in self.survivors:
            shown = seed_commitment(secret, plan_digest=self.plan_digest, client=ClientId(join.client))
            return hmac.compare_digest(shown, join.seed_commitment)
        return hmac.compare_digest(public_key(secret), join.mask_key)


@dataclass(frozen=True, kw_only=True)
class RecoveredSecrets:
    """Secrets by position of their owner.

    ``unopened``: owners whose secrets the shares did not give; ``liars``: clients that dealt or revealed wrong shares for certain.
    """

    secrets: Mapping[int, bytes] = field(repr=False)
    unopened: frozenset[int] = frozenset()
    liars: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """Revealed shares of one owner's secret: the positions of those who hold them, ascending, and uint32 (holders, 9)."""

    holders: tuple[int, ...]
    shares: Words

    def of(self, chosen: Sequence[int]) -> tuple[Words, Words]:
        """Return points and shares of some of the holders, by their places in ``holders``."""
        points = np.array([self.holders[place] + 1 for place in chosen], dtype=np.uint32)
        return points, self.shares[list(chosen)]

    def fits(self, place: int, good: Sequence[int], secret: bytes) -> bool:
        """Whether one more share lies on the polynomial of the good ones: in place of one of them it gives the same secret."""
        points, shares = self.of((*good[1:], place))
        return recover_many(points, shares[None]) == [secret]

    @property
    def combined(self) -> Words:
        """One residue for each share, uint32 (holders,): a combination of its limbs that depends on all of them.

        A share that is wrong in any limb is wrong here too, unless its sender made it so with some 2^31 tries.
        """
        factors = MaskStream(hashlib.sha256(self.shares.tobytes()).digest()).words(0, LIMBS) % np.uint32(PRIME)
        products = self.shares.astype(np.uint64) * factors % np.uint64(PRIME)
        residues: Words = (products.sum(axis=1) % np.uint64(PRIME)).astype(np.uint32)
        return residues


def recover_secrets(round: UnmaskedRound) -> RecoveredSecrets:
    """Recover one secret of each sharer: from the first ``threshold`` shares, or from others where those do not fit.

    With m shares of a secret, floor((m - t)/2) wrong ones do not keep it hidden; nor do those of clients whose shares of another
    secret were found to be wrong.
    """
    collected = _collected(round)
    secrets = {
        owner: secret
        for owner, secret in _first_tries(round, collected)
        if secret is not None and round.opens(owner, secret)
    }
    search = _Search(round=round)
    unopened = round.sharers - frozenset(secrets)
    while found := search.through(unopened, collected):
        secrets |= found
        unopened -= found.keys()
    return RecoveredSecrets(secrets=secrets, unopened=unopened, liars=proven(search.misfits, round.most_corrupt))


def proven(pairs: Collection[tuple[int, int]], most_corrupt: int) -> frozenset[int]:
    """Name who must be at fault, of pairs (owner, holder) between whom a share is wrong: dealt or revealed so, nobody can tell which.

    Who has wrong shares with more clients than can be corrupt has one with an honest client.
    """
    partners: defaultdict[int, set[int]] = defaultdict(set)
    for owner, holder in pairs:
        partners[owner].add(holder)
        partners[holder].add(owner)
    return frozenset(client for client, others in partners.items() if len(others) > most_corrupt)


@dataclass(kw_only=True)
class _Search:
    """Looks for secrets that the first shares did not give, and remembers whose shares were wrong."""

    round: UnmaskedRound
    misfits: set[tuple[int, int]] = field(default_factory=set)
    distrusted: set[int] = field(default_factory=set)
    work: int = 0

    def through(self, owners: frozenset[int], collected: Mapping[int, _Shares]) -> dict[int, bytes]:
        """Return the secrets of these owners that open now; what was learned of one's holders helps with the next."""
        secrets: dict[int, bytes] = {}
        for owner in sorted(owners & collected.keys()):
            secret = self._secret_of(owner, collected[owner])
            if secret is not None:
                secrets[owner] = secret
        return secrets

    def _secret_of(self, owner: int, found: _Shares) -> bytes | None:
        if len(found.holders) < self.round.threshold:
            return None
        places = sorted(range(len(found.holders)), key=lambda place: found.holders[place] in self.distrusted)
        return self._opened(owner, found, places) or self._located(owner, found)

    def _opened(self, owner: int, found: _Shares, places: Sequence[int]) -> bytes | None:
        """Try the first shares of these; when they give the secret, find out which of the others do not fit."""
        good = places[: self.round.threshold]
        points, shares = found.of(good)
        (secret,) = recover_many(points, shares[None])
        if secret is None or not self.round.opens(owner, secret):
            return None
        for place in set(range(len(found.holders))) - set(good):
            if found.holders[place] in self.distrusted and not found.fits(place, good, secret):
                self.misfits.add((owner, found.holders[place]))
        return secret

    def _located(self, owner: int, found: _Shares) -> bytes | None:
        """Locate the wrong shares, and open the secret without them."""
        if self.work >= DECODING_BOUND:
            return None
        count = len(found.holders)
        self.work += count**3
        points, _ = found.of(range(count))
        fitting = fitting_shares(points, found.combined, self.round.threshold)
        if fitting is not None and not fitting.all():
            self.distrusted |= {found.holders[place] for place in np.flatnonzero(~fitting)}
            return self._opened(owner, found, np.flatnonzero(fitting).tolist())
        return self._tried(owner, found)

    def _tried(self, owner: int, found: _Shares) -> bytes | None:
        """Try every run of t neighbouring holders: with t + 1 shares one of them leaves out the wrong one, which nothing can locate."""
        count = len(found.holders)
        for start in range(count):
            run = [(start + place) % count for place in range(self.round.threshold)]
            secret = self._opened(owner, found, run)
            if secret is not None:
                rest = set(range(count)) - set(run)
                wrong = {found.holders[place] for place in rest if not found.fits(place, run, secret)}
                self.distrusted |= wrong
                self.misfits |= {(owner, holder) for holder in wrong}
                return secret
        return None


def _collected(round: UnmaskedRound) -> dict[int, _Shares]:
    """Return each sharer's revealed shares, by the position of their owner."""
    holders: defaultdict[int, list[int]] = defaultdict(list)
    shares: defaultdict[int, list[Words]] = defaultdict(list)
    for holder in sorted(round.revealed):
        for owner, share in zip(round.graph[holder].tolist(), round.revealed[holder], strict=True):
            if share and owner in round.sharers:
                holders[owner].append(holder)
                shares[owner].append(decode_share(share))
    return {owner: _Shares(holders=tuple(holders[owner]), shares=np.stack(shares[owner])) for owner in holders}


def _first_tries(round: UnmaskedRound, collected: Mapping[int, _Shares]) -> Iterator[tuple[int, bytes | None]]:
    """Recover from each owner's first shares; owners whose shares the same clients hold are done at once."""
    groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for owner, one in collected.items():
        if len(one.holders) >= round.threshold:
            groups[one.holders[: round.threshold]].append(owner)
    for holders, owners in groups.items():
        points = np.array(holders, dtype=np.uint32) + np.uint32(1)
        shares = np.stack([collected[owner].shares[: round.threshold] for owner in owners])
        yield from zip(owners, recover_many(points, shares), strict=True)


def masks_in_sum(round: UnmaskedRound, secrets: Mapping[int, bytes]) -> Masks:
    """Return the masks that the sum of the survivors' vectors still carries: their self masks, and those shared with the dropped.

    Raises:
        MessageError: a secret does not agree with a key of the roster.
    """
    context = {"plan_digest": round.plan_digest, "roster_digest": round.roster_digest}
    added = [
        self_mask_key(secrets[place], **context, client=ClientId(round.joins[place].client))
        for place in sorted(round.survivors)
    ]
    subtracted: list[bytes] = []
    for lost in sorted(round.dropped):
        mask_key = private_key(secrets[lost])
        for place in round.graph[lost].tolist():
            if place in round.survivors:
                one, other = round.joins[place], round.joins[lost]
                key = pair_mask_key(
                    mask_key, one.mask_key, **context, one=ClientId(one.client), other=ClientId(other.client)
                )
                (added if adds(place, lost) else subtracted).append(key)
    return Masks(added=tuple(added), subtracted=tuple(subtracted))


def verify_revealed(shares: Sequence[bytes], degree: int) -> None:
    """Raise :class:`MessageError` unless there is a place for each neighbour, with a share or nothing in it."""
    if len(shares) != degree:
        raise MessageError(f"it reveals {len(shares)} shares, and has {degree} neighbours")
    for share in filter(None, shares):
        decode_share(share)
