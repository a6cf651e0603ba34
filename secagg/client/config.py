"""Configuration of a training client (``docs/samples/client.toml``)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from pydantic import model_validator

from secagg.config import CoordinatorPeer, PartyName, Settings, SettingsPath, load_settings
from secagg.errors import PolicyError
from secagg.ids import HolderId
from secagg.policy import ClientPolicy

ENV_PREFIX: Final = "SECAGG_CLIENT_"


class PolicySettings(Settings):
    """The weakest plan that this client takes part in, whatever the coordinator says."""

    holders: frozenset[PartyName] = frozenset()
    min_holders: int = ClientPolicy.min_holders
    min_threshold: int = ClientPolicy.min_threshold
    min_corrupt_holders: int = ClientPolicy.min_corrupt_holders
    min_contributors: int = ClientPolicy.min_contributors
    corrupt_clients: int = ClientPolicy.corrupt_clients
    max_clip: float = ClientPolicy.max_clip
    protocols: frozenset[str] = ClientPolicy.protocols
    presets: frozenset[str] = ClientPolicy.presets
    packings: frozenset[str] = ClientPolicy.packings
    min_security_bits: int = ClientPolicy.min_security_bits
    min_corrupt_fraction: float = ClientPolicy.min_corrupt_fraction
    engine: str = ClientPolicy.engine

    def policy(self) -> ClientPolicy:
        """Return it as the client's machine has it."""
        values = self.model_dump(exclude={"holders"})
        return ClientPolicy(holders=frozenset(HolderId(name) for name in self.holders), **values)

    @model_validator(mode="after")
    def _proves_itself(self) -> Self:
        try:
            self.policy()
        except PolicyError as error:
            raise ValueError(error.cause) from None
        return self


class ClientSettings(Settings):
    """Everything that a client is told.

    Attributes:
        identity: the directory that ``secagg pki issue client NAME`` made.
        coordinator: where the coordinator listens, and its name.
        policy: the weakest plan that this client takes part in.
        spool_dir: a private directory in which ciphertexts wait between join and upload (24 bytes for each value at
            ``ckks-4096``, 48 with ``real`` packing), and without a ``state_dir`` masked vectors; the system's directory
            for temporary files when left out. What a round put there is removed on every exit.
        state_dir: a private directory of this client alone in which a ``masking`` round is kept while it runs, so that a
            client that was killed goes on where it was; never to be restored from a copy. When left out, such a client
            has dropped out.
    """

    identity: SettingsPath
    coordinator: CoordinatorPeer
    policy: PolicySettings
    spool_dir: SettingsPath | None = None
    state_dir: SettingsPath | None = None


def load_client_settings(path: Path | None) -> ClientSettings:
    """Read a client's configuration; raises :class:`~secagg.errors.ConfigError`."""
    return load_settings(ClientSettings, path, ENV_PREFIX)
