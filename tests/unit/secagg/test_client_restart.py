"""A client of a masking round that is killed, and comes back with what its ``state_dir`` holds: the same bytes again, or none."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import codec
from secagg.client import keeping, kept_events
from secagg.client.journal import Journal, Record
from secagg.client.kept_events import Kind
from secagg.errors import (
    FaultyCoordinatorError,
    LateError,
    MessageError,
    RoundAbortedError,
    SecAggError,
    StorageError,
    UnreachableError,
    UsageError,
)
from secagg.identity import Party, Role
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase
from secagg.policy import ClientPolicy
from secagg.wire.v1 import client_service_pb2 as pb
from secagg.wire.v1 import masking_service_pb2 as masking_pb
from tests.masking_material import CLIENTS, PLAN
from tests.scripted_coordinator import scripted_coordinator
from tests.scripted_masking import UPDATE, MaskingPlay

OTHER_UPDATE = {"w": np.full(50, 0.25, dtype=np.float32)}
ABORTED = pb.WaitForResultResponse(phase=codec.phase_to_wire(Phase.ABORTED), reason="bob vanished")
EVENTS = 9
"""Records of a whole round besides its owner's: each but the end of it."""


@pytest.fixture
async def play(tmp_path: Path) -> AsyncIterator[MaskingPlay]:
    async with scripted_coordinator(tmp_path / "house") as stage:
        yield MaskingPlay(stage)


