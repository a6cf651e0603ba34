"""Rounds end by themselves when their time is over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from secagg.errors import BusyError, NotFoundError, PolicyError, StorageError, WrongPhaseError
from secagg.ids import Digest, HolderId, KeyId
from secagg.key_holder.book import RoundBook
from secagg.key_holder.ceremonies import Ceremonies
from secagg.key_holder.held_round import Limits
from secagg.key_holder.store import HolderStore
from secagg.key_holder.vault import ShareVault
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import HellosReceived, SealShare, TrialsReceived
from secagg.roles.key_holder.opening import RoundEnded
from tests.holder_material import HolderRoom, ceremony_plan, job_spec, random_key_id

NORTH = HolderId("north")
LIMIT_SECONDS = 10.0


@dataclass
class Clock:
    seconds: float = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def seal_share() -> SealShare:
    """Return a share that a ceremony made for north."""
    room = HolderRoom(plan=ceremony_plan(job_spec()))
    trials = room.try_key()
    effect = ceremony.step(room.states[NORTH], TrialsReceived(trials=trials)).effects[0]
    assert isinstance(effect, SealShare)
    return effect


@dataclass
class Desk:
    book: RoundBook
    ceremonies: Ceremonies
    clock: Clock
    store: HolderStore


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[[], Desk]]:
    executor = ThreadPoolExecutor(max_workers=1)
    clock = Clock()
    made: list[HolderStore] = []

    def desk(**limits: Any) -> Desk:
        store = HolderStore.open(tmp_path / "holder")
        made.append(store)
        fields: dict[str, Any] = {
            "max_rounds": 4,
            "max_sums": 1,
            "max_round_seconds": 1e6,
            "slack_seconds": 0.0,
            **limits,
        }
        book = RoundBook(
            holder=NORTH,
            policy=HolderPolicy(),
            limits=Limits(**fields),
            store=store,
            vault=ShareVault(bytes(32)),
            executor=executor,
            clock=clock,
        )
        return Desk(book=book, ceremonies=Ceremonies(book), clock=clock, store=store)

    yield desk
    executor.shutdown()
    for store in made:
        store.close()


async def hold_share(desk: Desk) -> SealShare:
    await desk.ceremonies.begin(ceremony_plan(job_spec()))
    (held,) = desk.book.rounds
    effect = seal_share()
    await desk.book.seal(held, effect)
    return effect


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is awaited raises no event
            await asyncio.sleep(0.01)


async def test_a_share_lives_as_long_as_its_round(make: Callable[[], Desk]) -> None:
    desk = make()
    effect = await hold_share(desk)
    (held,) = desk.book.rounds
    assert held.expires_at == desk.clock() + effect.plan.spec.longest_seconds
    assert desk.store.shares()[0].expires_at == held.expires_at
    assert desk.book.shares == 1


async def test_an_expired_share_is_destroyed_without_being_told(make: Callable[[], Desk]) -> None:
    desk = make()
    effect = await hold_share(desk)
    desk.clock.seconds += effect.plan.spec.longest_seconds
    expiring = asyncio.create_task(desk.book.expire_for_ever())
    await until(lambda: not desk.book.rounds)
    assert desk.store.shares() == ()
    expiring.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await expiring


async def test_the_timer_is_set_anew_for_every_round(make: Callable[[], Desk]) -> None:
    """A timer that sleeps without end is woken by the first round, and ends it when its short time is over."""
    desk = make()
    expiring = asyncio.create_task(desk.book.expire_for_ever())
    await asyncio.sleep(0)
    await desk.ceremonies.begin(ceremony_plan(job_spec()))
    (held,) = desk.book.rounds
    assert held.expires_at == desk.clock() + 60.0
    desk.clock.seconds = held.expires_at
    await desk.ceremonies.begin(ceremony_plan(job_spec(), round=2))
    await until(lambda: [one.ceremony_digest for one in desk.book.rounds] != [held.ceremony_digest])
    await until(lambda: held not in desk.book.rounds)
    expiring.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await expiring


async def test_a_round_that_cannot_be_ended_now_is_ended_later(
    make: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secagg.key_holder.book.EXPIRY_RETRY_SECONDS", 0.01)
    desk = make()
    effect = await hold_share(desk)
    failures = [StorageError("the disk is full")] * 2

    def fail_twice(key_id: KeyId) -> None:
        if failures:
            raise failures.pop()
        HolderStore.destroy_share(desk.store, key_id)

    monkeypatch.setattr(desk.store, "destroy_share", fail_twice)
    desk.clock.seconds += effect.plan.spec.longest_seconds
    expiring = asyncio.create_task(desk.book.expire_for_ever())
    await until(lambda: not desk.book.rounds)
    assert (failures, desk.store.shares()) == ([], ())
    expiring.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await expiring


async def test_a_restart_takes_shares_up_and_destroys_the_expired(make: Callable[[], Desk]) -> None:
    desk = make()
    effect = await hold_share(desk)
    again = make()
    assert await again.book.restore() == 1
    held = again.book.of_key(KeyId(effect.share.key_id))
    assert held.share is not None
    assert held.share.to_bytes() == effect.share.to_bytes()
    again.clock.seconds += effect.plan.spec.longest_seconds
    late = make()
    assert await late.book.restore() == 0
    assert late.store.shares() == ()


async def test_a_key_of_a_plan_that_the_policy_refuses_now_is_destroyed(make: Callable[[], Desk]) -> None:
    """As after an upgrade: its sum would be opened as the policy then allowed."""
    await hold_share(make())
    stricter = make()
    stricter.book.policy = replace(stricter.book.policy, min_contributors=1_000)
    assert await stricter.book.restore() == 0
    assert stricter.store.shares() == ()


async def test_a_damaged_share_keeps_no_other_from_its_use(make: Callable[[], Desk]) -> None:
    desk = make()
    effect = await hold_share(desk)
    (stored,) = desk.store.shares()
    damaged = replace(stored, key_id=random_key_id(), ceremony_digest=Digest(bytes(32)))
    desk.store.save_share(damaged)
    again = make()
    assert await again.book.restore() == 1
    assert again.book.of_key(KeyId(effect.share.key_id)).share is not None
    with pytest.raises(NotFoundError):
        again.book.of_key(damaged.key_id)


async def test_the_end_is_the_same_however_often(make: Callable[[], Desk]) -> None:
    desk = make()
    effect = await hold_share(desk)
    for _ in range(2):
        await desk.book.end(effect.plan.digest, RoundEnded())
    assert desk.store.shares() == ()
    with pytest.raises(NotFoundError):
        desk.book.of_key(KeyId(effect.share.key_id))


async def test_a_key_that_is_not_certified_has_no_use(make: Callable[[], Desk]) -> None:
    desk = make()
    await desk.ceremonies.begin(ceremony_plan(job_spec()))
    with pytest.raises(WrongPhaseError):
        _ = desk.book.rounds[0].key
    with pytest.raises(NotFoundError):
        desk.book.of_key(random_key_id())


async def test_a_refused_ceremony_holds_no_place(make: Callable[..., Desk]) -> None:
    desk = make(max_round_seconds=1.0)
    with pytest.raises(PolicyError, match="deadlines"):
        await desk.ceremonies.begin(ceremony_plan(job_spec()))
    desk = make(max_rounds=1)
    await desk.ceremonies.begin(ceremony_plan(job_spec()))
    with pytest.raises(BusyError):
        await desk.ceremonies.begin(ceremony_plan(job_spec(), round=2))
    assert len(desk.book.rounds) == 1
    with pytest.raises(NotFoundError):
        await desk.ceremonies.step(ceremony_plan(job_spec(), round=3).digest, HellosReceived(hellos=()))
