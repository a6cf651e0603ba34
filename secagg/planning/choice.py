"""Both protocols side by side, and which of them to take, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from secagg.errors import PlanError
from secagg.planning.forecast import Forecast

TRUST: Final = {
    "ckks": (
        "rests on key holders in different hands and on well-formed ciphertexts: a client that sends malformed ones together "
        "with the coordinator lays the round open"
    ),
    "masking": (
        "rests on the planned share of corrupt clients alone, bears drop-outs by shares, and needs clients that stay online to the end"
    ),
}
"""What each protocol relies on (docs/threat-model.md)."""
_NOTABLE: Final = 1.01
"""So many times as much is said to be more."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was found of each protocol: a forecast, or why there is none; and which to take.

    ``recommended`` is None where neither can be planned.
    """

    forecasts: dict[str, Forecast]
    refusals: dict[str, str]
    recommended: str | None
    reason: str


def attempt(forecast: Callable[[], Forecast]) -> Forecast | PlanError:
    """Return a forecast, or the error that says why there is none."""
    try:
        return forecast()
    except PlanError as error:
        return error


def choose(found: dict[str, Forecast | PlanError], *, clients_leave: bool) -> Choice:
    """Recommend a protocol.

    Args:
        found: by protocol's name, what :func:`attempt` returned.
        clients_leave: whether clients cannot stay online until the round ends.
    """
    forecasts = {name: one for name, one in found.items() if isinstance(one, Forecast)}
    refusals = {name: why for name, one in found.items() if (why := _why_not(one))}
    if clients_leave:
        refusals.setdefault("masking", "its clients have to stay online until the round ends")
    recommended, reason = _recommended(forecasts, refusals)
    return Choice(forecasts=forecasts, refusals=refusals, recommended=recommended, reason=reason)


def _why_not(one: Forecast | PlanError) -> str:
    """Say why it cannot be planned, or which limit it does not stay within; nothing where it fits."""
    if isinstance(one, PlanError):
        return one.reason
    return "" if one.first_limit.holds else f"{one.first_limit.sentence} ({one.first_limit.advice})"


def _recommended(forecasts: dict[str, Forecast], refusals: dict[str, str]) -> tuple[str | None, str]:
    fitting = [name for name in forecasts if name not in refusals]
    unfit = "; ".join(f"{name} does not fit: {why}" for name, why in sorted(refusals.items()))
    if not fitting:
        return None, unfit
    if len(fitting) == 1:
        [only] = fitting
        return only, f"{unfit}. {only} {TRUST[only]}"
    ckks, masking = forecasts["ckks"], forecasts["masking"]
    gains = f"it takes {_bytes_up(ckks, masking)} and no third parties, and its error has a hard bound"
    return "masking", f"{gains}{_costs_more(ckks, masking)}. It {TRUST['masking']}"


def _bytes_up(ckks: Forecast, masking: Forecast) -> str:
    """Say how many fewer or more bytes a client sends in ``masking``."""
    ratio = ckks.client.total_up / masking.client.total_up
    if round(ratio, 1) == 1.0:
        return "about as many bytes up"
    return f"{ratio:.1f} times fewer bytes up" if ratio > 1 else f"{1 / ratio:.1f} times more bytes up"


def _costs_more(ckks: Forecast, masking: Forecast) -> str:
    """Say of what ``masking`` takes more than ``ckks``; nothing where it does not."""
    found = []
    if masking.client.total_down > _NOTABLE * ckks.client.total_down:
        found.append(f"bytes down ({masking.client.total_down:,} instead of {ckks.client.total_down:,})")
    if masking.work is not None and ckks.work is not None:
        ours, theirs = (sum(work.coordinator.values()) for work in (masking.work, ckks.work))
        if ours > _NOTABLE * theirs:
            found.append(f"coordinator seconds ({ours:,.1f} instead of {theirs:,.1f})")
    return f"; it takes more {' and '.join(found)}" if found else ""
