"""A key holder that was restarted knows what it approved, before it reads a byte of anything else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from secagg.errors import ConflictError
from secagg.ids import Digest, HolderId, KeyId
from secagg.key_holder.book import RoundBook
from secagg.key_holder.held_round import HeldRound, Limits
from secagg.key_holder.store import HolderStore
from secagg.key_holder.vault import ShareVault
from secagg.policy import HolderPolicy
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import SealShare, TrialsReceived
from secagg.roles.key_holder.opening import ApprovalOffered, RosterOffered, request_digest_of
from secagg.roles.key_holder.request import digest_of
from secagg.roles.key_holder.state import Ended
from tests.holder_material import HolderRoom, ceremony_plan, contributor, job_spec, request_of, round_plan

NORTH = HolderId("north")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HolderStore]:
    opened = HolderStore.open(tmp_path / "holder")
    yield opened
    opened.close()


def book_of(store: HolderStore, executor: ThreadPoolExecutor) -> RoundBook:
    return RoundBook(
        holder=NORTH,
        policy=HolderPolicy(),
        limits=Limits(max_rounds=4, max_sums=1, max_round_seconds=1e6, slack_seconds=0.0),
        store=store,
        vault=ShareVault(bytes(32)),
        executor=executor,
        clock=lambda: 0.0,
    )


def sealed() -> SealShare:
    room = HolderRoom(plan=ceremony_plan(job_spec()))
    trials = room.try_key()
    effect = ceremony.step(room.states[NORTH], TrialsReceived(trials=trials)).effects[0]
    assert isinstance(effect, SealShare)
    return effect


async def test_another_set_is_refused_after_a_restart(store: HolderStore) -> None:
    effect = sealed()
    plan = round_plan(effect.plan, KeyId(effect.share.key_id))
    alice, bob, carol = (contributor(plan, name, seed=seed) for seed, name in enumerate(("alice", "bob", "carol")))
    approved, other = request_of(plan, [alice, bob], absent=[carol]), request_of(plan, [alice, carol], absent=[bob])
    digest = Digest(effect.plan.digest)
    held = HeldRound(ceremony_digest=digest, begun_at=0.0, expires_at=1e6, ceremony=Ended())
    with ThreadPoolExecutor(1) as executor:
        await book_of(store, executor).seal(held, effect)
        store.record_approval(plan.ckks.key_id, request_digest_of(approved), at=0.0)
        book = book_of(store, executor)
        assert await book.restore() == 1
        (restored,) = book.rounds
        assert restored.key.approved == request_digest_of(approved)
        await book.open_step(restored, ApprovalOffered(request=approved))
        with pytest.raises(ConflictError):
            await book.open_step(restored, ApprovalOffered(request=other))


async def test_another_roster_is_refused_after_a_restart(store: HolderStore) -> None:
    effect = sealed()
    plan = round_plan(effect.plan, KeyId(effect.share.key_id))
    alice, bob, carol = (contributor(plan, name, seed=seed) for seed, name in enumerate(("alice", "bob", "carol")))
    first, other = request_of(plan, [alice, bob, carol]), request_of(plan, [alice, bob])
    held = HeldRound(ceremony_digest=Digest(effect.plan.digest), begun_at=0.0, expires_at=1e6, ceremony=Ended())
    with ThreadPoolExecutor(1) as executor:
        before = book_of(store, executor)
        await before.seal(held, effect)
        await before.open_step(held, RosterOffered(plan=plan, roster=first.roster))
        book = book_of(store, executor)
        assert await book.restore() == 1
        (restored,) = book.rounds
        assert restored.key.roster == digest_of(first.roster)
        await book.open_step(restored, ApprovalOffered(request=first))
        for event in (RosterOffered(plan=plan, roster=other.roster), ApprovalOffered(request=other)):
            with pytest.raises(ConflictError):
                await book.open_step(restored, event)
