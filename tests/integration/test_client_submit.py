"""``secagg client submit`` in processes of their own, in a whole round over gRPC."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from secagg.client.npz import read_arrays, write_arrays
from secagg.errors import UnknownRoundError
from secagg.identity import Role
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import JobSpec, MaskingJob
from tests.round_cluster import HOLDERS, Cluster, job_spec

END_SECONDS = 90.0
WEIGHTS = {"alice": 30.0, "bob": 60.0}
MASKED_WEIGHTS = {**WEIGHTS, "carol": 10.0}


@dataclass
class Submitter:
    """Starts the command for clients of a cluster."""

    cluster: Cluster

    @property
    def directory(self) -> Path:
        return self.cluster.directory

    def update(self, name: str) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([*name.encode()])
        return {"w": rng.uniform(-1, 1, 10_000).astype(np.float32), "b": rng.uniform(-1.5, 1.5, (3, 2))}

    def config(self, name: str) -> Path:
        assert self.cluster.coordinator is not None
        path = self.directory / f"{name}.toml"
        path.write_text(
            f'identity = "{self.cluster.path(Role.CLIENT, name)}"\nspool_dir = "spool-{name}"\n'
            f'[coordinator]\naddress = "127.0.0.1:{self.cluster.coordinator.port}"\n'
            f"[policy]\nholders = {json.dumps(list(HOLDERS))}\nmin_contributors = 2\n"
        )
        return path

    async def start(self, name: str, *options: str) -> asyncio.subprocess.Process:
        update = self.directory / f"{name}.npz"
        write_arrays(update, self.update(name))
        arguments = ["client", "submit", "--job", "digits", "--config", str(self.config(name)), "--update", str(update)]
        arguments += ["--weight", str(MASKED_WEIGHTS[name]), "--out", str(self.out(name)), *options]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "secagg.cli.main", *arguments, stdout=pipe, stderr=pipe
        )

    def out(self, name: str) -> Path:
        return self.directory / f"mean-{name}.npz"

    async def somebody_joined(self) -> RoundStatus:
        """Wait until the first round counts a client: what it wants to add up is on disk, or its keys are shown, by then."""
        assert self.cluster.coordinator is not None
        async with asyncio.timeout(END_SECONDS):
            while True:
                with suppress(UnknownRoundError):
                    status = await self.cluster.coordinator._engine.status(JobId("digits"), RoundNumber(1))
                    if status.joined:
                        return status
                await asyncio.sleep(0.05)

    def left_behind(self, name: str) -> list[Path]:
        return list((self.directory / f"spool-{name}").glob("*"))


@pytest.fixture
async def submitter(tmp_path: Path) -> AsyncIterator[Submitter]:
    cluster = Cluster(tmp_path)
    await cluster.start()
    yield Submitter(cluster)
    await cluster.stop()


@pytest.fixture
async def masking_submitter(tmp_path: Path) -> AsyncIterator[Submitter]:
    """A deployment without a single key holder."""
    cluster = Cluster(tmp_path)
    await cluster.start_coordinator()
    yield Submitter(cluster)
    await cluster.stop()


async def _ended(process: asyncio.subprocess.Process) -> tuple[str, str]:
    async with asyncio.timeout(END_SECONDS):
        out, error = await process.communicate()
    return out.decode(), error.decode()


async def test_two_updates_become_one_mean(submitter: Submitter) -> None:
    await submitter.cluster.create(job_spec(max_clients=2))
    processes = [await submitter.start(name, *options) for name, options in (("alice", ()), ("bob", ("--json",)))]
    (told, alice_error), (line, bob_error) = [await _ended(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], alice_error + bob_error
    assert "2 updates, total weight " in told
    said = json.loads(line)
    assert (said["round"], said["contributors"], said["out"]) == (1, ["alice", "bob"], str(submitter.out("bob")))
    assert said["total_weight"] == pytest.approx(90, abs=0.1)
    updates = {name: submitter.update(name) for name in WEIGHTS}
    assert said["clipped"] == sum(int((np.abs(part) > 1).sum()) for part in updates["bob"].values())
    for name in WEIGHTS:
        mean = read_arrays(submitter.out(name))
        for tensor in ("w", "b"):
            expected = sum(WEIGHTS[one] * np.clip(updates[one][tensor], -1, 1) for one in WEIGHTS) / 90
            assert mean[tensor].dtype == updates[name][tensor].dtype
            np.testing.assert_allclose(mean[tensor], expected, atol=1e-4)
        assert submitter.left_behind(name) == []


def masking_job() -> JobSpec:
    # One of three clients may be in league with the coordinator, so that none of them may vanish.
    return job_spec(protocol=MaskingJob(), min_contributors=3, max_clients=3)


async def test_three_masked_updates_become_one_mean_without_key_holders(masking_submitter: Submitter) -> None:
    submitter = masking_submitter
    await submitter.cluster.create(masking_job())
    state = submitter.directory / "state"
    options = {"alice": (), "bob": ("--json",), "carol": ("--state-dir", str(state))}
    processes = [await submitter.start(name, *more) for name, more in options.items()]
    (told, _), (line, _), (_, error) = [await _ended(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], error
    assert "3 updates, total weight 100.00" in told
    said = json.loads(line)
    assert said["contributors"] == ["alice", "bob", "carol"]
    assert said["uploaded_bytes"] <= 4 * 10_007
    updates = {name: submitter.update(name) for name in MASKED_WEIGHTS}
    for name in MASKED_WEIGHTS:
        mean = read_arrays(submitter.out(name))
        for tensor in ("w", "b"):
            expected = sum(MASKED_WEIGHTS[one] * np.clip(updates[one][tensor], -1, 1) for one in MASKED_WEIGHTS) / 100
            np.testing.assert_allclose(mean[tensor], expected, atol=2e-5)
        assert submitter.left_behind(name) == []
    assert state.is_dir(), "the option reached the client"
    assert not [path for path in state.rglob("*") if path.is_file() and path.stat().st_size], (
        "a finished round is forgotten"
    )


async def test_an_interrupt_before_the_roster_leaves_no_secret_and_no_mean(masking_submitter: Submitter) -> None:
    submitter = masking_submitter
    await submitter.cluster.create(masking_job())
    process = await submitter.start("alice")
    assert (await submitter.somebody_joined()).phase is Phase.OPEN
    process.send_signal(signal.SIGINT)
    await _ended(process)
    assert process.returncode == 130
    assert submitter.left_behind("alice") == []
    assert not submitter.out("alice").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
async def test_an_interrupt_ends_it_and_leaves_nothing_behind(
    submitter: Submitter, sent: signal.Signals, code: int
) -> None:
    await submitter.cluster.create(job_spec(max_clients=2))
    process = await submitter.start("alice")
    status = await submitter.somebody_joined()
    assert status.phase is Phase.OPEN
    process.send_signal(sent)
    await _ended(process)
    assert process.returncode == code
    assert submitter.left_behind("alice") == []
    assert not submitter.out("alice").exists()


async def test_an_update_of_another_shape_is_refused_before_anything_is_sent(submitter: Submitter) -> None:
    await submitter.cluster.create(job_spec(values=4000, max_clients=2))
    process = await submitter.start("alice")
    _, error = await _ended(process)
    assert process.returncode == 1
    assert "error: tensor 'w' has shape (10000,), the plan says (4000,)" in error
    assert "next step:" in error
    assert submitter.cluster.blobs("uploads/**/c0") == []
    assert not submitter.out("alice").exists()
