"""One whole round by a seed: who does what to whom, and what may never come of it (see `test_whole_rounds`)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from coordinator.rounds.live import RECONNECT_SECONDS
from coordinator.rounds.relay import make_key
from secagg.ids import ClientId, HolderId, RoundNumber
from secagg.key_holder.store import StoredShare
from secagg.messages.ceremony import Hello
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.events import KeyCertified
from tests.simulation.client_nodes import ClientFate, ClientNode, Gossip
from tests.simulation.coordinator_lies import CoordinatorFate, LyingDesk
from tests.simulation.coordinator_node import ROUND
from tests.simulation.deaths import Death, drawn_deaths
from tests.simulation.holder_calls import HolderCalls
from tests.simulation.holder_lies import HolderFate
from tests.simulation.holder_nodes import LIMITS, HolderNode, Witness
from tests.simulation.lying_calls import Loot, LyingCalls
from tests.simulation.network import Link, Weather
from tests.simulation.round_material import CLIENTS, HOLDERS, LONGEST_ROUND_SECONDS, SPEC
from tests.simulation.virtual_time import simulate
from tests.simulation.watching import watching

SHARE_LIFE_SECONDS = SPEC.longest_seconds + LIMITS.slack_seconds
_TRUTHFUL = (CoordinatorFate.HONEST, CoordinatorFate.STOPS)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything that a seed decides.

    ``ceremony``: the key is made in the round, and not before it. ``deaths``: of the coordinator's process.
    """

    seed: int
    weather: Weather = field(default_factory=Weather)
    ceremony: bool = False
    coordinator: CoordinatorFate = CoordinatorFate.HONEST
    clients: dict[ClientId, ClientFate] = field(default_factory=lambda: dict.fromkeys(CLIENTS, ClientFate.HONEST))
    holders: dict[HolderId, HolderFate] = field(default_factory=lambda: dict.fromkeys(HOLDERS, HolderFate.HONEST))
    deaths: tuple[Death, ...] = ()


def random_scenario(seed: int, *, ceremony: bool | None = None) -> Scenario:
    """Draw a scenario: any weather, any clients, at most c holders that lie, and a coordinator that may."""
    draws = random.Random(f"{seed}/scenario")
    holders = dict.fromkeys(HOLDERS, HolderFate.HONEST)
    for holder in draws.sample(HOLDERS, draws.choice([0, 0, 1, 1, 2])):
        holders[holder] = draws.choice([one for one in HolderFate if one is not HolderFate.HONEST])
    fates = [*ClientFate, *[ClientFate.HONEST] * 3 * len(ClientFate)]
    return Scenario(
        seed=seed,
        weather=Weather(
            drop=draws.choice([0.0, 0.0, 0.05, 0.2]),
            duplicate=draws.choice([0.0, 0.3]),
            longest_delay_seconds=draws.choice([0.1, 2.0, 8.0]),
        ),
        ceremony=draws.random() < 0.2 if ceremony is None else ceremony,
        coordinator=draws.choice([*CoordinatorFate, *[CoordinatorFate.HONEST] * len(CoordinatorFate)]),
        clients={client: draws.choice(fates) for client in CLIENTS},
        holders=holders,
    )


def dying_scenario(seed: int) -> Scenario:
    """Draw a scenario in which the coordinator's process is killed, and started again, at least once."""
    draws = random.Random(f"{seed}/deaths")
    scenario = random_scenario(seed)
    return replace(scenario, deaths=drawn_deaths(draws, draws.choice([1, 1, 2, 4])))


@cache
def certified(round: int) -> tuple[KeyCertified, dict[HolderId, tuple[StoredShare, ...]]]:
    """Have a key made by honest holders over a calm network."""

    async def made() -> tuple[KeyCertified, dict[HolderId, tuple[StoredShare, ...]]]:
        nodes = {holder: HolderNode(holder, HolderFate.HONEST, Witness(), []) for holder in HOLDERS}
        for node in nodes.values():
            await node.start()
        calls = {name: HolderCalls(node, Link(0, name, Weather(), node.process)) for name, node in nodes.items()}
        key = await make_key(calls, SPEC, RoundNumber(round))
        assert isinstance(key, KeyCertified), key
        return key, {holder: node.store.shares() for holder, node in nodes.items()}

    return simulate(round, made)


