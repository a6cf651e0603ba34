"""The import contracts name every module that they are about, so that a new one is never outside by oversight."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Client secrets and key shares: what the coordinator's process must never load.
SECRET_MODULES = (
    "he.blame",
    "he.ceremony",
    "he.dealing",
    "he.drawing",
    "he.encrypt",
    "he.key_share",
    "he.keygen",
    "he.partial",
    "he.smudging",
    "he.tenseal_engine",
    "secagg.client",
    "secagg.key_holder",
    "secagg.roles.client",
    "secagg.roles.key_holder",
)
PURE_MODULES = (
    "secagg.masking",
    "secagg.messages",
    "secagg.plan",
    "secagg.policy",
    "secagg.roles",
    "secagg.transcript",
)


def _contract(name: str) -> dict[str, Any]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return {contract["id"]: contract for contract in contracts}[name]


def _existing(modules: tuple[str, ...]) -> set[str]:
    paths = {module: ROOT / module.replace(".", "/") for module in modules}
    return {
        module
        for module, path in paths.items()
        if (path / "__init__.py").is_file() or path.with_suffix(".py").is_file()
    }


def test_the_trust_wall_names_every_module_that_handles_secrets() -> None:
    assert _existing(SECRET_MODULES) <= set(_contract("trust-wall")["forbidden_modules"])


def test_everything_that_must_be_pure_is_under_the_contract() -> None:
    assert _existing(PURE_MODULES) <= set(_contract("roles-pure")["source_modules"])


@pytest.mark.parametrize("name", ["trust-wall", "he-pure"])
def test_no_import_is_excused(name: str) -> None:
    assert "ignore_imports" not in _contract(name)


def test_the_import_contracts_hold() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
