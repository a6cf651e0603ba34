"""Masking rounds whose mean is known to the last bit, and clients that vanish or wait just where a test wants it.

On the grid: clip is 2^20 - 1 steps of 2^-20, so every product of weight and value is an odd number of steps, which quantising
leaves as it is. Sums of them are exact in float64, and the one division of the mean rounds as plain averaging does.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pytest

from he.packing import pack
from secagg import codec
from secagg.client import Progress, RoundResult
from secagg.client.masking_steps import MaskingSteps
from secagg.client.npz import write_arrays
from secagg.client.uploads import VectorUpload
from secagg.errors import FaultyClientError
from secagg.identity import TrustRoot
from secagg.ids import JobId
from secagg.masking.quantise import quantise
from secagg.messages.masking import Confirmation
from secagg.messages.round import Phase
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec, MaskingJob, TensorSpec
from secagg.roles.client.masking.events import ConfirmationsShown, MaskingRosterFrozen
from secagg.wire.v1 import client_service_pb2 as client_pb
from tests.live_deployment import LiveDeployment
from tests.live_jobs import live_deadlines
from tests.round_cluster import CALL_SECONDS
from tests.scripted_masking_client import MaskingClient

VALUE_BITS = 20
LEVELS = (1 << VALUE_BITS) - 1
STEP = 2.0**-VALUE_BITS
CLIP = LEVELS * STEP
MAX_WEIGHT = 3.0
SEVEN = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")
LIGHT = 3
"""So many clients, the first of a job, have a third of the others' weight: their weights are one, so that the total is a whole number
whoever of the others vanishes."""

Update = Mapping[str, npt.NDArray[Any]]

_numbers = count(1)


def grid_job(clients: int = 7, **changes: Any) -> JobSpec:
    """Return a job on the grid under a name of its own; of seven clients two may vanish: k = 6, t = 4, q = 5."""
    fields: dict[str, Any] = {
        "job": JobId(f"grid-{next(_numbers)}"),
        "purpose": "integration tests",
        "tensors": (
            TensorSpec(name="w", shape=(40, 50), dtype="float64"),
            TensorSpec(name="b", shape=(7,), dtype="float64"),
        ),
        "protocol": MaskingJob(value_bits=VALUE_BITS, corrupt_fraction=0.1, dropout_fraction=0.16),
        "min_contributors": 4,
        "max_clients": clients,
        "clip": CLIP,
        "max_weight": MAX_WEIGHT,
        "min_total_weight": 2 * MAX_WEIGHT,
        "deadlines": live_deadlines(),
    }
    return JobSpec(**{**fields, **changes})


class _Always:
    """A stream that rounds down, or up, whatever it can."""

    def __init__(self, word: int) -> None:
        self._word = word

    def words(self, _start: int, count: int) -> npt.NDArray[np.uint32]:
        return np.full(count, self._word, dtype=np.uint32)


@cache
def _points() -> npt.NDArray[np.float64]:
    """Return the points of the grid that float64 arithmetic finds exactly, so that they are never rounded."""
    every: npt.NDArray[np.float64] = np.arange(-LEVELS, LEVELS + 1, 2, dtype=np.float64) * STEP
    down, up = (quantise(every, clip=CLIP, value_bits=VALUE_BITS, noise=_Always(word)) for word in (0, 0xFFFFFFFF))
    exact: npt.NDArray[np.float64] = every[down == up]
    return exact


def grid_weight(spec: JobSpec, name: str, names: Iterable[str]) -> float:
    return 1.0 if name in sorted(names)[:LIGHT] else spec.max_weight


def grid_update(spec: JobSpec, name: str, weight: float) -> dict[str, npt.NDArray[np.float64]]:
    """Return a client's update: any points of the grid, as far as its weight reaches."""
    reach = spec.clip * weight / spec.max_weight
    points = _points()[np.abs(_points()) <= reach]
    draws = np.random.default_rng([*spec.job.encode(), *name.encode()])
    scale = spec.max_weight / weight
    update = {one.name: draws.choice(points, one.shape) * scale for one in spec.tensors}
    _verify_on_grid(spec, update, weight)
    return update


