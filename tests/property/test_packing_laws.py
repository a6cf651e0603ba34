"""Packing and unpacking any update."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from he.packing import DTYPES, Layout, pack, unpack_mean

tensors = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.integers(-100, 100)
        if dtype.startswith("int")
        else st.floats(-100, 100, width=int(dtype.removeprefix("float"))),  # type: ignore[arg-type]
    )
)
updates = st.dictionaries(st.text(max_size=8), tensors, min_size=1, max_size=4).filter(
    lambda update: any(tensor.size for tensor in update.values())
)


@given(updates, st.floats(0.01, 1e6))
def test_one_client_gets_its_own_update_back(update: dict[str, np.ndarray], weight: float) -> None:
    layout = Layout.of(update)
    vector, clipped = pack(update, weight, layout=layout, clip=128.0, max_weight=1e6)
    mean, total_weight = unpack_mean(vector, layout, 128.0, 1e6)
    assert clipped == 0
    assert np.isclose(total_weight, weight)
    assert mean.keys() == update.keys()
    for name, tensor in update.items():
        assert mean[name].dtype == tensor.dtype
        assert mean[name].shape == tensor.shape
        assert np.allclose(mean[name], tensor, atol=1e-6)


@given(updates, st.floats(0.1, 50))
def test_no_entry_leaves_the_clip_bound(update: dict[str, np.ndarray], clip: float) -> None:
    layout = Layout.of(update)
    vector, clipped = pack(update, 1.0, layout=layout, clip=clip, max_weight=1.0)
    assert np.abs(vector).max() <= clip
    beyond = sum(np.count_nonzero(np.abs(tensor.astype(float)) > clip) for tensor in update.values())
    assert clipped == beyond
