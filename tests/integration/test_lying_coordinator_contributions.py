"""A coordinator that shows key holders ciphertexts or commitments that no honest client made (docs/protocol.md, 6.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from coordinator.rounds.calls import ContributorPart
from he.ciphertext import chunk_to_bytes
from he.ring import Residues
from secagg.errors import FaultyClientError, FaultyCoordinatorError
from secagg.ids import HolderId
from tests.holder_material import job_spec
from tests.holder_processes import HolderProcesses
from tests.lying_coordinator import (
    ALICE,
    BOB,
    LyingCoordinator,
    coordinating,
    digest_of,
    one_loop,
    parts_of,
    root_of,
)

HOLDERS = NORTH, EAST, SOUTH = tuple(HolderId(name) for name in ("north", "east", "south"))
SPEC = job_spec(3, 2, min_contributors=3)
pytestmark = one_loop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def liar(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    async with coordinating(holders, SPEC) as made:
        yield made


def one_residue_changed(liar: LyingCoordinator) -> Residues:
    altered = liar.clients[ALICE].ciphertext.c1.copy()
    altered[-1, -1, -1] = (altered[-1, -1, -1] + 1) % liar.plan.parameters.data_primes[-1]
    return altered


def all_doubled(liar: LyingCoordinator) -> Residues:
    moduli = np.array(liar.plan.parameters.data_primes, np.uint64)[:, None]
    return (2 * liar.clients[ALICE].ciphertext.c1.astype(np.uint64) % moduli).astype(np.uint32)


def chunks_swapped(liar: LyingCoordinator) -> Residues:
    return liar.clients[ALICE].ciphertext.c1[::-1].copy()


def of_bob(liar: LyingCoordinator) -> Residues:
    return liar.clients[BOB].ciphertext.c1


@pytest.mark.parametrize("alter", [one_residue_changed, all_doubled, chunks_swapped, of_bob])
async def test_a_c1_that_was_not_committed_is_refused(
    liar: LyingCoordinator, alter: Callable[[LyingCoordinator], Residues]
) -> None:
    async with liar.refused(FaultyCoordinatorError, "alice is not the one that was signed"):
        await liar.approve(NORTH, liar.request(), alice=alter(liar))


def constant(liar: LyingCoordinator) -> Residues:
    """Would give the whole share away, were it answered."""
    return np.ones_like(liar.clients[ALICE].ciphertext.c1)


def zero(liar: LyingCoordinator) -> Residues:
    return np.zeros_like(liar.clients[ALICE].ciphertext.c1)


def above_the_prime(liar: LyingCoordinator) -> Residues:
    altered = liar.clients[ALICE].ciphertext.c1.copy()
    altered[0, 0, 0] = liar.plan.parameters.data_primes[0]
    return altered


@pytest.mark.parametrize(
    ("make", "why"),
    [(constant, "not the one that was signed"), (zero, "transparent"), (above_the_prime, "not below its prime")],
)
async def test_a_chosen_c1_is_refused(
    liar: LyingCoordinator, make: Callable[[LyingCoordinator], Residues], why: str
) -> None:
    async with liar.refused(FaultyCoordinatorError, why):
        await liar.approve(NORTH, liar.request(), alice=make(liar))


def given(*parts: tuple[int, int, bytes]) -> list[ContributorPart]:
    return [ContributorPart(contributor=place, first_chunk=first, data=data) for place, first, data in parts]


async def test_parts_that_are_missing_out_of_order_or_too_many_are_refused(liar: LyingCoordinator) -> None:
    request = liar.request()
    halves = liar.halves(request)
    first, second = (chunk_to_bytes(chunk) for chunk in halves[0][:2])
    for parts, why in (
        (parts_of(halves[:3]), "3 of 4 contributions"),
        (parts_of([*halves, halves[0]]), "out of order"),
        (given((1, 0, first)), "out of order"),
        (given((0, 1, second)), "out of order"),
        (given((0, 0, first), (0, 0, first)), "out of order"),
        (given((0, 0, first[:-4])), "no whole chunks"),
    ):
        async with liar.refused(FaultyCoordinatorError, why):
            await liar.approve(NORTH, request, parts)


@pytest.mark.parametrize("change", ["nonce", "root_c0"])
async def test_an_upload_that_does_not_open_its_commitment_is_refused(liar: LyingCoordinator, change: str) -> None:
    """Bob lends himself to it: he signs whatever the coordinator wants to open."""
    roster = liar.roster()
    upload = liar.clients[BOB].upload(liar.plan, roster, **{change: bytes(32)})
    async with liar.refused(FaultyClientError, "bob .*does not open the commitment"):
        await liar.approve(NORTH, liar.request(roster=roster, bob=upload))


async def test_a_c1_made_after_the_commitment_is_refused(liar: LyingCoordinator) -> None:
    """Bob joins with one ciphertext and signs the upload of another, made from alice's."""
    doubled, roster = all_doubled(liar), liar.roster()
    upload = liar.clients[BOB].upload(liar.plan, roster, root_c1=root_of(doubled))
    async with liar.refused(FaultyClientError, "bob .*does not open the commitment"):
        await liar.approve(NORTH, liar.request(roster=roster, bob=upload), bob=doubled)


