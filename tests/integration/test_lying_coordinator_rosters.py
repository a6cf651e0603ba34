"""A coordinator that shows a client another roster or result: the SDK takes neither (docs/protocol.md, 5.5 and 6.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from secagg.errors import FaultyCoordinatorError
from secagg.ids import ClientId
from secagg.messages.round import FrozenRoster, Result
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from tests.holder_processes import HolderProcesses
from tests.lying_coordinator import ALICE, BOB, EVERYONE, LyingCoordinator, coordinating, one_loop, signed_by
from tests.lying_service import (
    EVERY_STEP,
    SPEC,
    Lies,
    refused,
)
from tests.pki_material import deployment

pytestmark = one_loop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def liar(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    async with coordinating(holders, SPEC) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    """Another round of the same job, with a key of the same holders."""
    async with coordinating(holders, SPEC) as made:
        yield made


# Rosters: the client has joined, and uploads nothing.


def without_alice(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    return replace(roster, joins=roster.joins[1:])


def of_two(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    return replace(roster, joins=roster.joins[:2])


def bob_in_alices_place(liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    forged = replace(roster.joins[0].message, commitment=bytes(32))
    return replace(roster, joins=(signed_by(liar.clients[BOB].identity, forged), *roster.joins[1:]))


def with_bob_altered(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    alice, bob, *rest = roster.joins
    forged = replace(bob, signed=replace(bob.signed, payload=bob.signed.payload[:-1] + b"\0"))
    return replace(roster, joins=(alice, forged, *rest))


def with_bob_signed_by_itself(liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    alice, bob, *rest = roster.joins
    return replace(roster, joins=(alice, signed_by(liar.holders.coordinator, bob.message), *rest))


def with_bob_of_another_ca(liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    alice, bob, *rest = roster.joins
    stranger = deployment(liar.holders.directory / "strangers").identity(Party(role=Role.CLIENT, name=BOB))
    return replace(roster, joins=(alice, signed_by(stranger, bob.message), *rest))


def with_alices_commitment_copied(liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    alice, bob, *rest = roster.joins
    copied = replace(bob.message, commitment=alice.message.commitment)
    return replace(roster, joins=(alice, signed_by(liar.clients[BOB].identity, copied), *rest))


def with_bob_twice(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    alice, bob, *rest = roster.joins
    return replace(roster, joins=(alice, bob, bob, *rest))


def without_seals(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    return replace(roster, seals=())


def sealed_by_two(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    return replace(roster, seals=roster.seals[:2])


def with_a_seal_twice(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    return replace(roster, seals=(*roster.seals[:2], roster.seals[0]))


def with_seals_of_another_roster(liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    return liar.sealed(roster, roster_digest=bytes(32))


def sealed_by_itself(liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    forged = signed_by(liar.holders.coordinator, roster.seals[0].message)
    return replace(roster, seals=(forged, *roster.seals[1:]))


def of_another_plan(_liar: LyingCoordinator, roster: FrozenRoster) -> FrozenRoster:
    return replace(roster, plan_digest=bytes(32))


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (without_alice, "does not hold the join of alice"),
        (of_two, "the roster has 2 clients"),
        (bob_in_alices_place, "in the name of 'alice'"),
        (with_bob_altered, "signature of client/bob does not fit"),
        (with_bob_signed_by_itself, "signed by coordinator"),
        (with_bob_of_another_ca, "not issued by the CA"),
        (with_alices_commitment_copied, "commitment stands twice"),
        (with_bob_twice, "names a client twice"),
        (of_another_plan, "belongs to another plan"),
        (without_seals, "the seals of 0 key holders, 3 are due"),
        (sealed_by_two, "the seals of 2 key holders, 3 are due"),
        (with_a_seal_twice, "a seal twice"),
        (with_seals_of_another_roster, "a seal of another roster"),
        (sealed_by_itself, "signed by coordinator"),
    ],
)
async def test_another_roster_is_refused_and_nothing_uploaded(
    liar: LyingCoordinator, tmp_path: Path, lie: Callable[[LyingCoordinator, FrozenRoster], FrozenRoster], why: str
) -> None:
    server = await refused(liar, tmp_path, Lies(roster=lie), FaultyCoordinatorError, why)
    assert server.called == ["Join"]


async def test_joins_of_another_round_do_not_fill_a_roster(
    liar: LyingCoordinator, other: LyingCoordinator, tmp_path: Path
) -> None:
    """With joins that were recorded before, alice would be alone."""
    recorded = other.roster().joins[1:]
    lies = Lies(roster=lambda _, roster: replace(roster, joins=(roster.joins[0], *recorded)))
    server = await refused(liar, tmp_path, lies, FaultyCoordinatorError, "a join in it, belongs to another plan")
    assert server.called == ["Join"]


# Results: what was uploaded is uploaded, and a wrong result is not taken for one.


def altered(**changes: Any) -> Callable[[LyingCoordinator, Result], Authenticated[Any]]:
    return lambda liar, result: signed_by(liar.holders.coordinator, replace(result, **changes))


def of_another_coordinator(liar: LyingCoordinator, result: Result) -> Authenticated[Any]:
    return signed_by(liar.holders.identity(Role.COORDINATOR, "second"), result)


def of_an_operator(liar: LyingCoordinator, result: Result) -> Authenticated[Any]:
    return signed_by(liar.holders.identity(Role.OPERATOR, "olga"), result)


@pytest.mark.parametrize(
    ("lies", "why"),
    [
        (Lies(mean=lambda mean: b"\1" + mean[1:]), "not the one that it signed"),
        (Lies(mean=lambda mean: mean[:-4]), "the mean has"),
        (Lies(mean=lambda mean: mean + bytes(4)), "more than the"),
        (Lies(result=altered(mean_digest=bytes(32))), "not the one that it signed"),
        (Lies(result=altered(plan_digest=bytes(32))), "another round"),
        (Lies(result=altered(roster_digest=bytes(32))), "another roster"),
        (Lies(result=altered(contributors=EVERYONE[1:])), "leaves out alice"),
        (Lies(result=altered(contributors=EVERYONE[:2])), "a sum of 2 contributions"),
        (Lies(result=altered(contributors=(*EVERYONE, ClientId("zoe")))), "zoe, not in the roster"),
        (Lies(result=altered(contributors=(ALICE, ALICE, BOB))), "names a client twice"),
        (Lies(result=altered(total_weight=0.0)), "total weight"),
        (Lies(result=altered(total_weight=float("nan"))), "total weight"),
        (Lies(result=of_another_coordinator), "signed by coordinator/second"),
        (Lies(result=of_an_operator), "signed by operator"),
    ],
)
async def test_an_altered_result_is_refused(liar: LyingCoordinator, tmp_path: Path, lies: Lies, why: str) -> None:
    server = await refused(liar, tmp_path, lies, FaultyCoordinatorError, why)
    assert server.called == EVERY_STEP
