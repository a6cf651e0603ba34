"""Whole masking rounds whose coordinator is killed and started again, once or several times, wherever it stands.

The real driver, spool and recovery run over stores that outlive the process; clients call again, vanish, come back and lie as ever.
What counts as failure stands in `test_masking_rounds`, for a truthful coordinator, and in `test_coordinator_deaths`; the mean must
be that of the exact sum, to the last bit.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from coordinator.rounds import ledger
from secagg.messages.round import Phase
from tests.simulation.deaths import Death
from tests.simulation.masking.fates import Fate
from tests.simulation.masking.invariants import check
from tests.simulation.masking.parties import clients, job
from tests.simulation.masking.regressions import DYING_ROUND_SEEDS
from tests.simulation.masking.rounds import Scenario, WholeRound, dying_scenario

COUNT = 7
SPEC = job(COUNT, least=5, corrupt_fraction=0.1, dropout_fraction=0.16)
SEEDS = range(20)
CALLS = range(1, 120, 9)
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
        Death(seconds=200.0, calls=calls, before=bool(calls % 2), down_seconds=0.5),
        Death(seconds=1.0, calls=5, before=not calls % 2, down_seconds=2.0),
    )
    done = played(Scenario(seed=calls, spec=SPEC, count=COUNT, deaths=deaths))
    assert done.desk.killed == 2
    assert done.desk.outcome.phase is Phase.PUBLISHED, done.desk.outcome.reason
    assert done.desk.outcome.contributors == clients(COUNT)


def test_a_late_vector_is_thrown_away_by_whoever_goes_on() -> None:
    """It was on its way as the coordinator died, and lies on disk: with the mask key of its client open, it would be bare."""
    odd = clients(COUNT)[3]
    for calls in range(60, 110, 5):
        deaths = (Death(seconds=300.0, calls=calls, before=bool(calls % 2), down_seconds=1.0),)
        scenario = Scenario(seed=calls, spec=SPEC, count=COUNT, fates={odd: Fate.GONE_IN_UPLOAD}, deaths=deaths)
        assert played(scenario).desk.outcome.phase is Phase.PUBLISHED


@pytest.mark.parametrize("seed", range(100, 110))
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
        ends[played(dying_scenario(seed)).desk.outcome.phase.value] += 1
    assert min(ends["published"], ends["aborted"]) > SOAK_ROUNDS / 10, ends


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("before", [False, True])
def test_a_death_at_every_single_call(*, before: bool) -> None:
    for calls in range(1, 200):
        death = Death(seconds=300.0, calls=calls, before=before, down_seconds=1.0)
        done = played(Scenario(seed=calls, spec=SPEC, count=COUNT, deaths=(death,)))
        assert done.desk.outcome.phase is Phase.PUBLISHED, done.desk.outcome.reason
