"""Contestants at one work, each in its own process, in turns: what else the machine does hits all alike."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.records import Case, Measurement, Missing

ROOT = Path(__file__).parents[1]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LIMIT_SECONDS = 300.0
"""For each answer: the slowest run of any peer takes half a minute."""
FINISH_SECONDS = 20.0
_KEPT_OF_STDERR = 2000
_FIELDS = ("seconds", "bytes", "peak_bytes", "note", "phases")


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """`script` ends in `benchmarks.stage.serve`; `python` runs it, with `env` on top of this process's environment."""

    name: str
    python: Path
    script: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Race:
    """What came out, in the contestants' order. Who failed is not among the measurements, but says why."""

    measurements: tuple[Measurement, ...]
    missing: tuple[Missing, ...]
    versions: Mapping[str, Mapping[str, str]]

    def of(self, contestant: str) -> Measurement | None:
        return next((one for one in self.measurements if one.contestant == contestant), None)


class ContestantError(Exception):
    """A contestant died, hung, failed or talked nonsense."""


def race(
    question: str,
    work: str,
    case: Case,
    contestants: Sequence[Contestant],
    repetitions: int,
    warmups: int = 1,
    *,
    cores: int | None = 1,
    limit_seconds: float = LIMIT_SECONDS,
) -> Race:
    """Prepare all, then let them run in turns, beginning with another one each time.

    `cores`: 1 binds every contestant to the same core; None leaves them all cores. Numpy's BLAS and OpenMP get one thread in
    any case. `question` stands in the reasons of who failed.
    """
    with ExitStack() as stack:
        lanes = [
            _Lane(stack.enter_context(Standing(one, cores=cores, limit_seconds=limit_seconds))) for one in contestants
        ]
        for lane in lanes:
            lane.prepare(work, case)
        for turn in range(warmups + repetitions):
            for place in range(len(lanes)):
                lanes[(place + turn) % len(lanes)].run(counts=turn >= warmups)
        for lane in lanes:
            lane.finish()
    return Race(
        measurements=tuple(lane.measurement(work, case, cores) for lane in lanes if lane.failure is None),
        missing=tuple(
            Missing(contestant=lane.name, reason=f"{question}, {work}: {lane.failure}")
            for lane in lanes
            if lane.failure is not None
        ),
        versions={lane.name: lane.versions for lane in lanes if lane.versions},
    )


class _Lane:
    """What one contestant has said so far; who has failed once is asked no more."""

    def __init__(self, standing: "Standing") -> None:
        self._standing = standing
        self._told: list[dict[str, Any]] = []
        self._memory: dict[str, Any] = {}
        self.name = standing.name
        self.versions: dict[str, str] = {}
        self.failure: str | None = None

    def prepare(self, work: str, case: Case) -> None:
        self.versions = self._ask({"do": "versions"}, "versions").get("versions", {})
        self._ask({"do": "prepare", "work": work, "case": dict(case)}, "ready")

    def run(self, *, counts: bool) -> None:
        answer = self._ask({"do": "run"}, "seconds")
        if counts:
            self._told.append(answer)

    def finish(self) -> None:
        self._memory = self._ask({"do": "finish"}, "peak_bytes")

    def _ask(self, request: Mapping[str, Any], expected: str) -> dict[str, Any]:
        if self.failure is None:
            try:
                return self._standing.ask(request, expected)
            except ContestantError as error:
                self.failure = str(error)
        return {}

    def measurement(self, work: str, case: Case, cores: int | None) -> Measurement:
        found = _measurement(work, case, self.name, self._told, self._memory)
        return replace(found, extra=found.extra | {"cores": "all" if cores is None else cores})


def _measurement(
    work: str, case: Case, name: str, told: Sequence[Mapping[str, Any]], memory: Mapping[str, Any]
) -> Measurement:
    others = {key for one in told for key in one} - set(_FIELDS)
    extra: dict[str, Any] = {key: [one.get(key) for one in told] for key in sorted(others)}
    if phases := dict.fromkeys(phase for one in told for phase in one.get("phases", ())):
        extra["phases"] = {phase: [one["phases"].get(phase) for one in told] for phase in phases}
    return Measurement(
        work=work,
        case=dict(case),
        contestant=name,
        seconds=tuple(one["seconds"] for one in told),
        peak_bytes=max((one["peak_bytes"] for one in told if "peak_bytes" in one), default=memory["peak_bytes"]),
        bytes=told[-1].get("bytes"),
        note=told[-1].get("note", ""),
        extra=extra | {"base_bytes": memory["base_bytes"], **memory.get("afterwards", {})},
    )


class Standing:
    """A contestant's process, ended with the block together with all that it started.

    Args:
        contestant: who.
        cores: 1 binds it to the last core that there is.
        limit_seconds: for each answer.
    """

    def __init__(self, contestant: Contestant, *, cores: int | None = 1, limit_seconds: float = LIMIT_SECONDS) -> None:
        self._contestant = contestant
        self._pin = [] if cores is None else ["--core", str(max(os.sched_getaffinity(0)))]
        self._limit_seconds = limit_seconds
        self._read = b""
        self._hangs = False
        self.name = contestant.name

    def __enter__(self) -> Self:
        one = self._contestant
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(one.python), "-m", "benchmarks.stage", *self._pin, str(one.script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)} | dict(one.env),
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(FINISH_SECONDS if self._process.poll() is None and not self._hangs else 0)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def ask(self, request: Mapping[str, Any], expected: str) -> dict[str, Any]:
        """Return the answer, which has the field `expected`; `ContestantError` on anything else."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContestantError(f"it ended before it was asked to {request['do']}{self._last_words()}") from None
        line = self._line(request["do"])
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ContestantError(f"no answer to {request['do']}, but {line[:80]!r}")
        if "failed" in answer:
            raise ContestantError(answer["failed"])
        if expected not in answer:
            raise ContestantError(f"an answer to {request['do']} without {expected}")
        return answer

    def _line(self, do: str) -> bytes:
        assert self._process.stdout is not None
        descriptor, end = self._process.stdout.fileno(), time.monotonic() + self._limit_seconds
        while b"\n" not in self._read:
            readable, _, _ = select.select([descriptor], [], [], max(end - time.monotonic(), 0))
            if not readable:
                self._hangs = True
                raise ContestantError(f"no answer to {do} within {self._limit_seconds:g} s")
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                raise ContestantError(f"it ended when asked to {do}{self._last_words()}")
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._errors.seek(max(self._errors.seek(0, os.SEEK_END) - _KEPT_OF_STDERR, 0))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def ours(script: Path) -> Contestant:
    """Ourselves, in this interpreter."""
    return Contestant(name="sumveil", python=Path(sys.executable), script=script)
