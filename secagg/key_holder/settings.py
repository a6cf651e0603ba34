"""Configuration of `secagg key-holder serve` (`docs/samples/key-holder.toml`)."""

from __future__ import annotations


from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, model_validator

from secagg.config import Address, LogSettings, PartyName, Settings, SettingsPath
from secagg.ids import HolderId
from secagg.key_holder.vault import SealingSecret, secret_from_file, secret_from_passphrase
from secagg.policy import HolderPolicy

ENVIRONMENT_PREFIX: Final = "SECAGG_KEY_HOLDER_"
DEFAULT_ADDRESS: Final = "127.0.0.1:7444"

Count = Annotated[int, Field(ge=1, le=1000)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


class SealingSettings(Settings):
    """What seals shares on disk: exactly one of a passphrase, best given by the environment, and a key file."""

    passphrase: SecretStr | None = None
    key_file: SettingsPath | None = None
    create_key_file: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.passphrase is None) == (self.key_file is None):
            message = "give exactly one of passphrase and key_file"
            raise ValueError(message)
        return self

    def secret(self) -> SealingSecret:
        """Return the secret; `ConfigError` when it cannot be used."""
        if self.passphrase is not None:
            return secret_from_passphrase(self.passphrase.get_secret_value())
        if self.key_file is None:
            raise AssertionError("checked when the settings were read")
        return secret_from_file(self.key_file, create=self.create_key_file)


class PolicySettings(Settings):
    """The weakest plan that this key holder serves; see `secagg.policy.HolderPolicy`."""

    holders: frozenset[PartyName] = frozenset()
    min_holders: Annotated[int, Field(ge=3, le=9)] = 3
    min_threshold: Annotated[int, Field(ge=2, le=9)] = 2
    min_corrupt_holders: Annotated[int, Field(ge=0, le=8)] = 1
    min_contributors: Annotated[int, Field(ge=2)] = 2
    presets: frozenset[str] = frozenset({"ckks-4096", "ckks-8192"})
    min_security_bits: Annotated[int, Field(ge=40, le=128)] = 40
    max_values: Annotated[int, Field(ge=1)] = 20_000_000

    def policy(self) -> HolderPolicy:
        """Return the policy."""
        fields = {**vars(self), "holders": frozenset(HolderId(name) for name in self.holders)}
        return HolderPolicy(**fields)


class LimitSettings(Settings):
    """Bounds. A round of 1,000,000 values takes about 25 MB of memory with ckks-4096 while its sum is kept."""

    max_rounds: Count = 32
    max_sums: Count = 4
    max_round_seconds: Seconds = 7 * 86_400.0
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0


class MetricsSettings(Settings):
    """Where Prometheus metrics are served over HTTPS, to operators and auditors."""

    address: Address


class KeyHolderSettings(Settings):
    """Everything that a key holder's service is told.

    `identity` is the directory that `secagg pki issue` made, `state` the directory of the ledger and the sealed shares.
    `coordinators` pins the names that may call; empty: any coordinator that the CA certified.
    """

    identity: SettingsPath
    state: SettingsPath
    sealing: SealingSettings
    address: Address = DEFAULT_ADDRESS
    coordinators: frozenset[PartyName] = frozenset()
    policy: PolicySettings = PolicySettings()
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings | None = None
    log: LogSettings = LogSettings()

