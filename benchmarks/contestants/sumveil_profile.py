"""Our hot paths, each saying where its time goes and what its limits take, and gRPC as we use it over the loopback."""

import platform
from importlib import import_module
from importlib.metadata import version
from typing import Any

from benchmarks.stage import Prepare, Run, serve

PATHS = {
    "client encryption": ("lattice", "encryption"),
    "coordinator's addition": ("lattice", "addition"),
    "partial decryption": ("lattice", "partial_decryption"),
    "recovery": ("lattice", "recovery"),
    "masking client": ("masking", "client"),
    "unmasking": ("masking", "unmasking"),
}


def versions() -> dict[str, str]:
    packages = ("sumveil", "numpy", "cryptography", "grpcio", "tenseal")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def with_limits(module: str, path: str) -> Prepare:
    """Each path is a process that loads what it needs and no more."""

    def prepare(case: dict[str, Any]) -> Run:
        run: Run = getattr(import_module(f"benchmarks.profiled.{module}"), path)(case)
        limits = import_module(f"benchmarks.profiled.{module}_limits").LIMITS[path]
        both: Run = import_module("benchmarks.profiled.limits").beside(limits, run, case)
        return both

    return prepare


def loopback(case: dict[str, Any]) -> Run:
    run: Run = import_module("benchmarks.profiled.loopback").asynchronous(case)
    return run


if __name__ == "__main__":
    works: dict[str, Prepare] = {name: with_limits(*where) for name, where in PATHS.items()}
    serve(works | {"gRPC over the loopback": loopback}, versions)
