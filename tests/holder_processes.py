"""Key holders as real processes with real certificates, and what they leave on disk and in their logs."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from secagg.demo.processes import Household, free_port
from secagg.ids import HolderId, KeyId
from secagg.key_holder.database import DATABASE_NAME
from secagg.key_holder.store import SUMS_NAME
from secagg.party import Party, Role
from secagg.tls_identity import TlsIdentity
from tests.pki_material import COORDINATOR, Deployment, deployment

THREE_HOLDERS = tuple(HolderId(name) for name in ("north", "east", "south"))
REVOKED_CLIENT = Party(role=Role.CLIENT, name="mallory")
_LEDGER = "select request_digest from ledger where key_id = ?"
_SHARES = "select key_id from key_shares"


@dataclass(kw_only=True)
class HolderProcesses:
    """One process for each holder, on loopback; `running` starts and ends them."""

    directory: Path
    names: tuple[HolderId, ...]
    made: Deployment
    household: Household
    ports: dict[HolderId, int] = field(default_factory=dict)
    revoked: dict[Party, TlsIdentity] = field(default_factory=dict)

    @property
    def coordinator(self) -> TlsIdentity:
        return self.made.identity(COORDINATOR)

    @property
    def addresses(self) -> dict[HolderId, str]:
        return {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}

    def identity(self, role: Role, name: str) -> TlsIdentity:
        return self.made.identity(Party(role=role, name=name))

    def holder(self, name: str) -> TlsIdentity:
        return self.identity(Role.KEY_HOLDER, name)

    def client(self, name: str) -> TlsIdentity:
        return self.identity(Role.CLIENT, name)

    def start(self) -> None:
        for name in self.names:
            self.ports[name] = free_port()
            self._launch(name)
        for name in self.names:
            self.household.wait_for_port(name, self.ports[name])

    def crash(self, name: HolderId, *, lose_sums: bool = False) -> None:
        """Kill a holder and start it again on its own files, at its own address."""
        self.household.kill(name)
        if lose_sums:
            shutil.rmtree(self.directory / f"{name}-data" / SUMS_NAME)
        self._launch(name)
        self.household.wait_for_port(name, self.ports[name])

    def ledger(self, name: HolderId, key_id: KeyId) -> list[bytes]:
        """Return every request that a holder's ledger has for a key."""
        return self._read(name, _LEDGER, key_id)

    def shares(self, name: HolderId) -> list[bytes]:
        """Return the ids of the keys whose shares a holder has on disk."""
        return self._read(name, _SHARES)

    def answered(self, name: HolderId, key_id: KeyId) -> bool:
        """Say whether a holder's log tells of an answer under this key."""
        lines = (self.directory / f"{name}.log").read_text().splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return any(one["event"] == "answered" and one["key"] == key_id.hex() for one in events)

    def _read(self, name: HolderId, query: str, *values: bytes) -> list[bytes]:
        path = self.directory / f"{name}-data" / DATABASE_NAME
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return [bytes(row[0]) for row in connection.execute(query, values)]

    def _launch(self, name: HolderId) -> None:
        config = self.directory / f"{name}.toml"
        config.write_text(
            f'listen = "127.0.0.1:{self.ports[name]}"\n'
            f'identity = "{self.holder(name).paths.certificate.parent}"\n'
            f'data_dir = "{self.directory / f"{name}-data"}"\n'
            "grace_seconds = 0.0\n"
            f'[sealing]\nkey_file = "{self.directory / f"{name}.key"}"\ncreate_key_file = true\n'
            "[limits]\nrounds = 1000\nsums = 1000\n"
        )
        self.household.start(name, ["secagg.cli.main", "key-holder", "serve", "--config", str(config)])


@contextmanager
def running(
    directory: Path, names: Sequence[HolderId], *, made: Deployment | None = None, revoked: Sequence[Party] = ()
) -> Iterator[HolderProcesses]:
    """Run these holders until the end; the certificates of `revoked` were taken back before, and are kept by their parties."""
    made = made or deployment(directory / "pki")
    household = Household(directory=directory)
    holders = HolderProcesses(directory=directory, names=tuple(names), made=made, household=household)
    for party in revoked:
        holders.revoked[party] = made.identity(party)
        made.pki.revoke(party, at=made.at)
    try:
        holders.start()
        yield holders
    finally:
        household.stop()
