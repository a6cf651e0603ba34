"""A forecast as plain numbers, for scripts and for tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from secagg.masking.agreement import KEY_BYTES
from secagg.masking.parameters import MaskingParameters
from secagg.masking.planner import AVAILABILITY_BITS, SPLIT_BITS, Numbers, availability_tail, split_tail
from secagg.masking.shamir import SEALED_PAIR_BYTES, SHARE_BYTES
from secagg.masking.tails import log2_of
from secagg.planning.calibration import Calibration
from secagg.planning.choice import Choice
from secagg.planning.forecast import Forecast, ckks_proof
from secagg.planning.limits import Limit
from secagg.planning.question import Question
from secagg.planning.seconds import Work

Figures = dict[str, Any]

SECURITY_BITS: Final = 128
"""Of both rings, by the HomomorphicEncryption.org standard's table (`he.moduli.check_moduli` holds the primes against it), and of
X25519, the weakest part of `masking`."""


def ckks_figures(question: Question, forecast: Forecast) -> Figures:
    """Return all that is said of a ``ckks`` round."""
    spec, ckks = forecast.spec, forecast.spec.ckks
    parameters = spec.parameters(len(ckks.holders))
    group = ckks.group(ckks.holders)
    return _asked(question, forecast) | {
        "holders": len(ckks.holders),
        "threshold": group.threshold,
        "quorum": group.quorum,
        "corrupt_holders": group.corrupt_holders,
        "preset": ckks.preset,
        "packing": ckks.packing,
        "security_bits": SECURITY_BITS,
        "hidden_bits": parameters.hidden_bits,
        "smudging_word_bits": parameters.smudging_word_bits,
        "scale_log2": math.log2(parameters.scale),
        "mean_deviation_of_clip": forecast.error,
        "mean_error_of_clip": forecast.error_bound,
        "proof": ckks_proof(parameters),
        **_costs(forecast),
    }


def masking_figures(question: Question, forecast: Forecast) -> Figures:
    """Return all that is said of a ``masking`` round."""
    numbers, parameters = question.numbers, forecast.spec.masking_parameters
    return _asked(question, forecast) | {
        "corrupt": numbers.corrupt,
        "graph": "complete" if numbers.complete else "ring",
        "neighbours": numbers.neighbours,
        "threshold": numbers.threshold,
        "quorum": numbers.quorum,
        # 0, in a complete graph or when too few are corrupt, has no logarithm: null.
        "split_tail_log2": _log2(split_tail(numbers)),
        "split_tail_log2_allowed": -SPLIT_BITS,
        "availability_tail_log2": _log2(availability_tail(numbers)),
        "availability_tail_log2_allowed": -AVAILABILITY_BITS,
        "security_bits": SECURITY_BITS,
        "value_bits": parameters.value_bits,
        "bits_per_value": parameters.sum_bits,
        "bytes_per_value": parameters.bytes_per_value,
        "bytes_up": _content_up(numbers, parameters),
        "mean_error_of_clip": forecast.error_bound,
        "proof": parameters.proof(),
        **_costs(forecast),
    }


def choice_figures(question: Question, choice: Choice) -> Figures:
    """Return both protocols' figures, and which is recommended."""
    made = {"ckks": ckks_figures, "masking": masking_figures}
    return {
        "recommended": choice.recommended,
        "reason": choice.reason,
        "refused": choice.refusals,
        "protocols": {name: made[name](question, one) for name, one in choice.forecasts.items()},
    }


def with_calibration(figures: Figures, path: Path, calibration: Calibration | None) -> Figures:
    """Add where seconds come from; null where there is no calibration."""
    source = None
    if calibration is not None:
        source = {
            "file": str(path),
            "taken_at": calibration.taken_at.isoformat(),
            "machine": asdict(calibration.machine),
            "differs": list(calibration.differences()),
        }
    return figures | {"calibration": source}


def _asked(question: Question, forecast: Forecast) -> Figures:
    return {
        "protocol": forecast.protocol,
        "clients": question.clients,
        "dropped": question.dropped,
        "min_contributors": question.least,
        "values": question.values,
        "dtype": question.dtype,
        "clip": question.clip,
        "precision": question.precision,
        "uplink_mbit": question.uplink_mbit,
        "holder_link_mbit": question.holder_link_mbit,
    }


def _costs(forecast: Forecast) -> Figures:
    holder = forecast.key_holder
    return {
        "wire_bytes": {
            "client_up": _with_total(forecast.client.up),
            "client_down": _with_total(forecast.client.down),
            "key_holder_up": None if holder is None else _with_total(holder.up),
            "key_holder_down": None if holder is None else _with_total(holder.down),
        },
        "seconds": _seconds(forecast.work, forecast.upload),
        "coordinator_memory_bytes": forecast.memory_bytes,
        "coordinator_disk_bytes": forecast.disk_bytes,
        "limits": [_limit(one) for one in sorted(forecast.limits, key=lambda limit: limit.headroom)],
        "first_limit": _limit(forecast.first_limit),
    }


def _seconds(work: Work | None, upload: float | None) -> Figures:
    computed = {
        "client": None if work is None else _with_total(work.client),
        "coordinator": None if work is None else _with_total(work.coordinator),
        "key_holder": _with_total(work.key_holder) if work is not None and work.key_holder else None,
    }
    return computed | {"upload": upload}


def _limit(limit: Limit) -> Figures:
    return {
        "name": limit.name,
        "used": limit.used,
        "allowed": limit.allowed,
        "headroom": limit.headroom,
        "sentence": limit.sentence,
    }


def _with_total(parts: Mapping[str, float]) -> dict[str, float]:
    return {**parts, "total": sum(parts.values())}


def _content_up(numbers: Numbers, parameters: MaskingParameters) -> dict[str, int]:
    """What one client sends at most, by what it is for, before it is signed and framed."""
    parts = {
        # Two public keys and the commitment to a seed, a SHA-256.
        "keys": 3 * KEY_BYTES,
        "sealed_shares": numbers.neighbours * SEALED_PAIR_BYTES,
        "vector": parameters.vector_bytes,
        "revealed_shares": numbers.neighbours * SHARE_BYTES,
    }
    return parts | {"total": sum(parts.values())}


def _log2(probability: Fraction) -> float | None:
    exponent = log2_of(probability)
    return exponent if math.isfinite(exponent) else None
