"""The examinations of those who only call: training clients, operators and auditors."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from secagg.client.config import load_client_settings
from secagg.config import CoordinatorPeer, OperatorSettings, load_settings
from secagg.doctor.disk import directory_check
from secagg.doctor.examination import Check, Examination
from secagg.doctor.findings import Finding, Level
from secagg.doctor.identity import ExaminedIdentity
from secagg.doctor.party import configuration_finding, examine_party
from secagg.doctor.peers import SILENT, peer_check
from secagg.party import Party, Role

OPERATOR_PREFIX: Final = "SECAGG_OPERATOR_"


def examine_client(config: Path | None, examination: Examination) -> list[Finding]:
    """Examine a client's set-up; raises `ConfigError` when its configuration cannot be read."""
    settings = load_client_settings(config)
    shared = settings.spool_dir is None
    spool = Path(tempfile.gettempdir()) if settings.spool_dir is None else settings.spool_dir
    directories = [directory_check("spool_dir", spool, private=not shared)]
    if settings.state_dir is not None:
        directories.append(directory_check("state_dir", settings.state_dir))

    def checks_of(own: ExaminedIdentity) -> list[Check]:
        return [*directories, *_coordinators(settings.coordinator, own, examination)]

    found = examine_party(settings.identity, frozenset({Role.CLIENT}), examination, checks_of)
    return [configuration_finding(config), *_eased(found)]


def examine_operator(config: Path | None, examination: Examination) -> list[Finding]:
    """Examine an operator's or auditor's set-up; raises `ConfigError` when its configuration cannot be read."""
    settings = load_settings(OperatorSettings, config, OPERATOR_PREFIX)

    def checks_of(own: ExaminedIdentity) -> list[Check]:
        return _coordinators(settings.coordinator, own, examination)

    roles = frozenset({Role.OPERATOR, Role.AUDITOR})
    found = examine_party(settings.identity, roles, examination, checks_of)
    return [configuration_finding(config), *_eased(found)]


def _coordinators(peer: CoordinatorPeer, own: ExaminedIdentity, examination: Examination) -> list[Check]:
    addresses = [peer.address] if isinstance(peer.address, str) else list(peer.address)
    target = Party(role=Role.COORDINATOR, name=peer.name)
    return [peer_check(address, target, own, examination) for address in addresses]


def _eased(findings: list[Finding]) -> list[Finding]:
    """Where one of several coordinators serves, another that is down is a warning."""
    if not any(one.check == "peer.serving" for one in findings):
        return findings
    return [
        replace(one, level=Level.WARNING) if one.level is Level.BROKEN and one.check in SILENT else one
        for one in findings
    ]
