"""Running checks side by side, each with a limit: a disk or a peer that hangs costs one finding and not the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from secagg.doctor.findings import Finding, broken, broken_by
from secagg.errors import SecAggError

AT_A_TIME: Final = 16
STEPS_OF_A_CHECK: Final = 5
"""A check may dial, shake hands and ask, each within `timeout_seconds`; all of it may take this many of them."""

Findings = Iterable[Finding]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What every check is told.

    Attributes:
        clock: now, with a time zone.
        timeout_seconds: how long one dial, handshake, call or statement may take.
        warn_days: how long before their end certificates are warned of.
        clock_from: `host:port` of HTTPS servers of the deployment whose clocks are compared, such as metrics of a party.
    """

    clock: Callable[[], datetime] = _now
    timeout_seconds: float = 5.0
    warn_days: int = 30
    clock_from: tuple[str, ...] = ()

    @property
    def check_seconds(self) -> float:
        """How long one check may take in all."""
        return STEPS_OF_A_CHECK * self.timeout_seconds


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: what it looks at, and a function without arguments that blocks and returns what it found."""

    area: str
    subject: str
    run: Callable[[], Findings]


@dataclass(kw_only=True)
class _Running:
    check: Check
    findings: list[Finding] | None = None
    defect: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        # A daemon: a thread that hangs in the kernel must not hold up the end of the process.
        self.thread = threading.Thread(target=self._run, name=f"doctor-{self.check.area}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.findings = list(self.check.run())
        except SecAggError as error:
            self.findings = [broken_by(error, f"{self.check.area}.failed", self.check.subject)]
        except BaseException as error:  # noqa: BLE001 - a defect of ours is raised again where it is seen
            self.defect = error

    def result(self, until: float, seconds: float) -> list[Finding]:
        self.thread.join(max(0.0, until - time.monotonic()))
        if self.defect is not None:
            raise self.defect
        if self.findings is None:
            says, advice = (
                f"the check did not end within {seconds:g} s",
                "Look for a disk, database or name server that hangs",
            )
            return [broken(f"{self.check.area}.timeout", self.check.subject, says, advice)]
        return self.findings


def run_checks(checks: Sequence[Check], examination: Examination) -> list[Finding]:
    """Run all checks, `AT_A_TIME` of them side by side; return what they found, in the order of the checks."""
    return [finding for batch in _batches(checks) for finding in _run_batch(batch, examination.check_seconds)]


def _run_batch(batch: Sequence[Check], seconds: float) -> Iterator[Finding]:
    until = time.monotonic() + seconds
    for running in [_Running(check=check) for check in batch]:
        yield from running.result(until, seconds)


def _batches(checks: Sequence[Check]) -> Iterator[Sequence[Check]]:
    for start in range(0, len(checks), AT_A_TIME):
        yield checks[start : start + AT_A_TIME]
