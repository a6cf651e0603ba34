"""What a client and a key holder insist on, whatever a plan says (DESIGN section 3): the coordinator is not trusted to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from he.parameters import PACKINGS
from secagg.errors import PlanError, PolicyError
from secagg.ids import HolderId
from secagg.plan import CeremonyPlan, CkksRound, HolderGroup, JobSpec, RoundPlan

ENGINES: Final = ("numpy", "tenseal")
"""What a client encrypts with, as `he.encrypt.ENGINES`: no key holder loads that module for two names."""
SAFE_PACKINGS: Final = frozenset({"coefficients"})
"""In which an opened sum tells the sum alone. In slots it also tells how each client's values were rounded."""


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise PolicyError(message)


@dataclass(frozen=True, kw_only=True)
class ClientPolicy:
    """The weakest plan that a client takes part in.

    ``holders`` are the key holders that the client's owner trusts to be in different hands; a ``ckks`` round may use any of
    them, at least ``min_holders``. At least two contributors must be left that are neither this client's nor corrupt. In a
    ``masking`` round the numbers must bear at least ``min_corrupt_fraction`` of the roster in league with the coordinator, and
    ``corrupt_clients`` in number, however small the roster.

    ``engine`` is what encrypts in a ``ckks`` round: ours (``numpy``), or the reference (``tenseal``), which is slower. Their
    ciphertexts are of one kind and add up, so no plan says which, and no other party can tell.

    ``packings`` are those that a ``ckks`` round may have. ``complex`` and ``real`` show roundings of single clients to the
    coordinator: the distance that hides them is then the parameters' ``hidden_bits`` and not ``security_bits``.
    """

    holders: frozenset[HolderId] = frozenset()
    min_holders: int = 4
    min_threshold: int = 3
    min_corrupt_holders: int = 2
    min_contributors: int = 3
    corrupt_clients: int = 0
    max_clip: float = float("inf")
    protocols: frozenset[str] = frozenset({"ckks", "masking"})
    presets: frozenset[str] = frozenset({"ckks-4096", "ckks-8192"})
    packings: frozenset[str] = SAFE_PACKINGS
    min_security_bits: int = 40
    min_corrupt_fraction: float = 0.05
    engine: str = ENGINES[0]

    def __post_init__(self) -> None:
        honest = self.min_contributors - self.corrupt_clients
        message = f"min_contributors {self.min_contributors} with {self.corrupt_clients} corrupt clients leaves {honest} honest: at least 2"
        _require(honest >= 2, message)
        _require(self.corrupt_clients >= 0, "corrupt_clients must be 0 or more")
        fraction = self.min_corrupt_fraction
        _require(0 <= fraction < 0.5, f"min_corrupt_fraction {fraction}: choose 0 or more, below 0.5")
        _require(self.engine in ENGINES, f"engine {self.engine!r}: choose one of {', '.join(ENGINES)}")
        _check_packings(self.packings)

    def check(self, plan: RoundPlan) -> None:
        """Raise :class:`PolicyError` naming what is weaker than this policy."""
        spec = plan.spec
        protocol = spec.protocol.NAME
        _require(protocol in self.protocols, f"the plan's protocol {protocol!r} is not one of {sorted(self.protocols)}")
        least = self.min_contributors
        _require(
            spec.min_contributors >= least,
            f"the plan publishes sums of {spec.min_contributors}, this client wants {least} contributors",
        )
        _require(spec.clip <= self.max_clip, f"the plan's clip {spec.clip} is above this client's {self.max_clip}")
        if isinstance(plan.protocol, CkksRound):
            _check_cryptography(spec, self)
            self._check_group(plan.protocol.group)
        else:
            self._check_corrupt_fraction(spec.masking.corrupt_fraction)

    def _check_corrupt_fraction(self, fraction: float) -> None:
        least = self.min_corrupt_fraction
        message = f"the plan bears {fraction:g} of its clients corrupt, this client wants {least:g}"
        _require(fraction >= least, message)

    def _check_group(self, group: HolderGroup) -> None:
        unknown = sorted(set(group.holders) - self.holders)
        _require(not unknown, f"the plan names key holders that this client does not trust: {', '.join(unknown)}")
        _check_thresholds(group, self.min_holders, self.min_threshold, self.min_corrupt_holders)


@dataclass(frozen=True, kw_only=True)
class HolderPolicy:
    """The weakest plan that a key holder serves. An empty ``holders`` accepts any partners that the CA certified.

    ``packings`` as in :class:`ClientPolicy`: what it opens shows the roundings.
    """

    holders: frozenset[HolderId] = frozenset()
    min_holders: int = 3
    min_threshold: int = 2
    min_corrupt_holders: int = 1
    min_contributors: int = 2
    presets: frozenset[str] = frozenset({"ckks-4096", "ckks-8192"})
    packings: frozenset[str] = SAFE_PACKINGS
    min_security_bits: int = 40
    max_values: int = 20_000_000

    def __post_init__(self) -> None:
        _check_packings(self.packings)

    def check_ceremony(self, plan: CeremonyPlan) -> None:
        """Raise :class:`PolicyError` naming what is weaker than this policy."""
        spec, group = plan.spec, plan.group
        least = self.min_contributors
        _require(
            spec.min_contributors >= least,
            f"the plan opens sums of {spec.min_contributors}, this key holder wants {least} contributors",
        )
        _require(
            spec.values <= self.max_values, f"{spec.values} values: this key holder takes at most {self.max_values}"
        )
        _check_cryptography(spec, self)
        unknown = sorted(set(group.holders) - self.holders) if self.holders else []
        _require(not unknown, f"the plan names key holders that this one does not work with: {', '.join(unknown)}")
        _check_thresholds(group, self.min_holders, self.min_threshold, self.min_corrupt_holders)


def _check_packings(packings: frozenset[str]) -> None:
    unknown = sorted(packings - set(PACKINGS))
    _require(not unknown, f"packings {unknown}: choose of {', '.join(PACKINGS)}")


def _check_cryptography(spec: JobSpec, policy: ClientPolicy | HolderPolicy) -> None:
    ckks = spec.ckks
    _require(ckks.preset in policy.presets, f"the plan's preset {ckks.preset!r} is not one of {sorted(policy.presets)}")
    if ckks.packing not in policy.packings:
        _refuse_packing(ckks.packing, policy.packings)
    try:
        # Whatever the policy allows: what one client encrypts would be told from the sum.
        spec.verify_new()
    except PlanError as error:
        raise PolicyError(error.reason, next_step=error.next_step) from error
    bits, least = ckks.security_bits, policy.min_security_bits
    _require(bits >= least, f"the plan's security_bits {bits} are below this policy's {least}")


def _refuse_packing(packing: str, allowed: frozenset[str]) -> NoReturn:
    shows = "" if packing in SAFE_PACKINGS else ", which shows the coordinator how each client's values were rounded,"
    raise PolicyError(
        f"the plan's packing {packing!r}{shows} is not one of {sorted(allowed)}",
        next_step=f"Ask for a job with packing {min(allowed or SAFE_PACKINGS)!r}, or name {packing!r} in packings of [policy]",
    )


def _check_thresholds(group: HolderGroup, min_holders: int, min_threshold: int, min_corrupt: int) -> None:
    n, t, c = len(group.holders), group.threshold, group.corrupt_holders
    _require(n >= min_holders, f"the plan has {n} key holders, the policy wants {min_holders}")
    _require(t >= min_threshold, f"{t} key holders open the plan's sums, the policy wants {min_threshold}")
    _require(c >= min_corrupt, f"the plan's quorum bears {c} corrupt key holders, the policy wants {min_corrupt}")
