"""From revealed shares to the bare sum: exact with any threshold of good shares, and wrong ones hide a secret but never bend it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import MessageError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import pair_mask_key, self_mask_key
from secagg.masking.graph import neighbours
from secagg.masking.masks import MaskedSum, Masks, adds, masked_pieces
from secagg.masking.parameters import MaskingParameters
from secagg.masking.quantise import quantise
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.masking.shamir import deal, encode_share
from secagg.masking.stream import MaskStream
from secagg.masking.unmasking import UnmaskedRound, masks_in_sum, recover_secrets, verify_revealed
from secagg.messages.masking import MaskingJoin

PLAN, ROSTER = Digest(b"p" * 32), Digest(b"r" * 32)
NAMES = tuple(ClientId(f"client-{number}") for number in range(8))
CONTEXT = {"plan_digest": PLAN, "roster_digest": ROSTER}
PARAMETERS = MaskingParameters(values=20, max_clients=8, clip=1.0, value_bits=20)
WRONG = bytes(36)


@cache
def secrets_of(place: int) -> ClientSecrets:
    return ClientSecrets.of(bytes([place]) * 32, plan_digest=PLAN, client=NAMES[place])


def join_of(place: int) -> MaskingJoin:
    secrets = secrets_of(place)
    return MaskingJoin(
        plan_digest=PLAN,
        client=NAMES[place],
        mask_key=secrets.mask_public,
        share_key=secrets.share_public,
        seed_commitment=secrets.commitment,
    )


class Clients:
    """So many clients with their secrets dealt out, on the complete graph or on a ring."""

    def __init__(self, clients: int, threshold: int, degree: int | None = None) -> None:
        self.places = range(clients)
        self.threshold = threshold
        self.graph = neighbours(ROSTER, clients, degree or clients - 1).astype(np.intp)
        self.dealt = [self._dealt(place) for place in self.places]

    def _dealt(self, owner: int) -> dict[int, tuple[bytes, bytes]]:
        """Seed share and key share by who holds it."""
        secrets, holders = secrets_of(owner), self.graph[owner]
        seeds, keys = deal(
            [secrets.self_seed, secrets.mask_private],
            threshold=self.threshold,
            points=(holders + 1).astype(np.uint32),
            stream=MaskStream(secrets.dealing_key),
        )
        pairs = zip(holders.tolist(), seeds, keys, strict=True)
        return {holder: (encode_share(seed), encode_share(key)) for holder, seed, key in pairs}

    def round(
        self,
        *,
        survivors: Collection[int],
        sharers: Collection[int] | None = None,
        revealing: Collection[int] | None = None,
        wrong: Collection[tuple[int, int]] = (),
    ) -> UnmaskedRound:
        """``wrong``: owner and holder of shares that are none."""
        sharing = frozenset(self.places if sharers is None else sharers)
        revealed = {
            holder: tuple(
                self._revealed(owner, holder, survivors, sharing, wrong) for owner in self.graph[holder].tolist()
            )
            for holder in (survivors if revealing is None else revealing)
        }
        return UnmaskedRound(
            **CONTEXT,
            joins=[join_of(place) for place in self.places],
            graph=self.graph,
            threshold=self.threshold,
            sharers=sharing,
            survivors=frozenset(survivors),
            revealed=revealed,
        )

    def _revealed(
        self,
        owner: int,
        holder: int,
        survivors: Collection[int],
        sharers: frozenset[int],
        wrong: Collection[tuple[int, int]],
    ) -> bytes:
        if owner not in sharers:
            return b""
        if (owner, holder) in wrong:
            return WRONG
        seed, key = self.dealt[owner][holder]
        return seed if owner in survivors else key

    def masks(self, own: int, sharers: Collection[int]) -> Masks:
        """What a client puts on its vector."""
        secrets = secrets_of(own)
        added, subtracted = [self_mask_key(secrets.self_seed, **CONTEXT, client=NAMES[own])], []
        for other in self.graph[own].tolist():
            if other in sharers:
                public = secrets_of(other).mask_public
                pair = pair_mask_key(secrets.mask_private, public, **CONTEXT, one=NAMES[own], other=NAMES[other])
                (added if adds(own, other) else subtracted).append(pair)
        return Masks(added=tuple(added), subtracted=tuple(subtracted))


def vector(place: int) -> np.ndarray:
    return np.random.default_rng(place).uniform(-1, 1, PARAMETERS.values)


def unmasked(clients: Clients, round: UnmaskedRound) -> np.ndarray:
    """Add up the survivors' real vectors, and take off what the shares give."""
    total = MaskedSum(PARAMETERS)
    for place in sorted(round.survivors):
        masks = clients.masks(place, round.sharers)
        (packed,) = masked_pieces(vector(place), PARAMETERS, masks, secrets_of(place).quantising_key)
        total.add(0, PARAMETERS.values, packed)
    recovered = recover_secrets(round)
    assert not recovered.unopened
    total.take_off(0, PARAMETERS.values, masks_in_sum(round, recovered.secrets))
    return total.quantised()


