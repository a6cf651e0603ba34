"""Clients that vanish in one phase or another, or come back: who is left in the sum, and who is named where none comes about."""

from __future__ import annotations

import pytest

from secagg.errors import ConflictError, LateError
from secagg.ids import ClientId
from secagg.messages.masking import MaskedUpload
from secagg.messages.round import Phase
from tests.simulation.masking.exposure import exposure
from tests.simulation.masking.fates import Fate, RoundOverError
from tests.simulation.masking.invariants import check
from tests.simulation.masking.parties import clients, job
from tests.simulation.masking.rounds import Scenario, WholeRound
from tests.simulation.network import Weather

COUNT = 9
SPEC = job(COUNT, least=5, corrupt_fraction=0.1, dropout_fraction=0.16)
"""Nine clients, one of them may be corrupt: k = 8, t = 5, q = 6. Two may drop out by the plan, and three in fact."""
EVERYONE = clients(COUNT)
THREE, FOUR = (EVERYONE[1], EVERYONE[4], EVERYONE[8]), (EVERYONE[0], EVERYONE[3], EVERYONE[5], EVERYONE[6])
IN_THE_SUM = (Fate.GONE_BEFORE_CONFIRM, Fate.GONE_BEFORE_UNMASK)
LEAVES = (
    Fate.GONE_BEFORE_SHARES,
    Fate.GONE_AFTER_SHARES,
    Fate.GONE_IN_UPLOAD,
    Fate.GONE_BEFORE_CONFIRM,
    Fate.GONE_BEFORE_UNMASK,
)


def played(fates: dict[ClientId, Fate], seed: int = 5, weather: Weather | None = None) -> WholeRound:
    scenario = Scenario(seed=seed, spec=SPEC, count=COUNT, fates=fates, weather=weather or Weather())
    done = WholeRound(scenario).run()
    check(done)
    return done


@pytest.mark.parametrize("fate", LEAVES)
def test_three_that_vanish_do_not_stop_a_round(fate: Fate) -> None:
    done = played(dict.fromkeys(THREE, fate))
    state = done.desk.state
    assert state.phase is Phase.PUBLISHED, state.reason
    if fate in IN_THE_SUM:
        assert state.survivors == EVERYONE
    elif fate is not Fate.GONE_IN_UPLOAD:
        assert state.survivors == tuple(one for one in EVERYONE if one not in THREE)
    assert all(done.nodes[one].result is not None for one in EVERYONE if one not in THREE)


@pytest.mark.parametrize("fate", [Fate.GONE_BEFORE_SHARES, Fate.GONE_AFTER_SHARES, Fate.GONE_BEFORE_CONFIRM])
def test_four_that_vanish_end_it_and_are_named(fate: Fate) -> None:
    """One fewer than the quorum is left; a new round of those who stayed has new keys, and is published."""
    done = played(dict.fromkeys(FOUR, fate))
    state = done.desk.state
    assert state.phase is Phase.ABORTED
    assert f"{', '.join(FOUR)} did not" in state.reason
    assert state.need == 6
    again = played(dict.fromkeys(FOUR, Fate.ABSENT), seed=6)
    assert again.desk.state.phase is Phase.PUBLISHED
    for one in set(EVERYONE) - set(FOUR):
        before, now = done.nodes[one].sharing, again.nodes[one].sharing
        assert before is not None
        assert now is not None
        assert before.join.mask_key != now.join.mask_key
        assert before.secrets.self_seed != now.secrets.self_seed


def test_too_few_that_reveal_end_it_and_the_silent_are_named() -> None:
    silent = dict.fromkeys(FOUR, Fate.GONE_BEFORE_UNMASK)
    state = played(silent).desk.state
    assert state.phase is Phase.ABORTED
    assert "reveal" in state.reason
    assert all(one in state.reason for one in silent)


def test_one_that_deals_shares_that_do_not_open_is_named() -> None:
    """Whose shares are worth nothing cannot be taken out of the sum: the reason names it, not those who revealed."""
    named = []
    for seed in range(20):
        state = played(
            {EVERYONE[2]: Fate.SEALS_GARBAGE} | dict.fromkeys(THREE, Fate.GONE_BEFORE_UNMASK), seed
        ).desk.state
        if state.phase is Phase.ABORTED:
            named.append(state.reason)
    assert named
    assert all(f"of {EVERYONE[2]}:" in reason for reason in named)


@pytest.mark.parametrize("seconds", [1.0, 22.0, 61.0, 62.5, 64.0, 66.0, 68.0, 70.0, 72.0])
def test_who_comes_back_with_what_it_kept_is_in_the_sum(seconds: float) -> None:
    """All of them die at the same instant, wherever they are; what they send twice is the same (`invariants.check_node`)."""
    fates = dict.fromkeys(EVERYONE[:8], Fate.RESTARTS) | {EVERYONE[8]: Fate.LATE}
    weather = Weather(longest_delay_seconds=2.0)
    scenario = Scenario(seed=3, spec=SPEC, count=COUNT, fates=fates, weather=weather)
    done = WholeRound(scenario, deaths=(seconds,)).run()
    check(done)
    state = done.desk.state
    assert state.phase is Phase.PUBLISHED, state.reason
    assert set(EVERYONE[:8]) <= set(state.survivors)
    assert all(done.nodes[one].result is not None for one in EVERYONE[:8])


@pytest.mark.parametrize("seconds", [62.5, 64.0, 66.0])
def test_who_comes_back_with_nothing_drops_out(seconds: float) -> None:
    fates = {EVERYONE[3]: Fate.FORGETS, EVERYONE[8]: Fate.ABSENT}
    weather = Weather(longest_delay_seconds=2.0)
    done = WholeRound(Scenario(seed=3, spec=SPEC, count=COUNT, fates=fates, weather=weather), deaths=(seconds,)).run()
    check(done)
    forgetful = done.nodes[EVERYONE[3]]
    assert isinstance(forgetful.error, (ConflictError, LateError, RoundOverError))
    assert len(forgetful.said.get(MaskedUpload, ())) <= 1
    assert done.desk.state.phase is Phase.PUBLISHED


def test_a_vector_that_comes_late_is_not_taken_and_stays_masked() -> None:
    """Everybody reveals shares of its mask key, and whoever listened has its vector; its own mask is still on it."""
    done = played({EVERYONE[4]: Fate.LATE_VECTOR})
    late, state = done.nodes[EVERYONE[4]], done.desk.state
    assert state.phase is Phase.PUBLISHED, state.reason
    assert late.client not in state.survivors
    assert isinstance(late.error, RoundOverError)
    exposed = exposure(done.nodes)
    assert late.client in exposed.keys
    assert exposed.sums == (frozenset(EVERYONE) - {late.client},)
