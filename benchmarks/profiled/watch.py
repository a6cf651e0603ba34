"""Where the time of a real call goes: some functions are watched while it runs, each counted without what it calls of the others.

They work on whole blocks, so that the watching itself, a microsecond for each call, does not show; a profiler that sees every call would.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from benchmarks.stage import Run

Place = tuple[Any, str]
"""A module or class, and the name by which the code that is profiled finds a function there."""
Stages = Mapping[str, Sequence[Place]]
"""What is called in each stage."""


class Watch:
    """Seconds by stage."""

    def __init__(self, stages: Stages) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)
        self._stages = stages
        self._inner = [0.0]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raises `AttributeError` where a function has another name by now."""
        with ExitStack() as stack:
            for stage, places in self._stages.items():
                for owner, name in places:
                    watched = self._watched(stage, getattr(owner, name))
                    stack.enter_context(patch.object(owner, name, watched))
            yield

    def _watched(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                took = time.perf_counter() - start
                self.seconds[stage] += took - self._inner.pop()
                self._inner[-1] += took

        return call


def profiled(whole: Callable[[], object], stages: Stages) -> Run:
    """Run it as it is, and say what of its time was in which stage."""

    def run() -> dict[str, Any]:
        watch = Watch(stages)
        with watch.watching():
            start = time.perf_counter()
            whole()
            seconds = time.perf_counter() - start
        return {"seconds": seconds, "phases": watch.seconds}

    return run
