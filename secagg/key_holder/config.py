"""Configuration of ``secagg key-holder serve`` (``docs/samples/key-holder.toml``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, model_validator

from secagg.config import Address, LogSettings, PartyName, Settings, SettingsPath, load_settings
from secagg.ids import HolderId
from secagg.key_holder.vault import SealingSecret, secret_from_file, secret_from_passphrase
from secagg.key_holder.witness import Witness
from secagg.policy import HolderPolicy

ENV_PREFIX: Final = "SECAGG_KEY_HOLDER_"

Count = Annotated[int, Field(ge=1, le=1000)]


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
        if self.key_file is not None:
            return secret_from_file(self.key_file, create=self.create_key_file)
        return secret_from_passphrase("" if self.passphrase is None else self.passphrase.get_secret_value())


class PolicySettings(Settings):
    """The weakest plan that this key holder serves; see `secagg.policy.HolderPolicy`."""

    holders: frozenset[PartyName] = frozenset()
    min_holders: Annotated[int, Field(ge=3, le=9)] = 3
    min_threshold: Annotated[int, Field(ge=2, le=9)] = 2
    min_corrupt_holders: Annotated[int, Field(ge=0, le=8)] = 1
    min_contributors: Annotated[int, Field(ge=2)] = 2
    presets: frozenset[str] = frozenset({"ckks-4096", "ckks-8192"})
    packings: frozenset[str] = HolderPolicy.packings
    min_security_bits: Annotated[int, Field(ge=40, le=128)] = 40
    max_values: Annotated[int, Field(ge=1)] = 20_000_000

    def policy(self) -> HolderPolicy:
        """Return the policy."""
        fields = self.model_dump()
        fields["holders"] = frozenset(HolderId(name) for name in self.holders)
        return HolderPolicy(**fields)


class LimitSettings(Settings):
    """Bounds. The sum of a round of 1,000,000 values takes 24 MB with ckks-4096.

    Attributes:
        rounds: rounds under way at a time.
        sums: sums at a time: in memory while they are added up, on disk from the approval to the end of the round.
        round_seconds: the longest life of a round that is accepted, and so of a share on disk.
        calls: calls at a time.
        workers: threads that compute and store.
    """

    rounds: Count = 32
    sums: Count = 8
    round_seconds: Annotated[float, Field(gt=0, le=31_536_000)] = 7 * 86_400.0
    calls: Annotated[int, Field(ge=1, le=100_000)] = 256
    workers: Annotated[int, Field(ge=1, le=64)] = 2


class KeyHolderSettings(Settings):
    """Everything that a key holder's service is told.

    Attributes:
        listen: ``host:port`` that the coordinator dials.
        identity: the directory that ``secagg pki issue key-holder NAME`` made.
        data_dir: where ledger, sealed shares and sums stand; made with mode 0700.
        witness_dir: a directory that exists and is not copied together with `data_dir`: what lies there tells an old copy of
            the data from the newest. The identity's when left out.
        retention_days: how long the ledger tells of a key that is destroyed; it names nobody.
        sealing: what seals the shares.
        coordinators: names of the coordinators that may call; empty: any that the CA certified.
        policy: the weakest plan that is served.
        limits: bounds.
        grace_seconds: how long running calls may go on after SIGTERM.
        metrics_listen: ``host:port`` of Prometheus metrics; none when left out.
        log: form and level.
    """

    listen: Address = "127.0.0.1:7444"
    identity: SettingsPath
    data_dir: SettingsPath
    witness_dir: SettingsPath | None = None
    retention_days: Annotated[float, Field(ge=0, le=36_500)] = 365.0
    sealing: SealingSettings
    coordinators: frozenset[PartyName] = frozenset()
    policy: PolicySettings = PolicySettings()
    limits: LimitSettings = LimitSettings()
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0
    metrics_listen: Address | None = None
    log: LogSettings = LogSettings()

    @property
    def witness(self) -> Witness:
        """What counts along with the database, in another place."""
        return Witness(self.witness_dir or self.identity)


def load_key_holder_settings(path: Path | None) -> KeyHolderSettings:
    """Read a key holder's configuration; raises :class:`~secagg.errors.ConfigError`."""
    return load_settings(KeyHolderSettings, path, ENV_PREFIX)
