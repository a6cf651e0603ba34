"""A key holder's store is backed up while it runs, and comes back without ever answering a round twice."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from secagg.errors import ConfigError, ConflictError, NotFoundError
from secagg.key_holder.database import DATABASE_NAME
from secagg.key_holder.witness import WITNESS_NAME
from tests.holder_material import ceremony_plan
from tests.key_holder_house import (
    EAST,
    HOLDERS,
    NORTH,
    SECONDS,
    SOUTH,
    SPEC,
    House,
    Opening,
    opening_of,
    refused,
)
from tests.pki_material import deployment

PROGRAM = "from secagg.cli.key_holder import app; app()"
BACKUPS = 3
OLD_COPY = "changes older than"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(directory=tmp_path / "holders", made=deployment(tmp_path / "pki"))
    made.directory.mkdir()
    for holder in HOLDERS:
        await made.start(holder)
    yield made
    await made.close()


async def told(house: House, command: str, *arguments: str) -> tuple[int, str]:
    """Run ``secagg key-holder COMMAND`` for north; return its exit code and what it says."""
    settings = house.settings(NORTH)
    config = house.directory / "north.toml"
    config.write_text(
        f'identity = "{settings.identity}"\ndata_dir = "{settings.data_dir}"\n'
        f'[sealing]\nkey_file = "{settings.sealing.key_file}"\n'
    )
    line = [sys.executable, "-c", PROGRAM, command, "--config", str(config), *arguments]
    done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.returncode, done.stdout + done.stderr


def data_dir(house: House) -> Path:
    return house.directory / NORTH


def without_bob(opening: Opening) -> Opening:
    """The same round, of which another set is asked for."""
    return replace(opening, request=replace(opening.request, uploads=opening.request.uploads[:1]))


async def refuses_all_of(house: House, opening: Opening) -> None:
    """North, restored, takes no part in a round that was begun before: no set of it, not even the one that it answered."""
    opening.pool = house.pool()
    approvals = [await opening.approve(holder) for holder in (EAST, SOUTH)]
    calls, roster = opening.pool.calls[NORTH], opening.request.roster
    await refused(calls.seal_roster(opening.plan, roster, timeout_seconds=SECONDS), NotFoundError)
    await refused(opening.approve(NORTH), NotFoundError)
    await refused(without_bob(opening).approve(NORTH), NotFoundError)
    await refused(opening.decrypt(NORTH, approvals), NotFoundError)


async def test_a_restored_holder_answers_no_round_that_was_begun_before(house: House, tmp_path: Path) -> None:
    """Backed up with a share and no approval; then the round is answered, and the disk is lost."""
    opening = await opening_of(house)
    assert await told(house, "backup", "--to", str(tmp_path / "backup")) == (
        0,
        f"{tmp_path / 'backup'} holds the ledger and no key; the identity and the sealing key file are not in it.\n",
    )
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    await opening.decrypt(NORTH, approvals)
    await house.stop(NORTH)
    shutil.rmtree(data_dir(house))

    code, said = await told(house, "restore", "--from", str(tmp_path / "backup"))
    assert (code, "restored" in said) == (0, True), said
    await house.start(NORTH)
    await refuses_all_of(house, opening)
    plan = ceremony_plan(SPEC)
    assert plan.digest == opening.ceremony
    await refused(house.pool().calls[NORTH].begin_ceremony(plan, timeout_seconds=SECONDS), ConflictError)

    after = await opening_of(house, round=2)
    answers = [await after.approve(holder) for holder in HOLDERS]
    await after.decrypt(NORTH, answers)


async def test_a_backup_holds_the_ledger_and_no_key(house: House, tmp_path: Path) -> None:
    opening = await opening_of(house)
    await opening.approve(NORTH)
    store = house.stored(NORTH)
    (stored,) = store.shares()
    store.close()
    backup = tmp_path / "backup"
    await told(house, "backup", "--to", str(backup))
    assert [path.name for path in backup.iterdir()] == [DATABASE_NAME]
    assert (backup.stat().st_mode & 0o777, (backup / DATABASE_NAME).stat().st_mode & 0o777) == (0o700, 0o600)
    content = (backup / DATABASE_NAME).read_bytes()
    assert not any(stored.sealed_share[at : at + 16] in content for at in range(0, len(stored.sealed_share), 256))
    assert opening.digest in content
    assert stored.ceremony_plan not in content
    code, said = await told(house, "backup", "--to", str(backup))
    assert (code, "exists" in said) == (1, True)
    assert (backup / DATABASE_NAME).read_bytes() == content


async def test_backups_are_whole_while_the_holder_writes(house: House, tmp_path: Path) -> None:
    """Every one holds the roster of an approval that it holds: one that was written first."""
    backups = asyncio.create_task(told_often(house, tmp_path))
    for number in range(1, 3):
        opening = await opening_of(house, round=number)
        await opening.approve(NORTH)
    await backups
    for number in range(BACKUPS):
        path = tmp_path / f"backup-{number}"
        with closing(sqlite3.connect(path / DATABASE_NAME)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            query = "SELECT count(*) FROM ledger WHERE key_id NOT IN (SELECT key_id FROM rosters)"
            assert connection.execute(query).fetchall() == [(0,)]


async def told_often(house: House, directory: Path) -> None:
    for number in range(BACKUPS):
        code, said = await told(house, "backup", "--to", str(directory / f"backup-{number}"))
        assert code == 0, said


async def put_back(house: House, copy: Path) -> None:
    """Put a plain copy in place of the data directory, as somebody would who knows of no command for it."""
    if NORTH in house.servers:
        await house.stop(NORTH)
    shutil.rmtree(data_dir(house))
    shutil.copytree(copy, data_dir(house))


@pytest.mark.parametrize("copied", ["certified", "sealed", "approved", "a single change ago"])
async def test_a_plain_copy_that_is_put_back_is_known_for_an_old_one(house: House, tmp_path: Path, copied: str) -> None:
    opening = await opening_of(house)
    copy, roster = tmp_path / "copy", replace(opening.request.roster, seals=())
    if copied == "certified":
        shutil.copytree(data_dir(house), copy)
    await opening.pool.calls[NORTH].seal_roster(opening.plan, roster, timeout_seconds=SECONDS)
    if copied == "sealed":
        shutil.copytree(data_dir(house), copy)
    approvals = [await opening.approve(holder) for holder in HOLDERS]
    if copied == "approved":
        shutil.copytree(data_dir(house), copy)
        await opening.pool.calls[NORTH].end_round(opening.ceremony, timeout_seconds=SECONDS)
    else:
        await opening.decrypt(NORTH, approvals)
    if copied == "a single change ago":
        shutil.copytree(data_dir(house), copy)
        await house.pool().calls[NORTH].begin_ceremony(ceremony_plan(SPEC, round=9), timeout_seconds=SECONDS)
    await put_back(house, copy)
    for _ in range(2):
        with pytest.raises(ConfigError, match=OLD_COPY) as raised:
            await house.start(NORTH)
    assert "secagg key-holder restore" in raised.value.next_step
    code, said = await told(house, "restore", "--from", str(data_dir(house)))
    assert (code, "--replace" in said) == (1, True)
    code, said = await told(house, "restore", "--from", str(data_dir(house)), "--replace")
    assert code == 0, said
    await house.start(NORTH)
    await refuses_all_of(house, opening)


async def test_the_same_copy_is_refused_after_the_restore_of_another(house: House, tmp_path: Path) -> None:
    opening = await opening_of(house)
    shutil.copytree(data_dir(house), tmp_path / "copy")
    await house.stop(NORTH)
    shutil.rmtree(data_dir(house))
    await house.start(NORTH)
    await put_back(house, tmp_path / "copy")
    with pytest.raises(ConfigError, match="not the one that"):
        await house.start(NORTH)
    assert opening.recorded(NORTH) is None


async def test_a_database_in_use_does_not_start_without_its_witness(house: House) -> None:
    await opening_of(house)
    await house.stop(NORTH)
    witness = house.settings(NORTH).identity / WITNESS_NAME
    assert witness.stat().st_mode & 0o777 == 0o600
    content = witness.read_bytes()
    witness.unlink()
    with pytest.raises(ConfigError, match=r"witness .* is gone"):
        await house.start(NORTH)
    for damaged in (b"", b"[]", b'{"store": "zz", "generation": 1}', b'{"store": 1}'):
        witness.write_bytes(damaged)
        with pytest.raises(ConfigError, match="cannot be read"):
            await house.start(NORTH)
    witness.write_bytes(content)
    await house.start(NORTH)


async def test_the_witness_stands_where_it_is_told_to(house: House, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    await house.stop(NORTH)
    shutil.rmtree(data_dir(house))
    await house.start(NORTH, witness_dir=elsewhere)
    await house.pool().calls[NORTH].begin_ceremony(ceremony_plan(SPEC), timeout_seconds=SECONDS)
    assert [path.name for path in elsewhere.iterdir()] == [WITNESS_NAME]


async def test_one_process_at_a_time(house: House, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another process uses"):
        await house.start(NORTH, listen="127.0.0.1:0")
    await told(house, "backup", "--to", str(tmp_path / "backup"))
    code, said = await told(house, "restore", "--from", str(tmp_path / "backup"), "--replace")
    assert (code, "another process uses" in said) == (1, True)


@pytest.mark.parametrize("damage", ["none", "text", "cut", "other"])
async def test_what_is_no_backup_is_not_restored(house: House, tmp_path: Path, damage: str) -> None:
    await opening_of(house)
    await house.stop(NORTH)
    backup = tmp_path / "backup"
    await told(house, "backup", "--to", str(backup))
    path = backup / DATABASE_NAME
    if damage == "other":
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE diary (day)")
    elif damage == "none":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(b"nothing of the kind" * 100 if damage == "text" else content[: len(content) // 2])
    before = (data_dir(house) / DATABASE_NAME).read_bytes()
    code, said = await told(house, "restore", "--from", str(backup), "--replace")
    assert code == 1
    assert "next step:" in said
    assert "Traceback" not in said
    assert (data_dir(house) / DATABASE_NAME).read_bytes() == before
    assert sorted(path.name for path in data_dir(house).iterdir()) == ["in-use.lock", DATABASE_NAME]


async def test_no_backup_of_what_is_not_there(house: House, tmp_path: Path) -> None:
    await house.stop(NORTH)
    shutil.rmtree(data_dir(house))
    code, said = await told(house, "backup", "--to", str(tmp_path / "backup"))
    assert (code, "there is no" in said) == (1, True)
    assert not (tmp_path / "backup").exists()
