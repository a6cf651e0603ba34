"""Jobs as people write them down."""

from pathlib import Path

import pytest

from he.parameters import PACKINGS
from secagg.errors import ConfigError, PlanError, UsageError
from secagg.job_file import job_of_values, load_job, parse_tensor
from secagg.plan import TensorSpec

SAMPLE = Path(__file__).resolve().parents[3] / "docs" / "samples" / "job.toml"
VALUES: dict[str, object] = {
    "job": "mnist",
    "purpose": "a test",
    "tensors": [{"name": "w", "shape": [3], "dtype": "float32"}],
    "min_contributors": 3,
    "max_clients": 10,
    "ckks": {"holders": ["north", "south", "east", "west", "centre"]},
}


def test_what_is_left_out_is_as_the_plan_has_it() -> None:
    spec = job_of_values(VALUES)
    assert (spec.ckks.threshold, spec.ckks.preset, spec.clip, spec.rounds) == (3, "ckks-4096", 1.0, 1)
    assert spec.deadlines.keying_seconds == 60.0


def test_a_packing_is_chosen_by_its_name() -> None:
    arm = {"holders": ["north", "south", "east", "west", "centre"]}
    assert job_of_values(VALUES).ckks.packing == "coefficients"
    for packing in PACKINGS:
        assert job_of_values({**VALUES, "ckks": arm | {"packing": packing}}).ckks.packing == packing
    with pytest.raises(PlanError, match="packing 'dense': choose one of coefficients, complex, real"):
        job_of_values({**VALUES, "ckks": arm | {"packing": "dense"}})


def test_a_number_that_cannot_work_is_named() -> None:
    with pytest.raises(PlanError, match="min_contributors"):
        job_of_values({**VALUES, "min_contributors": 1})


@pytest.mark.parametrize(
    ("change", "named"),
    [({"job": "Not A Name"}, "job"), ({"clip": "hunter2"}, "clip"), ({"ckks": {"holder": []}}, "ckks")],
)
def test_a_value_that_does_not_fit_is_named_and_not_shown(change: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        job_of_values({**VALUES, **change})
    assert "hunter2" not in str(caught.value)


def test_a_file_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(SAMPLE.read_text().replace("max_clients", "most_clients"))
    with pytest.raises(ConfigError, match=r"job\.toml"):
        load_job(path)


def test_a_typing_error_inside_a_list_is_named_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(SAMPLE.read_text().replace("dtype", "type"))
    with pytest.raises(ConfigError, match=r"tensors\.0\.type is not a setting\. Remove it\."):
        load_job(path)


@pytest.mark.parametrize(
    ("text", "shape", "dtype"),
    [("w:64x32:float64", (64, 32), "float64"), ("w:5", (5,), "float32"), ("w::float16", (), "float16")],
)
def test_a_tensor_on_a_command_line(text: str, shape: tuple[int, ...], dtype: str) -> None:
    assert parse_tensor(text) == TensorSpec(name="w", shape=shape, dtype=dtype)


@pytest.mark.parametrize("text", ["w", "w:3:float32:x", "w:3,4:float32", "w:-1:float32", "w:axb"])
def test_what_is_no_tensor_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"layer\.weight:64x32:float32"):
        parse_tensor(text)


@pytest.mark.parametrize("text", ["w:0:float32", "w:3:int8", ":3:float32"])
def test_what_no_plan_could_hold_is_refused(text: str) -> None:
    with pytest.raises(PlanError):
        parse_tensor(text)
