"""Where a contestant stands: it prepares, runs and is timed when asked, one JSON object in a line for each request and answer.

Standard library only and Python 3.10: peers' interpreters load it. A contestant's script ends in ``serve(works, versions)``;
`benchmarks.arena` starts it through ``python -m benchmarks.stage --core N SCRIPT`` and speaks to it over its standard input and output.

===================================== ==================================================================================
request                               answer
===================================== ==================================================================================
{"do": "versions"}                    {"versions": {package: version}}, "python" among them
{"do": "prepare", "work", "case"}     {"ready": true}; from here on the peak of memory is counted
{"do": "run"}                         {"seconds": s, ...}: "bytes", "note", "phases" {name: seconds}, "peak_bytes" where
                                      another process did the work, and what else it tells
{"do": "finish"}                      {"peak_bytes": VmHWM since the preparation ended, "base_bytes": RSS before it,
                                      "afterwards": {...} what a `Checked` work tells at its end}, and ends
whatever failed                       {"failed": text}
===================================== ==================================================================================
"""

import argparse
import gc
import json
import os
import platform
import runpy
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO

Run = Callable[[], dict[str, Any]]
"""One repetition. It checks its own result outside of what it times, and may time itself: then it returns "seconds"."""
Prepare = Callable[[dict[str, Any]], Run]
"""From a case to what is repeated."""

_STATUS = "/proc/self/status"
_CLEAR_REFS, _RESET_PEAK = "/proc/self/clear_refs", "5"
"""Linux's proc(5): what is written sets VmHWM back to the present VmRSS."""
_answers: TextIO | None = None


def serve(works: Mapping[str, Prepare], versions: Callable[[], Mapping[str, str]]) -> None:
    """Answer requests until told to finish, or until nobody asks any more."""
    answers, stage = answer_lines(), _Stage(works, versions)
    while not stage.finished and (line := sys.stdin.readline()):
        answers.write(json.dumps(stage.answer(json.loads(line))) + "\n")
        answers.flush()


def answer_lines() -> TextIO:
    """Take standard output for answers alone: what libraries print goes to standard error from here on."""
    global _answers  # noqa: PLW0603 - a process has one standard output
    if _answers is None:
        sys.stdout.flush()
        _answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
    return _answers


class Checked:
    """A run with something to do after the last one, when neither time nor memory counts any more.

    Args:
        run: what is repeated.
        afterwards: returns what is told once, such as {"error": the largest one}; what it raises is the contestant's failure.
    """

    def __init__(self, run: Run, afterwards: Run) -> None:
        self._run = run
        self.afterwards = afterwards

    def __call__(self) -> dict[str, Any]:
        return self._run()


class _Stage:
    def __init__(self, works: Mapping[str, Prepare], versions: Callable[[], Mapping[str, str]]) -> None:
        self._works = works
        self._versions = versions
        self._run: Run | None = None
        self._base_bytes = 0
        self.finished = False

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self._answer(request)
        except Exception as error:  # noqa: BLE001 - whatever a contestant raises is its answer
            traceback.print_exc()
            return {"failed": f"{type(error).__name__}: {error}"}

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        do = request["do"]
        if do == "versions":
            return {"versions": {"python": platform.python_version(), **self._versions()}}
        if do == "prepare":
            self._base_bytes = _memory_bytes("VmRSS")
            self._run = self._works[request["work"]](request["case"])
            _forget_peak()
            return {"ready": True}
        if do == "run":
            return self._timed()
        self.finished = True
        memory = {"peak_bytes": _memory_bytes("VmHWM"), "base_bytes": self._base_bytes}
        return memory | ({"afterwards": self._run.afterwards()} if isinstance(self._run, Checked) else {})

    def _timed(self) -> dict[str, Any]:
        if self._run is None:
            raise RuntimeError("asked to run before it was prepared")
        gc.collect()  # What the last repetition left is not this one's work.
        start = time.perf_counter()
        told = self._run()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, **told}


def _forget_peak() -> None:
    """Let VmHWM be the work's own: making keys, peers' contexts and what is checked may take more than it does."""
    gc.collect()
    # Where it may not be written the preparation counts too.
    with suppress(OSError), open(_CLEAR_REFS, "w", encoding="ascii") as file:  # noqa: PTH123 - as short as it can be
        file.write(_RESET_PEAK)


def _memory_bytes(name: str) -> int:
    """Of this process: VmRSS is what it has in memory, VmHWM the most since `_forget_peak`."""
    with open(_STATUS, encoding="ascii") as lines:  # noqa: PTH123 - as short as it can be
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core", type=int, help="the one core to run on; all when left out")
    parser.add_argument("script")
    asked = parser.parse_args()
    if asked.core is not None:
        os.sched_setaffinity(0, {asked.core})  # Before any library counts the cores.
    # As the script will import it: run as a program, this module is another one.
    from benchmarks.stage import answer_lines as take_lines  # noqa: PLC0415

    take_lines()
    sys.argv = [asked.script]
    runpy.run_path(asked.script, run_name="__main__")


if __name__ == "__main__":
    main()
