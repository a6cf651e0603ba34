"""Every step of every machine under watch: what is refused leaves the state as it was, mappings in it included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from secagg.roles.client import rules as client_rules
from secagg.roles.coordinator import rules as coordinator_rules
from secagg.roles.key_holder import ceremony, opening
from tests.simulation.network import REFUSALS

_MACHINES = (coordinator_rules, client_rules, ceremony, opening)


@contextmanager
def watching(trace: list[str]) -> Iterator[None]:
    """Watch all machines, and write down what happens when, and how it ended."""
    with pytest.MonkeyPatch.context() as patch:
        for machine in _MACHINES:
            patch.setattr(machine, "step", _watched(machine.step, trace))
        yield


def _watched(step: Callable[[Any, Any], Any], trace: list[str]) -> Callable[[Any, Any], Any]:
    def watched(state: Any, event: Any) -> Any:
        before, what = _picture(state), f"{asyncio.get_running_loop().time():.6f} {type(event).__name__}"
        try:
            taken = step(state, event)
        except REFUSALS as error:
            assert _picture(state) == before, f"a refused {type(event).__name__} changed {type(state).__name__}"
            trace.append(f"{what} {type(error).__name__}")
            raise
        trace.append(f"{what} {getattr(taken.state.phase, 'value', '')}")
        assert _picture(state) == before, f"{type(event).__name__} changed a frozen state in place"
        return taken

    return watched


def _picture(state: Any) -> list[tuple[str, object]]:
    """Return which objects a state is made of."""
    return [
        (name, [(key, id(one)) for key, one in value.items()] if isinstance(value, Mapping) else id(value))
        for name, value in vars(state).items()
        if not name.startswith("_")
    ]
