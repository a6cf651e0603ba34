"""Whole rounds in memory, by seed: the real machines of all three roles, with their real checks, signatures and ciphertexts.

The holders' machines run behind their own book and database, the coordinator's behind its own driver, relay, spool and
recovery, the clients' as in the SDK. The network drops, repeats, delays and reorders; processes die; up to c key holders,
any client and the coordinator lie (`HolderFate`, `ClientFate`, `CoordinatorFate`). Only time and gRPC are not real.

What counts as failure, in every round (`invariants.check`):

* a round that ends neither with the sum of exactly the contributors in its signed result (their own weighted mean, within the
  plan's error, of at least the minimum of contributors) nor with an abort and its reason; or that does not end in time;
* a refused message that changed a state, or a step that changed one in place;
* two request digests answered for one key by whatever honest key holders, before and after they were restarted;
* an answered request with fewer contributors than the minimum: somebody's update opened;
* an honest client without the right mean or an error, or with both; or whose ciphertext left it under another key than the
  holders', or among too few others;
* an honest party called faulty: by an honest key holder, or by a coordinator that keeps to the protocol;
* an honest key holder that signs two different messages for one step of a ceremony, or opens the seed of a key that it
  vouched for or that is used;
* a share, an upload or an unpublished mean that is left when the time of the round is over;
* a party that fails inside, or an error that nobody read.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from typing import Any

import pytest

from secagg.errors import SecAggError, StorageError
from secagg.messages.round import HolderVerdict, Phase
from tests.simulation.client_nodes import ClientFate, VanishedError
from tests.simulation.coordinator_lies import CoordinatorFate
from tests.simulation.holder_lies import HolderFate
from tests.simulation.invariants import COUNTED, check
from tests.simulation.memory_stores import MemoryBlobs
from tests.simulation.network import Weather
from tests.simulation.regressions import WHOLE_ROUND_SEEDS
from tests.simulation.round_material import CLIENTS, HOLDERS
from tests.simulation.whole_rounds import Scenario, WholeRound, random_scenario

C = CoordinatorFate
H = HolderFate
SEEDS = range(50)
SOAK_ROUNDS = 3000
SPACE_AT_SECONDS = 50.0
DECEIVES_EVERY_CLIENT = (
    C.FORGES_KEY,
    C.FORGES_STATEMENTS,
    C.REPLAYS_KEY,
    C.SHORT_ROSTER,
    C.BENDS_MEAN,
    C.BENDS_RESULT,
    C.REPLAYS_RESULT,
)
DECEIVES_BEFORE_UPLOAD = DECEIVES_EVERY_CLIENT[:4]
GETS_NO_SUM = (C.ASKS_FOR_ONE, C.SWAPS_C1, C.REPLAYS_UPLOAD)
LIES_IN_THE_CEREMONY = (H.DEALS_WRONG, H.DEALS_GARBAGE, H.OPENS_ANOTHER_B, H.TRIES_WRONG, H.COMPLAINS)
SLOW = Weather(longest_delay_seconds=3.0)
ROUGH = Weather(drop=0.1, duplicate=0.5, longest_delay_seconds=3.0)


def played(scenario: Scenario) -> WholeRound:
    """Run a scenario and check what must hold; a failure names the scenario."""
    done = WholeRound(scenario).run()
    try:
        check(done)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{scenario}") from error
    return done


def phase(done: WholeRound) -> Phase:
    return done.coordinator.outcome.phase


@pytest.mark.parametrize("seed", SEEDS)
def test_any_round_ends_well_or_says_why(seed: int) -> None:
    played(random_scenario(seed))


@pytest.mark.parametrize("seed", WHOLE_ROUND_SEEDS)
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    done = WholeRound(random_scenario(seed)).run()
    gc.collect()  # an error that nobody read shows when its task is gone
    check(done)


@pytest.mark.parametrize("ceremony", [False, True])
def test_nobody_at_fault_and_a_calm_network_publish(*, ceremony: bool) -> None:
    done = played(Scenario(seed=1, ceremony=ceremony))
    assert phase(done) is Phase.PUBLISHED
    assert done.coordinator.outcome.contributors == CLIENTS
    assert all(client.result is not None for client in done.clients.values())
    assert set(map(len, done.witness.answered.values())) == {1}


def test_a_seed_gives_the_same_round_again() -> None:
    first, second = (WholeRound(random_scenario(8)).run() for _ in range(2))
    assert first.trace == second.trace
    assert len(first.trace) > 100


@pytest.mark.parametrize("fate", [fate for fate in HolderFate if fate is not HolderFate.HONEST])
def test_one_bad_holder_does_not_stop_a_round(fate: HolderFate) -> None:
    holders = dict.fromkeys(HOLDERS, HolderFate.HONEST) | {HOLDERS[1]: fate}
    done = played(Scenario(seed=7, ceremony=fate in LIES_IN_THE_CEREMONY, holders=holders))
    assert phase(done) is Phase.PUBLISHED, done.coordinator.outcome.reason
    assert done.coordinator.outcome.contributors == CLIENTS
    if fate in (*LIES_IN_THE_CEREMONY, HolderFate.ANSWERS_WRONG, HolderFate.ANSWERS_SHORT, HolderFate.APPROVES_ANOTHER):
        assert done.coordinator.outcome.holders[HOLDERS[1]].verdict is HolderVerdict.FAULTY


@pytest.mark.parametrize("fate", [fate for fate in ClientFate if fate is not ClientFate.HONEST])
def test_two_bad_clients_do_not_stop_a_round(fate: ClientFate) -> None:
    clients = dict.fromkeys(CLIENTS, ClientFate.HONEST) | {CLIENTS[0]: fate, CLIENTS[3]: fate}
    done = played(Scenario(seed=7, clients=clients, weather=SLOW))
    assert phase(done) is Phase.PUBLISHED, done.coordinator.outcome.reason
    contributors = done.coordinator.outcome.contributors
    assert set(contributors) >= {CLIENTS[1], CLIENTS[2], CLIENTS[4]}
    if fate not in COUNTED:
        assert len(contributors) == 3
        assert all(done.clients[one].result is None for one in (CLIENTS[0], CLIENTS[3]))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fate", [fate for fate in C if fate not in (C.HONEST, C.BENDS_CEREMONY)])
def test_a_lying_coordinator_with_two_key_holders_in_league(fate: CoordinatorFate, seed: int) -> None:
    """The liars ask everybody for everything, with all approvals that there are; see the invariants."""
    holders = dict.fromkeys(HOLDERS, H.HONEST) | dict.fromkeys((HOLDERS[seed], HOLDERS[4]), H.COLLUDES)
    done = played(Scenario(seed=seed, coordinator=fate, holders=holders))
    if fate in DECEIVES_EVERY_CLIENT:
        assert all(isinstance(client.error, SecAggError) for client in done.clients.values())
    if fate in DECEIVES_BEFORE_UPLOAD:
        assert all(client.sent is None for client in done.clients.values())
    if fate in GETS_NO_SUM:
        assert phase(done) is Phase.ABORTED
    if fate in (C.SWAPS_C1, C.REPLAYS_UPLOAD):
        assert done.witness.answered == {}


@pytest.mark.parametrize("seed", range(6))
def test_a_ceremony_that_is_relayed_wrongly_makes_no_wrong_key(seed: int) -> None:
    """What holders said elsewhere is shown, to frame them; two die and are asked to begin again."""
    holders = dict.fromkeys(HOLDERS, H.HONEST) | dict.fromkeys(HOLDERS[:2], H.RESTARTS)
    weather = SLOW if seed % 2 else Weather()
    played(Scenario(seed=seed, weather=weather, ceremony=True, coordinator=C.BENDS_CEREMONY, holders=holders))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fate", [C.HONEST, C.ASKS_TWICE])
def test_holders_that_come_back_answer_nothing_else(fate: CoordinatorFate, seed: int) -> None:
    """Two of five die and come back with their ledgers; two others approve of every set that is asked for."""
    holders = dict.fromkeys(HOLDERS, H.HONEST) | dict.fromkeys(HOLDERS[:2], H.RESTARTS)
    if fate is C.ASKS_TWICE:
        holders |= dict.fromkeys(HOLDERS[3:], H.COLLUDES)
    played(Scenario(seed=seed, weather=ROUGH, coordinator=fate, holders=holders))


@pytest.mark.parametrize("what", ["/answers/", "means/"])
def test_a_full_disk_holds_a_round_up_until_there_is_space(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a holder answered, or the sum, cannot be written at first: nobody is blamed, and nothing is lost."""
    refused = []

    def full(method: Any) -> Any:
        def written(blobs: MemoryBlobs, name: str, *args: Any) -> Any:
            if what in name and asyncio.get_running_loop().time() < SPACE_AT_SECONDS:
                refused.append(name)
                raise StorageError("the disk is full")
            return method(blobs, name, *args)

        return written

    for name in ("append", "write"):
        monkeypatch.setattr(MemoryBlobs, name, full(getattr(MemoryBlobs, name)))
    done = played(Scenario(seed=1))
    assert refused
    assert phase(done) is Phase.PUBLISHED, done.coordinator.outcome.reason
    assert done.ended_at_seconds > SPACE_AT_SECONDS
    assert {one.verdict for one in done.coordinator.outcome.holders.values()} == {HolderVerdict.OK}


@pytest.mark.soak
def test_thousands_of_whole_rounds() -> None:
    first = int(os.environ.get("SOAK_SEED", "0"))
    ends: Counter[str] = Counter()
    for seed in range(first, first + SOAK_ROUNDS):
        done = played(random_scenario(seed))
        ends[phase(done).value] += 1
        vanished = sum(isinstance(client.error, VanishedError) for client in done.clients.values())
        assert vanished <= len(CLIENTS)
    assert min(ends["published"], ends["aborted"]) > SOAK_ROUNDS / 10, ends