class Killed:
    """Copies of a state directory as a kill at each point leaves it, and what the client sent in the round that was not killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.after: dict[int, Path] = {}
        self.before: dict[int, Path] = {}
        self.payloads: dict[str, set[bytes]] = {}
        self.vectors: set[bytes] = set()

    def copy(self, state: Path, name: str) -> Path:
        copied = self.directory / name
        shutil.copytree(state, copied)
        return copied

    def at(self, kind: Kind) -> Path:
        """Return the state after the record of a kind."""
        return self.after[kind]


def journal_of(state: Path) -> Path:
    return state / "digits.journal"


def vector_of(state: Path) -> Path:
    return state / "digits.vector"


def kinds_in(state: Path) -> list[int]:
    journal = Journal.open(journal_of(state))
    journal.close()
    return [record.kind for record in journal.records]


@pytest.fixture
async def killed(play: MaskingPlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Killed:
    """Play a round to its end, and keep what a kill before and after each record would have left."""
    made, state = Killed(tmp_path), tmp_path / "state"
    original = Journal.append

    def append(self: Journal, record: Record) -> None:
        made.before[record.kind] = made.copy(state, f"before-{record.kind}")
        original(self, record)
        made.after[record.kind] = made.copy(state, f"after-{record.kind}")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", append)
        await play.perform(state_dir=state)
    assert list(state.iterdir()) == []
    assert len(made.after) == EVENTS + 1
    made.payloads, made.vectors = play.payloads(), play.vectors()
    play.rewind()
    return made


async def test_a_client_that_was_killed_anywhere_sends_the_same_again(play: MaskingPlay, killed: Killed) -> None:
    """Whatever it had sent before and sends again: together it is one join, one vector, one confirmation, one unmasking."""
    # Before the seed is on disk nothing was sent: a client that is killed there draws another one.
    states = [*killed.after.values(), *killed.before.values()]
    for state in states:
        had = kinds_in(state)
        if Kind.SECRETS not in had:
            continue
        masked = Kind.MASKED in had
        result = await play.perform(OTHER_UPDATE if masked else UPDATE, state_dir=state)
        assert (result.contributors, result.round) == (CLIENTS, 1)
        assert result.uploaded_bytes == PLAN.spec.masking_parameters.vector_bytes
        for method, sent in play.payloads().items():
            assert sent <= killed.payloads[method], (method, had)
        assert play.vectors() <= killed.vectors
        assert list(state.iterdir()) == []
        play.rewind()


async def test_the_last_effect_is_carried_out_again(play: MaskingPlay, killed: Killed) -> None:
    for kind, method in (
        (Kind.SECRETS, "Join"),
        (Kind.ROSTER, "SendShares"),
        (Kind.MASKED, "CompleteVector"),
        (Kind.SURVIVORS, "Confirm"),
        (Kind.CONFIRMATIONS, "Unmask"),
    ):
        await play.perform(state_dir=killed.at(kind))
        assert play.payloads()[method] == killed.payloads[method]
        play.rewind()


async def test_how_much_was_clipped_is_kept(play: MaskingPlay, tmp_path: Path) -> None:
    state = tmp_path / "state"
    play.stage.service.break_after_messages = [1] * 50
    clipped = {"w": np.full(50, 2.0, dtype=np.float32)}
    with pytest.raises(UnreachableError):
        await play.perform(clipped, state_dir=state)
    play.stage.service.break_after_messages.clear()
    play.stage.service.vectors.clear()
    assert (await play.perform(state_dir=state)).clipped == 50


async def test_a_lost_coordinator_leaves_the_round_for_another_call(play: MaskingPlay, tmp_path: Path) -> None:
    state = tmp_path / "state"
    play.stage.service.break_after_messages = [2] * 50
    with pytest.raises(UnreachableError):
        await play.perform(state_dir=state)
    assert kinds_in(state)[-1] == Kind.MASKED
    play.stage.service.break_after_messages.clear()
    play.stage.service.vectors.clear()
    play.stage.service.seen.clear()
    assert (await play.perform(OTHER_UPDATE, state_dir=state)).contributors == CLIENTS
    # It asks where to go on before it sends a byte.
    assert isinstance(play.stage.service.seen[0], masking_pb.GetVectorOffsetRequest)


async def test_only_the_round_that_was_joined_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with scripted_coordinator(tmp_path / "house") as stage:
        play = MaskingPlay(stage, replace(PLAN, round=RoundNumber(2)))
        honest = dict(stage.service.script)
        offers = [
            pb.WaitForRoundResponse(found=True, plan=codec.round_plan_to_wire(PLAN)),
            honest["WaitForRound"][0],
        ]
        stage.service.break_after_messages = [2] * 50
        with pytest.raises(UnreachableError):
            await play.perform(
                state_dir=state, WaitForRound=offers, Join=[LateError("the roster is frozen"), honest["Join"][0]]
            )
        assert kinds_in(state) == [Kind.OWNER, Kind.PLAN, Kind.SECRETS, Kind.ROSTER, Kind.SHARES, Kind.MASKED]
        stage.service.break_after_messages.clear()
        stage.service.vectors.clear()
        assert (await play.perform(state_dir=state)).round == 2


# the vector


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def altered(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


@pytest.mark.parametrize("damage", [Path.unlink, truncated, altered])
@pytest.mark.parametrize("kind", [Kind.MASKED, Kind.ACCEPTED, Kind.CONFIRMATIONS])
async def test_a_client_that_lost_its_masked_vector_drops_out(
    play: MaskingPlay, killed: Killed, damage: Any, kind: Kind
) -> None:
    state = killed.at(kind)
    damage(vector_of(state))
    with pytest.raises(RoundAbortedError, match="masked vector was lost in the restart"):
        await play.perform(state_dir=state)
    assert play.stage.service.seen == []
    assert play.stage.service.vectors == []
    assert list(state.iterdir()) == []


async def test_no_second_vector_is_masked_for_an_update_that_changed(play: MaskingPlay, killed: Killed) -> None:
    result = await play.perform(OTHER_UPDATE, state_dir=killed.at(Kind.MASKED))
    assert play.vectors() == killed.vectors
    assert result.resumed, "the caller is told that its update was not used"


async def test_an_update_that_does_not_fit_the_kept_round_costs_nothing(play: MaskingPlay, killed: Killed) -> None:
    state = killed.at(Kind.SHARES)
    kept = kinds_in(state)
    with pytest.raises(UsageError, match="NaN"):
        await play.perform({"w": np.full(50, np.nan, dtype=np.float32)}, state_dir=state)
    assert kinds_in(state) == kept
    assert play.stage.service.seen == []
    assert not (await play.perform(state_dir=state)).resumed


async def test_a_vector_that_no_record_speaks_of_was_never_sent(play: MaskingPlay, killed: Killed) -> None:
    """A kill while it masked, or before the record: what lies there is masked anew."""
    state = killed.at(Kind.SHARES)
    vector_of(state).write_bytes(b"half a vector")
    await play.perform(state_dir=state)
    assert play.vectors() == killed.vectors


# a round that is over meanwhile


async def test_a_round_that_was_aborted_meanwhile(play: MaskingPlay, killed: Killed) -> None:
    state = killed.at(Kind.MASKED)
    late = LateError("round 1 of job digits is over")
    with pytest.raises(RoundAbortedError, match="bob vanished"):
        await play.perform(state_dir=state, GetVectorOffset=[late], WaitForResult=[ABORTED])
    assert list(state.iterdir()) == []


async def test_a_round_that_the_caller_is_done_with_is_forgotten(play: MaskingPlay, killed: Killed) -> None:
    state = killed.at(Kind.MASKED)
    play.stage.service.script["WaitForRound"] = [pb.WaitForRoundResponse(job_complete=True)]
    with pytest.raises(UsageError, match="has published all its rounds"):
        await play.perform(state_dir=state, after_round=1)
    assert list(state.iterdir()) == []
    assert play.payloads()["CompleteVector"] == set()


async def test_what_a_stricter_policy_refuses_is_not_gone_on_with(play: MaskingPlay, killed: Killed) -> None:
    state = killed.at(Kind.SURVIVORS)
    with pytest.raises(SecAggError, match="corrupt"):
        await play.perform(state_dir=state, policy=ClientPolicy(min_corrupt_fraction=0.4))
    assert play.payloads()["Confirm"] == set()
    assert list(state.iterdir()) == []


async def test_a_faulty_coordinator_ends_it_for_good(play: MaskingPlay, killed: Killed) -> None:
    state = killed.at(Kind.ACCEPTED)
    with pytest.raises(FaultyCoordinatorError):
        await play.perform(state_dir=state, WaitForSurvivors=[masking_pb.WaitForSurvivorsResponse(ready=True)])
    assert list(state.iterdir()) == []


# whose it is


async def test_another_client_or_coordinator_is_refused_and_nothing_is_removed(
    play: MaskingPlay, killed: Killed
) -> None:
    state = killed.at(Kind.MASKED)
    bob = play.stage.made.identity(Party(role=Role.CLIENT, name="bob"))
    with pytest.raises(UsageError, match="holds a round of client client/alice, not of client/bob"):
        await play.perform(state_dir=state, identity=bob)
    with pytest.raises(UsageError, match="not of coordinator/another"):
        await play.perform(state_dir=state, coordinator="another")
    assert play.stage.service.seen == []
    assert sorted(path.name for path in state.iterdir()) == ["digits.journal", "digits.vector"]


async def test_two_processes_on_one_directory(play: MaskingPlay, killed: Killed) -> None:
    state = killed.at(Kind.MASKED)
    other = Journal.open(journal_of(state))
    try:
        with pytest.raises(UsageError, match="already taking part"):
            await play.perform(state_dir=state)
    finally:
        other.close()
    assert play.stage.service.seen == []
    assert (await play.perform(state_dir=state)).contributors == CLIENTS


async def test_a_journal_of_another_version(play: MaskingPlay, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    journal = Journal.open(journal_of(state))
    journal.append(Record(kind=Kind.OWNER, payload=json.dumps({"format": "2"}).encode()))
    journal.close()
    with pytest.raises(StorageError, match="of another version"):
        await play.perform(state_dir=state)
    assert journal_of(state).exists()


async def test_a_damaged_journal_names_itself_and_stays(play: MaskingPlay, killed: Killed) -> None:
    state = killed.at(Kind.MASKED)
    altered(journal_of(state))
    with pytest.raises(StorageError, match=r"digits\.journal is damaged.*Remove it"):
        await play.perform(state_dir=state)
    assert play.stage.service.seen == []
    assert sorted(path.name for path in state.iterdir()) == ["digits.journal", "digits.vector"]


def test_a_job_that_names_a_path_is_no_job(tmp_path: Path) -> None:
    party = Party(role=Role.CLIENT, name="alice")
    with pytest.raises(UsageError, match="job"):
        keeping.KeepingOnDisk(tmp_path, job=JobId("../etc"), client=party, coordinator=party)


# who can look into it, and what can be seen


async def test_permissions_are_set_right(play: MaskingPlay, killed: Killed, monkeypatch: pytest.MonkeyPatch) -> None:
    state = killed.at(Kind.MASKED)
    state.chmod(0o755)
    for path in state.iterdir():
        path.chmod(0o644)
    modes: dict[str, int] = {}
    original = Journal.append

    def append(self: Journal, record: Record) -> None:
        modes.update({path.name: path.stat().st_mode & 0o777 for path in (state, *state.iterdir())})
        original(self, record)

    monkeypatch.setattr(Journal, "append", append)
    await play.perform(state_dir=state)
    assert modes == {state.name: 0o700, "digits.journal": 0o600, "digits.vector": 0o600}


async def test_a_directory_that_everybody_writes_to_is_refused(play: MaskingPlay, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(StorageError, match="not this client's alone"):
        await play.perform(state_dir=shared)
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert play.stage.service.seen == []


def test_nothing_secret_is_shown() -> None:
    record = Record(kind=Kind.SECRETS, payload=b"secret-secret-secret")
    assert "secret-secret" not in repr(record)
    nobody: Any = None
    for kind in (200, Kind.MASKED):
        with pytest.raises(MessageError) as raised:
            kept_events.event_of(Record(kind=kind, payload=b"secret-secret"), kept_events.Context(trust=nobody))
        assert "secret-secret" not in str(raised.value)


# what is on disk, and when


async def test_events_are_on_disk_before_what_follows_from_them_is_sent(
    play: MaskingPlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the coordinator has seen when a record is written never follows from that record."""
    seen: list[tuple[int, dict[str, int]]] = []
    original = Journal.append

    def append(self: Journal, record: Record) -> None:
        seen.append((record.kind, {method: len(sent) for method, sent in play.payloads().items()}))
        original(self, record)

    monkeypatch.setattr(Journal, "append", append)
    await play.perform(state_dir=tmp_path / "state")
    counts = dict(seen)
    for kind, method in (
        (Kind.SECRETS, "Join"),
        (Kind.ROSTER, "SendShares"),
        (Kind.MASKED, "CompleteVector"),
        (Kind.SURVIVORS, "Confirm"),
        (Kind.CONFIRMATIONS, "Unmask"),
    ):
        assert counts[kind][method] == 0, method
    assert counts[Kind.UNMASKED]["Unmask"] == 1


async def test_the_vector_is_on_disk_before_its_record(
    play: MaskingPlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    original, fsync = Journal.append, os.fsync

    def append(self: Journal, record: Record) -> None:
        order.append(Kind(record.kind).name)
        original(self, record)

    def sync(descriptor: int) -> None:
        target = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a descriptor
        if target.endswith(".vector"):
            order.append(hashlib.sha256(Path(target).read_bytes()).hexdigest())
        fsync(descriptor)

    monkeypatch.setattr(Journal, "append", append)
    monkeypatch.setattr(os, "fsync", sync)
    await play.perform(state_dir=tmp_path / "state")
    (vector,) = play.vectors()
    assert order.index(hashlib.sha256(vector).hexdigest()) == order.index("MASKED") - 1
