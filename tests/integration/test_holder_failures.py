"""Key holders that die, hang, or lie, as processes (n=5, t=3, q=4): the round is published all the same, or not at all.

`docs/protocol.md`, sections 4.7, 4.8 and 6; what is said of a holder is what can be known of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from secagg.errors import RoundAbortedError
from secagg.ids import HolderId
from secagg.messages.round import HolderVerdict, Phase, RoundStatus
from secagg.plan import JobSpec
from tests.files_on_disk import matching
from tests.live_deployment import LiveDeployment
from tests.live_jobs import HOLDERS, live_deadlines, live_job, verdicts
from tests.misbehaving_holder import lying_job

NORTH, SOUTH, EAST, WEST, CENTRE = HOLDERS
CLIENTS = ("alice", "bob")
OK, UNREACHABLE, FAULTY, SUSPECT = (
    HolderVerdict.OK,
    HolderVerdict.UNREACHABLE,
    HolderVerdict.FAULTY,
    HolderVerdict.SUSPECT,
)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("live"), ["tests.misbehaving_holder"])
    try:
        made.start()
        yield made
    finally:
        made.close()


async def job(live: LiveDeployment, **changes: Any) -> JobSpec:
    return await live.create(live_job(**{"max_clients": 2, **changes}))


def logged(live: LiveDeployment, spec: JobSpec, event: str) -> list[dict[str, Any]]:
    """Return what the coordinator logged of an event of a job."""
    lines = live.coordinator.lines(whole=True)
    return [line for line in lines if line["event"] == event and line.get("job") == spec.job]


def others_are_well(status: RoundStatus, *but: HolderId) -> bool:
    return {verdict for holder, verdict in verdicts(status).items() if holder not in but} == {OK}


async def published_with(live: LiveDeployment, lie: str, liar: HolderId) -> RoundStatus:
    """Publish a round whose liar was asked: four quick honest holders open the sum without a fifth that approves late."""
    for _ in range(5):
        spec = await job(live, job=lying_job(lie, liar))
        status = await live.published(spec, CLIENTS)
        (published,) = logged(live, spec, "round-published")
        if liar not in published["not_waited_for"]:
            return status
    raise AssertionError(f"{liar} was the last to approve in each of five rounds")


async def nothing_was_published(live: LiveDeployment, spec: JobSpec) -> None:
    outcomes = await live.take_part(spec, CLIENTS)
    assert all(isinstance(outcome, RoundAbortedError) for outcome in outcomes.values()), outcomes
    assert not matching(live.directory / "coordinator" / "blobs" / "means", f"{spec.job}/*")


async def test_a_holder_that_is_killed_after_its_ceremony_and_away_at_the_next(live: LiveDeployment) -> None:
    spec = await job(live, rounds=2)
    opened = await live.reached(spec, Phase.OPEN)
    assert opened.plan is not None
    assert opened.plan.ckks.group.holders == HOLDERS
    live.services[CENTRE].kill()
    first = await live.published(spec, CLIENTS)
    assert verdicts(first)[CENTRE] is UNREACHABLE
    second = await live.published(spec, CLIENTS, after=1)
    assert second.plan is not None
    assert second.plan.ckks.group.holders == HOLDERS[:4]
    assert verdicts(second)[CENTRE] is UNREACHABLE
    for status in (first, second):
        assert others_are_well(status, CENTRE)
    (failed,) = logged(live, spec, "ceremony failed")
    assert "centre is unreachable" in failed["reason"]


async def test_a_holder_that_hangs_is_late_and_not_waited_for(live: LiveDeployment) -> None:
    spec = await job(live, rounds=2, deadlines=live_deadlines(keying_seconds=6.0))
    await live.reached(spec, Phase.OPEN)
    live.services[SOUTH].freeze()
    first = await live.published(spec, CLIENTS)
    assert others_are_well(first, SOUTH)
    # Whether it is slow or away cannot be known yet: the sum was open long before its time was over.
    (published,) = logged(live, spec, "round-published")
    assert published["not_waited_for"] == SOUTH
    second = await live.published(spec, CLIENTS, after=1)
    assert second.plan is not None
    assert SOUTH not in second.plan.ckks.group.holders
    assert verdicts(second)[SOUTH] is UNREACHABLE


async def test_a_holder_that_is_looked_for_in_the_wrong_place(live: LiveDeployment) -> None:
    right = live.addresses[WEST]
    try:
        # Somebody listens there, with a certificate of the CA, and it is not west.
        live.addresses[WEST] = live.addresses[EAST]
        live.coordinator_config()
        live.coordinator.end()
        live.start_services(["coordinator"])
        status = await live.published(await job(live), CLIENTS)
    finally:
        live.addresses[WEST] = right
        live.coordinator_config()
        live.coordinator.end()
    assert verdicts(status)[WEST] is UNREACHABLE
    assert others_are_well(status, WEST)


@pytest.mark.parametrize(
    ("lie", "verdict", "words"),
    [
        ("wrong-residues", FAULTY, "not on the polynomial of the others"),
        ("above-prime", FAULTY, ""),
        ("too-short", FAULTY, "its answer ended after"),
        ("too-long", FAULTY, "its answer is longer than"),
        ("wrong-digest", FAULTY, "not the one that it signed"),
        ("other-request", FAULTY, "for another request"),
        ("broken-signature", FAULTY, "signature"),
        ("approves-another", FAULTY, "it approved another set of contributions"),
        ("refuses", SUSPECT, "it refused"),
        ("crashes", UNREACHABLE, ""),
    ],
)
async def test_one_holder_that_answers_wrongly(
    live: LiveDeployment, lie: str, verdict: HolderVerdict, words: str
) -> None:
    status = await published_with(live, lie, WEST)
    (named,) = [one for one in status.holders if one.holder == WEST]
    assert named.verdict is verdict, named
    assert words in named.reason
    assert others_are_well(status, WEST)


@pytest.mark.parametrize("lie", ["wrong-share", "wrong-smudging-part"])
async def test_a_liar_in_the_ceremony_is_named_and_left_out_of_the_next_attempt(live: LiveDeployment, lie: str) -> None:
    spec = await job(live, job=lying_job(lie, EAST))
    status = await live.published(spec, CLIENTS)
    assert verdicts(status)[EAST] is FAULTY
    assert others_are_well(status, EAST)
    assert status.plan is not None
    assert status.plan.ckks.group.holders == (NORTH, SOUTH, WEST, CENTRE)
    (failed,) = logged(live, spec, "ceremony failed")
    assert "east lied in the ceremony" in failed["reason"]


async def test_two_garbage_answers_publish_nothing(live: LiveDeployment) -> None:
    spec = await job(live, job=lying_job("wrong-residues", NORTH, EAST))
    await nothing_was_published(live, spec)
    status = await live.ended(spec)
    assert status.phase is Phase.ABORTED
    assert "do not belong together" in status.reason
    assert {verdicts(status)[holder] for holder in (NORTH, EAST)} <= {SUSPECT, FAULTY}
    (aborted,) = logged(live, spec, "round aborted")[:1]
    assert aborted["reason"] == status.reason


async def test_one_garbage_answer_without_a_witness_to_spare_is_only_suspected(live: LiveDeployment) -> None:
    spec = await job(live, job=lying_job("wrong-residues", NORTH))
    await live.reached(spec, Phase.OPEN)
    live.services[CENTRE].kill()
    await nothing_was_published(live, spec)
    status = await live.ended(spec)
    assert verdicts(status)[NORTH] is SUSPECT
    assert verdicts(status)[CENTRE] is UNREACHABLE


async def test_too_few_holders_to_approve_and_then_to_make_a_key(live: LiveDeployment) -> None:
    spec = await job(live, deadlines=live_deadlines(approving_seconds=6.0))
    await live.reached(spec, Phase.OPEN)
    for holder in (WEST, CENTRE):
        live.services[holder].kill()
    outcomes = await live.take_part(spec, CLIENTS)
    assert all(isinstance(outcome, RoundAbortedError) for outcome in outcomes.values()), outcomes
    status = await live.ended(spec)
    assert "west is unreachable" in status.reason
    assert "centre is unreachable" in status.reason
    assert "(have 3, need 4)" in status.reason
    again = await live.ended(spec, 2)
    assert "no key could be made" in again.reason
    assert "(have 3, need 4)" in again.reason
    assert {verdicts(again)[holder] for holder in (WEST, CENTRE)} == {UNREACHABLE}


async def test_too_few_answers(live: LiveDeployment) -> None:
    spec = await job(live, job=lying_job("refuses", NORTH, SOUTH, EAST))
    await asyncio.wait_for(nothing_was_published(live, spec), 30)
    status = await live.ended(spec)
    assert "too few key holders answered" in status.reason
    assert "(have 2, need 3)" in status.reason
    assert (verdicts(status)[NORTH], verdicts(status)[WEST]) == (SUSPECT, OK)