def exact(survivors: Collection[int]) -> np.ndarray:
    numbers = [
        quantise(
            vector(place),
            clip=PARAMETERS.clip,
            value_bits=PARAMETERS.value_bits,
            noise=MaskStream(secrets_of(place).quantising_key),
        ).astype(np.uint64)
        for place in survivors
    ]
    return sum(numbers) % (1 << PARAMETERS.sum_bits)


@pytest.mark.parametrize("clients", [3, 4, 5])
def test_every_set_of_survivors_gives_its_exact_sum(clients: int) -> None:
    """Down to as many as leave a threshold of holders of everybody's shares."""
    threshold = clients // 2
    everyone = Clients(clients, threshold)
    for size in range(threshold + 1, clients + 1):
        for survivors in combinations(range(clients), size):
            round = everyone.round(survivors=survivors)
            assert np.array_equal(unmasked(everyone, round), exact(survivors)), survivors


@given(data=st.data())
def test_whoever_drops_out_when_the_sum_is_exact(data: st.DataObject) -> None:
    """Some never shared, some shared and did not upload, some uploaded and do not reveal; a ring, or everybody's neighbours."""
    degree = data.draw(st.sampled_from([4, 6, 7]))
    clients = Clients(8, threshold=2, degree=degree)
    sharers = data.draw(st.sets(st.sampled_from(clients.places), min_size=6))
    survivors = data.draw(st.sets(st.sampled_from(sorted(sharers)), min_size=5))
    revealing = data.draw(st.sets(st.sampled_from(sorted(survivors)), min_size=4))
    round = clients.round(survivors=survivors, sharers=sharers, revealing=revealing)
    held = {owner: len(set(clients.graph[owner].tolist()) & revealing) for owner in sharers}
    recovered = recover_secrets(round)
    assert recovered.unopened == {owner for owner, count in held.items() if count < 2}
    if not recovered.unopened:
        assert np.array_equal(unmasked(clients, round), exact(sorted(survivors)))


def test_only_the_secret_that_is_due_is_recovered() -> None:
    clients = Clients(6, 3)
    recovered = recover_secrets(clients.round(survivors=range(4), sharers=range(5)))
    assert recovered.secrets == {
        **{place: secrets_of(place).self_seed for place in range(4)},
        4: secrets_of(4).mask_private,
    }
    assert recovered.liars == recovered.unopened == frozenset()


def test_exactly_a_threshold_of_shares_is_enough_and_one_fewer_is_not() -> None:
    clients = Clients(6, 3)
    enough = recover_secrets(clients.round(survivors=range(6), revealing=range(4)))
    assert enough.unopened == frozenset()
    few = recover_secrets(clients.round(survivors=range(6), revealing=range(3)))
    assert few.unopened == {0, 1, 2}
    assert set(few.secrets) == {3, 4, 5}


