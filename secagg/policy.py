"""What a client and a key holder insist on, whatever a plan says (DESIGN section 3): the coordinator is not trusted to choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from secagg.errors import PolicyError
from secagg.ids import HolderId
from secagg.plan import CeremonyPlan, CkksRound, HolderGroup, JobSpec, RoundPlan

ENGINES: Final = ("numpy", "tenseal")
"""What a client encrypts with, as `he.encrypt.ENGINES`: no key holder loads that module for two names."""


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
            _check_cryptography(spec, self.presets, self.min_security_bits)
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
    """The weakest plan that a key holder serves. An empty ``holders`` accepts any partners that the CA certified."""

    holders: frozenset[HolderId] = frozenset()
    min_holders: int = 3
    min_threshold: int = 2
    min_corrupt_holders: int = 1
    min_contributors: int = 2
    presets: frozenset[str] = frozenset({"ckks-4096", "ckks-8192"})
    min_security_bits: int = 40
    max_values: int = 20_000_000

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
        _check_cryptography(spec, self.presets, self.min_security_bits)
        unknown = sorted(set(group.holders) - self.holders) if self.holders else []
        _require(not unknown, f"the plan names key holders that this one does not work with: {', '.join(unknown)}")
        _check_thresholds(group, self.min_holders, self.min_threshold, self.min_corrupt_holders)


def _check_cryptography(spec: JobSpec, presets: frozenset[str], min_security_bits: int) -> None:
    ckks = spec.ckks
    _require(ckks.preset in presets, f"the plan's preset {ckks.preset!r} is not one of {sorted(presets)}")
    bits = ckks.security_bits
    _require(bits >= min_security_bits, f"the plan's security_bits {bits} are below this policy's {min_security_bits}")


def _check_thresholds(group: HolderGroup, min_holders: int, min_threshold: int, min_corrupt: int) -> None:
    n, t, c = len(group.holders), group.threshold, group.corrupt_holders
    _require(n >= min_holders, f"the plan has {n} key holders, the policy wants {min_holders}")
    _require(t >= min_threshold, f"{t} key holders open the plan's sums, the policy wants {min_threshold}")
    _require(c >= min_corrupt, f"the plan's quorum bears {c} corrupt key holders, the policy wants {min_corrupt}")
