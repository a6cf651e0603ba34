"""One key holder as a real process that can be told where to die, beside others of its house."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from coordinator.rounds.holders import HolderClient
from secagg.demo.processes import Household, free_port
from secagg.errors import UnreachableError
from secagg.faults import FLAG
from secagg.ids import HolderId
from tests.key_holder_house import House, refused

START_SECONDS = 30.0


@dataclass
class HolderAtRisk:
    """`house.addresses` leads to the process, whichever one runs just now."""

    house: House
    name: HolderId
    household: Household

    @classmethod
    def of(cls, house: House, name: HolderId) -> HolderAtRisk:
        """Write the configuration; `start` comes next."""
        port = free_port()
        house.addresses[name] = f"127.0.0.1:{port}"
        settings = house.settings(name)
        (house.directory / f"{name}.toml").write_text(
            f'listen = "{settings.listen}"\nidentity = "{settings.identity}"\ndata_dir = "{settings.data_dir}"\n'
            "grace_seconds = 0.0\n"
            f'[sealing]\nkey_file = "{settings.sealing.key_file}"\ncreate_key_file = true\n'
        )
        return cls(house=house, name=name, household=Household(directory=house.directory))

    @property
    def calls(self) -> HolderClient:
        """A coordinator's calls, over a channel of their own."""
        return self.house.pool().calls[self.name]

    async def start(self, fault: str = "") -> None:
        """Start the process, which dies at the fault point, and wait until it listens."""
        self._launch(fault)
        port = int(self.house.addresses[self.name].rpartition(":")[2])
        await asyncio.to_thread(self.household.wait_for_port, self.name, port)

    async def dies_at_start(self, fault: str) -> None:
        """Start the process, which dies at the fault point before it listens."""
        self._launch(fault)
        await self._died()

    def _launch(self, fault: str) -> None:
        arguments = [
            "secagg.cli.main",
            "key-holder",
            "serve",
            "--config",
            str(self.house.directory / f"{self.name}.toml"),
        ]
        self.household.start(self.name, arguments, environment={FLAG: fault})

    async def dies_in(self, call: Callable[[HolderClient], Awaitable[object]]) -> None:
        """Make a call that has to end with the process's death by SIGKILL."""
        with pytest.raises(UnreachableError):
            await call(self.calls)
        await self._died()

    async def _died(self) -> None:
        child = self.household.children[self.name]
        assert await asyncio.to_thread(child.process.wait, START_SECONDS) == -signal.SIGKILL
        del self.household.children[self.name]
        child.output.close()

    async def refuses(self, call: Callable[[HolderClient], Awaitable[object]], kind: type[Exception]) -> None:
        """Make a call that has to be refused."""
        await refused(call(self.calls), kind)

    def kill(self) -> None:
        """Kill it, wherever it stands."""
        self.household.kill(self.name)

    def stop(self) -> None:
        """End it, if it runs."""
        self.household.stop()
