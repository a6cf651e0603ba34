"""The masking arm of jobs and rounds: what a plan proves, what its digests cover, what a policy refuses."""

from dataclasses import replace

import pytest

from secagg import transcript
from secagg.errors import PlanError, PolicyError
from secagg.identity import Party, Role, SignedMessage
from secagg.ids import ClientId, Digest, HolderId, JobId, KeyId, RoundNumber
from secagg.messages.masking import MaskingJoin, MaskingRoster
from secagg.messages.signed import Authenticated
from secagg.plan import CkksJob, CkksRound, Deadlines, JobSpec, MaskingJob, MaskingRound, RoundPlan, TensorSpec
from secagg.policy import ClientPolicy

NONCE = bytes(range(32))
D = [Digest(bytes([i]) * 32) for i in range(10)]


def a_job(**changes: object) -> JobSpec:
    fields: dict[str, object] = {
        "job": JobId("digits"),
        "tensors": (TensorSpec(name="weight", shape=(20, 10), dtype="float32"),),
        "protocol": MaskingJob(),
        "min_contributors": 5,
        "max_clients": 20,
        "min_total_weight": 5.0,
        "purpose": "a test",
    }
    return JobSpec(**(fields | changes))  # type: ignore[arg-type]


def a_plan(spec: JobSpec | None = None, nonce: bytes = NONCE) -> RoundPlan:
    return RoundPlan(spec=spec or a_job(), round=RoundNumber(1), protocol=MaskingRound(nonce=nonce))


