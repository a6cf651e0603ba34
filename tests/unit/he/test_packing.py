"""Updates and weights in, weighted means out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from he.errors import ImplausibleSumError, UpdateError
from he.packing import Layout, pack, unpack_mean, verify_update

UPDATE = {
    "layer.weight": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([0.25, -0.5]),
    "steps": np.array(1, dtype=np.int64),
    "empty": np.zeros((0, 4), dtype=np.float16),
}
LAYOUT = Layout.of(UPDATE)


def test_layout_is_in_order_of_names() -> None:
    assert LAYOUT.names == ("bias", "empty", "layer.weight", "steps")
    assert LAYOUT.shapes == ((2,), (0, 4), (2, 3), ())
    assert LAYOUT.dtypes == ("float64", "float16", "float32", "int64")
    assert (LAYOUT.entries, LAYOUT.values) == (9, 10)
    assert Layout.of(dict(reversed(UPDATE.items()))) == LAYOUT


def test_vector_holds_weighted_entries_and_the_weight() -> None:
    vector, clipped = pack(UPDATE, 30, layout=LAYOUT, clip=0.5, max_weight=60)
    assert vector.dtype == np.float64
    assert vector[:2].tolist() == [0.125, -0.25]
    assert vector[-1] == 0.25  # w * clip
    assert np.abs(vector).max() <= 0.5
    assert clipped == 5  # four of layer.weight, one of steps


def test_mean_of_a_sum_is_the_weighted_mean() -> None:
    generator = np.random.default_rng(0)
    updates = [{"a": generator.uniform(-1, 1, (3, 4)).astype(np.float32), "b": np.array([n])} for n in (-1, 0, 1)]
    weights = [5.0, 12.0, 100.0]
    layout = Layout.of(updates[0])
    total = sum(
        pack(update, weight, layout=layout, clip=2.0, max_weight=100.0)[0]
        for update, weight in zip(updates, weights, strict=True)
    )
    mean, weight = unpack_mean(np.asarray(total), layout, 2.0, 100.0)
    assert weight == pytest.approx(117)
    expected = sum(w * u["a"].astype(float) for u, w in zip(updates, weights, strict=True)) / 117
    assert mean["a"] == pytest.approx(expected, abs=1e-6)
    assert mean["a"].dtype == np.float32
    assert mean["a"].shape == (3, 4)
    assert mean["b"].dtype == np.int64
    assert mean["b"].tolist() == [1]  # 95 / 117, rounded


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_integer_means_stay_in_range(dtype: str) -> None:
    layout = Layout(names=("a",), shapes=((3,),), dtypes=(dtype,))
    limits = np.iinfo(dtype)
    mean, _ = unpack_mean(np.array([-1e30, 1e30, float(limits.min), 1.0]), layout, 1.0, 1.0)
    assert mean["a"][0] == mean["a"][2] == limits.min
    assert limits.max - 1023 <= mean["a"][1] <= limits.max


@pytest.mark.parametrize("weight", [0.0, -1.0, 61.0, float("nan"), float("inf")])
def test_weights_outside_the_plan_are_refused(weight: float) -> None:
    with pytest.raises(UpdateError, match="max_weight"):
        pack(UPDATE, weight, layout=LAYOUT, clip=1.0, max_weight=60.0)
    with pytest.raises(UpdateError, match="max_weight"):
        verify_update(UPDATE, weight, layout=LAYOUT, max_weight=1.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bias": np.zeros(3)}, "'bias' has shape"),
        ({"bias": np.zeros(2, dtype=np.float32)}, "'bias' is float32"),
        ({"bias": np.array([np.nan, 0.0])}, "'bias' holds NaN"),
        ({"bias": np.array([np.inf, 0.0])}, "'bias' holds NaN or infinity"),
        ({"bias": [0.0, 0.0]}, "'bias' is a list"),
        ({"extra": np.zeros(1)}, "extra"),
    ],
)
def test_updates_that_do_not_match_the_plan_name_the_tensor(change: dict[str, np.ndarray], named: str) -> None:
    with pytest.raises(UpdateError, match=named) as packing:
        pack(UPDATE | change, 1.0, layout=LAYOUT, clip=1.0, max_weight=1.0)
    with pytest.raises(UpdateError) as verifying:
        verify_update(UPDATE | change, 1.0, layout=LAYOUT, max_weight=1.0)
    assert str(verifying.value) == str(packing.value)


def test_large_tensors_are_packed_piece_by_piece() -> None:
    """Beyond the pieces in which entries are looked at: every one clipped, weighted and counted."""
    entries = np.random.default_rng(1).normal(size=(300, 331))
    update = {"a": entries.T, "b": entries.astype(np.float32)}  # the first is not C-contiguous
    vector, clipped = pack(update, 1.5, layout=Layout.of(update), clip=1.0, max_weight=2.0)
    expected = np.concatenate([entries.T.reshape(-1), entries.astype(np.float32).reshape(-1)])
    assert vector[:-1] == pytest.approx(np.clip(expected, -1, 1) * 0.75)
    assert clipped == np.count_nonzero(np.abs(expected) > 1)
    entries[299, 330] = np.nan
    last: dict[str, np.ndarray] = {"a": entries}
    with pytest.raises(UpdateError, match="'a' holds NaN"):
        pack(last, 1.0, layout=Layout.of(last), clip=1.0, max_weight=2.0)
    with pytest.raises(UpdateError, match="'a' holds NaN"):
        verify_update(last, 1.0, layout=Layout.of(last), max_weight=2.0)


def test_what_can_be_packed_is_verified_without_a_word() -> None:
    verify_update(UPDATE, 1.0, layout=LAYOUT, max_weight=1.0)


ENTRIES = np.linspace(-1, 1, 50, dtype=np.float32)
DAMAGED = np.append(ENTRIES[:-1], np.float32(np.nan))
NOT_FINITE = "tensor 'w' holds NaN or infinity: drop this update or repair the training step"


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(ENTRIES.astype(">f4"), id="big-endian"),
        pytest.param(np.repeat(ENTRIES, 2)[::2], id="strided"),
        pytest.param(DAMAGED[::-1], id="damaged, backwards"),
        pytest.param(np.broadcast_to(np.float32(np.nan), (50,)), id="damaged, one entry for all"),
        pytest.param(np.ma.masked_invalid(DAMAGED), id="damaged, where a mask hides it"),
        pytest.param(np.ma.masked_array(ENTRIES, mask=np.ones(50, dtype=bool)), id="all masked"),
    ],
)
def test_what_is_refused_without_packing_is_what_packing_refuses(tensor: np.ndarray) -> None:
    """Whatever kind of numpy array it is: a client checks with the one before it joins, and packs with the other."""
    layout = Layout.of({"w": ENTRIES})

    def packs() -> None:
        pack({"w": tensor}, 1.0, layout=layout, clip=1.0, max_weight=1.0)

    def verifies() -> None:
        verify_update({"w": tensor}, 1.0, layout=layout, max_weight=1.0)

    assert _refusal(verifies) == _refusal(packs) == ("" if np.isfinite(np.asarray(tensor)).all() else NOT_FINITE)


def _refusal(work: Callable[[], None]) -> str:
    try:
        work()
    except UpdateError as error:
        return str(error)
    return ""


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(UpdateError, match="bias"):
        pack({"steps": UPDATE["steps"]}, 1.0, layout=LAYOUT, clip=1.0, max_weight=1.0)


def test_packing_leaves_the_update_alone() -> None:
    kept = {name: tensor.copy() for name, tensor in UPDATE.items()}
    pack(UPDATE, 1.0, layout=LAYOUT, clip=0.1, max_weight=1.0)
    assert all(np.array_equal(kept[name], UPDATE[name]) for name in kept)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ("b", "a")},
        {"names": ("a", "a")},
        {"names": ("a",)},
        {"dtypes": ("float64", "complex128")},
        {"dtypes": ("float64", "bool")},
        {"shapes": ((5,), (-2,))},
        {"shapes": ((0,), (0,))},
    ],
)
def test_layouts_that_make_no_sense(change: dict[str, tuple[str, ...]]) -> None:
    sound = Layout(names=("a", "b"), shapes=((1,), (2,)), dtypes=("float64", "float32"))
    with pytest.raises(UpdateError):
        replace(sound, **change)  # type: ignore[arg-type]


def test_a_sum_of_another_length_is_refused() -> None:
    with pytest.raises(UpdateError):
        unpack_mean(np.zeros(9), LAYOUT, 1.0, 1.0)


@pytest.mark.parametrize("last", [0.0, -0.1, float("nan"), float("inf")])
def test_a_total_weight_that_is_none_is_implausible(last: float) -> None:
    with pytest.raises(ImplausibleSumError):
        unpack_mean(np.append(np.zeros(9), last), LAYOUT, 1.0, 1.0)


def test_a_mean_beyond_its_dtype_is_implausible() -> None:
    layout = Layout(names=("a",), shapes=((1,),), dtypes=("float16",))
    with pytest.raises(ImplausibleSumError):
        unpack_mean(np.array([1.0, 1e-9]), layout, 1.0, 1.0)
