"""What every party's examination has in common: identity first, then everything else side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from secagg.doctor.clock import against_certificates, https_check
from secagg.doctor.examination import Check, Examination, run_checks
from secagg.doctor.findings import Finding, ok, warning
from secagg.doctor.identity import ExaminedIdentity, identity_check
from secagg.party import Role
from secagg.tls_identity import TlsPaths

ENVIRONMENT: Final = "the environment"
_OTHERS_READ_BITS: Final = 0o044


def examine_party(
    identity: Path,
    roles: frozenset[Role],
    examination: Examination,
    checks_of: Callable[[ExaminedIdentity], Sequence[Check]],
) -> list[Finding]:
    """Examine a party's identity and clock, and then what its role has besides.

    Args:
        identity: the directory of its certificate.
        roles: the roles that fit its configuration.
        examination: what every check is told.
        checks_of: returns the role's own checks, given what could be read of the identity.
    """
    own = ExaminedIdentity(paths=TlsPaths.of(identity), at=examination.clock())
    findings = run_checks([identity_check(own, roles, warn_days=examination.warn_days)], examination)
    clock = Check(area="clock", subject="certificates", run=lambda: against_certificates(own))
    others = [https_check(address, own, examination) for address in examination.clock_from]
    return [*findings, *run_checks([clock, *others, *checks_of(own)], examination)]


def configuration_finding(config: Path | None, *, holds_secret: bool = False) -> Finding:
    """Return the finding of a configuration that was read; with a secret in it, others must not read the file."""
    if config is None:
        return ok("config.read", ENVIRONMENT, "the configuration is complete")
    if holds_secret and config.stat().st_mode & _OTHERS_READ_BITS:
        says = "it holds a secret, and other users of this machine may read it"
        return warning("config.open", config, says, f"Run `chmod 600 {config}`, or give the secret by the environment")
    return ok("config.read", config, "it is complete, and every key is known")
