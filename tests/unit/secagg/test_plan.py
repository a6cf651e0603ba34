from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import codec
from secagg.errors import PlanError
from secagg.ids import HolderId, JobId, KeyId, RoundNumber
from secagg.plan import (
    CeremonyPlan,
    CkksJob,
    CkksRound,
    Deadlines,
    HolderGroup,
    JobSpec,
    RoundPlan,
    TensorSpec,
    quorum_for,
)

HOLDERS = tuple(HolderId(f"holder-{i}") for i in range(1, 6))
KEY_ID = KeyId(bytes(32))


def a_job(**changes: object) -> JobSpec:
    fields: dict[str, object] = {
        "job": JobId("digits"),
        "tensors": (TensorSpec(name="weight", shape=(20, 10), dtype="float32"),),
        "protocol": CkksJob(holders=HOLDERS),
        "min_contributors": 3,
        "max_clients": 10,
        "purpose": "a test",
    }
    return JobSpec(**(fields | changes))  # type: ignore[arg-type]


def a_round(spec: JobSpec | None = None, **changes: object) -> RoundPlan:
    spec = spec or a_job()
    group = spec.ckks.group(spec.ckks.holders)
    fields: dict[str, object] = {
        "spec": spec,
        "round": RoundNumber(1),
        "protocol": CkksRound(key_id=KEY_ID, group=group),
    }
    return RoundPlan(**(fields | changes))  # type: ignore[arg-type]


