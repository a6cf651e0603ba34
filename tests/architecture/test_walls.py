"""The module wall is the trust wall: what the running processes have loaded, and what `secagg --help` has not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coordinator_process import coordinator_process

# By prefix: a module stands for all that is beneath it.
SECRETS = (
    "he.ceremony",
    "he.dealing",
    "he.drawing",
    "he.encrypt",
    "he.key_share",
    "he.keygen",
    "he.numpy_engine",
    "he.partial",
    "he.smudging",
    "he.tenseal_engine",
    "tenseal",
    "secagg.client",
    "secagg.key_holder",
    "secagg.masking.held_shares",
    "secagg.masking.sealing",
    "secagg.masking.secrets_of_client",
    "secagg.roles.client",
    "secagg.roles.key_holder",
)
ASSEMBLE = """
import asyncio, json, sys
from pathlib import Path
from coordinator.config import load_coordinator_settings
from coordinator.server import CoordinatorServer

async def main():
    server = CoordinatorServer(load_coordinator_settings(Path(sys.argv[1])))
    await server.start()
    await server.stop(0.0)

asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = (
    "tenseal",
    "numpy",
    "grpc",
    "sqlalchemy",
    "alembic",
    "cryptography",
    "coordinator",
    "pydantic",
    "google.protobuf",
)


def _loaded(code: str, *arguments: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def _beneath(modules: set[str], name: str) -> set[str]:
    return {module for module in modules if module == name or module.startswith(f"{name}.")}


@pytest.fixture(scope="module")
def coordinator_modules(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    config = coordinator_process(tmp_path_factory.mktemp("walls")).write_config()
    return _loaded(ASSEMBLE, str(config))


@pytest.mark.parametrize("name", SECRETS)
def test_a_running_coordinator_has_loaded_nothing_that_knows_secrets(coordinator_modules: set[str], name: str) -> None:
    assert not _beneath(coordinator_modules, name)


@pytest.mark.parametrize(
    "name",
    [
        "coordinator.rounds.engine",
        "coordinator.client_service",
        "coordinator.masking_service",
        "he.recover",
        "secagg.codec",
    ],
)
def test_the_running_coordinator_is_the_whole_one(coordinator_modules: set[str], name: str) -> None:
    # The test above passes on a process that loads nothing.
    assert name in coordinator_modules


@pytest.mark.parametrize("name", SECRETS)
def test_what_the_wall_names_exists(name: str) -> None:
    # A module that was renamed would be forbidden in vain.
    if name == "tenseal":
        return
    path = Path(__file__).resolve().parents[2].joinpath(*name.split("."))
    assert path.is_dir() or path.with_suffix(".py").is_file()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import json, sys\nsys.argv = ['secagg', '--help']\n"
        "from secagg.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\nprint(json.dumps(sorted(sys.modules)))"
    )
    modules = _loaded(code)
    assert "secagg.cli.main" in modules
    assert not {name for name in HEAVY if _beneath(modules, name)}


@pytest.mark.parametrize(
    "folder", ["secagg/masking", "secagg/roles/client/masking", "secagg/roles/coordinator/masking"]
)
def test_no_mask_comes_from_anything_but_a_cipher(folder: str) -> None:
    """A generator for simulations is no mask: 32 bits of seed, or a state that can be computed back (PEERS, Flower)."""
    root = Path(__file__).resolve().parents[2]
    texts = {path.name: path.read_text() for path in sorted((root / folder).glob("*.py"))}
    assert len(texts) > 3
    for word in (
        "np.random",
        "numpy.random",
        "import random",
        "from random",
        "default_rng",
        "Mersenne",
        "import secrets",
        "token_bytes",
        "os.urandom",
    ):
        assert [name for name, text in texts.items() if word in text] == [], word
