"""The list of fault points is the code's: what is not in it is never visited, and what is only in it can never be reached."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from coordinator.fault_points import COORDINATOR_POINTS, EVENT_POINTS, MOMENTS
from tests.live_process import ROOT

# The one thing that a name is made of: the kind of an event.
OF_EVENT = tuple("{}." + moment for moment in MOMENTS)


def names_in(path: Path) -> Iterator[str]:
    """Yield what every call of `faults.reach` names; what is not literal in it as {}."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("faults.reach", "reach"):
            (argument,) = node.args
            yield _text(argument)


def _text(argument: ast.expr) -> str:
    if isinstance(argument, ast.JoinedStr):
        return "".join(_text(one) for one in argument.values)
    return str(argument.value) if isinstance(argument, ast.Constant) else "{}"


def test_the_list_names_every_point_of_the_code_and_no_other() -> None:
    used = {name for path in (ROOT / "coordinator").rglob("*.py") for name in names_in(path)}
    assert set(OF_EVENT) <= used
    assert used - set(OF_EVENT) == set(COORDINATOR_POINTS) - set(EVENT_POINTS)
    assert len(set(COORDINATOR_POINTS)) == len(COORDINATOR_POINTS)