def a_roster(**changes: object) -> MaskingRoster:
    joins = tuple(
        Authenticated(
            message=MaskingJoin(
                plan_digest=D[0], client=ClientId(name), mask_key=D[i], share_key=D[i + 1], seed_commitment=D[i + 2]
            ),
            party=Party(role=Role.CLIENT, name=name),
            signed=SignedMessage(payload=b"", signature=b"", certificate=b""),
        )
        for i, name in enumerate(("alice", "bob", "carol"), 1)
    )
    fields: dict[str, object] = {"plan_digest": D[0], "joins": joins, "neighbours": 2, "threshold": 2, "quorum": 2}
    return MaskingRoster(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"protocol": MaskingJob(value_bits=29)}, "value_bits"),
        ({"protocol": MaskingJob(value_bits=10)}, "precision"),
        ({"protocol": MaskingJob(corrupt_fraction=0.2)}, "min_contributors"),
        ({"protocol": MaskingJob(dropout_fraction=0.49)}, "dropout_fraction"),
        ({"min_total_weight": 0.01}, "min_total_weight"),
        ({"min_contributors": 2}, "min_contributors"),
        ({"min_total_weight": 1e-320, "max_weight": 1e20}, "min_total_weight"),
    ],
)
def test_a_job_that_cannot_work_names_the_number(change: dict[str, object], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        a_job(**change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"value_bits": 0}, "value_bits"),
        ({"value_bits": 32}, "value_bits"),
        ({"precision": 0.0}, "precision"),
        ({"corrupt_fraction": 0.5}, "corrupt_fraction"),
        ({"corrupt_fraction": -0.1}, "corrupt_fraction"),
        ({"dropout_fraction": float("nan")}, "dropout_fraction"),
    ],
)
def test_an_arm_out_of_range_names_the_number(change: dict[str, object], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        MaskingJob(**change)  # type: ignore[arg-type]


def test_the_error_bound_is_the_plans_and_stays_within_its_precision() -> None:
    spec = a_job()
    bound = spec.masking_parameters.mean_error(spec.min_total_weight / spec.max_weight)
    assert 0 < bound / spec.clip <= spec.masking.precision
    with pytest.raises(PlanError, match="precision"):
        a_job(protocol=MaskingJob(precision=bound / spec.clip * 0.99))
    assert a_job(protocol=MaskingJob(precision=bound / spec.clip * 1.01)).masking.precision > bound / spec.clip


def test_every_value_and_the_weight_are_masked_in_four_bytes_or_fewer() -> None:
    parameters = a_job().masking_parameters
    assert parameters.values == 201
    assert parameters.max_clients * parameters.levels < 2**parameters.sum_bits <= 2**32
    assert parameters.bytes_per_value <= 4


def test_an_arm_of_another_protocol_is_not_there() -> None:
    holders = tuple(HolderId(f"holder-{i}") for i in range(5))
    ckks = a_job(protocol=CkksJob(holders=holders))
    with pytest.raises(PlanError, match="runs masking, not ckks"):
        _ = a_job().ckks
    with pytest.raises(PlanError, match="runs ckks, not masking"):
        _ = ckks.masking
    with pytest.raises(PlanError, match="runs masking, not ckks"):
        _ = a_plan().parameters
    with pytest.raises(PlanError, match="its job does not"):
        a_plan(ckks)
    group = ckks.ckks.group(holders)
    with pytest.raises(PlanError, match="not ckks"):
        RoundPlan(spec=a_job(), round=RoundNumber(1), protocol=CkksRound(key_id=KeyId(bytes(32)), group=group))
    with pytest.raises(PlanError, match="32 bytes"):
        MaskingRound(nonce=b"short")


def test_a_plans_digest_covers_the_arm_and_the_nonce() -> None:
    digests = {
        a_plan(a_job(protocol=protocol)).digest
        for protocol in (
            MaskingJob(),
            MaskingJob(value_bits=21),
            MaskingJob(precision=2e-4),
            MaskingJob(corrupt_fraction=0.06),
            MaskingJob(dropout_fraction=0.11),
        )
    }
    digests |= {a_plan(nonce=bytes(32)).digest, replace(a_plan(), round=RoundNumber(2)).digest}
    digests |= {
        a_plan(a_job(deadlines=Deadlines(**{f"{phase}_seconds": 7.0}))).digest
        for phase in ("sharing", "confirming", "unmasking")
    }
    assert len(digests) == 10


def test_the_life_of_a_round_is_the_sum_of_its_own_phases() -> None:
    deadlines = Deadlines(
        keying_seconds=1000,
        open_seconds=1,
        sharing_seconds=2,
        uploading_seconds=4,
        confirming_seconds=8,
        unmasking_seconds=16,
        approving_seconds=1000,
        decrypting_seconds=1000,
    )
    assert a_job(deadlines=deadlines).longest_seconds == 31


def test_a_roster_digest_covers_every_key_and_number() -> None:
    first, *others = a_roster().joins
    changed = [replace(first.message, **{name: D[9]}) for name in ("mask_key", "share_key", "seed_commitment")]
    rosters = [a_roster(), *(a_roster(**{name: 3}) for name in ("neighbours", "threshold", "quorum"))]
    rosters += [a_roster(joins=(replace(first, message=one), *others)) for one in changed]
    rosters += [a_roster(joins=tuple(others)), a_roster(plan_digest=D[1])]
    assert len({transcript.masking_roster_digest(one) for one in rosters}) == len(rosters)
    shuffled = a_roster(joins=(*others, first))
    assert transcript.masking_roster_digest(shuffled) == transcript.masking_roster_digest(a_roster())


def test_a_set_of_survivors_is_bound_to_its_sharers_and_they_to_the_roster() -> None:
    alice, bob = ClientId("alice"), ClientId("bob")
    sharers = {transcript.sharers_digest(roster, names) for roster in D[:2] for names in ((alice, bob), (alice,))}
    survivors = {transcript.survivors_digest(one, names) for one in sharers for names in ((alice, bob), (alice,))}
    assert (len(sharers), len(survivors)) == (4, 8)
    assert not sharers & survivors
    assert transcript.sharers_digest(D[0], (bob, alice)) == transcript.sharers_digest(D[0], (alice, bob))


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"protocols": frozenset({"ckks"})}, "protocol 'masking'"),
        ({"min_contributors": 6}, "contributors"),
        ({"max_clip": 0.5}, "clip"),
        ({"min_corrupt_fraction": 0.06}, "corrupt"),
    ],
)
def test_a_client_refuses_what_is_weaker_and_says_what(policy: dict[str, object], named: str) -> None:
    ClientPolicy().check(a_plan())
    with pytest.raises(PolicyError, match=named):
        ClientPolicy(**policy).check(a_plan())  # type: ignore[arg-type]


def test_a_client_that_names_no_key_holders_takes_part_in_no_ckks_round() -> None:
    holders = tuple(HolderId(f"holder-{i}") for i in range(5))
    spec = a_job(protocol=CkksJob(holders=holders))
    round = CkksRound(key_id=KeyId(bytes(32)), group=spec.ckks.group(holders))
    with pytest.raises(PolicyError, match="does not trust"):
        ClientPolicy().check(RoundPlan(spec=spec, round=RoundNumber(1), protocol=round))


@pytest.mark.parametrize("fraction", [-0.1, 0.5, 2.0, float("nan")])
def test_a_policy_that_no_plan_could_meet_is_refused_when_it_is_made(fraction: float) -> None:
    with pytest.raises(PolicyError, match="min_corrupt_fraction"):
        ClientPolicy(min_corrupt_fraction=fraction)
