"""Corrupt clients that send malformed things to an honest coordinator, one thing at a time, up to as many as the plan bears.

Promise P5: no honest client is blamed or stopped, and the round publishes the exact sum of the confirmed survivors, or aborts
and says on whose account. What a corrupt client's own vector does to the sum is its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import pytest

from coordinator.rounds.unmasking import Recovered, recover
from secagg import codec
from secagg.errors import FaultyClientError, MessageError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import seed_commitment
from secagg.masking.graph import neighbours
from secagg.masking.masks import MaskedSum
from secagg.masking.planner import plan_numbers
from secagg.masking.quantise import quantise
from secagg.masking.sealing import encode_pair, seal
from secagg.masking.shamir import SHARE_BYTES, deal, encode_share
from secagg.masking.stream import MaskStream, Words
from secagg.masking.unmasking import UnmaskedRound, recover_secrets
from secagg.messages.masking import MaskingJoin
from secagg.messages.round import Phase
from secagg.roles.client.masking.events import (
    ConfirmationsShown,
    MaskUpdate,
    SendShares,
    SendUnmasking,
    SurvivorsShown,
    VectorAccepted,
)
from secagg.roles.client.masking.state import Sharing
from secagg.roles.coordinator.effects import UnmaskSum
from secagg.roles.coordinator.events import DeadlinePassed, SharesReceived, UnmaskingFailed
from tests.masking_material import (
    ALICE,
    BOB,
    CLIENTS,
    PLAN,
    SPEC,
    THRESHOLD,
    Round,
    vector_masked,
    vector_of,
)

MALLORY = ALICE
"""First in the roster, so that what she reveals is tried first."""
HONEST = tuple(client for client in CLIENTS if client != MALLORY)
WRONG = encode_pair(np.full(9, 5, dtype=np.uint32), np.full(9, 7, dtype=np.uint32))


def sealed_by_mallory(round: Round, plaintext: bytes, victims: Iterable[ClientId]) -> SharesReceived:
    """Return Mallory's shares, in which some neighbours find another plaintext than the one that belongs to them."""
    state = round.client_states[MALLORY]
    assert isinstance(state, Sharing)
    sealed = list(round.sent[MALLORY][SendShares].shares.sealed)
    for victim in victims:
        sealed[state.house.neighbours_of(MALLORY).index(victim)] = seal(
            state.secrets.share_private,
            state.roster.joins[state.house.places[victim]].message.share_key,
            plaintext,
            plan_digest=PLAN.digest,
            roster_digest=state.roster_digest,
            sender=MALLORY,
            receiver=victim,
        )
    return round.shares(MALLORY, sealed=tuple(sealed))


def played(plaintext: bytes, victims: Iterable[ClientId]) -> Round:
    """Play a round to the point where everybody can reveal; Mallory dealt some victims another plaintext."""
    round = Round().dealt()
    for client in HONEST:
        round.happens(round.shares(client))
    round.happens(sealed_by_mallory(round, plaintext, victims))
    round.mask(CLIENTS)
    for client in CLIENTS:
        round.happens(round.vector(client))
        round.tell(client, VectorAccepted())
    for client in CLIENTS:
        round.tell(client, SurvivorsShown(survivors=round.state.survivors))
        round.happens(round.confirmation(client))
    for client in CLIENTS:
        round.tell(client, ConfirmationsShown(confirmations=round.confirmations()))
    return round


@pytest.mark.parametrize("size", [0, 1, 87, 89, 257, 20_000])
def test_a_sealed_share_of_another_length_stops_nobody_else(size: int) -> None:
    """Either the coordinator refuses it, or the neighbours can still read what the coordinator hands them."""
    round = Round().dealt()
    for client in HONEST:
        round.happens(round.shares(client))
    with suppress(FaultyClientError):
        round.happens(round.shares(MALLORY, sealed=(bytes(size),) * len(HONEST)))
    round.happens(DeadlinePassed(phase=Phase.SHARING))
    assert set(HONEST) <= set(round.state.sharers)
    for client in HONEST:
        wire = codec.sealed_shares_to_wire(round.state.sealed_to(client), round.state.clients)
        try:
            shown = codec.sealed_shares_from_wire(wire, round.state.clients)
        except MessageError as error:
            pytest.fail(f"{client} blames the coordinator and is out of the round: {error}")
        assert set(shown) >= set(HONEST) - {client}


