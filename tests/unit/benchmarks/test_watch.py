import time
from types import SimpleNamespace

import pytest

from benchmarks.profiled.watch import Watch, profiled

INNER_SECONDS, OUTER_SECONDS = 0.02, 0.01


def spend(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def house() -> SimpleNamespace:
    rooms = SimpleNamespace(inner=lambda: spend(INNER_SECONDS))

    def outer() -> str:
        rooms.inner()
        spend(OUTER_SECONDS)
        return "done"

    rooms.outer = outer
    return rooms


def test_what_is_watched_inside_is_not_counted_outside() -> None:
    rooms = house()

    def whole() -> None:
        rooms.outer()  # Looked up when it runs, as the product's code does.

    told = profiled(whole, {"inner": [(rooms, "inner")], "outer": [(rooms, "outer")]})()
    assert INNER_SECONDS <= told["phases"]["inner"] < told["seconds"]
    assert OUTER_SECONDS <= told["phases"]["outer"] <= told["seconds"] - INNER_SECONDS
    assert sum(told["phases"].values()) <= told["seconds"]


def test_a_call_is_as_it_was_afterwards_and_gives_what_it_gave() -> None:
    rooms = house()
    before, watch = rooms.outer, Watch({"outer": [(rooms, "outer")]})
    with watch.watching():
        assert rooms.outer is not before
        assert rooms.outer() == "done"
    assert rooms.outer is before


def test_a_call_that_fails_is_counted_too() -> None:
    def fail() -> None:
        spend(OUTER_SECONDS)
        raise ValueError("no")

    rooms = SimpleNamespace(fail=fail)
    watch = Watch({"fail": [(rooms, "fail")]})
    with watch.watching(), pytest.raises(ValueError, match="no"):
        rooms.fail()
    assert watch.seconds["fail"] >= OUTER_SECONDS


def test_a_function_that_has_another_name_by_now_is_missed() -> None:
    with pytest.raises(AttributeError), Watch({"old": [(house(), "renamed")]}).watching():
        pass