@pytest.mark.parametrize("liar", range(7))
def test_wrong_shares_are_found_and_their_sender_named(liar: int) -> None:
    """One that lies to everybody has wrong shares with more than can be corrupt: 2t - k - 1 = 1."""
    clients = Clients(7, 4)
    wrong = [(owner, liar) for owner in range(7)]
    round = clients.round(survivors=range(7), wrong=wrong)
    recovered = recover_secrets(round)
    assert recovered.unopened == frozenset()
    assert recovered.liars <= {liar}
    assert np.array_equal(unmasked(clients, round), exact(range(7)))
    if liar < 4:
        # Its shares are among the first that are tried.
        assert recovered.liars == {liar}


@pytest.mark.parametrize("owner", range(7))
def test_one_that_dealt_wrong_shares_brings_nobody_else_into_discredit(owner: int) -> None:
    clients = Clients(7, 4)
    round = clients.round(survivors=range(7), wrong=[(owner, (owner + 1) % 7)])
    recovered = recover_secrets(round)
    assert recovered.unopened == frozenset()
    assert recovered.liars == frozenset()


def test_too_many_wrong_shares_hide_a_secret_and_do_not_bend_it() -> None:
    clients = Clients(7, 4)
    round = clients.round(survivors=range(7), wrong=[(0, holder) for holder in (1, 2, 3, 4)])
    recovered = recover_secrets(round)
    assert recovered.unopened == {0}
    assert 0 not in recovered.secrets
    assert {place: recovered.secrets[place] for place in range(1, 7)} == {
        place: secrets_of(place).self_seed for place in range(1, 7)
    }


def test_shares_of_the_other_kind_open_nothing() -> None:
    """Whoever is said to have dropped out is bound to its mask key: its seed does not pass for it."""
    clients = Clients(6, 3)
    honest = clients.round(survivors=range(6))
    bent = replace(honest, survivors=frozenset(range(5)))
    assert recover_secrets(bent).unopened == {5}


def test_shares_of_who_never_shared_are_not_looked_at() -> None:
    clients = Clients(6, 3)
    round = clients.round(survivors=range(5), sharers=range(5))
    odd = {
        holder: tuple(share or clients.dealt[5][holder][1] for share in shares)
        for holder, shares in round.revealed.items()
    }
    recovered = recover_secrets(replace(round, revealed=odd))
    assert set(recovered.secrets) == set(range(5))
    assert recovered.unopened == recovered.liars == frozenset()


def test_secrets_that_are_not_in_the_roster_give_no_masks() -> None:
    clients = Clients(4, 2)
    round = clients.round(survivors=range(3))
    secrets = {place: secrets_of(place).self_seed for place in range(3)} | {3: secrets_of(3).mask_private}
    low = replace(round, joins=[replace(join, mask_key=bytes(32)) for join in round.joins])
    with pytest.raises(MessageError):
        masks_in_sum(low, secrets)


def test_the_masks_of_a_sum_are_those_that_do_not_cancel() -> None:
    clients = Clients(5, 2)
    round = clients.round(survivors=range(3))
    masks = masks_in_sum(round, recover_secrets(round).secrets)
    assert masks.count == 3 + 3 * 2
    assert (
        masks_in_sum(
            clients.round(survivors=range(5)), recover_secrets(clients.round(survivors=range(5))).secrets
        ).count
        == 5
    )


@pytest.mark.parametrize(
    "shares",
    [(), (WRONG,) * 2, (WRONG,) * 4, (WRONG, WRONG, b"x"), (WRONG, WRONG, b"\xff" * 36), (WRONG, b"", WRONG * 2)],
)
def test_what_nobody_honest_reveals_is_refused(shares: tuple[bytes, ...]) -> None:
    with pytest.raises(MessageError):
        verify_revealed(shares, 3)


def test_a_place_may_be_empty() -> None:
    verify_revealed((WRONG, b"", WRONG), 3)
    verify_revealed((b"",) * 3, 3)


def test_no_secret_is_shown() -> None:
    clients = Clients(4, 2)
    round = clients.round(survivors=range(4))
    recovered = recover_secrets(round)
    words = f"{round!r} {recovered!r}"
    assert repr(secrets_of(0).self_seed)[2:-1] not in words
    assert repr(clients.dealt[0][1][0])[2:-1] not in words
