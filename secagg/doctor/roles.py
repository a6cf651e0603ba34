"""Whose configuration a file is, and who examines that role. A package above `secagg` registers its own by entry point."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, TypeAlias

from pydantic import ConfigDict

from secagg.config import Settings, load_settings
from secagg.doctor.examination import Examination
from secagg.doctor.findings import Finding, Report, broken_by
from secagg.doctor.party import ENVIRONMENT
from secagg.errors import ConfigError, SecAggError
from secagg.party import Role

ENTRY_POINTS: Final = "secagg.doctors"
"""The name of an entry point is a role, its object an `Examine`."""

Examine: TypeAlias = Callable[[Path | None, Examination], list[Finding]]
"""Given a configuration file, or None for the environment alone; raises `SecAggError` when it cannot be read."""

_OWN: Final = {
    Role.KEY_HOLDER: ("secagg.doctor.key_holder", "examine"),
    Role.CLIENT: ("secagg.doctor.callers", "examine_client"),
    Role.OPERATOR: ("secagg.doctor.callers", "examine_operator"),
}
_OF_COORDINATORS: Final = frozenset({"key_holders", "database_url", "data_dir", "listen"})


class _AnyKeys(Settings):
    model_config = ConfigDict(extra="allow")


def report_of(config: Path | None, role: Role | None, examination: Examination) -> Report:
    """Examine one configuration.

    Args:
        config: the file; None takes everything from the environment, and needs a role.
        role: whose it is; found from the keys of the file when left out.
        examination: what every check is told.
    """
    subject, known = ENVIRONMENT if config is None else str(config), role
    try:
        known = detected_role(config) if role is None else role
        findings = _examine_of(known)(config, examination)
    except SecAggError as error:
        findings = [broken_by(error, "config.invalid", subject)]
    return Report(role="" if known is None else known.value, config=subject, findings=tuple(findings))


def detected_role(config: Path | None) -> Role:
    """Tell from its keys whose configuration a file is.

    Raises:
        ConfigError: it cannot be read, or its keys do not tell.
    """
    keys = set(load_settings(_AnyKeys, config, "", environment={}).model_extra or {})
    if "coordinator" in keys:
        return Role.CLIENT if "policy" in keys else Role.OPERATOR
    if keys & {"sealing", "coordinators", "policy"}:
        return Role.KEY_HOLDER
    if keys & _OF_COORDINATORS:
        return Role.COORDINATOR
    raise ConfigError(f"the keys of {config} do not tell whose configuration it is", next_step="Give --role")


def _examine_of(role: Role) -> Examine:
    if role in _OWN:
        module, name = _OWN[role]
        found: Examine = getattr(importlib.import_module(module), name)
        return found
    for point in entry_points(group=ENTRY_POINTS, name=role.value):
        loaded: Examine = point.load()
        return loaded
    raise ConfigError(f"nothing installed here examines a {role}", next_step="Install the package that runs it")
