"""A whole deployment on loopback: CA, one coordinator, key holders if any, clients, each a process of its own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from secagg.atomic_files import PRIVATE_FILE_MODE, write_atomically
from secagg.demo.data import Examples
from secagg.demo.handover import ClientSettings
from secagg.demo.options import CLIP, DemoOptions
from secagg.demo.processes import Household, free_port
from secagg.ids import HolderId
from secagg.party import Party, Role
from secagg.pki import Pki

COORDINATOR = "coordinator"
OPERATOR = "demo"
CERTIFICATE_DAYS = 2


@dataclass(kw_only=True)
class Deployment:
    """Where everything of one demo stands; ``directory`` is private and removed by its owner."""

    directory: Path
    options: DemoOptions
    household: Household

    def certify(self) -> None:
        """Make the CA and a certificate for every party."""
        at = datetime.now(UTC)
        self._pki.init(at=at, days=CERTIFICATE_DAYS + 1)
        for party in self._parties():
            self._pki.issue(party, at=at, days=CERTIFICATE_DAYS)

    def start_services(self) -> None:
        """Start the key holders, where the protocol has any, and the coordinator; return when all listen."""
        ports = {name: free_port() for name in self.options.protocol.holder_names}
        for name, port in ports.items():
            config = self._holder_config(name, port)
            self.household.start(name, ["secagg.cli.main", "key-holder", "serve", "--config", str(config)])
        for name, port in ports.items():
            self.household.wait_for_port(name, port)
        self.port = free_port()
        config = self._coordinator_config(ports)
        self.household.start(COORDINATOR, ["secagg.cli.main", "coordinator", "serve", "--config", str(config)])
        self.household.wait_for_port(COORDINATOR, self.port)

    def write_examples(self, number: int, examples: Examples) -> None:
        """Hand a client its share of the data."""
        np.savez(self.directory / f"examples-{number}.npz", pixels=examples.pixels, digits=examples.digits)

    def start_client(
        self, number: int, *, job: str, model: Path, first_round: int, after: int, vanish: int | None
    ) -> None:
        """Start one training client; ``number`` counts from 0."""
        name = self.options.client_names[number]
        settings = ClientSettings(
            job=job,
            number=number,
            seed=self.options.seed,
            config=self._client_config(name),
            examples=self.directory / f"examples-{number}.npz",
            model=model,
            results=self.directory,
            first_round=first_round,
            rounds=self.options.rounds,
            after_round=after,
            clip=CLIP,
            vanish_in=vanish,
        )
        path = self.directory / f"{name}.json"
        path.write_text(settings.model_dump_json())
        self.household.start(name, ["secagg.demo.client", str(path)])

    @property
    def address(self) -> str:
        """Where the coordinator listens."""
        return f"127.0.0.1:{self.port}"

    def identity(self, role: Role, name: str) -> Path:
        """Return the directory of a party's certificate."""
        return self._pki.path_of(Party(role=role, name=name))

    @property
    def _pki(self) -> Pki:
        return Pki(directory=self.directory / "pki")

    def _parties(self) -> list[Party]:
        holders = [Party(role=Role.KEY_HOLDER, name=name) for name in self.options.protocol.holder_names]
        clients = [Party(role=Role.CLIENT, name=name) for name in self.options.client_names]
        return [
            Party(role=Role.COORDINATOR, name=COORDINATOR),
            Party(role=Role.OPERATOR, name=OPERATOR),
            *holders,
            *clients,
        ]

    def _holder_config(self, name: str, port: int) -> Path:
        key_file = self.directory / f"{name}.key"
        write_atomically(key_file, secrets.token_bytes(32), mode=PRIVATE_FILE_MODE)
        return self._write(
            name,
            f"""
            listen = "127.0.0.1:{port}"
            identity = "{self.identity(Role.KEY_HOLDER, name)}"
            data_dir = "{self.directory / f"{name}-data"}"
            [sealing]
            key_file = "{key_file}"
            [policy]
            {self._policy()}
            """,
        )

    def _coordinator_config(self, ports: Mapping[HolderId, int]) -> Path:
        addresses = "\n".join(f'{name} = "127.0.0.1:{port}"' for name, port in ports.items())
        key_holders = f"[key_holders]\n{addresses}" if ports else ""
        return self._write(
            COORDINATOR,
            f"""
            listen = "{self.address}"
            identity = "{self.identity(Role.COORDINATOR, COORDINATOR)}"
            data_dir = "{self.directory / "coordinator-data"}"
            grace_seconds = 2
            {key_holders}
            """,
        )

    def _client_config(self, name: str) -> Path:
        return self._write(
            name,
            f"""
            identity = "{self.identity(Role.CLIENT, name)}"
            spool_dir = "{self.directory / "spool"}"
            [coordinator]
            address = "{self.address}"
            name = "{COORDINATOR}"
            [policy]
            {self._policy()}
            max_clip = {CLIP}
            """,
        )

    def _policy(self) -> str:
        keys = {**self.options.protocol.policy(), "min_contributors": self.options.min_contributors}
        # A list of plain strings and a number are the same text in JSON and in TOML.
        return "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())

    def _write(self, name: str, text: str) -> Path:
        path = self.directory / f"{name}.toml"
        path.write_text("\n".join(line.strip() for line in text.splitlines()))
        return path