def test_nobody_is_named_faulty_for_a_share_that_was_dealt_wrong() -> None:
    """Bob reveals just what Mallory sealed to him, so that it does not fit the others' is no proof against him."""
    round = played(WRONG, [BOB])
    for client in HONEST:
        round.happens(round.unmasking(client))
    assert not liars_in(round) & set(HONEST)


def test_nobody_is_named_faulty_for_two_quarrels_with_one_liar() -> None:
    """Mallory dealt Bob a wrong share of her secret, and reveals a wrong one of his: both times it is Bob's word against hers."""
    round = played(WRONG, [BOB])
    order = neighbours_in(round)
    shares = list(round.sent[MALLORY][SendUnmasking].unmasking.shares)
    shares[order.index(BOB)] = WRONG[:SHARE_BYTES]
    round.happens(round.unmasking(MALLORY, shares=tuple(shares)))
    for client in HONEST:
        round.happens(round.unmasking(client))
    assert not liars_in(round) & set(HONEST)


def neighbours_in(round: Round) -> tuple[ClientId, ...]:
    return round.state.neighbourhood.neighbours_of(MALLORY)


def liars_in(round: Round) -> set[ClientId]:
    found = recover(round.state)
    assert isinstance(found, Recovered), "enough good shares are there"
    return set(found.liars)


@pytest.mark.parametrize("plaintext", [b"\xff" * 4 + bytes(2 * SHARE_BYTES - 4), b"\xff" * 2 * SHARE_BYTES])
def test_a_client_whose_shares_open_for_nobody_is_named_when_the_round_aborts(plaintext: bytes) -> None:
    """Otherwise one client stops every round, and nobody can tell which."""
    round = played(plaintext, HONEST)
    for client in CLIENTS:
        round.happens(round.unmasking(client))
    assert round.state.phase is Phase.ABORTED
    assert MALLORY in round.state.reason
    assert not any(client in round.state.reason for client in HONEST)


def test_a_client_that_reveals_nothing_is_named_and_not_those_whose_shares_it_keeps_back() -> None:
    """With two drop-outs every share counts. Mallory answers in time, and leaves every place empty."""
    round, gone = Round().masked(), HONEST[-2:]
    present = [client for client in CLIENTS if client not in gone]
    for client in present:
        round.happens(round.vector(client))
        round.tell(client, VectorAccepted())
    round.happens(DeadlinePassed(phase=Phase.UPLOADING))
    for client in present:
        round.tell(client, SurvivorsShown(survivors=round.state.survivors))
        round.happens(round.confirmation(client))
    for client in present:
        round.tell(client, ConfirmationsShown(confirmations=round.confirmations(present)))
        empty = {"shares": (b"",) * len(HONEST)} if client == MALLORY else {}
        round.happens(round.unmasking(client, **empty))
    assert round.state.phase is Phase.ABORTED
    assert MALLORY in round.state.reason
    assert "what they dealt" not in round.state.reason, "all but Mallory dealt well"


def test_shares_that_come_while_others_fail_are_tried_before_the_round_is_given_up() -> None:
    """Mallory is fast and reveals garbage; the honest shares that arrive during the recovery are enough without hers."""
    round = Round().ready_to_unmask()
    garbage = (b"\x01\x00\x00\x00" * 9,) * len(HONEST)
    first, late = HONEST[:THRESHOLD], HONEST[THRESHOLD:]
    round.happens(round.unmasking(MALLORY, shares=garbage))
    for client in first:
        round.happens(round.unmasking(client))
    assert round.asked(UnmaskSum), "every secret has a threshold of shares, as far as anybody can see"
    failed = recover(round.state)
    assert isinstance(failed, UnmaskingFailed)
    for client in late:
        round.happens(round.unmasking(client))
    round.happens(failed)
    assert round.asked(UnmaskSum), f"the round is {round.state.phase.value}: {round.state.reason}"
    assert isinstance(recover(round.state), Recovered)


