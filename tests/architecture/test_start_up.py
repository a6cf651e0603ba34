"""What a program waits for when it starts: the SDK loads what a client's first line needs, and its rounds nothing of a server's.

Held by what is loaded and not by a clock: a test of seconds fails on a busy machine, and passes on a quick one.
"""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

SDK = "secagg.client"
ROUNDS = "secagg.client.rounds"
# By prefix: a module stands for all that is beneath it.
SERVERS = (
    "alembic",
    "attr",
    "coordinator",
    "grpc_health.v1",
    "grpc_reflection.v1alpha",
    "importlib.metadata",
    "prometheus_client",
    "pydantic",
    "pygments",
    "rich",
    "scipy",
    "secagg.access",
    "secagg.config",
    "secagg.logs",
    "secagg.rpc_refusals",
    "secagg.transport",
    "sqlalchemy",
    "structlog",
    "tenseal",
    "typer",
)
LATER = (ROUNDS, "google.protobuf", "he.encrypt", "secagg.client.participation", "secagg.codec", "secagg.roles")
"""What the SDK loads with its first round."""


@cache
def loaded_by(module: str) -> frozenset[str]:
    """Return the names of all modules that a fresh interpreter has when it has imported this one."""
    code = f"import json, sys\nimport {module}\nprint(json.dumps(sorted(sys.modules)))"
    # Coverage loads what it needs itself.
    alone = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=alone)
    return frozenset(json.loads(done.stdout))


def _beneath(modules: frozenset[str], name: str) -> set[str]:
    return {module for module in modules if module == name or module.startswith(f"{name}.")}


@pytest.mark.parametrize("name", [*SERVERS, *LATER])
def test_importing_the_sdk_loads_nothing_that_its_first_line_does_not_need(name: str) -> None:
    assert not _beneath(loaded_by(SDK), name)


@pytest.mark.parametrize("name", SERVERS)
def test_a_round_of_a_client_loads_nothing_of_a_server(name: str) -> None:
    assert not _beneath(loaded_by(ROUNDS), name)


def test_the_sdk_and_its_rounds_are_the_whole_ones() -> None:
    # The tests above pass on an interpreter that loads nothing.
    assert {"secagg.client.blocking", "secagg.channels", "secagg.policy"} <= loaded_by(SDK)
    for name in LATER:
        # A module that was renamed would be forbidden in vain.
        assert _beneath(loaded_by(ROUNDS), name), name


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("secagg.client.config", "pydantic"),
        ("secagg.rpc_refusals", "structlog"),
        ("secagg.transport", "secagg.access"),
        ("secagg.logs", "rich"),
    ],
)
def test_what_is_left_out_is_heavy_where_it_is_used(module: str, name: str) -> None:
    """The names of the list above are those that Python knows."""
    assert _beneath(loaded_by(module), name)


def test_a_command_that_does_not_fail_draws_nothing() -> None:
    # Typer loads rich for its help and for nothing else.
    assert not _beneath(loaded_by("secagg.cli.key_holder"), "rich")
    assert not _beneath(loaded_by("secagg.cli.main"), "importlib.metadata")
