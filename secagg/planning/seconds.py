"""What a round takes of everybody's time: counts of work times what this machine takes for each (docs/protocol.md, section 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from he.ciphertext import half_chunk_bytes
from secagg.masking.planner import Numbers
from secagg.plan import JobSpec
from secagg.planning.calibration import Calibration, CkksRates, SharedRates
from secagg.planning.client_bytes import confirmations_shown, mean_bytes

BITS_PER_BYTE: Final = 8
MEGABIT: Final = 1e6
SUM_BYTES: Final = 8
"""Of one value of the opened sum: float64."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Seconds of computing, by what they are for, at each kind of party; no network, nobody waited for.

    ``key_holder`` is empty where there are none.
    """

    client: dict[str, float]
    coordinator: dict[str, float]
    key_holder: dict[str, float]


def transfer_seconds(sent_bytes: int, mbit: float) -> float:
    """Return how long bytes are under way at ``mbit`` megabits a second."""
    return sent_bytes * BITS_PER_BYTE / (mbit * MEGABIT)


def ckks_rates(spec: JobSpec, calibration: Calibration) -> CkksRates | None:
    """Return what was measured for the job's preset and packing; None where nothing was."""
    return calibration.ckks.get(f"{spec.ckks.preset} {spec.ckks.packing}")


def ckks_work(spec: JobSpec, calibration: Calibration) -> Work | None:
    """Return everybody's work in a ``ckks`` round in which all take part; None where the preset was not measured."""
    rates, shared = ckks_rates(spec, calibration), calibration.shared
    if rates is None:
        return None
    n, t, clients = len(spec.ckks.holders), spec.ckks.threshold, spec.max_clients
    quorum = spec.ckks.group(spec.ckks.holders).quorum
    chunks, half_bytes = spec.parameters(n).chunks, spec.parameters(n).chunks * half_chunk_bytes(spec.parameters(n))
    answers = min(n, t + 2)
    signatures = shared.authenticate
    return Work(
        client={
            "encrypting": chunks * rates.encrypt + spec.values * shared.pack,
            "signatures": (clients + 2 * n + quorum + 1) * signatures + 2 * shared.sign,
        },
        coordinator={
            "receiving and adding": clients * chunks * rates.receive,
            "disk": clients * 2 * (shared.sync + half_bytes * shared.write),
            "mean": _publishing(spec, shared),
            "recovering": chunks * (rates.recover + answers * rates.recover_answer),
            "signatures": (2 * clients + 6 * n) * signatures,
        },
        key_holder={
            "ceremony": n * rates.ceremony,
            "adding c1": clients * chunks * rates.holder_add,
            "disk": shared.sync + half_bytes * shared.write,
            "answering": chunks * (rates.partial + math.comb(n - 1, t - 1) * rates.partial_subset),
            "signatures": (3 * clients + 4 * n + quorum) * signatures,
        },
    )


def masking_work(spec: JobSpec, numbers: Numbers, calibration: Calibration) -> Work:
    """Return everybody's work in a ``masking`` round in which as many as the plan bears vanish after they shared."""
    rates, shared = calibration.masking, calibration.shared
    clients, k, t = spec.max_clients, numbers.neighbours, numbers.threshold
    values, survivors = spec.values + 1, spec.max_clients - numbers.dropped
    # of each vanished client the masks that it shares with survivors
    left = numbers.dropped * k * survivors / (clients - 1)
    shown = confirmations_shown(numbers)
    return Work(
        client={
            "masking": values * (shared.pack + rates.quantise + (k + 1) * rates.mask),
            "keys and shares": k * (rates.agree + rates.seal) + k * t * rates.deal,
            # every client's two keys are looked at
            "signatures": (clients + shown + 1) * shared.authenticate + 5 * shared.sign + 2 * clients * rates.reopen,
        },
        coordinator={
            "receiving": survivors * values * rates.receive,
            "disk": survivors * (shared.sync + spec.masking_parameters.vector_bytes * shared.write),
            "adding": survivors * values * rates.add,
            "recovering secrets": clients * (t * rates.recover + rates.reopen) + left * rates.agree,
            "mean": _publishing(spec, shared),
            "taking masks off": values * (survivors + left) * rates.unmask,
            "signatures": 5 * clients * shared.authenticate + 2 * clients * rates.reopen,
        },
        key_holder={},
    )


def _publishing(spec: JobSpec, shared: SharedRates) -> float:
    """Seconds from the opened sum to the mean, both of which lie on disk."""
    return spec.values * shared.publish + shared.sync + (SUM_BYTES * spec.values + mean_bytes(spec)) * shared.write
