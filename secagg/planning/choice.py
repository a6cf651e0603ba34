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
    up = {name: forecasts[name].client.total_up for name in fitting}
    fewer = f"it takes {up['ckks'] / up['masking']:.1f} times fewer bytes up and no third parties, and its error has a hard bound"
    return "masking", f"{fewer}. It {TRUST['masking']}"
