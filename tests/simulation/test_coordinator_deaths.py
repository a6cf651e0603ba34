"""Whole ``ckks`` rounds whose coordinator is killed and started again, once or several times, wherever it stands.

It dies at an instant, or before or after one of its calls of a store; with it goes all that was in its memory, and what lies in
its stores stays. Clients and key holders call again, and lie as ever. Beside what `test_whole_rounds` calls a failure:

* a round that goes on in another state than the one that was stored, or that lost what had been acknowledged;
* a published sum without a client whose upload had been acknowledged, or with one that is counted twice;
* a key holder that approves two requests of one key, or answers two;
* anything that lies in the stores after the end, but the published mean and the record.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from coordinator.rounds import ledger
from secagg.messages.round import Phase
from secagg.plan import CeremonyPlan
from tests.simulation.deaths import Death
from tests.simulation.holder_calls import HolderCalls
from tests.simulation.invariants import check
from tests.simulation.regressions import DYING_ROUND_SEEDS
from tests.simulation.round_material import CLIENTS
from tests.simulation.whole_rounds import Scenario, WholeRound, dying_scenario

SEEDS = range(14)
CALLS = range(1, 80, 8)
"""What one process does with its stores in a whole round, in steps."""
SOAK_ROUNDS = 3000


def played(scenario: Scenario) -> WholeRound:
    """Run a scenario and check what must hold; a failure names the scenario."""
    done = WholeRound(scenario).run()
    try:
        check(done)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{scenario}") from error
    return done


@pytest.mark.parametrize("seed", SEEDS)
def test_any_round_ends_well_or_says_why(seed: int) -> None:
    played(dying_scenario(seed))


@pytest.mark.parametrize("seed", DYING_ROUND_SEEDS)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    played(dying_scenario(seed))


@pytest.mark.parametrize("calls", CALLS)
def test_a_death_at_any_call_costs_nobody_anything(calls: int) -> None:
    """Nobody else is at fault: every client is in the sum, whatever call the process died at; then again soon after."""
    deaths = (
        Death(seconds=200.0, calls=calls, before=calls % 16 == 1, down_seconds=0.5),
        Death(seconds=1.0, calls=5, before=calls % 16 != 1, down_seconds=2.0),
    )
    done = played(Scenario(seed=calls, deaths=deaths))
    assert done.coordinator.killed == 2
    assert done.coordinator.outcome.phase is Phase.PUBLISHED, done.coordinator.outcome.reason
    assert done.coordinator.outcome.contributors == CLIENTS
    assert all(client.result is not None for client in done.clients.values())


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.6, 1.0])
def test_a_death_in_a_ceremony_costs_an_attempt(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No holder is asked to begin the same ceremony by two lives of the coordinator: what it answered is lost with the first."""
    scenario = Scenario(seed=1, ceremony=True, deaths=(Death(seconds=seconds, down_seconds=1.0),))
    round, begin, begun = WholeRound(scenario), HolderCalls.begin_ceremony, set()

    async def noted(calls: HolderCalls, plan: CeremonyPlan, *, timeout_seconds: float) -> Any:
        begun.add((round.coordinator.killed, plan.attempt))
        return await begin(calls, plan, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(HolderCalls, "begin_ceremony", noted)
    done = round.run()
    check(done)
    attempts = [attempt for _, attempt in sorted(begun)]
    assert attempts == sorted(set(attempts))
    assert done.coordinator.outcome.phase is Phase.PUBLISHED, done.coordinator.outcome.reason


@pytest.mark.parametrize("seed", range(100, 104))
def test_a_large_round_is_shown_at_its_phases_and_gone_on_with_all_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is written when the phase changes; its state follows from its events."""
    monkeypatch.setattr(ledger, "_LARGE_ROSTER", 1)
    played(dying_scenario(seed))


def test_a_seed_gives_the_same_round_again() -> None:
    first, second = (WholeRound(dying_scenario(8)).run() for _ in range(2))
    assert first.trace == second.trace


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_thousands_of_rounds_that_are_gone_on_with() -> None:
    first = int(os.environ.get("SOAK_SEED", "0"))
    ends: Counter[str] = Counter()
    for seed in range(first, first + SOAK_ROUNDS):
        ends[played(dying_scenario(seed)).coordinator.outcome.phase.value] += 1
    assert min(ends["published"], ends["aborted"]) > SOAK_ROUNDS / 10, ends


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("before", [False, True])
def test_a_death_at_every_single_call(*, before: bool) -> None:
    for calls in range(1, 120):
        for ceremony in (False, True):
            death = Death(seconds=300.0, calls=calls, before=before, down_seconds=1.0)
            done = played(replace(Scenario(seed=calls, ceremony=ceremony), deaths=(death,)))
            assert done.coordinator.outcome.phase is Phase.PUBLISHED, done.coordinator.outcome.reason