def _verify_on_grid(spec: JobSpec, update: Update, weight: float) -> None:
    vector, clipped = pack(update, weight, layout=spec.layout, clip=spec.clip, max_weight=spec.max_weight)
    assert clipped == 0
    down, up = (quantise(vector, clip=CLIP, value_bits=VALUE_BITS, noise=_Always(word)) for word in (0, 0xFFFFFFFF))
    assert np.array_equal(down, up)


class Departure(Enum):
    """Where a client vanishes."""

    BEFORE_SHARES = "before it sends its shares"
    AFTER_SHARES = "after its shares"
    DURING_UPLOAD = "with some parts of its vector sent"
    BEFORE_CONFIRMING = "after its vector"
    BEFORE_UNMASKING = "after its confirmation"

    def is_at(self, progress: Progress) -> bool:
        """Say whether this is the moment, as the SDK tells of it."""
        match self:
            case Departure.BEFORE_SHARES:
                return progress.phase is Phase.SHARING
            case Departure.AFTER_SHARES:
                return progress.phase is Phase.UPLOADING
            case Departure.DURING_UPLOAD:
                return progress.phase is Phase.UPLOADING and 0 < progress.done < progress.total
            case Departure.BEFORE_CONFIRMING:
                return progress.phase is Phase.CONFIRMING
            case Departure.BEFORE_UNMASKING:
                return progress.phase is Phase.UNMASKING


def leaving_at(departure: Departure | None) -> Callable[[Progress], None]:
    """Return a callback that cancels the client at that moment."""

    def tell(progress: Progress) -> None:
        task = asyncio.current_task()
        if departure is not None and task is not None and departure.is_at(progress):
            task.cancel()

    return tell


def send_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients of this process send a vector in several parts, however short it is."""
    monkeypatch.setattr(VectorUpload, "part_bytes", property(lambda _: 1000))


@dataclass(kw_only=True)
class Turn:
    """One step of one client that is held back."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    allowed: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """Holds back chosen steps of clients of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._held: dict[tuple[str, type], Turn] = {}
        honest = MaskingSteps.carry_out

        async def carry_out(steps: MaskingSteps, effect: Any) -> Any:
            turn = self._held.get((steps._exchange.identity.party.name, type(effect)))
            if turn is not None:
                turn.reached.set()
                await turn.allowed.wait()
            return await honest(steps, effect)

        monkeypatch.setattr(MaskingSteps, "carry_out", carry_out)

    def hold(self, name: str, effect: type) -> Turn:
        return self._held.setdefault((name, effect), Turn())


