"""A coordinator that shows key holders what was signed by others, for another round, or by nobody (docs/protocol.md, 6.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from coordinator.rounds.calls import ApprovalRequest
from secagg import codec, labels
from secagg.errors import CertificateError, FaultyCoordinatorError, MessageError
from secagg.ids import HolderId, JobId
from secagg.messages.round import FrozenRoster
from secagg.messages.signed import Authenticated
from secagg.party import Party, Role
from secagg.tls_identity import TlsIdentity
from tests.holder_material import job_spec
from tests.holder_processes import REVOKED_CLIENT, HolderProcesses
from tests.lying_coordinator import (
    ALICE,
    BOB,
    LyingCoordinator,
    coordinating,
    digest_of,
    one_loop,
    parts_of,
    signed_by,
)
from tests.pki_material import deployment

HOLDERS = NORTH, EAST, SOUTH = tuple(HolderId(name) for name in ("north", "east", "south"))
SPEC = job_spec(3, 2, min_contributors=3)
pytestmark = one_loop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def liar(holders: HolderProcesses) -> AsyncIterator[LyingCoordinator]:
    async with coordinating(holders, SPEC) as made:
        yield made


Forge = Callable[[LyingCoordinator, Authenticated[Any]], Authenticated[Any]]


def signature_of_another_message(liar: LyingCoordinator, one: Authenticated[Any]) -> Authenticated[Any]:
    other = liar.request(BOB).uploads[0]
    return replace(one, signed=replace(one.signed, signature=other.signed.signature))


def payload_altered(liar: LyingCoordinator, one: Authenticated[Any]) -> Authenticated[Any]:
    other = codec.sign(replace(one.message, plan_digest=bytes(32)), liar.holders.client("nobody").signer)
    return replace(one, signed=replace(one.signed, payload=other.payload))


def signed_by_the_coordinator(liar: LyingCoordinator, one: Authenticated[Any]) -> Authenticated[Any]:
    return signed_by(liar.holders.coordinator, one.message)


def signed_by_a_holder(liar: LyingCoordinator, one: Authenticated[Any]) -> Authenticated[Any]:
    """Of the client's own name, so that nothing but the role is wrong."""
    return signed_by(liar.holders.holder(ALICE), one.message)


def signed_by_another_client(liar: LyingCoordinator, one: Authenticated[Any]) -> Authenticated[Any]:
    return signed_by(liar.holders.client(BOB), one.message)


def signed_as_another_kind(liar: LyingCoordinator, one: Authenticated[Any]) -> Authenticated[Any]:
    """Alice's own signature over the very payload, made under the label of results."""
    return replace(one, signed=liar.holders.client(ALICE).signer.sign(labels.RESULT, one.signed.payload))


FORGERIES = [
    signature_of_another_message,
    payload_altered,
    signed_by_the_coordinator,
    signed_by_a_holder,
    signed_by_another_client,
    signed_as_another_kind,
]


@pytest.mark.parametrize("forge", FORGERIES)
async def test_a_forged_upload_is_refused(liar: LyingCoordinator, forge: Forge) -> None:
    upload = liar.request().uploads[0]
    async with liar.refused(MessageError, "sign"):
        await liar.approve(NORTH, liar.request(alice=forge(liar, upload)))


@pytest.mark.parametrize("forge", FORGERIES)
async def test_a_forged_join_is_refused(liar: LyingCoordinator, forge: Forge) -> None:
    roster = liar.roster()
    forged = forge(liar, roster.joins[0])
    async with liar.refused(MessageError, "sign"):
        await liar.approve(NORTH, liar.request(roster=replace(roster, joins=(forged, *roster.joins[1:]))))


@dataclass(frozen=True, kw_only=True)
class Outsider:
    """Whose certificate the deployment does not trust, and why a holder says so."""

    identity: TlsIdentity
    why: str


@pytest.fixture(params=["foreign", "revoked"])
def outsider(request: pytest.FixtureRequest, holders: HolderProcesses, tmp_path_factory: Any) -> Outsider:
    if request.param == "revoked":
        return Outsider(identity=holders.revoked[REVOKED_CLIENT], why="was revoked")
    foreign = deployment(tmp_path_factory.mktemp("foreign"))
    identity = foreign.identity(Party(role=Role.CLIENT, name=ALICE))
    return Outsider(identity=identity, why="not issued by the CA that is trusted here")


async def test_a_client_that_the_ca_does_not_vouch_for_is_refused(liar: LyingCoordinator, outsider: Outsider) -> None:
    """An invented client takes part with join, upload and ciphertext of its own; all but its certificate is right."""
    invented = replace(liar.clients[ALICE], identity=outsider.identity)
    others = {name: one for name, one in liar.clients.items() if name != ALICE}
    clients = dict(sorted({invented.client: invented, **others}.items()))
    other = replace(liar, clients=clients)
    async with liar.refused(CertificateError, outsider.why):
        await other.approve(NORTH, other.request())


async def test_uploads_of_another_round_are_refused(holders: HolderProcesses, liar: LyingCoordinator) -> None:
    async with coordinating(holders, SPEC) as before:
        await replay_is_refused(before, liar)


async def test_uploads_of_another_job_are_refused(holders: HolderProcesses, liar: LyingCoordinator) -> None:
    async with coordinating(holders, replace(SPEC, job=JobId("faces"))) as before:
        await replay_is_refused(before, liar)


async def replay_is_refused(before: LyingCoordinator, liar: LyingCoordinator) -> None:
    """Take what was signed for `before` to the key of `liar`, uploads alone and with their roster."""
    recorded = before.request()
    for request, why in (
        (
            ApprovalRequest(plan=liar.plan, roster=liar.roster(), uploads=recorded.uploads),
            "upload of client alice belongs",
        ),
        (ApprovalRequest(plan=liar.plan, roster=recorded.roster, uploads=recorded.uploads), "roster, or a join"),
        (
            ApprovalRequest(plan=liar.plan, roster=renamed(recorded.roster, liar), uploads=recorded.uploads),
            "a join in it",
        ),
    ):
        async with liar.refused(FaultyCoordinatorError, why):
            await liar.approve(NORTH, request, parts_of(before.halves(recorded)))


def renamed(roster: FrozenRoster, liar: LyingCoordinator) -> FrozenRoster:
    """Give a recorded roster the plan digest that is due; its joins are signed and stay."""
    return replace(roster, plan_digest=liar.plan.digest)


async def test_uploads_bound_to_another_roster_are_refused(liar: LyingCoordinator) -> None:
    """Three clients were shown a roster without dave, in which they are the minimum."""
    whole = liar.roster()
    smaller = replace(whole, joins=whole.joins[:3])
    uploads = [liar.clients[one.message.client].upload(liar.plan, smaller) for one in smaller.joins]
    request = ApprovalRequest(plan=liar.plan, roster=whole, uploads=tuple(uploads))
    async with liar.refused(FaultyCoordinatorError, "alice was shown another roster"):
        await liar.approve(NORTH, request)


async def test_after_all_these_refusals_the_honest_request_is_opened(liar: LyingCoordinator) -> None:
    request = liar.request()
    approvals = await liar.approve_all(request)
    answers = {holder: await liar.decrypt(holder, digest_of(request), approvals) for holder in HOLDERS}
    expected = sum(one.vector for one in liar.clients.values())
    assert np.abs(liar.opened(request, answers) - expected).max() < 1e-3
