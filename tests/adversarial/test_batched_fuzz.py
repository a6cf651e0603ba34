"""Everything at once: a store that fails, callers that give up, leases that are lost, while all clients call at a time."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from secagg.errors import ElsewhereError, StorageError, WrongPhaseError
from secagg.ids import ClientId
from secagg.messages.round import Phase
from tests.masking_material import CLIENTS, SPEC
from tests.unit.coordinator.durable_engine import REVEALING, WHOLE, Deployment, run
from tests.unit.coordinator.test_durable_rounds import published_exactly

SEEDS = (3, 4, 9, 13, 21, 25)
"""Callers that give up, stores that fail for one call in ten, leases that are lost: alone, in pairs, and all three. One call in
three is a matter of the soak: it takes ten times as long."""
SOAK_SEEDS = 40
WRITES = ("advance_round", "kept_events", "round", "keep_answer", "answer_to", "unclosed_rounds", "close_round")


class Troubled:
    """A deployment, and how much goes wrong in it, as a seed draws it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.deployed = Deployment(directory)
        self._draws = random.Random(seed)
        self._failing = self._draws.choice([0.0, 0.1, 0.3])
        self._quitting = self._draws.choice([0.0, 0.3])
        self._losing = self._draws.choice([0.0, 0.5])

    async def play(self) -> None:
        """Play a whole round, and let what is left of it be cleaned up."""
        await self.deployed.start()
        self.deployed.store.fails = self._fails
        for step in WHOLE:
            if self._draws.random() < self._losing:
                asyncio.get_running_loop().call_later(self._draws.uniform(0.0, 0.1), self._lose_the_lease)
            clients = REVEALING if step == "unmask" else CLIENTS
            await asyncio.gather(*(self._insist(client, step) for client in clients))
        await self.deployed.until(Phase.PUBLISHED, Phase.ABORTED)
        self.deployed.store.fails = lambda _name, _args: ""
        await asyncio.sleep(100)
        await self.deployed.engine.stop(0.0)

    def _fails(self, name: str, _args: object) -> str:
        fails = name in WRITES and self._draws.random() < self._failing
        return self._draws.choice(["before", "after"]) if fails else ""

    def _lose_the_lease(self) -> None:
        live = self.deployed.engine._runs[SPEC.job].live
        if live is not None:
            live._spawn(live.suspend())

    async def _insist(self, client: ClientId, step: str) -> None:
        """Call until it is acknowledged: by one more call after each that was given up or failed."""
        async with asyncio.timeout(600):
            while not await self._called(client, step):
                pass

    async def _called(self, client: ClientId, step: str) -> bool:
        await asyncio.sleep(self._draws.choice([0.0, 0.0, 0.005, 0.02]))
        call = asyncio.create_task(self.deployed.call(client, step))
        try:
            # A stream that is given up is another matter: test_durable_uploads.py.
            if step != "vector" and self._draws.random() < self._quitting:
                await asyncio.sleep(self._draws.uniform(0.0, 0.03))
                call.cancel()
            await call
        except asyncio.CancelledError:
            return False
        except (StorageError, ElsewhereError, WrongPhaseError):
            # The last: the store answered for a round that has to be read from it again, at its next event.
            await asyncio.sleep(0.3)
            return False
        return True


def played(directory: Path, seed: int) -> None:
    troubled = Troubled(directory, seed)
    run(troubled.play, seed)
    published_exactly(troubled.deployed)
    troubled.deployed.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_comes_together_counts_once(tmp_path: Path, seed: int) -> None:
    played(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(SOAK_SEEDS))
def test_whatever_comes_together_counts_once_for_many_seeds(tmp_path: Path, number: int) -> None:
    # Number 0 is the seed itself, so that a failure is repeated by it.
    played(tmp_path, int(os.environ.get("SOAK_SEED", "0")) + number)
