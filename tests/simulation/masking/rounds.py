"""One whole masking round by a seed: who does what to whom (see `test_masking_rounds` for what may never come of it)."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.rounds import live as live_module
from secagg.errors import PlanError
from secagg.ids import ClientId
from secagg.masking import planner
from secagg.masking.agreement import verify_public_key
from secagg.masking.planner import corrupt_count, plan_numbers
from secagg.plan import JobSpec
from secagg.roles.client.masking import checks
from tests.simulation.deaths import Death, drawn_deaths
from tests.simulation.masking.client_nodes import ClientNode
from tests.simulation.masking.deceit import Heard, Lie
from tests.simulation.masking.desk import Desk, HonestDesk
from tests.simulation.masking.fates import CORRUPT, Fate
from tests.simulation.masking.live_desk import LiveDesk
from tests.simulation.masking.lying_desk import RESULT_AT, LyingDesk
from tests.simulation.masking.parties import clients, job, nonce_of, plan_of
from tests.simulation.network import Link, Weather
from tests.simulation.virtual_time import simulate
from tests.simulation.watching import watching

SLACK_SECONDS = 10.0
_HONEST_FATES = tuple(fate for fate in Fate if fate not in CORRUPT)
_CORRUPT_FATES = tuple(fate for fate in Fate if fate in CORRUPT)


_TOGETHER = (
    (Lie.ISOLATES,),
    (Lie.SPLITS_SHARERS, Lie.SPLITS_SURVIVORS),
    (Lie.SPLITS_SURVIVORS, Lie.FORGES_CONFIRMATIONS),
    (Lie.EACH_ITS_OWN, Lie.FORGES_CONFIRMATIONS),
    (Lie.DROPPED_AND_ALIVE, Lie.MIXES_SEALED),
    (Lie.DROPPED_AND_ALIVE,),
    (Lie.LATE_VECTOR,),
    (Lie.TWO_FACES, Lie.SPLITS_SHARERS),
    (Lie.SPLITS_ROSTER, Lie.GHOSTS),
    (Lie.SPLITS_ROSTER, Lie.GHOSTS, Lie.LATE_VECTOR),
    (Lie.ASKS_TWICE,),
)
"""Lies that help each other, or that a client cannot see at once."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything that a seed decides. Without ``lies`` the coordinator keeps to the protocol; ``stops``: it is stopped on the way.

    ``deaths``: of its process, which then runs the real driver; None for the machine alone.
    """

    seed: int
    spec: JobSpec
    count: int
    weather: Weather = field(default_factory=Weather)
    fates: dict[ClientId, Fate] = field(default_factory=dict)
    lies: frozenset[Lie] = frozenset()
    stops: bool = False
    deaths: tuple[Death, ...] | None = None

    @property
    def clients(self) -> tuple[ClientId, ...]:
        return clients(self.count)

    def fate(self, client: ClientId) -> Fate:
        return self.fates.get(client, Fate.HONEST)


def random_spec(draws: random.Random, count: int) -> JobSpec:
    """Draw a job that this many clients fill."""
    while True:
        corrupt, dropout = draws.choice([0.0, 0.05, 0.1, 0.2]), draws.choice([0.0, 0.1, 0.2, 0.3])
        fewest = max(3, corrupt_count(count, corrupt) + 2)
        least = draws.randint(fewest, (fewest + count) // 2)
        try:
            return job(count, least=least, corrupt_fraction=corrupt, dropout_fraction=dropout)
        except PlanError:
            continue


def random_weather(draws: random.Random) -> Weather:
    return Weather(
        drop=draws.choice([0.0, 0.0, 0.05, 0.2]),
        duplicate=draws.choice([0.0, 0.3]),
        longest_delay_seconds=draws.choice([0.1, 2.0, 8.0]),
    )


def random_fates(draws: random.Random, spec: JobSpec, count: int, *, honest: int = 40) -> dict[ClientId, Fate]:
    """Draw fates: of corrupt clients as many as the plan bears, or fewer."""
    names = clients(count)
    fates = {one: draws.choice([*_HONEST_FATES, *[Fate.HONEST] * honest]) for one in names}
    corrupt = draws.randint(0, corrupt_count(count, spec.masking.corrupt_fraction))
    for one in draws.sample(names, corrupt):
        fates[one] = draws.choice([*_CORRUPT_FATES, *[Fate.COLLUDES] * len(_CORRUPT_FATES)])
    return fates


def random_scenario(seed: int) -> Scenario:
    """Draw a scenario: any weather, any clients, and a coordinator that lies in half of them."""
    draws = random.Random(f"{seed}/scenario")
    count = draws.randint(6, 12)
    spec = random_spec(draws, count)
    lies = draws.choice([(), (), (), draws.sample(list(Lie), 1), draws.sample(list(Lie), 2), draws.choice(_TOGETHER)])
    return Scenario(
        seed=seed,
        spec=spec,
        count=count,
        weather=random_weather(draws),
        fates=random_fates(draws, spec, count),
        lies=frozenset(lies),
        stops=draws.random() < 0.05,
    )


def dying_scenario(seed: int) -> Scenario:
    """Draw a scenario in which a truthful coordinator's process is killed, and started again, at least once."""
    draws = random.Random(f"{seed}/deaths")
    return replace(random_scenario(seed), lies=frozenset(), deaths=drawn_deaths(draws, draws.choice([1, 1, 2, 4])))


