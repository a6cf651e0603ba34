"""Whole rounds in simulated time, by seed: what the network, the clients and the holders do, and what may never come of it."""

from __future__ import annotations

import os
import random

import pytest

from secagg.messages.round import HolderVerdict, Phase
from tests.machines.coordinator_events import CLIENTS, HOLDERS, SPEC
from tests.simulation.coordinator_rounds import (
    ClientFate,
    HolderFate,
    Simulation,
    Weather,
    everybody_honest,
)

CALM = Weather()
STORM = Weather(drop=0.3, duplicate=0.3, longest_delay_seconds=40.0)
SEEDS = range(60)
LONGEST_ROUND_SECONDS = SPEC.longest_seconds + 10


def random_simulation(seed: int) -> Simulation:
    source = random.Random(seed)
    weather = Weather(
        drop=source.choice([0.0, 0.05, 0.3]),
        duplicate=source.choice([0.0, 0.5]),
        longest_delay_seconds=source.choice([0.1, 5.0, 60.0]),
    )
    clients = {client: source.choice([*ClientFate, *[ClientFate.HONEST] * 6]) for client in CLIENTS}
    holders = {holder: source.choice([*HolderFate, *[HolderFate.HONEST] * 8]) for holder in HOLDERS}
    return Simulation(seed=seed, weather=weather, clients=clients, holders=holders)


def check(simulation: Simulation) -> None:
    """What holds at the end of every round, whatever happened."""
    state = simulation.state
    assert state.phase.ended
    assert simulation.now <= LONGEST_ROUND_SECONDS
    honest = {holder for holder, fate in simulation.holders.items() if fate is not HolderFate.LIES}
    faulty = {name for name, status in state.holders.items() if status.verdict is HolderVerdict.FAULTY}
    assert not faulty & honest
    assert all(len(digests) == 1 for digests in simulation.approved.values())
    assert {one for digests in simulation.approved.values() for one in digests} <= {state.request_digest}
    counted = {simulation.clients[client] for client in state.uploads}
    assert counted <= {ClientFate.HONEST}
    if state.phase is Phase.PUBLISHED:
        assert state.result is not None
        assert len(state.result.contributors) >= SPEC.min_contributors
        assert len(state.approvals) >= state.group.quorum
    else:
        assert state.reason
        assert state.result is None


@pytest.mark.parametrize("seed", SEEDS)
def test_any_round_ends_well_or_says_why(seed: int) -> None:
    simulation = random_simulation(seed)
    simulation.run()
    check(simulation)


@pytest.mark.parametrize("seed", range(20))
def test_nobody_at_fault_and_a_calm_network_publish(seed: int) -> None:
    clients, holders = everybody_honest()
    simulation = Simulation(seed=seed, weather=CALM, clients=clients, holders=holders)
    state = simulation.run()
    check(simulation)
    assert state.phase is Phase.PUBLISHED
    assert state.contributors == CLIENTS


@pytest.mark.parametrize("fate", [fate for fate in HolderFate if fate is not HolderFate.HONEST])
@pytest.mark.parametrize("seed", range(20))
def test_one_bad_holder_does_not_stop_a_round(seed: int, fate: HolderFate) -> None:
    clients, holders = everybody_honest()
    holders[HOLDERS[seed % 5]] = fate
    simulation = Simulation(seed=seed, weather=CALM, clients=clients, holders=holders)
    state = simulation.run()
    check(simulation)
    assert state.phase is Phase.PUBLISHED, state.reason
    used = simulation.opened[-1]
    if fate is HolderFate.LIES and HOLDERS[seed % 5] in used:
        assert state.holders[HOLDERS[seed % 5]].verdict is HolderVerdict.FAULTY


@pytest.mark.parametrize("fate", [fate for fate in ClientFate if fate is not ClientFate.HONEST])
@pytest.mark.parametrize("seed", range(10))
def test_bad_clients_do_not_stop_a_round(seed: int, fate: ClientFate) -> None:
    clients, holders = everybody_honest()
    clients.update({CLIENTS[seed % 4]: fate, CLIENTS[(seed + 1) % 4]: fate})
    simulation = Simulation(seed=seed, weather=CALM, clients=clients, holders=holders)
    state = simulation.run()
    check(simulation)
    assert state.phase is Phase.PUBLISHED, state.reason
    assert len(state.contributors) == 2


@pytest.mark.parametrize("seed", range(20))
def test_two_lying_holders_publish_nothing_wrong(seed: int) -> None:
    clients, holders = everybody_honest()
    holders.update({HOLDERS[0]: HolderFate.LIES, HOLDERS[1]: HolderFate.LIES})
    simulation = Simulation(seed=seed, weather=STORM, clients=clients, holders=holders)
    state = simulation.run()
    check(simulation)
    if state.phase is Phase.PUBLISHED:
        assert not {HOLDERS[0], HOLDERS[1]} & set(simulation.opened[-1])


@pytest.mark.soak
def test_thousands_of_rounds() -> None:
    first = int(os.environ.get("SOAK_SEED", "0"))
    for seed in range(first, first + 5000):
        simulation = random_simulation(seed)
        simulation.run()
        try:
            check(simulation)
        except AssertionError as error:
            message = f"seed {seed}"
            raise AssertionError(message) from error