class WholeRound:
    """The parties of a scenario, and what became of them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.defects: list[str] = []
        self.witness = Witness()
        self.trace: list[str] = []
        self._draws = random.Random(f"{scenario.seed}/events")
        # Made before the holders' stores are taken: they are the same.
        self._made = None if scenario.ceremony else certified(ROUND)
        self._other = None if self.truthful else certified(2)[0]
        self.holders = {
            name: HolderNode(name, fate, self.witness, self.defects) for name, fate in scenario.holders.items()
        }

    @property
    def truthful(self) -> bool:
        """Whether the coordinator keeps to the protocol."""
        return self.scenario.coordinator in _TRUTHFUL

    @property
    def longest_delay_seconds(self) -> float:
        """How much longer the round may last for the deaths of the coordinator: it is down, and then everybody may come back."""
        return sum(one.down_seconds + RECONNECT_SECONDS for one in self.scenario.deaths)

    def run(self) -> WholeRound:
        """Run until every client has its result or error, and every share's time is over."""
        with watching(self.trace):
            simulate(self.scenario.seed, self._run, self.defects)
        self.shares_left = [name for name, node in self.holders.items() if node.store.shares()]
        return self

    async def _run(self) -> None:
        scenario, loop, key = self.scenario, asyncio.get_running_loop(), None
        if self._made is not None:
            key, shares = self._made
            for name, node in self.holders.items():
                node.keep(shares[name])
        for node in self.holders.values():
            await node.start()
        self._build(key)
        dying = asyncio.ensure_future(self.coordinator.doom(scenario.deaths))
        await self.coordinator.begin()
        works = [asyncio.ensure_future(client.run(self._arrival(client))) for client in self.clients.values()]
        works += [asyncio.ensure_future(self._restart(node)) for node in self.holders.values()]
        works.append(asyncio.ensure_future(self._stop()))
        async with asyncio.timeout(LONGEST_ROUND_SECONDS + self.longest_delay_seconds):
            await self.coordinator.over.wait()
        self.ended_at_seconds = loop.time()
        await asyncio.gather(*works, dying)
        await asyncio.sleep(max(0.0, 2 * SHARE_LIFE_SECONDS - loop.time()))

    def _build(self, key: KeyCertified | None) -> None:
        scenario = self.scenario
        links = {name: Link(scenario.seed, name, scenario.weather, node.process) for name, node in self.holders.items()}
        loot = Loot() if self._other is None else Loot(heard=heard_in(self._other))
        calls: dict[HolderId, HolderCalls] = {}
        for name, node in self.holders.items():
            if not self.truthful:
                calls[name] = liar = LyingCalls(node, links[name])
                liar.lie(scenario.coordinator, scenario.seed, honest_ways(self.holders, links), loot)
            else:
                calls[name] = HolderCalls(node, links[name])
        self.coordinator = LyingDesk(calls, key, self.defects)
        self.coordinator.lie(scenario.coordinator, self._other, self._draws.choice(CLIENTS))
        gossip = Gossip()
        self.clients = {
            name: ClientNode(
                name,
                fate,
                self.coordinator,
                Link(scenario.seed, name, scenario.weather, self.coordinator.process),
                gossip,
            )
            for name, fate in scenario.clients.items()
        }

    def _arrival(self, client: ClientNode) -> float:
        late = client.fate in (ClientFate.LATE, ClientFate.COPIES_COMMITMENT)
        return self._draws.uniform(20.0, 80.0) if late else self._draws.uniform(0.0, 20.0)

    async def _restart(self, node: HolderNode) -> None:
        """Let a holder die once or twice, and come back with what lies in its store."""
        if node.fate is not HolderFate.RESTARTS:
            return
        for seconds in (self._draws.uniform(0.0, 10.0), self._draws.uniform(0.0, 100.0)):
            await asyncio.sleep(seconds)
            node.crash()
            await asyncio.sleep(self._draws.uniform(0.1, 30.0))
            await node.start()

    async def _stop(self) -> None:
        if self.scenario.coordinator is not CoordinatorFate.STOPS:
            return
        await asyncio.sleep(self._draws.uniform(0.0, 100.0))
        await self.coordinator.stop()


def heard_in(key: KeyCertified) -> dict[tuple[type, HolderId], Authenticated[Any]]:
    """Return what can be replayed of another round's ceremony."""
    return {(Hello, one.message.holder): one for one in key.bundle.hellos}


def honest_ways(nodes: dict[HolderId, HolderNode], links: dict[HolderId, Link]) -> list[HolderCalls]:
    """Return plain ways to all holders."""
    return [HolderCalls(node, links[name]) for name, node in nodes.items()]