RING_CLIENTS = 210
RING_SPEC = job(RING_CLIENTS, least=100, corrupt_fraction=0.02, dropout_fraction=0.05, values=10)
"""More than 200 clients: a ring with k = 24 and t = 15."""


def ring_scenario(seed: int) -> Scenario:
    """Draw a scenario of more clients than a complete graph is for, with all the corrupt ones that the plan bears."""
    draws = random.Random(f"{seed}/ring")
    fates = random_fates(draws, RING_SPEC, RING_CLIENTS, honest=400)
    weather = Weather(duplicate=draws.choice([0.0, 0.1]), longest_delay_seconds=draws.choice([0.1, 2.0]))
    lies = draws.choice([(), *_TOGETHER])
    return Scenario(seed=seed, spec=RING_SPEC, count=RING_CLIENTS, weather=weather, fates=fates, lies=frozenset(lies))


def small_ring_scenario(seed: int) -> Scenario:
    """Draw a ring of few clients; see `small_rings`. Nobody is corrupt, so no order of the ring endangers anybody."""
    draws = random.Random(f"{seed}/small ring")
    count = draws.randint(10, 16)
    spec = job(count, least=4, corrupt_fraction=0.0, dropout_fraction=draws.choice([0.0, 0.1, 0.2]))
    lies = draws.choice([(), (), *_TOGETHER])
    return Scenario(
        seed=seed,
        spec=spec,
        count=count,
        weather=random_weather(draws),
        fates=random_fates(draws, spec, count),
        lies=frozenset(lies),
    )