@dataclass(kw_only=True)
class Crew:
    """The clients of one job: what each submits, how it takes part, and what the mean of some of them is."""

    live: LiveDeployment
    spec: JobSpec
    names: tuple[str, ...]

    @classmethod
    async def of(cls, live: LiveDeployment, spec: JobSpec, names: Iterable[str] = SEVEN) -> Self:
        """Make the job."""
        return cls(live=live, spec=await live.create(spec), names=tuple(sorted(names)))

    def weight(self, name: str) -> float:
        return grid_weight(self.spec, name, self.names)

    def update(self, name: str) -> dict[str, npt.NDArray[np.float64]]:
        return grid_update(self.spec, name, self.weight(name))

    async def take_part(
        self, name: str, departure: Departure | None = None, *, after: int = 0, state_dir: Path | None = None
    ) -> RoundResult:
        client = self.live.client(name)
        client._state_dir = state_dir
        return await client.participate(
            self.spec.job, self.update(name), self.weight(name), after_round=after, progress=leaving_at(departure)
        )

    def start(self, names: Iterable[str], *, after: int = 0) -> dict[str, asyncio.Task[RoundResult]]:
        return {name: asyncio.ensure_future(self.take_part(name, after=after)) for name in names}

    async def process(self, name: str, *options: str) -> Process:
        """Start ``secagg client submit`` for a client."""
        update = self.live.directory / f"{self.spec.job}-{name}.npz"
        write_arrays(update, self.update(name))
        arguments = ["client", "submit", "--job", self.spec.job, "--config", str(self.live.client_config(name))]
        arguments += ["--update", str(update), "--weight", str(self.weight(name)), "--out", str(self.out(name))]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "secagg.cli.main", *arguments, "--json", *options, stdout=PIPE, stderr=PIPE
        )

    def out(self, name: str) -> Path:
        return self.live.directory / f"{self.spec.job}-mean-{name}.npz"

    def assert_exact(self, mean: Update, contributors: Iterable[str]) -> None:
        """Hold a mean against plain weighted averaging, bit for bit."""
        chosen = list(contributors)
        updates, weights = [self.update(name) for name in chosen], [self.weight(name) for name in chosen]
        for tensor in self.spec.tensors:
            expected = sum(w * one[tensor.name] for one, w in zip(updates, weights, strict=True)) / sum(weights)
            assert mean[tensor.name].dtype == np.float64
            assert mean[tensor.name].tobytes() == np.asarray(expected).tobytes(), tensor.name

    def total_weight(self, contributors: Iterable[str]) -> float:
        return sum(map(self.weight, contributors))

    def assert_result(self, result: Any, contributors: Iterable[str]) -> None:
        """Hold what a client got against the sum of exactly these."""
        chosen = tuple(contributors)
        assert isinstance(result, RoundResult), repr(result)
        assert result.contributors == chosen
        assert result.total_weight == self.total_weight(chosen)
        assert result.clipped == 0
        self.assert_exact(result.mean, chosen)


class LightClient(MaskingClient):
    """A scripted client of a crew: its machine is real, and what all are shown alike is verified once for all of them."""

    verified: ClassVar[dict[bytes, Any]] = {}

    def __init__(self, crew: Crew, name: str) -> None:
        super().__init__(crew.live, name, crew.weight(name))  # type: ignore[arg-type]
        self._crew = crew

    @property
    def update(self) -> dict[str, Any]:
        return self._crew.update(self.name)

    def _once(self, shown: Any, read: Callable[[TrustRoot, datetime], Any]) -> Any:
        key = shown.SerializeToString(deterministic=True)
        if key not in self.verified:
            self.verified[key] = read(self.identity.trust, datetime.now(UTC))
        return self.verified[key]

    async def share(self) -> None:
        request = client_pb.WaitForRosterRequest(**self.address(wait_seconds=30))
        shown = (await self.call(self.stub.WaitForRoster(request, timeout=CALL_SECONDS))).masking_roster
        roster = self._once(shown, lambda trust, at: codec.masking_roster_from_wire(shown, trust=trust, at=at))
        self.roster = roster.clients
        self.shares = self.tell(MaskingRosterFrozen(roster=roster)).shares

    async def reveal(self) -> None:
        shown = tuple(map(self._confirmation, (await self.confirmations()).confirmations))
        self.unmasking = self.tell(ConfirmationsShown(confirmations=shown)).unmasking

    def _confirmation(self, wire: Any) -> Authenticated[Confirmation]:
        signed = codec.signed_from_wire(wire)
        read = partial(codec.authenticate, signed, Confirmation)
        one: Authenticated[Confirmation] = self._once(wire, lambda trust, at: read(trust=trust, at=at))
        return one

    async def fail_to_upload(self) -> None:
        """Be out of the round at once, and not when its deadline has passed."""
        await self.mask()
        await self.send_vector(vector=bytes(len(self.vector)))
        with pytest.raises(FaultyClientError):
            await self.complete_vector()
