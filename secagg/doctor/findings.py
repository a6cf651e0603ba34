"""What a check found, and what a whole examination comes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from secagg.errors import SecAggError

JSON_VERSION: Final = 1
"""Grows when a field changes its meaning or goes; new fields and new checks leave it as it is."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


_ORDER: Final = (Level.OK, Level.WARNING, Level.BROKEN)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what for scripts it is: an area, a point, and what was found, such as `peer.refused`.
        level: how bad it is.
        subject: the file, address or party that was looked at.
        says: what was found, as a clause; never a secret.
        advice: what to do about it; empty where all is well.
    """

    check: str
    level: Level
    subject: str
    says: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """Return text by field name."""
        return {
            "check": self.check,
            "level": self.level.value,
            "subject": self.subject,
            "message": self.says,
            "advice": self.advice,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings of one configuration. `role` is empty where it is not known, `config` where there is no file."""

    role: str
    config: str
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst of the findings."""
        return worst(one.level for one in self.findings)


def ok(check: str, subject: object, says: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check=check, level=Level.OK, subject=str(subject), says=says)


def warning(check: str, subject: object, says: str, advice: str) -> Finding:
    """Return a finding that works today and should be seen to."""
    return Finding(check=check, level=Level.WARNING, subject=str(subject), says=says, advice=advice)


def broken(check: str, subject: object, says: str, advice: str) -> Finding:
    """Return a finding that keeps the party from its work."""
    return Finding(check=check, level=Level.BROKEN, subject=str(subject), says=says, advice=advice)


def broken_by(error: SecAggError, check: str, subject: object) -> Finding:
    """Return what one of our errors says as a finding."""
    return broken(check, subject, error.cause, error.next_step)


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst level; `ok` of none."""
    return max(levels, key=_ORDER.index, default=Level.OK)


def reports_as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """Return what `secagg doctor --json` prints."""
    return {
        "version": JSON_VERSION,
        "level": worst(one.level for one in reports).value,
        "reports": [
            {
                "role": report.role,
                "config": report.config,
                "level": report.level.value,
                "findings": [one.as_json() for one in report.findings],
            }
            for report in reports
        ],
    }
