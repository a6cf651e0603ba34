"""What the demo hands to its client processes, and they to it: settings, examples and models, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from secagg.demo import model
from secagg.demo.data import Examples


class ClientSettings(BaseModel):
    """What the demo tells one of its clients."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: str
    number: int
    seed: int
    config: Path
    examples: Path
    model: Path
    results: Path
    first_round: int
    rounds: int
    after_round: int
    clip: float
    vanish_in: int | None = None


def load_model(path: Path) -> model.Weights:
    """Read a model that :func:`save_model` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def save_model(path: Path, weights: model.Weights) -> None:
    """Write a model; a reader never sees half of it."""
    partial = path.with_suffix(".part.npz")
    np.savez(partial, **weights)  # type: ignore[arg-type]  # its stub takes a name for allow_pickle
    partial.replace(path)


def load_examples(path: Path) -> Examples:
    """Read one client's share of the data."""
    with np.load(path, allow_pickle=False) as stored:
        return Examples(pixels=stored["pixels"], digits=stored["digits"])