def test_as_many_liars_as_the_plan_bears_do_not_hide_secrets_that_enough_others_reveal() -> None:
    """Nine of sixty reveal garbage, evenly placed; fifty-one reveal right shares, and thirty-five are enough."""
    clients, digest = 60, Digest(bytes(range(32)))
    numbers = plan_numbers(clients, corrupt_fraction=0.15, dropout_fraction=0.1, min_contributors=12)
    graph, owners = neighbours(digest, clients, numbers.neighbours), range(6)
    liars = {place * clients // numbers.corrupt for place in range(numbers.corrupt)}
    seeds = [hashlib.sha256(bytes([place])).digest() for place in range(clients)]
    revealed = {holder: [b""] * numbers.neighbours for holder in range(clients)}
    for owner in owners:
        points, stream = (graph[owner] + 1).astype(np.uint32), MaskStream(seeds[owner])
        shares = deal([seeds[owner]], threshold=numbers.threshold, points=points, stream=stream)[0]
        for holder, share in zip(graph[owner].tolist(), shares, strict=True):
            told = np.full(9, 1, dtype=np.uint32) if holder in liars else share
            revealed[holder][graph[holder].tolist().index(owner)] = encode_share(told)
    found = recover_secrets(
        UnmaskedRound(
            plan_digest=digest,
            roster_digest=digest,
            joins=[a_join(place, seed, digest) for place, seed in enumerate(seeds)],
            graph=graph,
            threshold=numbers.threshold,
            sharers=frozenset(owners),
            survivors=frozenset(owners),
            revealed=revealed,
        )
    )
    assert not found.unopened
    assert all(found.secrets[owner] == seeds[owner] for owner in owners)


def a_join(place: int, seed: bytes, digest: Digest) -> MaskingJoin:
    client = ClientId(f"client-{place:02}")
    commitment = seed_commitment(seed, plan_digest=digest, client=client)
    return MaskingJoin(
        plan_digest=digest, client=client, mask_key=bytes(32), share_key=bytes(32), seed_commitment=commitment
    )


def test_a_malformed_vector_garbles_its_senders_part_and_says_nothing_more_of_the_others() -> None:
    """Mallory uploads noise in place of a masked vector: what is published is the others' exact sum plus a term of her own."""
    round = Round().shared()
    round.mask(HONEST)
    parameters = SPEC.masking_parameters
    effect = round.tell(MALLORY, round.shares_shown(MALLORY))
    assert isinstance(effect, MaskUpdate)
    noise = np.random.default_rng(7).bytes(parameters.vector_bytes - 1) + b"\x00"
    round.vectors[MALLORY] = noise
    round.tell(MALLORY, vector_masked(noise))
    published = opened(round)
    own = MaskedSum(parameters)
    own.add(0, parameters.values, noise)
    own.take_off(0, parameters.values, effect.masks)
    modulus = np.uint32((1 << parameters.sum_bits) - 1)
    assert np.array_equal((published - own.quantised()) & modulus, honest_sum(round) & modulus)


def opened(round: Round) -> Words:
    """Play the rest of a round with an honest coordinator; return what it would publish, as integers."""
    for client in CLIENTS:
        round.happens(round.vector(client))
        round.tell(client, VectorAccepted())
    for client in CLIENTS:
        round.tell(client, SurvivorsShown(survivors=round.state.survivors))
        round.happens(round.confirmation(client))
    for client in CLIENTS:
        round.tell(client, ConfirmationsShown(confirmations=round.confirmations()))
        if not round.state.unmasking:
            round.happens(round.unmasking(client))
    found = recover(round.state)
    assert isinstance(found, Recovered)
    parameters = SPEC.masking_parameters
    total = MaskedSum(parameters)
    for vector in round.vectors.values():
        total.add(0, parameters.values, vector)
    total.take_off(0, parameters.values, found.masks)
    return total.quantised()


def honest_sum(round: Round) -> Words:
    parameters = SPEC.masking_parameters
    total = np.zeros(parameters.values, dtype=np.uint32)
    for client in HONEST:
        noise = MaskStream(round.sent[client][MaskUpdate].noise_key)
        total += quantise(vector_of(client), clip=parameters.clip, value_bits=parameters.value_bits, noise=noise)
    return total