async def test_a_copied_commitment_is_refused_in_the_roster(liar: LyingCoordinator) -> None:
    stolen = liar.clients[ALICE].commitment(liar.plan)
    roster = liar.roster(bob=liar.clients[BOB].join(liar.plan, commitment=stolen))
    async with liar.refused(FaultyCoordinatorError, "commitment stands twice"):
        await liar.approve(NORTH, liar.request(roster=roster))


async def test_a_copied_commitment_is_not_opened_by_the_copier(liar: LyingCoordinator) -> None:
    """Bob copies alice's commitment, she is left out, and her opening is signed in his name."""
    stolen = liar.clients[ALICE].commitment(liar.plan)
    joined = liar.roster(bob=liar.clients[BOB].join(liar.plan, commitment=stolen))
    roster = liar.sealed(replace(joined, joins=joined.joins[1:]))
    alice = liar.clients[ALICE]
    copied = {
        "nonce": alice.nonce,
        "root_c0": root_of(alice.ciphertext.c0),
        "root_c1": root_of(alice.ciphertext.c1),
    }
    upload = liar.clients[BOB].upload(liar.plan, roster, **copied)
    names = [one.message.client for one in roster.joins]
    async with liar.refused(FaultyClientError, "bob .*does not open the commitment"):
        await liar.approve(NORTH, liar.request(*names, roster=roster, bob=upload), bob=alice.ciphertext.c1)


async def test_a_copied_ciphertext_is_refused_in_the_uploads(liar: LyingCoordinator) -> None:
    """Bob saw alice's ciphertext in time and joined with it under a nonce of his own."""
    copier = replace(liar.clients[BOB], ciphertext=liar.clients[ALICE].ciphertext)
    other = replace(liar, clients={**liar.clients, BOB: copier})
    async with liar.refused(FaultyCoordinatorError, "same c1 for two clients"):
        await other.approve(NORTH, other.request())


async def test_a_copied_part_of_a_ciphertext_is_refused(liar: LyingCoordinator) -> None:
    ciphertext = liar.clients[BOB].ciphertext
    c1 = np.concatenate([liar.clients[ALICE].ciphertext.c1[:1], ciphertext.c1[1:]])
    copier = replace(liar.clients[BOB], ciphertext=replace(ciphertext, c1=c1))
    other = replace(liar, clients={**liar.clients, BOB: copier})
    async with liar.refused(FaultyCoordinatorError, "a chunk of c1 twice"):
        await other.approve(NORTH, other.request())


@pytest.mark.parametrize(
    "change", [{"level": 2}, {"scale": 2.0}, {"chunks": 4}, {"parameters_digest": bytes(32)}], ids=str
)
async def test_an_upload_under_other_numbers_than_the_plans_is_refused(
    liar: LyingCoordinator, change: dict[str, Any]
) -> None:
    roster = liar.roster()
    upload = liar.clients[BOB].upload(liar.plan, roster, **change)
    async with liar.refused(FaultyClientError, "bob"):
        await liar.approve(NORTH, liar.request(roster=roster, bob=upload))


async def test_after_all_these_refusals_the_honest_request_is_opened(liar: LyingCoordinator) -> None:
    request = liar.request()
    approvals = await liar.approve_all(request)
    answers = {holder: await liar.decrypt(holder, digest_of(request), approvals) for holder in HOLDERS}
    expected = sum(one.vector for one in liar.clients.values())
    assert np.abs(liar.opened(request, answers) - expected).max() < 1e-3
