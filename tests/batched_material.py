"""A live masking round over a real store that a test holds up, so that other events come while one is being stored."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from coordinator.contracts import AnsweredRequest, RequestRecord
from coordinator.rounds.changes import Changes
from coordinator.rounds.live import LiveRound
from coordinator.rounds.metrics import RoundMetrics
from coordinator.rounds.surroundings import Surroundings
from coordinator.spool import UploadSpool
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg.plan import JobSpec
from tests.masking_material import ROUND, SPEC
from tests.round_cluster import eventually
from tests.unit.coordinator.durable_engine import same_nonce
from tests.unit.coordinator.test_masking_chores import Signer

HELD_SECONDS = 20.0
"""Longest that a call of the store is held: a test that forgets to let it go fails, and does not hang."""

Called = Callable[[str, tuple[Any, ...]], None]


def _nothing(_name: str, _args: tuple[Any, ...]) -> None:
    pass


class Gate:
    """A store that counts its calls, and does what a test says before and after each: wait, or raise."""

    def __init__(self, store: SqlRoundStore) -> None:
        self.store = store
        self.calls: Counter[str] = Counter()
        self.open()

    def open(self) -> None:
        """Stand in nobody's way."""
        self.before: Called = _nothing
        self.after: Called = _nothing

    def __getattr__(self, name: str) -> Any:
        """Return a method of the store."""
        method = getattr(self.store, name)

        def called(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            self.before(name, args)
            found = method(*args, **named)
            self.after(name, args)
            return found

        return called

    def hold(self, name: str) -> Held:
        """Hold the next call of this name until it is released."""
        held = Held(name)
        self.before = held.before
        return held


class Held:
    """One call that is held, in the thread of the store."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.entered, self._released = threading.Event(), threading.Event()

    def before(self, name: str, _args: tuple[Any, ...]) -> None:
        if name == self._name and not self.entered.is_set():
            self.entered.set()
            assert self._released.wait(HELD_SECONDS)

    async def begun(self) -> None:
        """Return once the call has come."""
        await eventually(self.entered.is_set)

    def release(self) -> None:
        self._released.set()


class House:
    """A data directory, with the lease that all of its processes believe to hold."""

    def __init__(self, directory: Path, spec: JobSpec) -> None:
        self.sql = SqlRoundStore(f"sqlite:///{directory / 'rounds.db'}")
        self.sql.create_job(spec, 1.0)
        self.store = Gate(self.sql)
        self.spec = spec
        self.blobs = DirectoryBlobStore(directory / "blobs")
        lease = self.sql.take_lease(spec.job, "me", 1e6)
        assert lease is not None
        self.lease = lease

    def live(self) -> LiveRound:
        """Return the job's first round, as one more process would run it."""
        around = Surroundings(
            store=cast("Any", self.store),
            blobs=self.blobs,
            spool=UploadSpool(self.blobs, max_bytes=1 << 20),
            identity=cast("Any", SimpleNamespace(signer=Signer())),
            holders={},
            clock=lambda: 2.0,
            metrics=RoundMetrics(CollectorRegistry()),
            compute=cast("Any", None),
        )
        return LiveRound(self.spec, ROUND, around, Changes(), self.lease)

    @property
    def kept(self) -> list[int]:
        """The sequences of the events that the store has."""
        return [one.sequence for one in self.sql.kept_events(self.spec.job, ROUND)]


@contextmanager
def new_house(directory: Path, spec: JobSpec = SPEC) -> Iterator[House]:
    """Lend a new data directory, whose rounds have the nonce of the material."""
    with same_nonce():
        made = House(directory, spec)
        try:
            yield made
        finally:
            made.sql.close()


def request(caller: str, request_id: str = "r", content: bytes = b"") -> AnsweredRequest:
    """Return a call with its answer; another content under the same id is a conflict."""
    digest = hashlib.sha256(content or caller.encode()).digest()
    return AnsweredRequest(
        request=RequestRecord(caller=caller, request_id=request_id, digest=digest), answer=caller.encode()
    )


async def queued(live: LiveRound, count: int) -> None:
    """Wait until so many events have come whose outcome is not known: the one that is being stored is one of them."""
    await eventually(lambda: len(live._turns._waiting) == count)


async def together(
    house: House,
    live: LiveRound,
    *moves: Coroutine[Any, Any, None],
    meanwhile: Callable[[list[asyncio.Task[None]]], object] = lambda _tasks: None,
) -> list[Any]:
    """Hold the first move in the store until all others wait behind it, so that they are stored together.

    Args:
        house: whose store holds it.
        live: the round.
        moves: calls of ``live.apply``, in the order in which they come.
        meanwhile: what happens when all have come, and the first is being stored still.

    Returns:
        None or an error for each.
    """
    first, *others = moves
    held = house.store.hold("advance_round")
    tasks = [asyncio.create_task(first)]
    await held.begun()
    tasks += [asyncio.create_task(one) for one in others]
    await queued(live, len(tasks))
    meanwhile(tasks)
    held.release()
    return await asyncio.gather(*tasks, return_exceptions=True)
