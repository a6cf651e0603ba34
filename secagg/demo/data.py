"""The handwritten digits that ship inside scikit-learn, split unevenly and non-identically among clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secagg.errors import UsageError

TEST_SHARE = 0.2
LABEL_CONCENTRATION = 0.5
"""Dirichlet concentration of each client's digits: small means that a client sees few kinds."""
MIN_EXAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class Examples:
    """``pixels``: (examples, 64) float64 in [0, 1]; ``digits``: (examples,) int64 in 0..9."""

    pixels: NDArray[np.float64]
    digits: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.digits)


def load_digits(generator: np.random.Generator) -> tuple[Examples, Examples]:
    """Return the 1,797 scans as (training, test), shuffled."""
    try:
        from sklearn import datasets  # noqa: PLC0415 - only the demo extra brings it
    except ImportError as error:
        raise UsageError("the demo needs scikit-learn", next_step="Install it: pip install 'sumveil[demo]'") from error
    bunch = datasets.load_digits()
    order = generator.permutation(len(bunch.target))
    pixels = np.asarray(bunch.data, dtype=np.float64)[order] / 16.0
    digits = np.asarray(bunch.target, dtype=np.int64)[order]
    tests = int(len(digits) * TEST_SHARE)
    return (
        Examples(pixels=pixels[tests:], digits=digits[tests:]),
        Examples(pixels=pixels[:tests], digits=digits[:tests]),
    )


def split(examples: Examples, clients: int, generator: np.random.Generator) -> list[Examples]:
    """Split examples among clients: sizes and digits differ from client to client (Dirichlet), nobody gets fewer than 10."""
    shares = np.stack([generator.dirichlet([LABEL_CONCENTRATION] * clients) for _ in range(10)])
    owners = np.empty(len(examples), dtype=np.int64)
    for digit in range(10):
        members = np.flatnonzero(examples.digits == digit)
        owners[members] = generator.choice(clients, size=len(members), p=shares[digit])
    _level(owners, clients, generator)
    return [Examples(pixels=examples.pixels[owners == i], digits=examples.digits[owners == i]) for i in range(clients)]


def _level(owners: NDArray[np.int64], clients: int, generator: np.random.Generator) -> None:
    for client in range(clients):
        missing = MIN_EXAMPLES - int(np.sum(owners == client))
        if missing > 0:
            richest = int(np.argmax(np.bincount(owners, minlength=clients)))
            taken = generator.choice(np.flatnonzero(owners == richest), size=missing, replace=False)
            owners[taken] = client
