"""Whole masking rounds in memory, by seed: the real machines with their real keys, shares, signatures, masks and checks.

A truthful coordinator runs its real machine; a lying one keeps to nothing (`Lie`). The network drops, repeats, delays and
reorders; clients vanish in every phase, or die and come back with or without what they kept (`Fate`). Up to C clients are
corrupt: what they know counts as known to the adversary, and it signs in their names. The adversary hears everything that
honest clients ever send, whatever becomes of it on the way. Only time, gRPC and disks are not real.

What counts as failure, in every round (`invariants.check` and `exposure`):

* an honest client of which both secrets are known: t shares or more of its seed and of its mask key, those that honest
  neighbours revealed and those that corrupt neighbours hold;
* honest clients that revealed shares for two different sets of survivors of one roster, or for one below the minimum of
  contributors. (Two rosters are as good as two rounds: an honest client takes part in one of them);
* a set of honest vectors on which every mask is known or cancels, and that is not the whole honest part of the one set of
  survivors that its roster's clients revealed for; any such set at all where nothing was revealed; or one with fewer honest
  members than the plan promises;
* an honest client that sends two different messages of one kind in a round, restarted or not; or whose state still holds
  secrets or shares after it revealed, or after the round;
* an honest client that stays, without a result or an error, or with both; with a result of other contributors than the
  survivors that it confirmed, or, under a truthful coordinator, with another mean;
* a truthful coordinator's round that ends neither with the exact sum of the confirmed survivors, to the last bit of the
  integers that each of them quantised, nor with an abort that names who was missing; or that does not end in time;
* an honest party called faulty: a client by a truthful coordinator, or a truthful coordinator by a client;
* a refused message that changed a state, or a step that changed one in place;
* a party that fails inside, or an error that nobody read.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from secagg.messages.round import Phase
from tests.simulation.masking.fates import Fate
from tests.simulation.masking.invariants import check
from tests.simulation.masking.parties import clients, job
from tests.simulation.masking.regressions import MASKING_ROUND_SEEDS
from tests.simulation.masking.rounds import (
    Scenario,
    WholeRound,
    random_scenario,
    ring_scenario,
    small_ring_scenario,
    small_rings,
)

SEEDS = range(200)
SOAK_ROUNDS, SOAK_RINGS = 3000, 30
SPEC = job(8, least=5, corrupt_fraction=0.1, dropout_fraction=0.2)


def played(scenario: Scenario) -> WholeRound:
    """Run a scenario and check what must hold; a failure names the scenario."""
    done = WholeRound(scenario).run()
    try:
        check(done)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{scenario}") from error
    return done


@pytest.mark.parametrize("first", range(0, len(SEEDS), 20))
def test_any_round_ends_well_or_says_why(first: int) -> None:
    for seed in SEEDS[first : first + 20]:
        played(random_scenario(seed))


@pytest.mark.parametrize("seed", MASKING_ROUND_SEEDS)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    played(random_scenario(seed))


def test_nobody_at_fault_and_a_calm_network_publish() -> None:
    done = played(Scenario(seed=1, spec=SPEC, count=8))
    assert done.desk.state.phase is Phase.PUBLISHED
    assert done.desk.state.contributors == clients(8)
    assert all(node.result is not None for node in done.nodes.values())


def test_a_seed_gives_the_same_round_again() -> None:
    first, second = (WholeRound(random_scenario(3)).run() for _ in range(2))
    assert first.trace == second.trace
    assert len(first.trace) > 50


@pytest.mark.parametrize("first", range(0, 30, 10))
def test_rings_of_few_clients(first: int) -> None:
    with small_rings():
        done = [played(small_ring_scenario(seed)) for seed in range(first, first + 10)]
    assert any(one.truthful and one.desk.state.degree < one.scenario.count - 1 for one in done)


@pytest.mark.parametrize("seed", [1, 8, 12])
def test_a_ring_of_more_than_two_hundred_clients(seed: int) -> None:
    done = played(ring_scenario(seed))
    assert len(done.nodes) > 200
    degrees = {node.sharing.house.degree for node in done.nodes.values() if node.sharing is not None}
    assert degrees == {24}


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_thousands_of_whole_rounds() -> None:
    first = int(os.environ.get("SOAK_SEED", "0"))
    ends: Counter[str] = Counter()
    for seed in range(first, first + SOAK_ROUNDS):
        done = played(random_scenario(seed))
        ends[done.desk.state.phase.value if done.truthful else "lies"] += 1
        ends["revealed to a liar"] += not done.truthful and any(
            node.unmaskings for node in done.nodes.values() if not node.corrupt
        )
    assert min(ends["published"], ends["aborted"], ends["lies"]) > SOAK_ROUNDS / 10, ends
    assert ends["revealed to a liar"] > SOAK_ROUNDS / 50, ends


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_many_rings() -> None:
    first = int(os.environ.get("SOAK_SEED", "0"))
    for seed in range(first, first + SOAK_RINGS):
        played(ring_scenario(seed))
    with small_rings():
        for seed in range(first, first + SOAK_ROUNDS // 5):
            played(small_ring_scenario(seed))


@pytest.mark.parametrize("fate", [fate for fate in Fate if fate is not Fate.HONEST])
def test_one_client_that_is_not_as_the_others(fate: Fate) -> None:
    """One of eight vanishes, restarts or does wrong: the round is published all the same, with exactly who is left."""
    odd = clients(8)[3]
    done = played(Scenario(seed=11, spec=SPEC, count=8, fates={odd: fate}))
    state = done.desk.state
    if fate is Fate.DEALS_WRONG and state.phase is Phase.ABORTED:
        assert odd in state.reason
        return
    assert state.phase is Phase.PUBLISHED or "total weight" in state.reason, state.reason
    assert set(clients(8)) - {odd} <= set(state.survivors)
