"""How `secagg doctor` runs its checks: none holds up the others, and what they find adds up."""

from __future__ import annotations

import threading
import time

import pytest

from secagg.doctor.examination import Check, Examination, run_checks
from secagg.doctor.findings import Finding, Level, ok, reports_as_json, worst
from secagg.errors import ConfigError


def test_a_check_that_hangs_costs_one_finding() -> None:
    released = threading.Event()

    def hang() -> list[Finding]:
        released.wait(30)
        return []

    began = time.monotonic()
    examination = Examination(timeout_seconds=0.05)
    areas = [
        Check(area="disk", subject="/mnt", run=hang),
        Check(area="port", subject="p", run=lambda: [ok("port.x", "p", "")]),
    ]
    findings = run_checks(areas, examination)
    released.set()
    assert [one.check for one in findings] == ["disk.timeout", "port.x"]
    assert time.monotonic() - began < 5


def test_an_error_of_ours_becomes_a_finding_and_a_defect_stays_one() -> None:
    def refuse() -> list[Finding]:
        raise ConfigError("it does not fit", next_step="Change it")

    (finding,) = run_checks([Check(area="store", subject="s", run=refuse)], Examination())
    assert (finding.check, finding.says, finding.advice) == ("store.failed", "it does not fit", "Change it")
    with pytest.raises(ZeroDivisionError):
        run_checks([Check(area="store", subject="s", run=lambda: [1 // 0])], Examination())  # type: ignore[list-item]


def test_the_worst_level_counts() -> None:
    assert worst([]) is Level.OK
    assert worst([Level.WARNING, Level.BROKEN, Level.OK]) is Level.BROKEN
    assert reports_as_json([])["level"] == "ok"
