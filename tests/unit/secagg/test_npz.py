"""Updates from files, and means into files, whatever stands there."""

from pathlib import Path

import numpy as np
import pytest

from secagg.client.npz import check_writable, read_arrays, write_arrays
from secagg.errors import StorageError, UsageError

ARRAYS = {
    "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(1.5),
    "half": np.ones(3, dtype=np.float16),
    # numpy.savez keeps these names for itself.
    "file": np.zeros(2),
    "allow_pickle": np.zeros(1),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mean.npz"
    write_arrays(path, ARRAYS)
    back = read_arrays(path)
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_numpy_itself_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "mean.npz"
    write_arrays(path, ARRAYS)
    with np.load(path, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["layer.weight"], ARRAYS["layer.weight"])


@pytest.mark.parametrize("compressed", [True, False])
def test_what_numpy_writes_is_read(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "update.npz"
    (np.savez_compressed if compressed else np.savez)(path, w=ARRAYS["layer.weight"])
    np.testing.assert_array_equal(read_arrays(path)["w"], ARRAYS["layer.weight"])


def test_a_new_mean_takes_the_place_of_an_old_one_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "mean.npz"
    write_arrays(path, {"w": np.zeros(2)})
    write_arrays(path, {"w": np.ones(2)})
    assert read_arrays(path)["w"].tolist() == [1.0, 1.0]
    assert [file.name for file in tmp_path.iterdir()] == ["mean.npz"]


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("was-executed"),))  # type: ignore[return-value]


def test_an_array_of_python_objects_is_refused_and_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "update.npz"
    np.savez(path, w=np.array([_Bomb()], dtype=object))
    with pytest.raises(UsageError, match=r"no \.npz file of plain arrays"):
        read_arrays(path)
    assert not (tmp_path / "was-executed").exists()


def _damaged(path: Path, kind: str) -> None:
    write_arrays(path, {"w": np.arange(1000.0)})
    data = path.read_bytes()
    contents = {
        "empty": b"",
        "text": b"w = [1, 2]",
        "half": data[: len(data) // 2],
        "altered": data[:500] + bytes(200) + data[700:],
        "pickle": b"\x80\x04K\x01.",
    }
    path.write_bytes(contents[kind])


@pytest.mark.parametrize("kind", ["empty", "text", "half", "altered", "pickle"])
def test_a_file_that_is_damaged_or_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "update.npz"
    _damaged(path, kind)
    with pytest.raises(UsageError, match=r"update\.npz") as caught:
        read_arrays(path)
    assert caught.value.next_step


def test_one_array_without_a_name_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "update.npy", np.zeros(3))
    with pytest.raises(UsageError, match="without a name"):
        read_arrays(tmp_path / "update.npy")


def test_a_file_that_is_not_there_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_arrays(tmp_path / "nothing.npz")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_arrays(tmp_path)


def test_a_place_that_cannot_take_the_mean_is_named_at_once(tmp_path: Path) -> None:
    check_writable(tmp_path / "mean.npz")
    with pytest.raises(StorageError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(StorageError, match="is no directory"):
        check_writable(tmp_path / "missing" / "mean.npz")
