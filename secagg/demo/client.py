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

from secagg.client import AsyncClient, Progress, RoundResult
from secagg.demo import model
from secagg.demo.handover import ClientSettings, load_examples, load_model, save_model
from secagg.errors import RoundAbortedError
from secagg.messages.round import Phase

MAX_ABORTED_ROUNDS = 5


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
            contributors = list(result.contributors)
            _tell(
                index=index,
                round=result.round,
                contributors=contributors,
                model=str(path),
                uploaded_bytes=result.uploaded_bytes,
            )


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