@contextmanager
def small_rings() -> Iterator[None]:
    """Let the planner make rings of few clients: it thinks of drop-outs less, of what clients insist on nothing is changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "COMPLETE_UP_TO", 5)
        patch.setattr(planner, "AVAILABILITY_BITS", 1)
        plan_numbers.cache_clear()
        yield
    plan_numbers.cache_clear()


def nonce(*what: object) -> bytes:
    return hashlib.sha256("/".join(map(str, what)).encode()).digest()


@cache
def heard_before(spec: JobSpec, count: int) -> Heard:
    """Return all that was said in an earlier round of the same clients, in which nobody did wrong."""
    done = WholeRound(Scenario(seed=0, spec=spec, count=count), before=True).run()
    assert isinstance(done.desk, HonestDesk)
    state = done.desk.state
    return Heard(
        joins=dict(state.joins),
        shares=dict(state.shares),
        uploads=dict(state.uploads),
        confirmations=dict(state.confirmations),
        unmaskings=dict(state.unmaskings),
    )


_KEYS_SEEN = lru_cache(maxsize=4096)(verify_public_key)


class WholeRound:
    """The parties of a scenario, and what became of them. ``deaths``: when clients that come back die, in place of the seed's times."""

    def __init__(self, scenario: Scenario, *, before: bool = False, deaths: tuple[float, ...] = ()) -> None:
        self.scenario = scenario
        self._died_at = deaths
        self.defects: list[str] = []
        self.trace: list[str] = []
        self.ended_at_seconds = 0.0
        self.desk: Any = None
        self.nodes: dict[ClientId, ClientNode] = {}
        self._draws = random.Random(f"{scenario.seed}/events")
        self._before = Heard() if before or not scenario.lies else heard_before(scenario.spec, scenario.count)
        self._plan = plan_of(scenario.spec, nonce("before" if before else scenario.seed))

    @property
    def truthful(self) -> bool:
        return not self.scenario.lies

    @property
    def longest_delay_seconds(self) -> float:
        """How much longer the round may last for the deaths of the coordinator: it is down, and then everybody may come back."""
        return sum(one.down_seconds + live_module.RECONNECT_SECONDS for one in self.scenario.deaths or ())

    def run(self) -> WholeRound:
        """Run until every client has its result or error."""
        with watching(self.trace), pytest.MonkeyPatch.context() as patch:
            # A key is good or bad for everybody: in the simulation it is looked at once.
            patch.setattr(checks, "verify_public_key", _KEYS_SEEN)
            patch.setattr(live_module, "secrets", SimpleNamespace(token_bytes=lambda _: nonce_of(self._plan)))
            simulate(self.scenario.seed, self._run, self.defects)
        return self

    async def _run(self) -> None:
        scenario = self.scenario
        # `simulate` gathers what is left at the end, and something has to be.
        self._idle = asyncio.ensure_future(asyncio.Event().wait())
        self.desk = self._opened_desk()
        for client in scenario.clients:
            link = Link(scenario.seed, client, scenario.weather, self.desk.process)
            node = ClientNode(client, scenario.fate(client), self.desk, link, scenario.spec, scenario.seed)
            node.dies_at = self._deaths(node.fate)
            self.nodes[client] = node
        works = [asyncio.ensure_future(node.run(self._arrival(node.fate))) for node in self.nodes.values()]
        if isinstance(self.desk, LiveDesk):
            works.append(asyncio.ensure_future(self.desk.doom(scenario.deaths or ())))
            await self.desk.begin()
        if scenario.stops and not scenario.lies:
            works.append(asyncio.ensure_future(self._stop(self._draws.uniform(0.0, 60.0))))
        async with asyncio.timeout(scenario.spec.longest_seconds + SLACK_SECONDS + self.longest_delay_seconds):
            await self.desk.closed()
        self.ended_at_seconds = asyncio.get_running_loop().time()
        await asyncio.gather(*works)

    async def _stop(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.desk.stop()

    def _opened_desk(self) -> Desk:
        scenario = self.scenario
        if scenario.deaths is not None:
            return LiveDesk(self._plan, self.defects)
        if self.truthful:
            return HonestDesk(self._plan, scenario.seed, self.defects)
        corrupt = frozenset(client for client in scenario.clients if scenario.fate(client) in CORRUPT)
        return LyingDesk(self._plan, scenario.seed, self.defects, scenario.lies, corrupt, self._before)

    def _arrival(self, fate: Fate) -> float:
        return self._draws.uniform(10.0, 80.0) if fate is Fate.LATE else self._draws.uniform(0.0, 20.0)

    def _deaths(self, fate: Fate) -> tuple[float, ...]:
        if fate not in (Fate.RESTARTS, Fate.FORGETS):
            return ()
        if self._died_at:
            return self._died_at
        latest = self._draws.choice([30.0, 100.0]) if self.truthful else RESULT_AT
        return tuple(sorted(self._draws.uniform(0.0, latest) for _ in range(self._draws.randint(1, 2))))
