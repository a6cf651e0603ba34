"""The job that a planner's question stands for."""

from __future__ import annotations

import pytest

from secagg.errors import PlanError
from secagg.masking.planner import quorum_of
from secagg.planning.question import Question, holder_names


def test_the_fewest_contributors_are_a_quorum_unless_they_are_said() -> None:
    assert Question(clients=100, values=5).least == quorum_of(100, 5)
    assert Question(clients=10, values=5, dropout=0.4, corrupt=0.4).least == 6, "no more than are left"
    said = Question(clients=100, values=5, min_contributors=95)
    assert (said.least, said.dropped) == (95, 5)


def test_the_job_is_the_question_at_full_weight() -> None:
    spec = Question(clients=20, values=7, clip=0.5, dtype="float64", uploading_seconds=33, name_bytes=4).masking_job(16)
    assert (spec.values, spec.max_clients, spec.clip, spec.max_weight) == (7, 20, 0.5, 1.0)
    assert spec.min_total_weight == spec.min_contributors
    assert (spec.deadlines.uploading_seconds, spec.tensors[0].dtype, len(spec.job)) == (33, "float64", 4)
    assert spec.masking.value_bits == 16


def test_a_ckks_job_bears_as_many_corrupt_holders_as_its_threshold() -> None:
    spec = Question(clients=4, values=7).ckks_job(holders=7, threshold=4, preset="ckks-4096", packing="real")
    assert (len(spec.ckks.holders), spec.ckks.threshold, spec.ckks.corrupt_holders) == (7, 4, 3)
    assert (spec.ckks.preset, spec.ckks.packing) == ("ckks-4096", "real")
    assert len(set(holder_names(9, 12))) == 9


@pytest.mark.parametrize("holders", range(3, 10))
def test_every_group_of_key_holders_can_be_planned(holders: int) -> None:
    for threshold in range(2, holders + 1):
        group = Question(clients=4, values=7).ckks_job(holders=holders, threshold=threshold).ckks
        assert group.group(group.holders).threshold == threshold


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clients": 1}, "clients is 1"),
        ({"values": 0}, "values is 0"),
        ({"dtype": "int8"}, "dtype 'int8'"),
        ({"name_bytes": 64}, "name_bytes is 64"),
        ({"precision": 0.0}, "precision is 0.0"),
        ({"uplink_mbit": -1.0}, "uplink_mbit is -1.0"),
        ({"uploading_seconds": float("inf")}, "uploading_seconds is inf"),
    ],
)
def test_what_cannot_be_asked_names_its_number(changes: dict[str, object], named: str) -> None:
    with pytest.raises(PlanError, match=named):
        Question(**{"clients": 5, "values": 5, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("holders", "threshold"), [(2, 2), (10, 3), (5, 1), (5, 6)])
def test_key_holders_out_of_range_are_named(holders: int, threshold: int) -> None:
    with pytest.raises(PlanError, match="holders"):
        Question(clients=5, values=5).ckks_job(holders=holders, threshold=threshold)


def test_a_precision_that_is_not_reached_names_what_to_change() -> None:
    question = Question(clients=100, values=1_000_000, precision=1e-6)
    with pytest.raises(PlanError, match="ckks-8192"):
        question.ckks_job()
    assert question.ckks_job(preset="ckks-8192").values == 1_000_000
    with pytest.raises(PlanError, match="raise value_bits"):
        question.masking_job()
    assert question.masking_job(value_bits=25).masking.value_bits == 25
