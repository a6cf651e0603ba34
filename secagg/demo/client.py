"""One training client of the demo, as a process of its own: ``python -m secagg.demo.client SETTINGS.json``.

Prints one JSON line for each round that it took part in; the model stays in this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from secagg.client import AsyncClient, Progress, RoundResult
from secagg.demo import model
from secagg.demo.data import Examples
from secagg.errors import RoundAbortedError
from secagg.messages.round import Phase

MAX_ABORTED_ROUNDS = 5


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


async def run(settings: ClientSettings) -> None:
    """Train, take part and apply the mean, round after round."""
    weights, examples = load_model(settings.model), load_examples(settings.examples)
    after = settings.after_round
    async with AsyncClient.from_config(settings.config) as client:
        for index in range(settings.first_round, settings.rounds):
            generator = model.local_generator(settings.seed, settings.number, index)
            update = model.train(weights, examples, generator)
            result = await _participate(client, settings, update, len(examples), after, index)
            weights = model.apply(weights, {name: mean.astype(np.float32) for name, mean in result.mean.items()})
            after = result.round
            path = settings.results / f"client-{settings.number}-{index}.npz"
            save_model(path, weights)
            _tell(index=index, round=result.round, contributors=list(result.contributors), model=str(path))


async def _participate(
    client: AsyncClient, settings: ClientSettings, update: model.Weights, examples: int, after: int, index: int
) -> RoundResult:
    progress = _vanish if settings.vanish_in == index else None
    for _ in range(MAX_ABORTED_ROUNDS):
        try:
            return await client.participate(settings.job, update, examples, after_round=after, progress=progress)
        except RoundAbortedError as error:
            # Nothing was published, so this caller decides to take part in the next round with the same update.
            after += 1
            _tell(index=index, aborted=str(error))
    raise RoundAbortedError(f"{MAX_ABORTED_ROUNDS} rounds in a row were aborted")


def _vanish(progress: Progress) -> None:
    """End this process at once when the roster is frozen: a crash, as the coordinator sees it."""
    if progress.phase is Phase.UPLOADING:
        os.kill(os.getpid(), signal.SIGKILL)


def _tell(**line: object) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 - the demo reads it


if __name__ == "__main__":
    asyncio.run(run(ClientSettings.model_validate_json(Path(sys.argv[1]).read_text())))