def test_any_two_quorums_share_an_honest_holder() -> None:
    for holders in range(3, 10):
        for corrupt in range(holders):
            quorum = quorum_for(holders, corrupt)
            assert 2 * quorum > holders + corrupt, "two quorums overlap in more than the corrupt"
            assert 2 * (quorum - 1) <= holders + corrupt, "and no smaller number does"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_contributors": 1}, "min_contributors"),
        ({"min_contributors": 11}, "max_clients"),
        ({"max_clients": 1_501}, "max_clients"),
        ({"clip": 0.0}, "clip"),
        ({"clip": float("nan")}, "clip"),
        ({"max_weight": float("inf")}, "max_weight"),
        ({"min_total_weight": -1.0}, "min_total_weight"),
        ({"min_total_weight": 10.5}, "min_total_weight"),
        ({"purpose": ""}, "purpose"),
        ({"job": "Not a name"}, "job"),
        ({"job": "../etc"}, "job"),
        ({"rounds": -1}, "rounds"),
        ({"tensors": ()}, "tensors"),
        ({"tensors": (TensorSpec(name="a", shape=(2,), dtype="float32"),) * 2}, "twice"),
        ({"tensors": (TensorSpec(name="a", shape=(100_000_001,), dtype="float32"),)}, "values"),
    ],
)
def test_a_job_that_cannot_work_names_the_number(change: dict[str, object], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        a_job(**change)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_holders": 6}, "min_holders"),
        ({"min_holders": 2}, "key holders"),
        ({"threshold": 6}, "threshold"),
        ({"threshold": 1, "corrupt_holders": 0}, "threshold"),
        ({"corrupt_holders": 3}, "corrupt_holders"),
        ({"corrupt_holders": -1}, "corrupt_holders"),
        ({"packing": "dense"}, "coefficients, complex, real"),
        ({"security_bits": 20}, "security_bits"),
        ({"precision": 0.0}, "precision"),
        ({"holders": (HOLDERS[0],) * 5}, "twice"),
        ({"holders": (HolderId("A B"), *HOLDERS[1:])}, "key holder"),
    ],
)
def test_a_key_group_that_cannot_work_names_the_number(change: dict[str, object], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        replace(CkksJob(holders=HOLDERS), **change)  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused_when_the_job_is_made() -> None:
    with pytest.raises(PlanError, match="ckks-4096"):
        a_job(protocol=CkksJob(holders=HOLDERS, preset="ckks-1"))


def test_a_precision_that_is_missed_says_so_and_names_the_larger_preset() -> None:
    with pytest.raises(PlanError, match="ckks-8192"):
        a_job(protocol=CkksJob(holders=HOLDERS, precision=1e-11))
    assert a_job(protocol=CkksJob(holders=HOLDERS, precision=1e-11, preset="ckks-8192")).values == 200
    with pytest.raises(PlanError, match="use packing 'coefficients', raise min_total_weight"):
        a_job(protocol=CkksJob(holders=HOLDERS, precision=1e-11, packing="real"))
    with pytest.raises(PlanError, match="raise min_total_weight") as refused:
        a_job(protocol=CkksJob(holders=HOLDERS, precision=1e-13, preset="ckks-8192"))
    assert "use preset" not in str(refused.value)


def test_a_value_in_each_coefficient_unless_the_job_says_slots() -> None:
    usual = a_job(tensors=(TensorSpec(name="w", shape=(10_000,), dtype="float32"),))
    assert usual.ckks.packing == "coefficients"
    slots = [replace(usual, protocol=CkksJob(holders=HOLDERS, packing=packing)) for packing in ("complex", "real")]
    assert [job.parameters(5).chunks for job in (usual, *slots)] == [3, 3, 5]


def test_security_bits_are_kept_in_coefficients_and_slots_say_that_they_hide_less() -> None:
    assert a_job().parameters(5).hidden_bits >= 40
    for packing in ("complex", "real"):
        assert 20 < a_job(protocol=CkksJob(holders=HOLDERS, packing=packing)).parameters(5).hidden_bits < 30
        a_job(protocol=CkksJob(holders=HOLDERS, packing=packing)).verify_new()
        # One that an older version made is still read, and nobody makes another.
        kept = a_job(protocol=CkksJob(holders=HOLDERS, preset="ckks-8192", packing=packing))
        assert codec.job_spec_from_bytes(codec.job_spec_to_bytes(kept)) == kept
        with pytest.raises(PlanError, match="coefficients"):
            kept.verify_new()


def test_the_precision_holds_for_the_smallest_total_weight() -> None:
    fits = a_job()
    error = fits.parameters(5).mean_error(fits.min_contributors, fits.min_total_weight) / fits.clip
    tight = CkksJob(holders=HOLDERS, precision=error * 1.01)
    assert a_job(protocol=tight, min_total_weight=1.0).protocol == tight
    with pytest.raises(PlanError, match="min_total_weight"):
        a_job(protocol=tight, min_total_weight=0.9)


@pytest.mark.parametrize(
    "bad", [{"dtype": "int32"}, {"dtype": ">f4"}, {"shape": (0,)}, {"shape": (-1, 3)}, {"name": ""}]
)
def test_a_tensor_that_is_no_float_array_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(PlanError, match="tensor"):
        TensorSpec(**({"name": "w", "shape": (2, 3), "dtype": "float32"} | bad))  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_every_phase_has_a_finite_deadline(seconds: float) -> None:
    with pytest.raises(PlanError, match="uploading_seconds"):
        Deadlines(uploading_seconds=seconds)


def test_a_group_gives_points_from_one() -> None:
    group = HolderGroup(holders=HOLDERS, threshold=3, corrupt_holders=2, quorum=4)
    assert [group.index(holder) for holder in HOLDERS] == [1, 2, 3, 4, 5]
    with pytest.raises(PlanError, match="stranger"):
        group.index(HolderId("stranger"))


@pytest.mark.parametrize("quorum", [3, 6])
def test_a_quorum_that_two_sets_could_reach_is_refused(quorum: int) -> None:
    with pytest.raises(PlanError, match="quorum"):
        HolderGroup(holders=HOLDERS, threshold=3, corrupt_holders=2, quorum=quorum)


def test_a_plan_takes_only_the_jobs_own_holders_and_numbers() -> None:
    spec = a_job()
    strangers = HolderGroup(
        holders=tuple(HolderId(f"other-{i}") for i in range(5)), threshold=3, corrupt_holders=2, quorum=4
    )
    weaker = HolderGroup(holders=HOLDERS, threshold=2, corrupt_holders=1, quorum=4)
    for group in (strangers, weaker):
        with pytest.raises(PlanError):
            CeremonyPlan(spec=spec, round=RoundNumber(1), attempt=1, group=group)
        with pytest.raises(PlanError):
            a_round(spec, protocol=CkksRound(key_id=KEY_ID, group=group))


def test_plans_count_from_one() -> None:
    spec = a_job()
    group = spec.ckks.group(HOLDERS)
    with pytest.raises(PlanError, match="round"):
        a_round(spec, round=RoundNumber(0))
    with pytest.raises(PlanError, match="round"):
        CeremonyPlan(spec=spec, round=RoundNumber(0), attempt=1, group=group)
    with pytest.raises(PlanError, match="attempt"):
        CeremonyPlan(spec=spec, round=RoundNumber(1), attempt=0, group=group)
    with pytest.raises(PlanError, match="key_id"):
        CkksRound(key_id=KeyId(b"short"), group=group)


VARIANTS: list[dict[str, object]] = [
    {},
    {"job": JobId("letters")},
    {"purpose": "another"},
    {"clip": 2.0},
    {"max_weight": 2.0},
    {"min_total_weight": 2.0},
    {"min_contributors": 4},
    {"max_clients": 11},
    {"rounds": 5},
    {"deadlines": Deadlines(open_seconds=5.0)},
    {"tensors": (TensorSpec(name="weight", shape=(10, 20), dtype="float32"),)},
    {"tensors": (TensorSpec(name="weight", shape=(20, 10), dtype="float64"),)},
    {"tensors": (TensorSpec(name="weights", shape=(20, 10), dtype="float32"),)},
    {"protocol": CkksJob(holders=HOLDERS, preset="ckks-8192")},
    {"protocol": CkksJob(holders=HOLDERS, packing="complex")},
    {"protocol": CkksJob(holders=HOLDERS, packing="real")},
    {"protocol": CkksJob(holders=HOLDERS, security_bits=41)},
    {"protocol": CkksJob(holders=HOLDERS, precision=1e-3)},
    {"protocol": CkksJob(holders=HOLDERS, min_holders=5)},
    {"protocol": CkksJob(holders=HOLDERS, corrupt_holders=1)},
    {"protocol": CkksJob(holders=HOLDERS[::-1])},
]


def test_every_number_of_a_plan_is_in_its_digest() -> None:
    digests = {a_round(a_job(**change)).digest for change in VARIANTS}
    digests |= {
        a_round(round=RoundNumber(2)).digest,
        a_round(protocol=CkksRound(key_id=KeyId(b"k" * 32), group=a_job().ckks.group(HOLDERS))).digest,
        a_round(protocol=CkksRound(key_id=KEY_ID, group=a_job().ckks.group(HOLDERS[:4]))).digest,
    }
    assert len(digests) == len(VARIANTS) + 3


@given(attempts=st.sets(st.integers(1, 1000), min_size=2, max_size=5))
def test_each_attempt_is_a_ceremony_of_its_own(attempts: set[int]) -> None:
    spec = a_job()
    group = spec.ckks.group(HOLDERS)
    digests = {
        CeremonyPlan(spec=spec, round=RoundNumber(1), attempt=attempt, group=group).digest for attempt in attempts
    }
    assert len(digests) == len(attempts)
    assert all(len(digest) == 32 for digest in digests)
