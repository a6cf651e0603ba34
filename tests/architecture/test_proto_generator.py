"""The checked-in stubs are the generator's own, and the check would notice if they were not."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
syntax = "proto3";
package secagg.wire.v1;
message Ping { bytes body = 1; }
service Pings { rpc Send(Ping) returns (Ping); }
"""
MESSAGE_ONLY = """
syntax = "proto3";
package secagg.wire.v1;
message Pong { uint32 number = 1; }
"""
WIRE = Path("secagg/wire/v1")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_proto", ROOT / "tools" / "generate_proto.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return _load()


@pytest.fixture
def tree(tmp_path: Path, generator: ModuleType) -> Path:
    folder = tmp_path / "proto" / WIRE
    folder.mkdir(parents=True)
    (folder / "ping.proto").write_text(SOURCE)
    (folder / "pong.proto").write_text(MESSAGE_ONLY)
    assert generator.main(["--root", str(tmp_path)]) == 0
    return tmp_path


def test_the_stubs_in_the_tree_are_up_to_date(generator: ModuleType) -> None:
    assert generator.main(["--check"]) == 0


def test_generating_twice_gives_the_same_bytes(generator: ModuleType, tree: Path) -> None:
    assert generator.main(["--root", str(tree), "--check"]) == 0


def test_a_source_without_a_service_gets_no_grpc_stub(tree: Path) -> None:
    names = {path.name for path in (tree / WIRE).iterdir()}
    pings = {"ping_pb2.py", "ping_pb2.pyi", "ping_pb2_grpc.py", "ping_pb2_grpc.pyi"}
    assert names == {"__init__.py", *pings, "pong_pb2.py", "pong_pb2.pyi"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("ping_pb2.py", "edited by hand", "out of date"),
        ("pong_pb2.pyi", None, "missing"),
        ("gone_pb2.py", "", "stale"),
    ],
)
def test_a_difference_is_named_and_then_repaired(
    generator: ModuleType,
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str | None,
    reason: str,
) -> None:
    path = tree / WIRE / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    assert generator.main(["--root", str(tree), "--check"]) == 1
    assert f"{WIRE / name}: {reason}" in capsys.readouterr().err
    assert generator.main(["--root", str(tree)]) == 0
    assert generator.main(["--root", str(tree), "--check"]) == 0


def test_sources_that_do_not_compile_fail(generator: ModuleType, tree: Path) -> None:
    (tree / "proto" / WIRE / "ping.proto").write_text("message")
    assert generator.main(["--root", str(tree), "--check"]) == 1


def test_a_tree_without_sources_fails(generator: ModuleType, tmp_path: Path) -> None:
    assert generator.main(["--root", str(tmp_path), "--check"]) == 1
