"""A coordinator that shows a client a key or a plan to refuse: the SDK does, and sends nothing at all (docs/protocol.md, 5.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from he.keygen import generate
from secagg.errors import FaultyCoordinatorError, PolicyError
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.messages.ceremony import KeyStatement
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from tests.holder_processes import HolderProcesses
from tests.lying_coordinator import EVERYONE, LyingCoordinator, coordinating, one_loop, signed_by
from tests.lying_service import (
    EAST,
    EVERY_STEP,
    HOLDERS,
    NORTH,
    POLICY,
    SPEC,
    Lies,
    Offer,
    participate,
    refused,
    serving,
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


async def test_an_honest_coordinator_gets_the_update_and_is_believed(liar: LyingCoordinator, tmp_path: Path) -> None:
    async with serving(liar, Lies()) as (server, address):
        result = await participate(liar, address, tmp_path)
    assert server.called == EVERY_STEP
    assert result.contributors == EVERYONE
    assert result.mean["w"].shape == (SPEC.values,)


# Keys: nothing is sent, not even a join.


def with_another_b(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return plan, replace(bundle, b=bytes([bundle.b[0] ^ 1]) + bundle.b[1:])


def with_its_own_key(_liar: LyingCoordinator, offer: Offer) -> Offer:
    """Its owner holds the secret."""
    plan, bundle = offer
    key, _ = generate(plan.parameters)
    return plan, replace(bundle, b=key.to_bytes())


def with_a_statement_missing(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return plan, replace(bundle, statements=bundle.statements[:2])


def with_a_statement_twice(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return plan, replace(bundle, statements=(*bundle.statements[:2], bundle.statements[1]))


def with_a_hello_missing(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return plan, replace(bundle, hellos=bundle.hellos[:2])


def restated(offer: Offer, sign: Callable[[KeyStatement], Authenticated[Any]]) -> Offer:
    """Return its own key, with statements of it that are signed in some way."""
    plan, bundle = offer
    key, _ = generate(plan.parameters)
    statements = [replace(one.message, public_key_digest=key.digest()) for one in bundle.statements]
    return plan, replace(bundle, b=key.to_bytes(), statements=tuple(sign(one) for one in statements))


def signed_by_itself(liar: LyingCoordinator, offer: Offer) -> Offer:
    return restated(offer, lambda statement: signed_by(liar.holders.coordinator, statement))


def signed_by_one_holder(liar: LyingCoordinator, offer: Offer) -> Offer:
    return restated(offer, lambda statement: signed_by(liar.holders.holder(NORTH), statement))


def signed_under_a_ca_of_its_own(liar: LyingCoordinator, offer: Offer) -> Offer:
    directory = liar.holders.directory / "foreign"
    made = deployment(directory)
    holders = {name: made.identity(Party(role=Role.KEY_HOLDER, name=name)) for name in HOLDERS}
    return restated(offer, lambda statement: signed_by(holders[statement.holder], statement))


def under_another_key_id(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return replace(plan, protocol=replace(plan.protocol, key_id=KeyId(bytes(32)))), bundle


def under_another_round(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return replace(plan, round=RoundNumber(plan.round + 100)), bundle


def under_other_numbers(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return replace(plan, spec=replace(plan.spec, max_weight=2.0)), bundle


def of_another_job(_liar: LyingCoordinator, offer: Offer) -> Offer:
    plan, bundle = offer
    return replace(plan, spec=replace(plan.spec, job=JobId("others"))), bundle


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (with_another_b, "another public key|is none"),
        (with_its_own_key, "another public key"),
        (with_a_statement_missing, "key statements of north, east"),
        (with_a_statement_twice, "key statements of north, east, east"),
        (with_a_hello_missing, "hellos of north, east"),
        (signed_by_itself, "signed by coordinator"),
        (signed_by_one_holder, "in the name of"),
        (signed_under_a_ca_of_its_own, "not issued by the CA"),
        (under_another_key_id, "another key id"),
        (under_another_round, "made for round"),
        (under_other_numbers, "made for another job"),
        (of_another_job, "a round of job others"),
    ],
)
async def test_a_key_that_the_holders_did_not_make_for_this_plan_is_refused(
    liar: LyingCoordinator, tmp_path: Path, lie: Callable[[LyingCoordinator, Offer], Offer], why: str
) -> None:
    server = await refused(liar, tmp_path, Lies(offer=lie), FaultyCoordinatorError, why)
    assert server.called == []


async def test_parts_of_another_ceremony_are_refused(
    liar: LyingCoordinator, other: LyingCoordinator, tmp_path: Path
) -> None:
    theirs = other.key.bundle
    lies: list[tuple[dict[str, Any], str]] = [
        ({"statements": theirs.statements}, "another key id"),
        ({"hellos": theirs.hellos}, "belongs to another ceremony"),
        ({"b": theirs.b}, "another public key"),
        ({"statements": theirs.statements, "hellos": theirs.hellos, "b": theirs.b}, "belongs to another ceremony"),
        ({"plan": theirs.plan, "statements": theirs.statements, "hellos": theirs.hellos, "b": theirs.b}, "for round"),
    ]
    for changes, why in lies:
        lie = Lies(offer=lambda _, offer, changes=changes: (offer[0], replace(offer[1], **changes)))  # type: ignore[misc]
        server = await refused(liar, tmp_path, lie, FaultyCoordinatorError, why)
        assert server.called == []


async def test_a_round_that_is_over_for_this_client_is_refused(liar: LyingCoordinator, tmp_path: Path) -> None:
    server = await refused(
        liar, tmp_path, Lies(), FaultyCoordinatorError, "one after", after_round=int(liar.plan.round)
    )
    assert server.called == []


@pytest.mark.parametrize(
    ("stricter", "why"),
    [
        ({"min_holders": 4}, "3 key holders, the policy wants 4"),
        ({"min_threshold": 3}, "2 key holders open"),
        ({"min_corrupt_holders": 2}, "bears 1 corrupt"),
        ({"min_contributors": 4}, "this client wants 4 contributors"),
        ({"holders": frozenset({NORTH, EAST, HolderId("west")})}, "does not trust: south"),
        ({"max_clip": 0.5}, "clip 1.0 is above"),
        ({"presets": frozenset({"ckks-8192"})}, "preset 'ckks-4096'"),
        ({"packings": frozenset({"complex"})}, "packing 'coefficients'"),
        ({"min_security_bits": 64}, "security_bits 40"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
async def test_a_plan_that_is_weaker_than_the_policy_is_refused(
    liar: LyingCoordinator, tmp_path: Path, stricter: dict[str, Any], why: str
) -> None:
    server = await refused(liar, tmp_path, Lies(), PolicyError, why, policy=replace(POLICY, **stricter))
    assert server.called == []
